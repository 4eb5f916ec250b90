"""The members' sessions on SFU nodes: opened after a join, attached again after a lost link, moved when a node dies.

What a node says about a participant goes to the member here (this process owns the session); what it says about a room
goes to the connections of this process. SDP and candidates pass through untouched.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import aiohttp
import msgspec

from conference import telemetry
from conference.domain.errors import Unavailable
from conference.domain.ids import NodeId
from conference.ports.presence import Present
from conference.protocol import control as c
from conference.protocol import messages as m
from conference.protocol.envelope import Message
from conference.protocol.session import error_message
from conference.tasks import Tasks
from media_workers.signaling.links import ControlLink
from media_workers.signaling.nodes import NodeDirectory
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import MediaSeat, Member, Room, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.views import track_unpublished

_REOPEN_S = 0.5
_log = logging.getLogger(__name__)
SFU_AUDIENCE = "sfu"


class Media:
    """Implements `LinkEvents`. `on_event` is given what nodes say by themselves."""

    def __init__(
        self, services: Services, rooms: Rooms, publisher: Publisher, tasks: Tasks, http: aiohttp.ClientSession
    ) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._tasks = tasks
        self._http = http
        self._links: dict[NodeId, ControlLink] = {}
        self._checking: set[NodeId] = set()
        self.nodes = NodeDirectory(services)
        self.on_event: Callable[[Message], None] | None = None

    # --- a member's session ---
    def open(self, member: Member) -> None:
        """A session from nothing; the client gets two endpoints when it is there."""
        self._tasks.spawn(self._open(member))

    def resumed(self, member: Member) -> None:
        """The member is back on another connection, here or on another process before."""
        connection, seat = member.connection, member.media
        link = self._links.get(seat.node_id) if seat.node_id else None
        if connection is None:
            return
        if not seat.endpoints and not member.room.wants_sfu:
            return
        if link is None or not link.up or not seat.endpoints:
            self._tasks.spawn(self._open(member, attach=True))
            return
        # What was on its way when the connection broke may be lost; the client knows what it has had already.
        self._tell_endpoints(member, lives=True)
        for payload in (seat.answer, seat.offer):
            if payload is not None:
                connection.tell(payload)

    async def _open(self, member: Member, *, attach: bool = False) -> None:
        seat = member.media
        if seat.opening or not member.here:
            return
        seat.attach = seat.attach or attach
        seat.opening = True  # one request at a time, however many ask for it
        try:
            node_id = await self._node(member.room)
        finally:
            seat.opening = False
        if member.media is not seat or not member.here:
            return
        node = self.nodes.get(node_id)
        if node is None or node_id is None:
            self._homeless(member)
            return
        seat.node_id = node_id
        link = self._links.get(node_id)
        if link is None or link.url != node.control_url:
            if link is not None:
                await link.stop()
            link = self._links[node_id] = ControlLink(node, self._http, self._authorize, self)
        if link.up:
            self._request(member, link, attach=seat.attach)
        # else link_up opens it

    async def _node(self, room: Room) -> NodeId | None:
        try:
            if self.nodes.get(room.node_id) is None:
                await self.nodes.refresh()
            return await self.nodes.node_of(room)
        except Unavailable:
            return room.node_id

    def _request(self, member: Member, link: ControlLink, *, attach: bool) -> None:
        seat = member.media
        seat.opening, seat.attach, seat.node_id = True, attach, link.node_id
        request: c.AttachSession | c.OpenSession
        if attach:
            request = c.AttachSession(room_id=member.room.id, participant_id=member.participant_id)
        else:
            present = member.present
            request = msgspec.convert(
                {
                    "roomId": member.room.id,
                    "participantId": present.participant_id,
                    "userId": present.user_id,
                    "role": present.role,
                    "grants": list(present.grants),
                },
                c.OpenSession,
            )
            request = msgspec.structs.replace(request, capabilities=member.capabilities)
        link.send(
            request,
            traceparent=member.traceparent,
            on_reply=lambda reply: self._opened(member, seat, link, attach, reply.payload),
        )

    def _opened(self, member: Member, seat: MediaSeat, link: ControlLink, attach: bool, reply: m.Payload) -> None:
        seat.opening = False
        if member.media is not seat or not member.here:
            return  # of a session that nobody wants any more
        if isinstance(reply, c.SessionOpened):
            fresh = tuple(_endpoint(endpoint, reply.node_id) for endpoint in reply.endpoints)
            if {e.transport_id for e in fresh} != {e.transport_id for e in seat.endpoints}:
                seat.offer = seat.answer = None
            seat.endpoints, seat.attach, seat.told = fresh, True, False
            self._tell_endpoints(member, lives=attach)
            if member.present.state.get("isMuted"):  # whatever the client does, as in `Leaving.mute`
                self.send(
                    member, c.MuteTracks(participant_id=member.participant_id, sources=["microphone"], muted=True)
                )
        elif attach and link.up:
            self._forget_tracks(member)
            self._request(member, link, attach=False)
        else:
            _log.warning("no media session", extra={"node": link.node_id, "code": getattr(reply, "code", "")})
            self._homeless(member)

    def _tell_endpoints(self, member: Member, *, lives: bool) -> None:
        """`lives`: the session was there before this connection."""
        connection = member.connection
        if connection is None:
            return
        endpoints = member.media.endpoints
        connection.session.transports(((e.transport_id, e.direction) for e in endpoints), offered=lives)
        for endpoint in member.media.endpoints:
            connection.tell(endpoint)

    def _homeless(self, member: Member) -> None:
        """Said once; `retry` goes on in the background."""
        seat = member.media
        seat.endpoints = ()
        if not seat.told and member.connection is not None:
            seat.told = True
            text = "No media server is available at the moment. Trying again."
            member.connection.send(error_message("sfu-unavailable", text, retryable=True))

    def retry(self) -> None:
        """Opens what is not open, and ends links to nodes that are gone: called every few seconds."""
        used = {member.media.node_id for member in self._rooms.members()}
        for node_id, former in tuple(self._links.items()):
            if node_id not in used and not former.up and self.nodes.get(node_id) is None:
                del self._links[node_id]
                self._tasks.spawn(former.stop())
        for member in self._rooms.members():
            seat = member.media
            link = self._links.get(seat.node_id) if seat.node_id else None
            waiting = not seat.endpoints and not seat.opening and member.connection is not None
            if not member.room.wants_sfu:
                continue
            if waiting and (link is None or link.up or self.nodes.get(seat.node_id) is None):
                self.open(member)

    def close(self, member: Member) -> None:
        self.send(member, c.CloseSession(participant_id=member.participant_id))
        member.media = MediaSeat()

    def close_room(self, room: Room) -> None:
        link = self._links.get(room.node_id) if room.node_id else None
        if link is not None:
            link.send(c.CloseRoom(room_id=room.id))

    def send(self, member: Member, payload: m.Payload) -> None:
        """To the member's node, if there is a session; no reply is awaited."""
        link = self._links.get(member.media.node_id) if member.media.node_id else None
        if link is not None:
            link.send(payload, traceparent=member.traceparent)

    def update(self, member: Member) -> None:
        """Role or grants changed."""
        present = member.present
        fields = {"participantId": present.participant_id, "role": present.role, "grants": list(present.grants)}
        self.send(member, msgspec.convert(fields, c.UpdateSession))

    # --- SDP and candidates of the client ---
    def relay(self, member: Member, message: Message) -> None:
        link = self._links.get(member.media.node_id) if member.media.node_id else None
        connection = member.connection
        if connection is None:
            return
        if link is None:
            connection.send(error_message("sfu-unavailable", "The media server is away.", message.id, retryable=True))
            return
        payload = message.payload
        if isinstance(payload, m.SendAnswer):
            offer = member.media.offer
            if offer is not None and offer.negotiation_id == payload.negotiation_id:
                member.media.offer = None
        link.send(
            _to_sfu(member, payload),
            traceparent=message.traceparent,
            on_reply=lambda reply: self._replied(member, message, reply.payload),
        )

    def _replied(self, member: Member, message: Message, reply: m.Payload) -> None:
        connection = member.connection
        if connection is None or not member.here:
            return
        if isinstance(reply, c.Answer):
            answer = m.ReceiveAnswer(
                source_user_id=m.SFU,
                transport_id=reply.transport_id,
                negotiation_id=reply.negotiation_id,
                sdp=reply.sdp,
                tracks=reply.tracks,
                epoch=member.room.epoch,
            )
            member.media.answer = answer
            connection.send(Message("ReceiveAnswer", answer, reply_to=message.id))
        elif isinstance(reply, c.ControlError):
            connection.send(error_message(reply.code, reply.message, message.id, retryable=reply.retryable))

    # --- links ---
    def link_up(self, link: ControlLink, hello: c.Hello) -> None:
        self._count_links()
        held = {session.participant_id for session in hello.sessions}
        for member in self._rooms.members():
            seat = member.media
            if seat.opening:
                continue  # `_open` is looking for the node, and finds this link up
            if seat.node_id == link.node_id and (member.connection is not None or seat.endpoints):
                attach = seat.attach and member.participant_id in held
                if not attach and seat.endpoints:
                    self._forget_tracks(member)
                self._request(member, link, attach=attach)
        if hello.draining:
            self._tasks.spawn(self.move_away(link.node_id))

    def link_down(self, link: ControlLink) -> None:
        self._count_links()
        if link.node_id not in self._checking and self._links.get(link.node_id) is link:
            self._checking.add(link.node_id)
            self._tasks.spawn(self._check(link))

    async def _check(self, link: ControlLink) -> None:
        try:
            await asyncio.sleep(self._services.options.node_grace_s)
            if not link.up:
                await self.move_away(link.node_id)
        finally:
            self._checking.discard(link.node_id)

    def link_message(self, link: ControlLink, message: Message) -> None:
        if isinstance(message.payload, c.Draining):
            link.draining = True
            self._tasks.spawn(self.move_away(link.node_id))
        elif self.on_event is not None and not self._is_left_behind(link, message):
            self.on_event(message)

    def _is_left_behind(self, link: ControlLink, message: Message) -> bool:
        """A session has ended on a node that its member was moved away from: the one they have now lives."""
        if not isinstance(message.payload, c.SessionClosed):
            return False
        member = self._rooms.participant(message.payload.participant_id)
        return member is not None and member.media.node_id not in (None, link.node_id)

    async def move_away(self, node_id: NodeId) -> None:
        """Opens the sessions of that node's rooms on another one; without another, they wait for it."""
        for room in self._rooms:
            if room.node_id != node_id:
                continue
            try:
                await self.nodes.refresh()
                new = await self.nodes.node_of(room, instead_of=node_id)
            except Unavailable:
                continue
            if new is None or new == node_id:
                room.node_id = room.node_id or node_id
                continue
            _log.info("room moved", extra={"room": room.id[:8], "node": new})
            for member in tuple(room.members.values()):
                if not member.room.wants_sfu and not member.media.endpoints:
                    continue
                self._forget_tracks(member)
                member.media = MediaSeat(node_id=new)
                self.open(member)

    def reopen(self, member: Member) -> None:
        """The node ended the session by itself."""
        if not member.room.wants_sfu and not member.media.endpoints:
            return  # given up by us
        self._forget_tracks(member)
        member.media = MediaSeat(node_id=member.media.node_id)
        self._tasks.spawn(self._reopen(member))

    async def _reopen(self, member: Member) -> None:
        await asyncio.sleep(_REOPEN_S)
        if member.connection is not None:
            await self._open(member)

    def _forget_tracks(self, member: Member) -> None:
        """The tracks of a session that is gone; the client publishes them again on the new one."""
        if member.present.tracks:
            self._tasks.spawn(self.unpublish_all(member))

    async def unpublish_all(self, member: Member) -> None:
        former: tuple[Mapping[str, str], ...] = ()

        def clear(present: Present) -> Present | None:
            nonlocal former
            former = present.tracks
            return replace(present, tracks=()) if former else None

        await self._publisher.change(member, None, clear)
        for track in former:
            await self._publisher.tell(member.room, track_unpublished(member.present, track["trackId"]))

    def _count_links(self) -> None:
        self._services.metrics.sfu_links.set(sum(link.up for link in self._links.values()))

    async def _authorize(self) -> str:
        services = self._services
        return await services.tokens.mint_service(subject="signaling", audience=SFU_AUDIENCE, now=services.clock.now())

    async def stop(self) -> None:
        links, self._links = tuple(self._links.values()), {}
        for link in links:
            await link.stop()


def _endpoint(endpoint: c.Endpoint, node_id: str) -> m.SfuEndpoint:
    return m.SfuEndpoint(
        ip=endpoint.ip,
        port=endpoint.port,
        transport_id=endpoint.transport_id,
        node_id=node_id,
        direction=endpoint.direction,
    )


def _to_sfu(member: Member, payload: m.Payload) -> m.Payload:
    """The client's SDP or candidate as the control link carries it."""
    if isinstance(payload, m.SendOffer | m.SendAnswer):
        struct = c.Offer if isinstance(payload, m.SendOffer) else c.Answer
        return struct(
            participant_id=member.participant_id,
            transport_id=payload.transport_id,
            negotiation_id=payload.negotiation_id,
            sdp=payload.sdp,
            tracks=payload.tracks,
        )
    assert isinstance(payload, m.SendIceCandidate)
    return c.AddCandidate(
        participant_id=member.participant_id, transport_id=payload.transport_id, candidate=payload.candidate
    )


def first_packet_span(member: Member) -> None:
    """The end of the join trace."""
    if member.traceparent and not member.trace_reported:
        member.trace_reported = True
        with telemetry.span("media.first_packet", traceparent=member.traceparent):
            pass
