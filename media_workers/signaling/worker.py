"""The signaling worker: an aiohttp server with `/v1/signal`, `/health`, `/ready` and `/metrics`.

One task per connection reads, feeds the session machine and performs its effects one after the other, so that what a
client asks is done in the order in which it asked, and a slow directory slows that client alone.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web
from opentelemetry.trace import Span

from conference import telemetry
from conference.protocol import messages as m
from conference.protocol.dialect import ClientCodec
from conference.protocol.envelope import MAX_MESSAGE_BYTES, Message
from conference.protocol.http_origin import address_of
from conference.protocol.session import CloseCode, Depart, Effect, Enter, Reattach, Serve, Session
from conference.tasks import Tasks
from media_workers.signaling.connection import Connection
from media_workers.signaling.handshake import SUBPROTOCOL, Accepted, Rejected, Strangers, check
from media_workers.signaling.joining import Joining
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.media_events import MediaEvents
from media_workers.signaling.orders import Orders
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery
from media_workers.signaling.requests import Requests
from media_workers.signaling.resuming import Resuming
from media_workers.signaling.rooms import Rooms
from media_workers.signaling.seating import Seating
from media_workers.signaling.services import Services
from media_workers.signaling.simulate import Simulation
from media_workers.signaling.store_writes import StoreWrites
from media_workers.signaling.topologies import Topologies
from media_workers.signaling.upkeep import Upkeep

_MOVING: Final = m.Moving(retry_in_ms=200, spread_ms=2_000)
_log = logging.getLogger(__name__)


class SignalingWorker:
    """`start`, then `drain` and `stop`. `drained` is set when a debug hook asks for the end."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connections: set[Connection] = set()
        self._tasks = Tasks()
        self._strangers = Strangers(services.options.strangers_of_one, services.options.strangers)
        self._codec = ClientCodec(m.DEBUG_MESSAGES if services.options.debug_hooks else None)
        self._draining = False
        self._ready = False
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self._empty = asyncio.Event()  # no connection is open
        self._empty.set()
        self.drain_asked = asyncio.Event()
        self.rooms = Rooms(services.metrics)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, host: str, port: int) -> int:
        """Serves; gives the port. Raises OSError where it is taken."""
        self._assemble()
        application = web.Application(client_max_size=1024)
        application.router.add_get("/v1/signal", self._signal)
        application.router.add_get("/health", self._health)
        application.router.add_get("/ready", self._readiness)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        self._ready = True
        return int(self._runner.addresses[0][1])

    def _assemble(self) -> None:
        """The parts and who knows whom; there is no other place to look for it."""
        services, rooms, tasks = self._services, self.rooms, self._tasks
        self._http = aiohttp.ClientSession()
        publisher = Publisher(services)
        store = StoreWrites(services)
        self._media = media = Media(services, rooms, publisher, tasks, self._http)
        media.on_event = MediaEvents(services, rooms, publisher, media, tasks).handle
        self._leaving = leaving = Leaving(services, rooms, publisher, media, store)
        recovery = Recovery(services, rooms, publisher, leaving)
        topologies = Topologies(services, rooms, publisher, media, tasks)
        rooms.heard = topologies.heard
        seating = Seating(services, rooms, publisher, leaving, recovery)
        self._joining = Joining(services, publisher, media, store, leaving, seating, topologies, tasks)
        self._resuming = Resuming(services, rooms, publisher, media, leaving, recovery, seating, topologies)
        self._requests = Requests(services, publisher, media, leaving, topologies)
        self._simulation = Simulation(media, self.drain_asked.set)
        rooms.order = Orders(publisher, media, leaving, recovery, tasks).handle
        rooms.listener = services.presence.listener(rooms.hear)
        tasks.spawn(rooms.listener.run())
        Upkeep(services, self._connections, rooms, publisher, media, leaving, recovery, store).start(tasks)

    # --- HTTP ---
    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readiness(self, request: web.Request) -> web.Response:
        """Ready without the directory too: live calls go on, and it may be back in a moment."""
        ready = self._ready and not self._draining
        return web.json_response({"status": "ready" if ready else "draining"}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._services.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _signal(self, request: web.Request) -> web.StreamResponse:
        options = self._services.options
        protocols = request.headers.getall("Sec-WebSocket-Protocol", [])
        verdict = check(request.headers, request.query, protocols, options.origins)
        if isinstance(verdict, Rejected):
            return web.Response(status=verdict.status, text=verdict.text)
        if self._draining:
            return web.Response(status=503, text="This server is draining.", headers={"Retry-After": "1"})
        address = address_of(request.headers, request.remote)
        if not self._strangers.come(address):
            self._services.metrics.dropped.labels("strangers").inc()
            text = "Too many connections of this address have not joined yet."
            return web.Response(status=429, text=text, headers={"Retry-After": "5"})
        greeted = functools.cache(lambda: self._strangers.go(address))  # once, at the join or at the end
        try:
            return await self._accept(request, verdict, greeted)
        finally:
            greeted()

    async def _accept(self, request: web.Request, verdict: Accepted, greeted: Callable[[], None]) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,) if verdict.selected else (),
            timeout=1.0,
            autoclose=False,
            autoping=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
            decode_text=False,
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        now = asyncio.get_running_loop().time()
        options = self._services.options
        session = Session(self._codec, options.limits, now, token=verdict.token)
        connection = Connection(
            self._services.ids.new(),
            session,
            transport,
            self._services.metrics,
            buffer_bytes=options.send_buffer_bytes,
            span=telemetry.tracer().start_span("signaling.connection"),
            greeted=greeted,
        )
        await self._serve(connection, socket)
        return socket

    # --- a connection ---
    async def _serve(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        self._connections.add(connection)
        self._empty.clear()
        self._services.metrics.connections.set(len(self._connections))
        try:
            await self._read(connection, socket)
        except ConnectionError:
            pass  # the socket is gone; what follows is the same as for any other end
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()
            self._services.metrics.connections.set(len(self._connections))
            connection.span.end()
            connection.finish()
            self._tasks.spawn(self._leaving.disconnected(connection))

    async def _read(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        session, loop = connection.session, asyncio.get_running_loop()
        while True:
            frame = await socket.receive()
            if frame.type is WSMsgType.TEXT:
                await self._receive(connection, frame.data)
            elif frame.type is WSMsgType.BINARY:
                connection.apply(session.binary())
            elif frame.type is WSMsgType.PONG:
                session.alive(loop.time())
            elif frame.type is WSMsgType.PING:
                session.alive(loop.time())
                connection.pong(frame.data)
            else:
                return

    async def _receive(self, connection: Connection, text: bytes) -> None:
        try:
            effects = connection.apply(connection.session.receive(text, asyncio.get_running_loop().time()))
            for effect in effects:
                await self._perform(connection, effect)
        except Exception:  # a bug: none of its text leaves the process
            _log.exception("a message could not be served", extra={"connection": connection.id[:8]})
            connection.end(CloseCode.INTERNAL, "internal")

    async def _perform(self, connection: Connection, effect: Effect) -> None:
        member = self.rooms.joined(connection)
        if isinstance(effect, Depart):
            if member is not None:
                await self._leaving.leave(member, "left")
            return
        message = effect.message
        self._services.metrics.messages.labels("in", message.type).inc()
        with _span(connection, message, always=isinstance(effect, Enter)) as span:
            if isinstance(effect, Enter | Reattach):
                context = telemetry.traceparent_of(span) if span is not None else None
                context = context or message.traceparent
                enter = self._joining.enter if isinstance(effect, Enter) else self._resuming.resume
                await enter(connection, effect, context)  # type: ignore[arg-type]
                if self.rooms.joined(connection) is not None:
                    connection.greeted()
            elif isinstance(effect, Serve) and isinstance(message.payload, m.Simulate):
                self._simulation.run(connection, member, message)
            else:
                await self._requests.perform(connection, member, effect)

    # --- ending ---
    async def drain(self) -> None:
        """Tells every client to move, gives them time, and closes who stayed. Presence keeps their seats, so that
        they resume on another process."""
        if self._draining:
            return
        self._draining = True
        for connection in tuple(self._connections):
            connection.tell(_MOVING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._services.options.drain_s):
                await self._empty.wait()
        for connection in tuple(self._connections):
            connection.end(CloseCode.GOING_AWAY, "draining")

    async def stop(self) -> None:
        """Ends everything at once."""
        self._draining = True
        for connection in tuple(self._connections):
            connection.end(CloseCode.GOING_AWAY, "stopping")
        if self._runner is not None:
            await self._runner.cleanup()
        await self._media.stop()
        await self._tasks.stop()
        if self._http is not None:
            await self._http.close()


@contextlib.contextmanager
def _span(connection: Connection, message: Message, *, always: bool) -> Iterator[Span | None]:
    """A message's span, linked to the connection's; none where nobody records and the client has no trace."""
    if not (always or message.traceparent or connection.span.is_recording()):
        yield None
        return
    link = connection.span.get_span_context()
    name = f"signaling.{message.type}"
    with telemetry.span(name, traceparent=message.traceparent, links=[link] if link.is_valid else []) as span:
        yield span
