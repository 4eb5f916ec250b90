"""The tunnel gateway: sessions, and the three wires that carry them (docs/tunnel-protocol.md).

A WebSocket, a chunked answer that never ends, or answers that are held until there is something: each takes frames from
the session as long as it has room, and frames that find none wait in the session, where they age.
"""

import asyncio
import base64
import binascii
import contextlib
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import aiohttp
import msgspec
from aiohttp import WSMsgType, web

from conference import tasks
from conference.domain.claims import TunnelClaims
from conference.domain.errors import ProtocolError, Unavailable
from conference.domain.ids import ParticipantId
from conference.ports.clock import Ids
from conference.protocol.http_origin import address_of, origin_allowed
from conference.protocol.tunnel.frame import MAX_PAYLOAD, decode_all, encode_all
from media_workers.tunnel import ends
from media_workers.tunnel.admission import Admission
from media_workers.tunnel.batches import Wires
from media_workers.tunnel.ends import End, Ended
from media_workers.tunnel.frames.path import Services
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.session import IDLE_S, WIRE_ROOM, GatewaySession, Wire
from media_workers.tunnel.upstream import Upstream

PREFIX: Final = "/v1/tunnel/sessions"
SUBPROTOCOL: Final = "parley.tunnel.v1"
MAX_BATCH: Final = 524_288
POLL_S: Final = 20.0
STREAM_S: Final = 20.0
# Each answer to a poll costs its headers and those of the next request, far more than 20 ms of sound.
GATHER_S: Final = 0.06
TICK_S: Final = 1.0
FULL_S: Final = 0.005
POLL_WIRES: Final = 64  # names of a session that are remembered
TCP_NOTSENT_LOWAT: Final = 25
NAME: Final = 64
HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    mode: str = "datagrams"
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=8_192)] | None = None


_wanted: Final = msgspec.json.Decoder(_Wanted)


@dataclass(frozen=True, slots=True)
class Options:
    """`signaling_url` is where sessions connect; `origins` are the browsers' that may; limits are counts."""

    signaling_url: str
    origins: frozenset[str] = frozenset()
    sessions: int = 500
    sessions_of_one: int = 50
    poll_s: float = POLL_S


class TunnelWorker:
    """`frames` is what frames-sessions need; without it there are datagrams only. Without `admission` no tunnel token
    is taken: every session is joined on its stream 0."""

    def __init__(
        self,
        options: Options,
        ids: Ids,
        metrics: Metrics,
        frames: Services | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._frame_services = frames
        self._admission = admission
        self._options = options
        self._ids = ids
        self._metrics = metrics
        self._sessions: dict[str, GatewaySession] = {}
        self._batches: dict[str, Wires] = {}
        self._polls: dict[str, dict[str, tuple[Wire, asyncio.Lock]]] = {}
        self._of_address: Counter[str] = Counter()
        self._of_participant: dict[ParticipantId, GatewaySession] = {}  # those that began by a token
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self._is_draining = False

    # --- life ---
    async def start(self, host: str, port: int) -> int:
        """Serves; gives the port. Raises OSError where it is taken."""
        self._http = aiohttp.ClientSession()
        application = web.Application(client_max_size=MAX_BATCH)
        application.router.add_post(PREFIX, self._guarded(self._create))
        application.router.add_delete(PREFIX + "/{id}", self._guarded(self._delete))
        application.router.add_get(PREFIX + "/{id}/ws", self._guarded(self._websocket))
        application.router.add_get(PREFIX + "/{id}/stream", self._guarded(self._stream))
        application.router.add_get(PREFIX + "/{id}/poll", self._guarded(self._poll))
        application.router.add_post(PREFIX + "/{id}/frames", self._guarded(self._frames))
        application.router.add_get("/ready", self._readiness)
        application.router.add_get("/metrics", self._show_metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._spawn(self._tick())
        return int(self._runner.addresses[0][1])

    def drain(self) -> None:
        """Takes no new sessions."""
        self._is_draining = True

    async def stop(self) -> None:
        for session in tuple(self._sessions.values()):
            session.finish(ends.DRAINING)
        if self._runner is not None:
            await self._runner.cleanup()
        await tasks.end(self._tasks)
        if self._http is not None:
            await self._http.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = asyncio.get_running_loop().time()
            for session in tuple(self._sessions.values()):
                session.tick(now)

    async def _readiness(self, request: web.Request) -> web.Response:
        status = "draining" if self._is_draining else "ready"
        return web.json_response({"status": status}, status=503 if self._is_draining else 200)

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    # --- requests ---
    def _guarded(self, handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                response: web.StreamResponse = await handler(request)
                return response
            except Ended as refusal:
                return self._problem(refusal.end)
            except ProtocolError as error:
                return self._problem(ends.of_protocol(error.code))
            except web.HTTPRequestEntityTooLarge:
                return self._problem(ends.TOO_LARGE)

        return handle

    def _problem(self, end: End) -> web.Response:
        self._metrics.refused.labels(end.code).inc()
        body = {"type": f"urn:parley:problem:{end.code}", "title": end.text, "status": end.status, "code": end.code}
        return web.json_response(body, status=end.status, content_type="application/problem+json", headers=HEADERS)

    def _session(self, request: web.Request, secret: str) -> GatewaySession:
        session = self._sessions.get(request.match_info["id"])
        if session is None:
            raise Ended(ends.NO_SESSION)
        if not session.knows(secret):
            raise Ended(ends.WRONG_SECRET)
        return session

    async def _create(self, request: web.Request) -> web.Response:
        if self._is_draining:
            raise Ended(ends.DRAINING)
        if not origin_allowed(request.headers.get("Origin"), self._options.origins):
            raise Ended(ends.FORBIDDEN)
        try:
            wanted = _wanted.decode(await request.read() or b"{}")
        except msgspec.MsgspecError:
            raise Ended(ends.INVALID) from None
        if wanted.mode != "datagrams" and (wanted.mode != "frames" or self._frame_services is None):
            raise Ended(ends.INVALID)
        frames = self._frame_services if wanted.mode == "frames" else None
        address = address_of(request.headers, request.remote)
        self._check_place(address)
        claims = await self._admitted(wanted) if wanted.token is not None else None
        if claims is not None:
            self._check_place(address)  # others may have come meanwhile
        secret = secrets.token_urlsafe(32)
        admit = self._admission.admit if self._admission is not None else None
        session = GatewaySession(self._ids.new(), secret, address, self._metrics, self._over, frames, claims, admit)
        self._sessions[session.id] = session
        self._batches[session.id] = Wires()
        self._of_address[address] += 1
        self._metrics.sessions.set(len(self._sessions))
        if claims is None:
            await self._connect(session, address)
        else:
            self._succeed(session, claims.participant_id)
        limits = {
            "frameBytes": MAX_PAYLOAD,
            "batchBytes": MAX_BATCH,
            "pollSeconds": self._options.poll_s,
            "idleSeconds": IDLE_S,
        }
        body = {
            "sessionId": session.id,
            "resumeSecret": secret,
            "limits": limits,
            "wires": ["websocket", "stream", "poll"],
        }
        return web.json_response(body, status=201, headers=HEADERS)

    def _check_place(self, address: str) -> None:
        full = len(self._sessions) >= self._options.sessions
        if full or self._of_address[address] >= self._options.sessions_of_one:
            raise Ended(ends.TOO_MANY)

    async def _admitted(self, wanted: _Wanted) -> TunnelClaims:
        """Who is connected to signaling already. In frames the gateway negotiates on its own connection to it."""
        if wanted.mode != "datagrams" or self._admission is None:
            raise Ended(ends.JOIN_INSTEAD)
        return await self._admission.admit(wanted.token or "")

    def _succeed(self, session: GatewaySession, participant: ParticipantId) -> None:
        """One such session a participant: a new one ends the former."""
        former = self._of_participant.get(participant)
        self._of_participant[participant] = session
        if former is not None:
            former.finish(ends.SUCCEEDED)

    async def _connect(self, session: GatewaySession, address: str) -> None:
        assert self._http is not None
        session.upstream = Upstream(
            self._http,
            self._options.signaling_url,
            heard=session.told,
            joined=session.joined,
            named=session.paths.allow,
            ended=session.signaling_ended,
        )
        try:
            await session.upstream.connect({"X-Forwarded-For": address})
        except Unavailable:
            session.finish(ends.SIGNALING_AWAY)
            raise Ended(ends.SIGNALING_AWAY) from None

    def _over(self, session: GatewaySession) -> None:
        self._sessions.pop(session.id, None)
        self._batches.pop(session.id, None)
        self._polls.pop(session.id, None)
        if session.claims is not None and self._of_participant.get(session.claims.participant_id) is session:
            del self._of_participant[session.claims.participant_id]
        self._of_address[session.address] -= 1
        if self._of_address[session.address] <= 0:
            del self._of_address[session.address]
        self._metrics.sessions.set(len(self._sessions))
        self._spawn(session.close())

    async def _delete(self, request: web.Request) -> web.Response:
        self._session(request, _bearer(request)).finish(ends.ENDED)
        return web.Response(status=204, headers=HEADERS)

    # --- up ---
    async def _frames(self, request: web.Request) -> web.Response:
        session = self._session(request, _bearer(request))
        wire, number = request.headers.get("Parley-Wire", "")[:NAME], _number(request)
        body = await request.read()
        if request.content_type == "text/plain":
            body = _unbase64(body)
        batches = self._batches[session.id].of(wire)
        if not await batches.turn(number):
            return web.Response(status=204, headers=HEADERS)
        try:
            session.receive(decode_all(body))
        except ProtocolError:
            session.bad_wire()
            raise
        finally:
            batches.done(number)
        if session.end is not None:
            raise Ended(session.end)
        return web.Response(status=204, headers=HEADERS)

    # --- down: WebSocket, both ways ---
    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        offered = [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        secret = next((word.removeprefix("secret.") for word in offered if word.startswith("secret.")), "")
        if SUBPROTOCOL not in offered:
            raise Ended(ends.INVALID)
        session = self._session(request, secret)
        channel = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,), compress=False, max_msg_size=MAX_BATCH, autoping=True, timeout=1.0
        )
        await channel.prepare(request)
        transport = request.transport
        if transport is None:
            return channel
        _keep_short(transport)
        wire = Wire("websocket")
        session.attach(wire)
        pump = asyncio.create_task(self._pump_websocket(session, wire, channel, transport))
        end: End | None = None
        try:
            end = await self._read_websocket(session, channel)
        finally:
            session.detach(wire)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            if not channel.closed:
                told = end or session.end or ends.REPLACED
                await channel.close(code=told.close, message=told.code.encode())
        return channel

    async def _read_websocket(self, session: GatewaySession, channel: web.WebSocketResponse) -> End | None:
        async for message in channel:
            if message.type is not WSMsgType.BINARY:
                return ends.BAD_FRAME
            try:
                session.receive(decode_all(message.data))
            except ProtocolError as error:
                session.bad_wire()
                return ends.of_protocol(error.code)
        return None

    async def _pump_websocket(
        self, session: GatewaySession, wire: Wire, channel: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                frames = await session.outgoing(wire, STREAM_S)
                if wire.replaced.is_set():
                    if rest := session.rest(wire):
                        await channel.send_bytes(encode_all(rest))
                    await channel.close(code=wire.end.close, message=wire.end.code.encode())
                    return
                if frames:
                    await channel.send_bytes(encode_all(frames))
                await _room(transport)

    # --- down: one answer without end ---
    async def _stream(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request, _bearer(request))
        is_text = "text/plain" in request.headers.get("Accept", "")
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": _content_type(is_text)})
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        _keep_short(transport)
        wire = Wire("stream")
        session.attach(wire)
        try:
            while True:
                frames = await session.outgoing(wire, STREAM_S)
                if wire.replaced.is_set():
                    if rest := encode_all(session.rest(wire)):
                        await response.write(base64.b64encode(rest) + b"\n" if is_text else rest)
                    break
                data = encode_all(frames)
                if data:
                    await response.write(base64.b64encode(data) + b"\n" if is_text else data)
                await _room(transport)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            session.detach(wire)
        return response

    # --- down: answers that are held ---
    async def _poll(self, request: web.Request) -> web.Response:
        session = self._session(request, _bearer(request))
        name = request.headers.get("Parley-Wire", "")[:NAME]
        wire, turn = self._poll_wire(session, name, again="Parley-Attach" in request.headers)
        async with turn:  # of two that are held, the older one is answered first
            await _gathered(wire)
            frames = await session.outgoing(wire, self._options.poll_s)
            wire.answered_at = asyncio.get_running_loop().time()
            if wire.replaced.is_set():
                frames = session.rest(wire)
                if not frames:
                    raise Ended(wire.end)
            session.touch()
            data = encode_all(frames)
            wire.answers += 1
            number = str(wire.answers - 1)
        is_text = "text/plain" in request.headers.get("Accept", "")
        body = base64.b64encode(data) if is_text else data
        headers = {**HEADERS, "Content-Type": _content_type(is_text), "Parley-Batch": number}
        return web.Response(body=body, headers=headers)

    def _poll_wire(self, session: GatewaySession, name: str, *, again: bool) -> tuple[Wire, asyncio.Lock]:
        """The wire of that name. It is attached when it is new, or where the client lost an answer. Names of former
        wires are kept: a poll of theirs that comes late must not take the session back."""
        wires = self._polls.setdefault(session.id, {})
        known = wires.get(name)
        if known is None or again:
            wires.pop(name, None)
            while len(wires) >= POLL_WIRES:
                del wires[next(iter(wires))]
            known = wires[name] = (Wire("poll"), asyncio.Lock())
            session.attach(known[0])
        return known


def _content_type(is_text: bool) -> str:
    return "text/plain; charset=us-ascii" if is_text else "application/octet-stream"


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _number(request: web.Request) -> int:
    text = request.headers.get("Parley-Batch", "")
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise Ended(ends.INVALID)
    return int(text)


def _unbase64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Ended(ends.BAD_FRAME) from None


def _keep_short(transport: asyncio.Transport) -> None:
    """What was handed to the kernel cannot be dropped any more: it is to hold little."""
    transport.set_write_buffer_limits(high=WIRE_ROOM)
    plain = transport.get_extra_info("socket")
    if plain is not None:
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, WIRE_ROOM)


async def _gathered(wire: Wire) -> None:
    """Returns when the wire's last answer is long enough ago that another one is worth its headers."""
    left = wire.answered_at + GATHER_S - asyncio.get_running_loop().time()
    if left > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await wire.replaced.wait()


async def _room(transport: asyncio.Transport) -> None:
    """Returns when the connection takes more."""
    while transport.get_write_buffer_size() >= WIRE_ROOM and not transport.is_closing():  # noqa: ASYNC110 - no event
        await asyncio.sleep(FULL_S)
