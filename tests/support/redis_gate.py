"""What stands between a client and Azure Managed Redis: TLS, tokens that end, and a network that stops passing.

`Authority` is the credential: it gives tokens, and tells the real servers which of them count. `Gate` passes bytes to
one server, sees which token each connection has signed in with, and cuts those whose token has ended, as Azure does.
"""

import asyncio
import base64
import contextlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.support.redis import RedisServer

OBJECT_ID: Final = "7d1f2a52-5d0e-4c1b-9a55-7c3f0f0a9d11"
_SIGN_IN: Final = re.compile(rb"AUTH\r\n\$\d+\r\n[^\r]+\r\n\$\d+\r\n([^\r]+)\r\n")


@dataclass(frozen=True)
class Token:
    token: str
    expires_on: int


@dataclass
class Authority:
    """Gives tokens of `life_s` seconds. `is_down`: it fails; `is_distrusted`: the servers do not take new tokens."""

    servers: Sequence[RedisServer]
    life_s: float = 4.0
    clock_is_ahead_s: float = 0.0
    is_down: bool = False
    is_distrusted: bool = False
    asked: int = 0
    given: list[str] = field(default_factory=list)

    async def get_token(self, *scopes: str) -> Token:
        assert scopes == ("https://redis.azure.com/.default",)
        self.asked += 1
        if self.is_down:
            raise OSError("the identity endpoint does not answer")
        claims = json.dumps({"oid": OBJECT_ID, "uti": len(self.given)}).encode()
        token = f"e30.{base64.urlsafe_b64encode(claims).rstrip(b'=').decode()}.c2ln"
        self.given.append(token)
        if not self.is_distrusted:
            self.trust(token)
        return Token(token, int(time.time() + self.life_s + self.clock_is_ahead_s))

    def trust(self, token: str) -> None:
        for server in self.servers:
            assert server.ask("ACL", "SETUSER", OBJECT_ID, "on", "~*", "&*", "+@all", f">{token}") == b"+OK\r\n"

    def end(self, token: str) -> None:
        """From now on it opens nothing."""
        for server in self.servers:
            assert server.ask("ACL", "SETUSER", OBJECT_ID, f"<{token}") == b"+OK\r\n"


class Gate:
    """One server's way in. `accepted` counts connections; `tokens` is what those that live have signed in with."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._live: dict[asyncio.StreamWriter, bytes] = {}
        self.serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0

    @property
    def tokens(self) -> list[str]:
        return [token.decode() for token in self._live.values() if token]

    def freeze(self) -> None:
        """Nothing passes any more, in neither direction, and nobody is told."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def cut(self, token: str) -> int:
        """Ends the connections that go by this token; gives how many there were."""
        cut = [writer for writer, used in self._live.items() if used == token.encode()]
        for writer in cut:
            writer.transport.abort()
        return len(cut)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._live[writer] = b""
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            pipes = [
                asyncio.create_task(self._pass(reader, server_writer, writer)),
                asyncio.create_task(self._pass(server_reader, writer, None)),
            ]
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
            server_writer.close()
        del self._live[writer]
        writer.close()
        self.serving.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
                if client is not None:
                    seen = (seen + data)[-4_096:]
                    for found in _SIGN_IN.finditer(seen):
                        self._live[client] = found[1]


@asynccontextmanager
async def gate_to(target: int, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    """A gate on a free port, or on `port`, to the server at the port `target`."""
    gate = Gate(target)
    server = await asyncio.start_server(gate.serve, "127.0.0.1", port, ssl=tls)
    gate.port = server.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        server.close()
        gate.thaw()
        for writer in tuple(gate._live):
            writer.transport.abort()
        await asyncio.gather(*gate.serving)
