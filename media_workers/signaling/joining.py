"""JoinRoom: from a verified token to a seat in the room.

The jti is burnt and the place in the directory taken in one script; the room's snapshot and its seq come from the same
script, and the connection hears every event after it. The store is told too, later where it is away.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Final, cast

from conference.domain.claims import JoinClaims
from conference.domain.consent import consent_required
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import UserId
from conference.domain.meetings import Participant
from conference.ports.presence import Entered, Present, RoomEvent, Told
from conference.protocol import messages as m
from conference.protocol.envelope import encode_payload
from conference.protocol.session import Enter
from conference.tasks import Tasks
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.names import shown_name
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import introduce
from media_workers.signaling.rooms import Member
from media_workers.signaling.seating import Seating, catch_up, hashed, identity
from media_workers.signaling.services import Services
from media_workers.signaling.store_writes import StoreWrites
from media_workers.signaling.topologies import Topologies
from media_workers.signaling.views import entering, snapshot

_JTI_MARGIN_S: Final = 60


class Joining:
    def __init__(
        self,
        services: Services,
        publisher: Publisher,
        media: Media,
        store: StoreWrites,
        leaving: Leaving,
        seating: Seating,
        topologies: Topologies,
        tasks: Tasks,
    ) -> None:
        self._services = services
        self._publisher = publisher
        self._media = media
        self._store = store
        self._leaving = leaving
        self._seating = seating
        self._topologies = topologies
        self._tasks = tasks

    async def enter(self, connection: Connection, effect: Enter, traceparent: str | None) -> None:
        payload = effect.message.payload
        assert isinstance(payload, m.JoinRoom)
        connection.id = self._services.ids.new()  # of this attempt: an earlier one may still reach the directory
        try:
            claims = await self._verify(effect.token, payload.room_id)
            stay = await self._mark_joined(claims)
            secret = self._seating.secret(claims.room_id, claims.user_id)
            present = await self._present(connection, claims, stay, payload, secret)
            entered = await self._enter(claims, present)
            entered = replace(entered, room=await self._topologies.settle(entered.room))
        except (Unavailable, Refused) as error:
            self._seating.turn_away(connection, error)
            return
        member = await self._seating.seat(connection, present, entered.room, payload.capabilities, traceparent)
        if member is None:
            return
        missed = await self._seating.told_before(member.room, entered.room)
        self._welcome(connection, member, entered, missed, secret, traceparent)
        self._seating.obey(member, missed)
        if member.room.wants_sfu:
            self._media.open(member)
        self._topologies.look_soon(member.room)
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
            resume_hashes=(hashed(secret),),
            can_mesh=payload.capabilities.mesh,
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
        topology = await self._topologies.first(claims.room_id, can_mesh=present.can_mesh)
        life = (claims.expires_at - services.clock.now()).total_seconds()
        try:
            entered = await services.presence.enter(
                claims.room_id,
                present,
                jti=claims.jti,
                jti_ttl_s=int(max(0.0, life)) + _JTI_MARGIN_S,
                told=_told(present),
                generation=services.ids.new(),
                topology=topology,
            )
        except Unavailable:
            self._publisher.suspect = True
            self._leaving.undo_later(claims.room_id, present, "timeout")  # it may have been written all the same
            raise
        if isinstance(entered, Refused):
            raise entered
        return entered

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
        connection.apply(connection.session.joined(identity(member, view, view.seq), reply, traceparent))
        for news in room.announcements:
            if news.seq > view.seq:
                introduce(connection, member.user_id, news)
        catch_up(connection, room, missed)

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


def _told(present: Present) -> Told:
    return lambda replaced: [
        (type(news).__name__, encode_payload(news).decode()) for news in entering(present, replaced)
    ]
