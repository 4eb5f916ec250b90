"""The load generator as a process: commands in, answers out. Its language is in dataplane/load/src/command.rs."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.dataplane_network import first_in_turn
from tests.support import rust_program

_LINE_LIMIT: Final = 1 << 24
_ANSWER_TIMEOUT_S: Final = 120.0

Words = dict[str, Any]


class LoadError(Exception):
    """The generator, or a server under load, did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class LoadPeer:
    """What a server must know of a peer."""

    id: str
    ip: str
    port: int
    ufrag: str
    pwd: str
    fingerprint: str


def build() -> Path:
    """Builds the generator and returns it. Raises LoadError without cargo or where the build fails."""
    try:
        return rust_program.build("parley-load")
    except rust_program.NotBuilt as reason:
        raise LoadError(str(reason)) from None


class Talker:
    """A process that answers lines of JSON with lines of JSON, in turn."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()
        self.pid = process.pid

    async def ask(self, command: Words) -> Words:
        """The answer to a command. Raises LoadError where there is none."""
        async with self._lock:
            self.tell(command)
            return await self.hear()

    def tell(self, command: Words) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self) -> Words:
        """The next line. Raises LoadError for an error and at the end."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise LoadError("no answer in time") from None
        if not line:
            raise LoadError("the process has ended")
        answer: Words = json.loads(line)
        if "error" in answer:
            raise LoadError(str(answer["error"]))
        return answer


@asynccontextmanager
async def talking(command: Sequence[str]) -> AsyncIterator[Talker]:
    """A process of `command`, which ends when its input does."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=_LINE_LIMIT)
    try:
        yield Talker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Generator:
    """The peers of one server."""

    def __init__(self, talker: Talker, host: str) -> None:
        self._talker = talker
        self._host = host
        self.pid = talker.pid

    async def peers(self, names: Sequence[str]) -> list[LoadPeer]:
        """Makes peers."""
        answer = await self._talker.ask({"peers": [{"id": name} for name in names], "host": self._host})
        return [LoadPeer(**peer) for peer in answer["peers"]]

    async def connect(self, connections: Sequence[Words], *, timeout_s: float = 60.0) -> dict[str, str]:
        """Connects peers; the SRTP profile of each. Raises LoadError where one fails."""
        answer = (await self._talker.ask({"connect": list(connections), "timeout_s": timeout_s}))["connected"]
        if answer["failed"]:
            first = answer["failed"][0]
            raise LoadError(f"{len(answer['failed'])} peers did not connect; {first['id']}: {first['why']}")
        return {peer["id"]: peer["profile"] for peer in answer["connected"]}

    async def begin(self, send: Sequence[Words], receive: Sequence[Words], *, spin: bool = False) -> None:
        """Sends until `stop`."""
        await self._talker.ask({"send": list(send), "receive": list(receive), "spin": spin})

    async def run(self, send: Sequence[Words], receive: Sequence[Words], seconds: float) -> Words:
        """Sends for some seconds; the report."""
        answer = await self._talker.ask({"send": list(send), "receive": list(receive), "seconds": seconds})
        return dict(answer["report"])

    async def mark(self) -> None:
        """Begins a window."""
        await self._talker.ask({"mark": True})

    async def snapshot(self) -> Words:
        """The report of the window so far, without what each peer received."""
        return dict((await self._talker.ask({"snapshot": True}))["report"])

    async def stop(self) -> Words:
        """Ends the load; the report of the last window."""
        return dict((await self._talker.ask({"stop": True}))["report"])


@asynccontextmanager
async def generator(program: Path, *, core: int | None = None, host: str = "127.0.0.1") -> AsyncIterator[Generator]:
    """A generator, on a core of its own if one is given."""
    pinned = [] if core is None else ["--core", str(core)]
    words = [str(program.absolute()), *pinned]
    async with talking(words if core is None else first_in_turn(*words)) as talker:
        yield Generator(talker, host)
