"""The closing handshake, byte by byte: browsers report 1006 for anything but exactly one close frame."""

import asyncio
import base64
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.redis import RedisServer
from tests.support.signaling import World

pytestmark = pytest.mark.interop

MASK = b"\x01\x02\x03\x04"
DEADLINE_S = 10


def _masked(opcode: int, data: bytes) -> bytes:
    body = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))
    return bytes((0x80 | opcode, 0x80 | len(data))) + MASK + body


@pytest.fixture
async def address(redis_server: RedisServer) -> AsyncIterator[str]:
    async with aiohttp.ClientSession() as http:
        world = World(redis_server, http)
        yield (await world.process()).url
        await world.stop()


async def test_the_server_sends_one_close_frame_and_then_ends_the_socket(address: str) -> None:
    parts = urlsplit(address)
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        key = base64.b64encode(b"0123456789abcdef").decode()
        writer.write(
            f"GET /v1/signal HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: parley.v1\r\n\r\n".encode()
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(_masked(1, b"{bad"))
        opcode, length = await reader.readexactly(2)
        assert opcode == 0x88
        reason = await reader.readexactly(length)
        assert int.from_bytes(reason[:2], "big") == 1007
        writer.write(_masked(8, reason[:2]))
        assert await reader.read() == b"", "nothing follows the close frame"
        writer.close()
        await writer.wait_closed()
