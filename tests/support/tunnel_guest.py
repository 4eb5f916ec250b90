"""A tunnelled participant as a program of its own, to be run inside a network namespace.

It takes one line of JSON (`Wanted`) on stdin, and says what happens in lines of JSON on stdout: which wires did not
open, that it has joined, and what it has received of its peer. It leaves when stdin ends.
"""

import asyncio
import json
import os
import ssl
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
from parley_client.errors import WayFailed

from tests.support.tunnel_client import Kind, TunnelClient, TunnelledParticipant

ROOT: Final = Path(__file__).resolve().parents[2]
OPENS_WITHIN_S: Final = 5.0
SAYS_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """`kinds` are tried in that order until one opens; `peer` is the user whose camera and microphone are awaited."""

    url: str
    authority: str
    token: str
    room: str
    peer: str
    kinds: tuple[str, ...]
    shade: int
    proxy: str = ""


class Guest:
    """The program, as the test that runs it sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: tuple[str, ...], wanted: Wanted) -> "Guest":
        """`command` is what runs a program where the guest is to be, and ends before that program."""
        process = await asyncio.create_subprocess_exec(
            *command,
            *(sys.executable, "-m", __name__),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin
        process.stdin.write(json.dumps(asdict(wanted)).encode() + b"\n")
        return cls(process)

    async def says(self) -> dict[str, Any]:
        """The next thing that it tells. Raises AssertionError where it ends instead."""
        assert self._process.stdout
        async with asyncio.timeout(SAYS_WITHIN_S):
            line = await self._process.stdout.readline()
        assert line, "the guest has ended"
        return dict(json.loads(line))

    async def leave(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise


async def _first_that_opens(http: aiohttp.ClientSession, wanted: Wanted) -> tuple[Kind | None, list[str]]:
    """The first kind of wire that opens, and those before it."""
    blocked: list[str] = []
    for kind in wanted.kinds:
        probe = TunnelClient(http, wanted.url)
        try:
            async with asyncio.timeout(OPENS_WITHIN_S):
                await probe.open(cast(Kind, kind))
            return cast(Kind, kind), blocked
        except (TimeoutError, WayFailed):
            blocked.append(kind)
        finally:
            await probe.close()
    return None, blocked


def _say(**told: object) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def _run(wanted: Wanted, leaving: asyncio.Event) -> None:
    trusting = ssl.create_default_context(cafile=wanted.authority)
    connector = aiohttp.TCPConnector(ssl=trusting)
    async with aiohttp.ClientSession(connector=connector, proxy=wanted.proxy or None) as http:
        kind, blocked = await _first_that_opens(http, wanted)
        _say(kind=kind, blocked=blocked)
        if kind is None:
            return
        guest = TunnelledParticipant(http, wanted.url, wanted.token, wanted.room, kind, shade=wanted.shade)
        async with guest as joined:
            _say(userId=joined.user_id)
            picture = await joined.receives(wanted.peer, "camera")
            sound = await joined.receives(wanted.peer, "microphone")
            _say(shade=picture.shade, pictures=picture.frames, sounds=sound.frames)
            await leaving.wait()


async def _main() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    given = json.loads(await reader.readline())
    leaving = asyncio.Event()

    async def until_left() -> None:
        await reader.read()
        leaving.set()

    watching = asyncio.create_task(until_left())
    await _run(Wanted(**given), leaving)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


if __name__ == "__main__":
    asyncio.run(_main())
