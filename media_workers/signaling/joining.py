"""JoinRoom and Resume: from a verified token, or a resume secret, to a seat in the room.

The jti is burnt and the seat taken in one script; the room's snapshot and its seq come from the same script, and the
connection hears every event after it. The resume secret names room and user, so that any process can take it up.
"""

import asyncio
import hashlib
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final, cast

from conference.domain.claims import JoinClaims
from conference.domain.consent import consent_required
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.domain.meetings import Participant
from conference.ports.presence import Entered, Present, RoomEvent, RoomView, Told
from conference.protocol import messages as m
from conference.protocol.envelope import encode_payload
from conference.protocol.frames import Outgoing
from conference.protocol.session import CloseCode, Enter, Identity, Reattach
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.names import shown_name
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery, introduce
from media_workers.signaling.rooms import Member, Room, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.store_writes import StoreWrites
from media_workers.signaling.tasks import Tasks
from media_workers.signaling.views import entering, snapshot

_JTI_MARGIN_S: Final = 60
_log = logging.getLogger(__name__)


class Joining:
    def __init__(
        self,
        services: Services,
        rooms: Rooms,
        publisher: Publisher,
        media: Media,
        store: StoreWrites,
        leaving: Leaving,
        recovery: Recovery,
        tasks: Tasks,
    ) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._store = store
        self._leaving = leaving
        self._recovery = recovery
        self._tasks = tasks

    # --- JoinRoom ---
    async def enter(self, connection: Connection, effect: Enter, traceparent: str | None) -> None:
        payload = effect.message.payload
        assert isinstance(payload, m.JoinRoom)
        connection.id = self._services.ids.new()  # of this attempt: an earlier one may still reach the directory
        try:
            claims = await self._verify(effect.token, payload.room_id)
            stay = await self._mark_joined(claims)
            secret = self._secret(claims.room_id, claims.user_id)
            present = await self._present(connection, claims, stay, payload, secret)
            entered = await self._enter(claims, present)
        except Unavailable as error:
            connection.apply(connection.session.unavailable(asyncio.get_running_loop().time(), error.what))
            return
        except Refused as refused:
            self._refuse(connection, refused)
            return
        member = await self._seat(connection, present, entered.room, payload.capabilities, traceparent)
        if member is None:
            return
        missed = await self._told_before(member.room, entered.room)
        self._welcome(connection, member, entered, missed, secret, traceparent)
        self._obey(member, missed)
        self._media.open(member)
        if claims.consent_pending:
            self._tasks.spawn(self._ask_consent(member))

    async def _verify(self, token: str, room_id: str) -> JoinClaims:
        claims = await self._services.tokens.verify_join(token, self._services.clock.now())
        if claims.room_id != room_id:
            raise Refused("token-refused", extra={"cause": "room"})
        return claims

    async def _mark_joined(self, claims: JoinClaims) -> Participant | None:
        """The stay as the store has it; None where the store is away (then it is told later)."""
        services, now = self._services, self._services.clock.now()
        until = now + timedelta(seconds=services.options.lease_s)

        def write() -> "asyncio.Future[Participant | None]":
            work = services.meetings.mark_joined(claims.room_id, claims.participant_id, now=now, lease_until=until)
            return asyncio.ensure_future(work)

        try:
            stay = await write()
        except Unavailable:
            self._store.later(write)
            return None
        if stay is not None:
            return stay
        if await services.presence.denied(claims.room_id, claims.participant_id):
            raise Refused("removed")
        raise Refused("token-refused", extra={"cause": "left"})

    async def _present(
        self,
        connection: Connection,
        claims: JoinClaims,
        stay: Participant | None,
        payload: m.JoinRoom,
        secret: str,
    ) -> Present:
        return Present(
            user_id=claims.user_id,
            participant_id=claims.participant_id,
            connection_id=connection.id,
            process_id=self._services.process_id,
            role=(stay.role if stay is not None else claims.role).value,
            display_name=await self._name(claims.user_id, payload.display_name or ""),
            joined_at=self._services.clock.now(),
            state=dict.fromkeys(("isMuted", "isVideoOn", "isSharing", "isHandRaised"), False),
            grants=tuple(sorted(grant.value for grant in claims.grants)),
            resume_hashes=(_hash(secret),),
        )

    async def _name(self, user_id: UserId, given: str) -> str:
        """What the client says, else the user's name, else Guest."""
        name = shown_name(given)
        if not name:
            try:
                names = await self._services.users.names([user_id])
            except Unavailable:
                names = {}
            name = shown_name(names.get(user_id, ""))
        return name or "Guest"

    async def _enter(self, claims: JoinClaims, present: Present) -> Entered:
        services = self._services
        life = (claims.expires_at - services.clock.now()).total_seconds()
        try:
            entered = await services.presence.enter(
                claims.room_id,
                present,
                jti=claims.jti,
                jti_ttl_s=int(max(0.0, life)) + _JTI_MARGIN_S,
                told=_told(present),
                generation=services.ids.new(),
            )
        except Unavailable:
            self._publisher.suspect = True
            self._leaving.undo_later(claims.room_id, present, "timeout")  # it may have been written all the same
            raise
        if isinstance(entered, Refused):
            raise entered
        return entered

    def _refuse(self, connection: Connection, refused: Refused) -> None:
        if refused.reason == "token-refused":
            self._services.metrics.token_refusals.labels(str(refused.extra.get("cause", "unknown"))).inc()
        connection.apply(connection.session.refused(refused))

    async def _seat(
        self,
        connection: Connection,
        present: Present,
        view: RoomView,
        capabilities: m.Capabilities,
        traceparent: str | None,
    ) -> Member | None:
        """The member in their seat; whoever had it on this process is closed. None where a later connection of the
        person was faster and has it: then this one is closed."""
        room = self._rooms.open(view)
        await self._rooms.ready(room)
        if room.generation != view.generation:
            await self._recover(room)  # the room was lost, and this join made it anew
        room = self._rooms.open(view)  # the last person may have left it meanwhile
        room.epoch, room.topology = view.epoch, view.topology
        room.node_id, room.region = view.sfu_node or room.node_id, view.sfu_region or room.region
        member = Member(
            room, present, connection, (view.generation, view.seq), capabilities=capabilities, traceparent=traceparent
        )
        former = room.members.get(member.user_id)
        if former is not None and former.entered[0] == view.generation and former.entered[1] > view.seq:
            connection.end(CloseCode.TAKEN_OVER, "duplicate")
            return None
        self._rooms.seat(member)
        if former is not None:
            self._leaving.close(former, CloseCode.TAKEN_OVER, "duplicate")
        connection.member = member
        return member

    def _obey(self, member: Member, missed: list[RoomEvent]) -> None:
        """Orders about the person (removed, taken over elsewhere, ...) that came between the directory's answer and
        the seat found nobody here; they are done now."""
        generation, seq = member.entered
        orders = {event.seq: event for event in (*missed, *member.room.orders) if "." in event.type}
        for _, event in sorted(orders.items()):
            concerns = event.to == member.user_id or event.type == "room.ended"
            if concerns and event.generation == generation and event.seq > seq:
                self._rooms.order(member.room, event)

    async def _recover(self, room: Room) -> None:
        try:
            await self._recovery.recover(room)
        except Unavailable:
            self._publisher.suspect = True  # the upkeep does it

    def _welcome(
        self,
        connection: Connection,
        member: Member,
        entered: Entered,
        missed: list[RoomEvent],
        secret: str,
        traceparent: str | None,
    ) -> None:
        room, view = member.room, entered.room
        people = {**{u: other.present for u, other in room.members.items()}, **view.participants}
        reply = m.RoomJoined(
            participant_id=member.participant_id,
            user_id=member.user_id,
            snapshot=snapshot(replace(view, participants=people), member.present),
            resume_secret=secret,
            topology=cast(m.Topology, view.topology),
            epoch=view.epoch,
            generation=view.generation,
            seq=view.seq,
            role=cast(m.Role, member.present.role),
            ping_interval_ms=int(self._services.options.limits.ping_s * 1000),
            resume_window_ms=int(self._services.options.resume_s * 1000),
        )
        connection.apply(connection.session.joined(_identity(member, view, view.seq), reply, traceparent))
        for news in room.announcements:
            if news.seq > view.seq:
                introduce(connection, member.user_id, news)
        self._catch_up(connection, room, missed)

    async def _told_before(self, room: Room, view: RoomView) -> list[RoomEvent]:
        """What was told after the snapshot and before this process heard the room: of two who enter a new room at once,
        the one who entered last may be seated first."""
        if room.generation != view.generation or room.replay.after(view.seq) is not None:
            return []
        try:
            events = await self._services.presence.since(room.id, view.generation, view.seq)
        except Unavailable:
            return []
        return list(events or ())

    def _catch_up(self, connection: Connection, room: Room, missed: list[RoomEvent]) -> None:
        """What the room told between the snapshot and this moment: first what the directory kept, then what we did."""
        for event in missed:
            if "." not in event.type and connection.session.wants(event.seq, event.to):
                connection.relay(Outgoing(event.type, event.payload.encode(), seq=event.seq))
        if missed:
            connection.session.seq = max(connection.session.seq, missed[-1].seq)  # addressed to others
        kept = room.replay.after(connection.session.seq)
        if kept is None:
            connection.end(CloseCode.RESUME, "events-lost")
            return
        for own in kept:
            if connection.session.wants(own.seq, own.to):
                connection.relay(own.outgoing)

    async def _ask_consent(self, member: Member) -> None:
        meeting = await self._services.meetings.get(member.room.id)
        if meeting is None or member.connection is None:
            return
        needed = [
            m.ConsentNeeded(type=need.type.value, text=need.text, version=need.version)
            for need in consent_required(meeting.settings)
        ]
        if needed:
            member.connection.tell(m.ConsentRequested(consent_required=needed))

    # --- Resume ---
    async def resume(self, connection: Connection, effect: Reattach, traceparent: str | None) -> None:
        payload = effect.message.payload
        assert isinstance(payload, m.Resume)
        connection.id = self._services.ids.new()
        room_id, user_id = _named(payload.resume_secret)
        secret = self._secret(room_id, user_id)
        try:
            found = await self._reconnect(connection, payload, room_id, user_id, secret)
            missed = await self._missed(found[1], payload)
        except Refused as refused:
            self._refuse(connection, refused)
            return
        except Unavailable as error:
            self._publisher.suspect = True
            local = self._resume_here(connection, payload, user_id, room_id, secret)
            if local is None:
                self._leaving.doubt(room_id, user_id, connection.id)  # it may have been written all the same
                connection.apply(connection.session.unavailable(asyncio.get_running_loop().time(), error.what))
                return
            found, missed = local, []
        await self._take_up(connection, payload, found, missed, secret, traceparent)

    async def _reconnect(
        self, connection: Connection, payload: m.Resume, room_id: MeetingId, user_id: UserId, secret: str
    ) -> tuple[Present, RoomView]:
        found = await self._services.presence.reconnect(
            room_id,
            user_id,
            ParticipantId(payload.participant_id),
            secret_hash=_hash(payload.resume_secret),
            new_hash=_hash(secret),
            connection_id=connection.id,
            process_id=self._services.process_id,
        )
        if not isinstance(found, Refused):
            return found
        room = self._rooms.get(room_id)
        known = room is not None and user_id in room.members
        # The directory may have lost the room a moment ago.
        if found.reason == "token-refused" and room is not None and known and await self._recovery.look_at(room):
            return await self._reconnect(connection, payload, room_id, user_id, secret)
        raise found

    async def _missed(self, view: RoomView, payload: m.Resume) -> list[RoomEvent] | None:
        if payload.generation != view.generation:
            return None
        events = await self._services.presence.since(view.room_id, view.generation, payload.last_seq)
        return None if events is None else list(events)

    def _resume_here(
        self, connection: Connection, payload: m.Resume, user_id: UserId, room_id: MeetingId, secret: str
    ) -> tuple[Present, RoomView] | None:
        """The directory is away: a seat of this process is taken up without it."""
        room = self._rooms.get(room_id)
        member = room.members.get(user_id) if room is not None else None
        old = _hash(payload.resume_secret)
        if room is None or member is None or member.participant_id != payload.participant_id:
            return None
        if old not in member.present.resume_hashes or payload.generation != room.generation or member.removed:
            return None
        kept = room.replay.after(payload.last_seq)
        if kept is None:
            return None
        present = replace(
            member.present, connection_id=connection.id, resume_hashes=(_hash(secret), old), disconnected_at=None
        )
        return present, room.view()

    async def _take_up(
        self,
        connection: Connection,
        payload: m.Resume,
        found: tuple[Present, RoomView],
        missed: list[RoomEvent] | None,
        secret: str,
        traceparent: str | None,
    ) -> None:
        present, view = found
        room = self._rooms.get(view.room_id)
        former = room.members.get(present.user_id) if room is not None else None
        member = await self._seat(connection, present, view, m.Capabilities(), traceparent)
        if member is None:
            return
        if former is not None:  # on this process: its media session goes on
            member.media, member.capabilities = former.media, former.capabilities
            if self._publisher.suspect:  # taken up without the directory, which still has the former connection
                member.stored_as = former.stored_as or former.present.connection_id
            member.media.opening = False
        fresh = missed is None
        reply = m.Resumed(
            participant_id=member.participant_id,
            resume_secret=secret,
            generation=view.generation,
            seq=view.seq,
            topology=cast(m.Topology, view.topology),
            epoch=view.epoch,
            **({"snapshot": snapshot(view, present)} if fresh else {}),
        )
        seq = view.seq if fresh else payload.last_seq
        connection.apply(connection.session.joined(_identity(member, view, seq), reply, traceparent))
        self._catch_up(connection, member.room, missed or [])
        self._services.metrics.resumes.labels("snapshot" if fresh else "replay").inc()
        self._media.resumed(member)
        self._obey(member, missed or [])

    def _secret(self, room_id: MeetingId, user_id: UserId) -> str:
        return f"{room_id}.{user_id}.{self._services.ids.new()}"


def _told(present: Present) -> Told:
    return lambda replaced: [
        (type(news).__name__, encode_payload(news).decode()) for news in entering(present, replaced)
    ]


def _identity(member: Member, view: RoomView, seq: int) -> Identity:
    return Identity(
        room_id=view.room_id,
        user_id=member.user_id,
        participant_id=member.participant_id,
        role=cast(m.Role, member.present.role),
        generation=view.generation,
        epoch=view.epoch,
        seq=seq,
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _named(secret: str) -> tuple[MeetingId, UserId]:
    """The room and user that a resume secret names; unchecked, the hash is what counts."""
    room_id, _, rest = secret.partition(".")
    return MeetingId(room_id), UserId(rest.partition(".")[0])
