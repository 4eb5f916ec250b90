"""`python -m tests.bench.signaling_load PORT`: many signaling clients in one process, as light as Python allows.

It reads one JSON command a line and answers each with one JSON line:
- `{"do": "join", "rooms": [{"id": ..., "tokens": [...]}]}` connects and joins everybody; answers `{"joined": n}`.
- `{"do": "chat", "seconds": s}`: everybody keeps one chat message on its way; `{"delivered": n, "seconds": s}`.
- `{"do": "paced", "seconds": s, "rate": r}`: r deliveries a second, whatever the server does; `{"delivered": n,
  "seconds": s, "p50_ms": x, "p99_ms": x}`. A message is late from the moment at which it was due.
- `{"do": "leave"}` closes all; `{"left": n}`.

Frames are counted and not parsed: a client that reads JSON would be slower than the server that it measures.
"""

import asyncio
import json
import struct
import sys
import time
from collections import Counter
from typing import Any, Final, cast

import uvloop

from tests.bench.results import percentile

AT_ONCE: Final = 64  # joins under way
JOIN_TIMEOUT_S: Final = 30.0
PACE_S: Final = 0.005
HANDSHAKE: Final = (
    "GET /v1/signal HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: parley.v1\r\n\r\n"
)
_CHAT: Final = b'"type":"MessageReceived"'
_TEXT: Final = b'"text":"'


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame (RFC 6455 5.2) with the mask zero, which leaves the payload as it is."""
    size = len(payload)
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    return head + bytes(4) + payload


def text_frame(type_: str, payload: dict[str, object]) -> bytes:
    return frame(1, json.dumps({"type": type_, "payload": payload}).encode())


class Client(asyncio.Protocol):
    """One socket. `welcome` is done once the person is in the room."""

    def __init__(self, load: "Load", number: int, room: str, token: str) -> None:
        self._load, self._number, self._room, self._token = load, number, room, token
        self._buffer = b""
        self._is_open = False
        self._sent = 0
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.transport.write(HANDSHAKE.encode())

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError("the server closed"))

    def say(self, due: float) -> None:
        """A chat message that carries when it was due."""
        self._sent += 1
        text = f"{self._number} {due!r}"
        payload: dict[str, object] = {"messageId": f"{self._number}-{self._sent}", "text": text}
        self.transport.write(text_frame("SendMessage", payload))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._is_open:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.transport.abort()
                return
            self._is_open = True
            self.transport.write(text_frame("JoinRoom", {"roomId": self._room, "token": self._token}))
        self._buffer = self._frames(buffer)

    def _frames(self, buffer: bytes) -> bytes:
        """Takes what is whole; gives the rest."""
        at, end = 0, len(buffer)
        while end - at >= 2:
            start, size = at + 2, buffer[at + 1]
            if size == 126 and end - at >= 4:
                start, size = at + 4, int.from_bytes(buffer[at + 2 : at + 4], "big")
            elif size == 126 or end - start < size:
                break
            if end - start < size:
                break
            self._received(buffer[at] & 0x0F, buffer[start : start + size])
            at = start + size
        return buffer[at:]

    def _received(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self.transport.write(frame(10, payload))
        elif opcode == 1 and _CHAT in payload:
            start = payload.index(_TEXT) + len(_TEXT)
            number, due = payload[start : payload.index(b'"', start)].split()
            self._load.delivered(float(due), self if int(number) == self._number else None)
        elif opcode == 1:
            kind = payload[payload.index(b'"type":"') + 8 :].partition(b'"')[0].decode()
            self._load.kinds[kind] += 1
            if kind == "RoomJoined":
                self.welcome.set_result(None)


class Load:
    def __init__(self, port: int) -> None:
        self._port = port
        self._clients: list[Client] = []
        self._count = 0
        self._last = 0.0  # when a message was delivered last
        self._late: list[float] | None = None  # seconds from due to delivered, while pacing
        self._until = 0.0  # closed loop: senders go on until then
        self.kinds: Counter[str] = Counter()

    def delivered(self, due: float, sender: Client | None) -> None:
        """A chat message came; `sender` is its author where it came back to them."""
        self._last = now = time.monotonic()
        self._count += 1
        if self._late is not None:
            self._late.append(now - due)
        elif sender is not None and now < self._until:
            sender.say(now)

    async def join(self, rooms: list[dict[str, Any]]) -> dict[str, object]:
        gate = asyncio.Semaphore(AT_ONCE)
        places = [(room["id"], token) for room in rooms for token in room["tokens"]]
        await asyncio.gather(*(self._enter(gate, room, token) for room, token in places))
        return {"joined": len(self._clients), "received": dict(self.kinds)}

    async def _enter(self, gate: asyncio.Semaphore, room: str, token: str) -> None:
        async with gate, asyncio.timeout(JOIN_TIMEOUT_S):
            number = len(self._clients)
            client = Client(self, number, room, token)
            self._clients.append(client)
            await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", self._port)
            await client.welcome

    async def chat(self, seconds: float) -> dict[str, object]:
        started = time.monotonic()
        self._until = started + seconds
        self._count = 0
        for client in self._clients:
            client.say(started)
        await asyncio.sleep(seconds)
        await self._quiet()  # the rest counts, and the CPU time that it takes
        return {"delivered": self._count, "seconds": self._last - started}

    async def _quiet(self) -> None:
        """What is still on its way arrives."""
        before = -1
        while before != self._count:
            before = self._count
            await asyncio.sleep(0.5)

    async def paced(self, seconds: float, rate: float, fan_out: int) -> dict[str, object]:
        started, self._count, self._late, sent = time.monotonic(), 0, [], 0
        while (passed := time.monotonic() - started) < seconds:
            while sent * fan_out < passed * rate:
                self._clients[sent % len(self._clients)].say(started + sent * fan_out / rate)
                sent += 1
            await asyncio.sleep(PACE_S)
        await self._quiet()
        late, self._late = self._late, None
        p50, p99 = (percentile(late, share) * 1_000 for share in (50, 99))
        return {"delivered": self._count, "sent": sent, "seconds": seconds, "p50_ms": p50, "p99_ms": p99}

    async def leave(self) -> dict[str, object]:
        clients, self._clients = self._clients, []
        for client in clients:
            client.transport.write(frame(1, b'{"type":"Leave"}'))
        async with asyncio.timeout(JOIN_TIMEOUT_S):
            await asyncio.gather(*(client.gone for client in clients))
        return {"left": len(clients)}


async def main(port: int) -> None:
    load = Load(port)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command: dict[str, Any] = json.loads(line)
        answer = await getattr(load, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
