"""The SFU worker: control links, health and metrics on one HTTP port, media on a UDP port for each packet worker.

`start` binds both and announces the node; `drain` tells signaling and takes no new sessions; `stop` ends what is left.
A lost directory (Redis) changes nothing for live media: the node announces itself again when it is back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from conference import tasks
from conference.domain.errors import Unavailable
from conference.domain.ids import NodeId
from conference.ports.clock import Clock
from conference.ports.dtls import DtlsEndpoints
from conference.ports.forwarding import ForwardingEngine
from conference.ports.presence import MediaNode, MediaNodes
from conference.ports.tokens import Tokens
from media_workers.sfu.core import DEFAULT_OPTIONS, Chance, Core, Identity, Options
from media_workers.sfu.links import ControlServer
from media_workers.sfu.metrics import CONTENT_TYPE, Metrics
from media_workers.sfu.node import Node

ANNOUNCE_S: Final = 5.0
TICK_S: Final = 1.0
DRAIN_S: Final = 3.0
_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What wiring decides. `candidates(port)` lists the addresses put into SDP; `control_url(port)` is announced."""

    node_id: str
    region: str
    host: str
    port: int
    capacity: int
    candidates: Callable[[int], tuple[tuple[str, int], ...]]
    control_url: Callable[[int], str]
    abort: Callable[[], None] | None = None  # ends the process at once; None: debug hooks are off
    drain_s: float = DRAIN_S
    options: Options = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class WorkerPorts:
    """What a worker needs of the world. `monotonic` gives seconds."""

    engine: ForwardingEngine
    dtls: DtlsEndpoints
    tokens: Tokens
    nodes: MediaNodes
    clock: Clock
    monotonic: Callable[[], float]
    chance: Chance


class Worker:
    """One SFU process. `stopped` is set when it was asked to end (drain scenario)."""

    def __init__(self, config: WorkerConfig, ports: WorkerPorts) -> None:
        self._config = config
        self._ports = ports
        self.stopped = asyncio.Event()
        self.port = 0
        self.media_port = 0
        self._loops: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._core: Core | None = None
        self._node: Node | None = None
        self._control: ControlServer | None = None
        self._metrics: Metrics | None = None

    async def start(self) -> None:
        """Binds and announces. Raises OSError where a port is taken."""
        _, self.media_port = await self._ports.engine.start()
        try:
            await self._serve()
        except OSError:
            await self._ports.engine.stop()
            raise

    @property
    def media_ports(self) -> tuple[int, ...]:
        """Of the packet workers."""
        return self._ports.engine.ports

    async def _serve(self) -> None:
        config, ports = self._config, self._ports
        identity = Identity(config.node_id, config.region, config.candidates, config.capacity, config.options)
        self._core = Core(identity, ports.engine, ports.dtls, ports.monotonic, ports.chance)
        self._node = Node(self._core, self._simulate if config.abort is not None else None)
        self._metrics = Metrics(self._core)
        self._control = ControlServer(self._node, ports.tokens, ports.clock, self._metrics.count_error)
        ports.engine.on_wakeup(self._drain_events)
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, config.host, config.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._loops = [
            asyncio.create_task(self._every(TICK_S, self._tick)),
            asyncio.create_task(self._every(ANNOUNCE_S, self._announce)),
        ]

    def _application(self) -> web.Application:
        assert self._control is not None
        application = web.Application()
        application.router.add_get("/control", self._control.handle)
        application.router.add_get("/health", self.health)
        application.router.add_get("/ready", self._ready)
        application.router.add_get("/metrics", self._render_metrics)
        return application

    # --- HTTP --------------------------------------------------------------------------------------------------------
    async def health(self, request: web.Request | None = None) -> web.Response:
        """200 while the process is of use, 503 where it must be replaced."""
        is_healthy = self._ports.engine.is_healthy
        return web.json_response({"status": "ok" if is_healthy else "failed"}, status=200 if is_healthy else 503)

    async def _ready(self, request: web.Request) -> web.Response:
        is_ready = self._core is not None and not self._core.is_draining
        return web.json_response({"status": "ready" if is_ready else "draining"}, status=200 if is_ready else 503)

    async def _render_metrics(self, request: web.Request) -> web.Response:
        assert self._metrics is not None
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    # --- loops -------------------------------------------------------------------------------------------------------
    async def _every(self, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
            except Exception:
                _logger.exception("a periodic action of the node failed")
            await asyncio.sleep(seconds)

    async def _tick(self) -> None:
        if self._node is not None:
            self._node.tick()

    def _drain_events(self) -> None:
        if self._node is not None and self._node.drain_events():
            asyncio.get_running_loop().call_soon(self._drain_events)

    async def _announce(self) -> None:
        core = self._core
        if core is None:
            return
        node = MediaNode(
            NodeId(core.identity.node_id),
            core.identity.region,
            self._config.control_url(self.port),
            min(1.0, core.transport_count / core.identity.capacity),
            len(core.rooms),
            core.is_draining,
        )
        with contextlib.suppress(Unavailable):  # live media goes on without the directory
            await self._ports.nodes.announce(node)

    # --- ending ------------------------------------------------------------------------------------------------------
    def _simulate(self, scenario: str) -> None:
        if scenario == "drain":
            self.stopped.set()
        elif self._config.abort is not None:
            self._config.abort()

    async def drain(self) -> None:
        """Takes no new sessions, tells signaling, and gives it a moment to move the rooms."""
        if self._core is None or self._control is None:
            return
        self._core.is_draining = True
        await self._announce()
        self._control.announce_draining()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await self._core.idle.wait()

    async def stop(self) -> None:
        """Ends every session, tells its owner, withdraws the node and closes the ports."""
        await tasks.end(self._loops)
        with contextlib.suppress(Unavailable):
            await self._ports.nodes.withdraw(NodeId(self._config.node_id))
        if self._node is not None and self._core is not None and self._control is not None:
            self._node.end_all()
            await self._core.finish()
            await self._control.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._ports.engine.stop()
