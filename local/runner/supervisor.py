"""Starts the processes as early as each can, keeps them alive, and ends them in order.

A process that ends by itself is started again after a pause that doubles; one that fails five times quickly is given
up: before the system is ready that ends the start, afterwards the others go on, since a call in progress matters more.
"""

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.runner.child import Child, Log
from local.runner.readiness import is_ready
from local.runner.specs import Spec


@dataclass(frozen=True)
class Patience:
    """How long the supervisor waits for what, in seconds."""

    ready_s: float = 60
    poll_s: float = 0.05
    quick_s: float = 10
    tries: int = 5
    pause_s: float = 0.5
    longest_pause_s: float = 8
    drain_s: float = 1
    stop_s: float = 4
    errors_per_minute: int = 5


class StartFailed(Exception):
    """A process did not become ready; the text names it and holds its last lines."""


class Supervisor:
    """Runs a set of processes. `say` prints a line for a person."""

    def __init__(
        self, specs: Sequence[Spec], logs: Path, say: Callable[[str], None], patience: Patience | None = None
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._logs = logs
        self._say = say
        self._patience = patience or Patience()
        self._ready = {name: asyncio.Event() for name in self._specs}
        self._children: dict[str, Child] = {}
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()  # everything is ready, or the start has failed
        self._failure = ""
        self._reported: dict[str, deque[float]] = {name: deque(maxlen=1000) for name in self._specs}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of what runs now."""
        return {name: child.pid for name, child in self._children.items() if child.returncode is None}

    async def start(self) -> None:
        """Returns when everything is ready. Raises StartFailed; call `stop` in any case."""
        for name, spec in self._specs.items():
            keeper = asyncio.create_task(self._keep(spec))
            keeper.add_done_callback(self._keeper_ended)
            self._keepers[name] = keeper
        await self._settled.wait()
        if self._failure:
            raise StartFailed(self._failure)

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ends everything in order; when `hurry` is set, at once."""
        self._stopping.set()
        for rank in sorted({spec.stops for spec in self._specs.values()}):
            children = [
                self._children[n] for n, spec in self._specs.items() if spec.stops == rank and n in self._children
            ]
            await self._end([child for child in children if child.returncode is None], hurry)
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)

    async def _end(self, children: list[Child], hurry: asyncio.Event) -> None:
        """SIGTERM, again for those that drain (there is nowhere to move a room to), at last SIGKILL."""
        ending = asyncio.create_task(_all_ended(children))
        hurrying = asyncio.create_task(_set(hurry))
        for pause_s in (self._patience.drain_s, self._patience.stop_s):
            for child in children:
                child.signal(signal.SIGTERM)
            await asyncio.wait([ending, hurrying], timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() or hurry.is_set():
                break
        hurrying.cancel()
        for child in children:
            if child.returncode is None:
                child.signal(signal.SIGKILL)
        await ending

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._fail(f"The runner itself failed: {error!r}")

    def _fail(self, text: str) -> None:
        """Ends the start, or tells the person when the system is already up."""
        if self._settled.is_set():
            self._say(text)
        else:
            self._failure = text
            self._settled.set()

    async def _keep(self, spec: Spec) -> None:
        """Starts the process when it may, and again whenever it ends, until it is given up."""
        for name in spec.after:
            await self._ready[name].wait()
        log = Log(self._logs / f"{spec.name}.log")
        failures = 0
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                code, last_lines = await self._run(spec, log)
                if self._stopping.is_set() or (spec.is_step and code == 0):
                    return
                quick = time.monotonic() - began < self._patience.quick_s
                failures = failures + 1 if quick else 1
                if spec.is_step or failures >= self._patience.tries:
                    self._give_up(spec, code, failures, last_lines)
                    return
                pause = min(self._patience.pause_s * 2 ** (failures - 1), self._patience.longest_pause_s)
                self._say(f"{spec.name} ended ({_how(code)}). It is started again in {pause:g} s.")
                await asyncio.sleep(pause)
        finally:
            log.close()

    async def _run(self, spec: Spec, log: Log) -> tuple[int, Sequence[str]]:
        """Runs the process once, to its end."""
        began = time.monotonic()
        try:
            child = await Child.start(spec, log, lambda text: self._report(spec.name, text))
        except OSError as error:
            return 127, [f"{spec.argv[0]}: {error.strerror}"]
        self._children[spec.name] = child
        if self._stopping.is_set():  # the end came while the process was being started
            child.signal(signal.SIGKILL)
        watching = asyncio.create_task(self._watch(spec, child, began))
        try:
            code = await child.wait()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        if spec.is_step and code == 0:
            self._mark_ready(spec, began)
        return code, list(child.last_lines)

    async def _watch(self, spec: Spec, child: Child, began: float) -> None:
        """Waits until the process is ready; one that never is gets killed, which counts as a failure."""
        if spec.is_step:
            return
        try:
            async with asyncio.timeout(self._patience.ready_s):
                while not await is_ready(spec.ready):  # noqa: ASYNC110 - another process has no event to wait for
                    await asyncio.sleep(self._patience.poll_s)
        except TimeoutError:
            self._say(f"{spec.name} was not ready after {self._patience.ready_s:g} s and is killed.")
            child.signal(signal.SIGKILL)
            return
        self._mark_ready(spec, began)

    def _mark_ready(self, spec: Spec, began: float) -> None:
        word = "done" if spec.is_step else "ready"
        again = " again" if self._ready[spec.name].is_set() else ""
        self._say(f"{spec.name:<10} {word}{again} after {time.monotonic() - began:.1f} s")
        self._ready[spec.name].set()
        if all(event.is_set() for event in self._ready.values()):
            self._settled.set()

    def _give_up(self, spec: Spec, code: int, failures: int, last_lines: Sequence[str]) -> None:
        tail = "\n".join(f"    {line}" for line in last_lines)
        times = f"{failures} times " if failures > 1 else ""
        text = (
            f"{spec.name} failed {times}({_how(code)}) and is given up. Its last lines, from "
            f"{self._logs / (spec.name + '.log')}:\n{tail}"
        )
        self._fail(text)

    def _report(self, name: str, text: str) -> None:
        """Shows a process's error, up to so many a minute."""
        now, times = time.monotonic(), self._reported[name]
        while times and now - times[0] > 60:
            times.popleft()
        times.append(now)
        if self._stopping.is_set() or len(times) > self._patience.errors_per_minute + 1:
            return
        if len(times) == self._patience.errors_per_minute + 1:
            text = f"more errors in {self._logs / (name + '.log')}"
        self._say(f"[{name}] {text[:300]}")


async def _all_ended(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.wait() for child in children))


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
