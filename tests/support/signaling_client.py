"""The signaling client of `parley_client` as tests want it: everything that came is kept, and reading can be halted."""

import asyncio
from typing import ClassVar

import aiohttp
from parley_client import signaling
from parley_client.signaling import Payload

__all__ = ["Payload", "SignalingClient"]


class SignalingClient(signaling.SignalingClient):
    KEEP: ClassVar[int] = 1_000_000

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        super().__init__(socket)

    async def _next(self) -> str | None:
        await self.reading.wait()
        return await super()._next()
