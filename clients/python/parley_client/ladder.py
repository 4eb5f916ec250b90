"""The ladder: which ways into a call are tried, in which order, each for how long, and what is remembered.

Plain UDP first, TURN next (over UDP, TCP, TLS), the HTTP tunnel last (over a WebSocket, HTTP streaming, long-poll).
What worked last at an origin is tried first. Nothing here opens a socket: a rung is whatever `attempt` does.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeVar, get_args

from parley_client.errors import NoWay, WayFailed

Way = Literal["udp", "turn-udp", "turn-tcp", "turn-tls", "websocket", "stream", "poll"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
LIMITS_S: Final[Mapping[Way, float]] = MappingProxyType(
    {"udp": 4.0, "turn-udp": 5.0, "turn-tcp": 5.0, "turn-tls": 6.0, "websocket": 8.0, "stream": 8.0, "poll": 10.0}
)
MAX_ORIGINS: Final = 64
MAX_FILE: Final = 65_536
Result = TypeVar("Result")


async def climb(
    ways: Sequence[Way],
    attempt: Callable[[Way], Awaitable[Result]],
    *,
    limits_s: Mapping[Way, float] = LIMITS_S,
    stage: Callable[[], str] = lambda: "",
) -> tuple[Way, Result]:
    """The first way that `attempt` brings about, and what it gave.

    A rung is left after its limit or on WayFailed; any other error ends the climb. `stage` says what a rung that runs
    out of time was waiting for. Raises NoWay.
    """
    failures: list[tuple[str, str]] = []
    for way in ways:
        limit_s = limits_s[way]
        try:
            async with asyncio.timeout(limit_s):
                return way, await attempt(way)
        except WayFailed as failed:
            failures.append((way, str(failed)))
        except TimeoutError:
            waiting = stage()
            failures.append((way, f"not connected within {limit_s:g} s" + (f" ({waiting})" if waiting else "")))
    raise NoWay(failures)


def ordered(ways: Sequence[Way], last: Way | None) -> tuple[Way, ...]:
    """`ways` with the last good one first."""
    return (last, *(way for way in ways if way != last)) if last in ways and last is not None else tuple(ways)


class LastGood:
    """The last good way of each origin, at most 64 of them; kept in `file` where there is one.

    A file that cannot be read counts as empty, one that cannot be written is left: it is a hint, never needed.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._ways: dict[str, Way] = self._read()

    def get(self, origin: str) -> Way | None:
        return self._ways.get(origin)

    def put(self, origin: str, way: Way) -> None:
        if self._ways.get(origin) == way:
            return
        self._ways.pop(origin, None)
        self._ways[origin] = way
        while len(self._ways) > MAX_ORIGINS:
            del self._ways[next(iter(self._ways))]
        self._write()

    def forget(self, origin: str) -> None:
        """What worked was in another network."""
        if self._ways.pop(origin, None) is not None:
            self._write()

    def _read(self) -> dict[str, Way]:
        if self._file is None:
            return {}
        try:
            if self._file.stat().st_size > MAX_FILE:
                return {}
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(known, dict):
            return {}
        pairs = [(origin, way) for origin, way in known.items() if way in WAYS]
        return dict(pairs[-MAX_ORIGINS:])

    def _write(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                fresh = self._file.with_name(self._file.name + ".new")
                fresh.write_text(json.dumps(self._ways), encoding="utf-8")
                fresh.replace(self._file)
