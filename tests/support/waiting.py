"""Waiting for a condition with a deadline, the only way in which tests wait."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable

import aiohttp


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Returns once the condition holds. Raises TimeoutError where it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if await answer if isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.01)


async def is_ready(origin: str) -> bool:
    """Whether the process there says so."""
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{origin}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
