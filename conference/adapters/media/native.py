"""The native forwarding engine: packet workers in Rust threads behind the port, in batches.

The compiled module reads commands by their attributes and gives events as tuples that name their class; nothing is done
here per packet. `parley_dataplane` is optional: importing this module where it is missing raises ImportError.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from parley_dataplane import _native

from conference.ports.forwarding import (
    AudioLevels,
    Command,
    DtlsReceived,
    EngineSnapshot,
    EngineStats,
    Event,
    FirstForwarded,
    IceChanged,
    LayerStats,
    LayersWanted,
    LinkReport,
    SenderChanged,
    SubscriberStats,
    TrackStats,
    WorkerStats,
)

_EVENTS: Final[dict[str, Callable[..., Event]]] = {
    kind.__name__: kind
    for kind in (IceChanged, DtlsReceived, FirstForwarded, AudioLevels, LinkReport, SenderChanged, LayersWanted)
}


class NativeEngine:
    """ForwardingEngine over `parley_dataplane`. `port` 0 takes any free ports; `seed` spreads first numbers."""

    name = "native"
    has_tcp = True

    def __init__(self, host: str, port: int, *, workers: int, seed: int) -> None:
        self._host = host
        self._port = port
        self._workers = workers
        self._seed = seed
        self._node: _native.Node | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup: Callable[[], None] = lambda: None

    async def start(self) -> tuple[str, int]:
        """Binds and starts the workers; returns the first one's address. Raises OSError."""
        self._node = _native.Node(self._host, self._port, self._workers, self._seed)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._node.event_fd(), self._readable)
        return self._host, self._node.ports[0]

    async def stop(self) -> None:
        node, self._node = self._node, None
        if node is not None and self._loop is not None:
            self._loop.remove_reader(node.event_fd())
            node.stop()

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(self._node.ports) if self._node is not None else ()

    @property
    def is_healthy(self) -> bool:
        return self._node is None or self._node.is_healthy

    # --- the port ----------------------------------------------------------------------------------------------------
    def apply(self, commands: Sequence[Command]) -> None:
        if self._node is not None:
            self._node.apply(list(commands))

    def poll_events(self, limit: int) -> list[Event]:
        if self._node is None:
            return []
        return [_EVENTS[kind](*fields) for kind, *fields in self._node.poll_events(limit)]

    def on_wakeup(self, callback: Callable[[], None]) -> None:
        self._wakeup = callback

    def _readable(self) -> None:
        self._wakeup()

    def stats(self) -> EngineStats:
        if self._node is None:
            return EngineStats(0, 0, 0, 0, 0, 0, 0, 0, {})
        totals, dropped = self._node.stats()
        return EngineStats(*totals, dropped)

    def snapshot(self) -> EngineSnapshot:
        if self._node is None:
            return EngineSnapshot((), (), ())
        tracks, subscribers = self._node.snapshot()
        return EngineSnapshot(
            tuple(_track(*fields) for fields in tracks),
            tuple(SubscriberStats(*fields) for fields in subscribers),
            tuple(WorkerStats(number, *fields) for number, fields in enumerate(self._node.workers())),
        )

    def shift_clock(self, seconds: float) -> None:
        """Moves the engine's clock ahead, for tests of time-outs."""
        if self._node is not None:
            self._node.shift_clock(round(seconds * 1e6))


def _track(track_id: str, codec: str, senders: int, requests: int, layers: Sequence[Any]) -> TrackStats:
    return TrackStats(track_id, codec, senders, requests, tuple(LayerStats(*fields) for fields in layers))
