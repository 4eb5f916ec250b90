"""A TURN client over UDP, as much as it takes to ask a server what it would relay to."""

import asyncio
import secrets
from ipaddress import ip_address
from typing import Any, Final

from conference.domain.errors import ProtocolError
from local.turn import messages as t

ANSWER_S: Final = 1.0
TRIES: Final = 3


class TurnRefused(Exception):
    """An error answer; `code` is that of RFC 8656."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.waiting: dict[bytes, asyncio.Future[t.TurnMessage]] = {}

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            message = t.parse(data)
        except ProtocolError:
            return
        waiting = self.waiting.get(message.transaction_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)


class TurnClient:
    """Credentials as of the REST scheme. Close it."""

    def __init__(self, server: tuple[str, int], username: str, password: str) -> None:
        self._server = server
        self._username = username
        self._password = password
        self._realm = self._nonce = b""
        self._answers = _Answers()
        self._socket: asyncio.DatagramTransport | None = None

    async def allocate(self) -> tuple[str, int]:
        """The relayed address. Raises TurnRefused, TimeoutError, OSError."""
        if self._socket is None:
            loop = asyncio.get_running_loop()
            self._socket, _ = await loop.create_datagram_endpoint(lambda: self._answers, remote_addr=self._server)
        reply = await self._ask(t.ALLOCATE, [(t.REQUESTED_TRANSPORT, bytes([17, 0, 0, 0]))])
        host, port = t.read_address(reply.attributes[t.XOR_RELAYED_ADDRESS], reply.transaction_id)
        return str(host), port

    async def permit(self, host: str) -> None:
        """Asks for a permission to `host`. Raises TurnRefused, TimeoutError."""
        transaction_id = secrets.token_bytes(12)
        value = t.xor_address(ip_address(host), 9, transaction_id)
        await self._ask(t.CREATE_PERMISSION, [(t.XOR_PEER_ADDRESS, value)], transaction_id)

    async def refresh(self, lifetime_s: int) -> None:
        """0 ends the allocation. Raises TurnRefused, TimeoutError."""
        await self._ask(t.REFRESH, [(t.LIFETIME, lifetime_s.to_bytes(4, "big"))])

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    async def _ask(self, method: int, attributes: list[tuple[int, bytes]], id_: bytes = b"") -> t.TurnMessage:
        """The success; a challenge is answered."""
        for _ in range(3):
            reply = await self._send(method, attributes, id_ or secrets.token_bytes(12))
            code = reply.attributes.get(t.ERROR_CODE)
            if code is None:
                return reply
            number = code[2] * 100 + code[3]
            nonce = reply.attributes.get(t.NONCE, b"")
            if number not in (401, 438) or not nonce or (number == 401 and self._nonce):
                raise TurnRefused(number, code[4:].decode(errors="replace"))
            self._realm, self._nonce = reply.attributes.get(t.REALM, self._realm), nonce
        raise TurnRefused(438, "Stale Nonce")

    async def _send(self, method: int, attributes: list[tuple[int, bytes]], id_: bytes) -> t.TurnMessage:
        assert self._socket is not None
        signed, key = list(attributes), None
        if self._nonce:
            signed += [(t.USERNAME, self._username.encode()), (t.REALM, self._realm), (t.NONCE, self._nonce)]
            key = t.long_term_key(self._username, self._realm.decode(), self._password)
        request = t.encode(method, t.REQUEST, id_, signed, key)
        waiting: asyncio.Future[t.TurnMessage] = asyncio.get_running_loop().create_future()
        self._answers.waiting[id_] = waiting
        try:
            for _ in range(TRIES):
                self._socket.sendto(request)
                done, _ = await asyncio.wait([waiting], timeout=ANSWER_S)
                if done:
                    return waiting.result()
            raise TimeoutError("the TURN server does not answer")
        finally:
            del self._answers.waiting[id_]
