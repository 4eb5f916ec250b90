"""An SFU node as far as the control link goes: it opens sessions, answers offers and says what a test tells it to."""

import itertools
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from conference.domain.errors import Refused
from conference.domain.ids import NodeId
from conference.ports.clock import Clock
from conference.ports.presence import MediaNode, MediaNodes
from conference.ports.tokens import Tokens
from conference.protocol import control as c
from conference.protocol.envelope import Codec, Message, encode
from conference.protocol.messages import Payload, TrackInfo

_CODEC = Codec(c.TO_SFU)
MOST_SECTIONS = 64


class FakeSfu:
    def __init__(self, node_id: str, nodes: MediaNodes, tokens: Tokens, clock: Clock, *, load: float = 0.0) -> None:
        self.node_id = node_id
        self.received: list[Payload] = []
        self.sessions: dict[str, c.OpenSession] = {}
        self.endpoints: dict[str, tuple[str, str]] = {}
        self.refused_links = 0
        self._load = load
        self._owners: dict[str, web.WebSocketResponse] = {}
        self._links: set[web.WebSocketResponse] = set()
        self._nodes, self._tokens, self._clock = nodes, tokens, clock
        self._runner: web.AppRunner | None = None
        self._numbers = itertools.count(1)
        self.port = 0

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/control", self._control)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        await self.announce()

    async def announce(self, *, draining: bool = False) -> None:
        url = f"ws://127.0.0.1:{self.port}/control"
        await self._nodes.announce(MediaNode(NodeId(self.node_id), "local", url, self._load, 0, draining), ttl_s=600)

    async def die(self) -> None:
        """All at once, with everything it held."""
        await self._nodes.withdraw(NodeId(self.node_id))
        await self.cut_links()
        if self._runner is not None:
            await self._runner.cleanup()
        self.sessions.clear()
        self.endpoints.clear()

    async def cut_links(self) -> None:
        for link in tuple(self._links):
            transport = link._req.transport if link._req is not None else None
            if transport is not None:
                transport.abort()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def of(self, struct: type[Payload]) -> list[Any]:
        """What was received of one type."""
        return [payload for payload in self.received if type(payload) is struct]

    async def say(self, participant_id: str, payload: Payload) -> None:
        """To the link that owns the session."""
        await self._owners[participant_id].send_str(encode(Message(type(payload).__name__, payload)))

    async def _control(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            await self._tokens.verify_service(token, audience="sfu", now=self._clock.now())
        except Refused:
            self.refused_links += 1
            return web.Response(status=401)
        link = web.WebSocketResponse(compress=False)
        await link.prepare(request)
        self._links.add(link)
        held = [
            c.SessionRef(room_id=s.room_id, participant_id=s.participant_id, user_id=s.user_id)
            for s in self.sessions.values()
        ]
        await self._send(link, c.Hello(node_id=self.node_id, region="local", sessions=held))
        async for frame in link:
            if frame.type is WSMsgType.TEXT:
                message = _CODEC.decode(frame.data)
                self.received.append(message.payload)
                for reply in self._answers(link, message.payload):
                    await self._send(link, reply, reply_to=None if isinstance(reply, c.TrackAdded) else message.id)
        self._links.discard(link)
        return link

    async def _send(self, link: web.WebSocketResponse, payload: Payload, *, reply_to: str | None = None) -> None:
        await link.send_str(encode(Message(type(payload).__name__, payload, reply_to=reply_to)))

    def _answers(self, link: web.WebSocketResponse, payload: Payload) -> Sequence[Payload]:
        if isinstance(payload, c.OpenSession):
            number = next(self._numbers)
            self.sessions[payload.participant_id] = payload
            self.endpoints[payload.participant_id] = (f"{self.node_id}-pub-{number}", f"{self.node_id}-sub-{number}")
            return self._opened(link, payload.participant_id)
        if isinstance(payload, c.AttachSession):
            if payload.participant_id not in self.sessions:
                return [c.ControlError(code="no-session", message="There is no such session.")]
            return self._opened(link, payload.participant_id)
        if isinstance(payload, c.CloseSession):
            self.sessions.pop(payload.participant_id, None)
        if isinstance(payload, c.Offer):
            return self._answer(payload)
        return [c.Ok()]

    def _opened(self, link: web.WebSocketResponse, participant_id: str) -> Sequence[Payload]:
        self._owners[participant_id] = link
        publish, subscribe = self.endpoints[participant_id]
        endpoints = [
            c.Endpoint(ip="127.0.0.1", port=9, transport_id=publish, direction="publish"),
            c.Endpoint(ip="127.0.0.1", port=9, transport_id=subscribe, direction="subscribe"),
        ]
        tracks: list[TrackInfo] = []
        return [
            c.SessionOpened(participant_id=participant_id, node_id=self.node_id, endpoints=endpoints, tracks=tracks)
        ]

    def _answer(self, offer: c.Offer) -> Sequence[Payload]:
        if offer.sdp.count("m=") > MOST_SECTIONS:
            return [c.ControlError(code="too-many-sections", message="The SDP has too many m-lines.")]
        session = self.sessions[offer.participant_id]
        answer = c.Answer(
            participant_id=offer.participant_id,
            transport_id=offer.transport_id,
            negotiation_id=offer.negotiation_id,
            sdp="v=0 answer",
        )
        added = [
            c.TrackAdded(
                room_id=session.room_id, participant_id=session.participant_id, user_id=session.user_id, track=track
            )
            for track in offer.tracks
        ]
        return [answer, *added]
