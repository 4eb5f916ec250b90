"""Resume: from a resume secret, and the last seq that the client has seen, back to the person's seat.

The secret names room and user, so that any process can take the seat up; each Resume gets a new one, and the one before
it stays good for a reply that was lost. What was told meanwhile is replayed, or a snapshot stands for it. While the
directory is away, this process takes up the seats that it has itself.
"""

from dataclasses import replace
from typing import cast

from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.ports.presence import Present, RoomEvent, RoomView
from conference.protocol import messages as m
from conference.protocol.session import Reattach
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery
from media_workers.signaling.rooms import Rooms
from media_workers.signaling.seating import Seating, catch_up, hashed, identity, named
from media_workers.signaling.services import Services
from media_workers.signaling.topologies import Topologies
from media_workers.signaling.views import snapshot


class Resuming:
    def __init__(
        self,
        services: Services,
        rooms: Rooms,
        publisher: Publisher,
        media: Media,
        leaving: Leaving,
        recovery: Recovery,
        seating: Seating,
        topologies: Topologies,
    ) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._leaving = leaving
        self._recovery = recovery
        self._seating = seating
        self._topologies = topologies

    async def resume(self, connection: Connection, effect: Reattach, traceparent: str | None) -> None:
        payload = effect.message.payload
        assert isinstance(payload, m.Resume)
        connection.id = self._services.ids.new()
        room_id, user_id = named(payload.resume_secret)
        secret = self._seating.secret(room_id, user_id)
        try:
            found = await self._reconnect(connection, payload, room_id, user_id, secret)
            missed = await self._missed(found[1], payload)
        except Refused as refused:
            self._seating.turn_away(connection, refused)
            return
        except Unavailable as error:
            self._publisher.suspect = True
            local = self._resume_here(connection, payload, user_id, room_id, secret)
            if local is None:
                self._leaving.doubt(room_id, user_id, connection.id)  # it may have been written all the same
                self._seating.turn_away(connection, error)
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
            secret_hash=hashed(payload.resume_secret),
            new_hash=hashed(secret),
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
        old = hashed(payload.resume_secret)
        if room is None or member is None or member.participant_id != payload.participant_id:
            return None
        if old not in member.present.resume_hashes or payload.generation != room.generation or member.removed:
            return None
        kept = room.replay.after(payload.last_seq)
        if kept is None:
            return None
        present = replace(
            member.present, connection_id=connection.id, resume_hashes=(hashed(secret), old), disconnected_at=None
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
        member = await self._seating.seat(connection, present, view, m.Capabilities(), traceparent)
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
        connection.apply(connection.session.joined(identity(member, view, seq), reply, traceparent))
        catch_up(connection, member.room, missed or [])
        self._services.metrics.resumes.labels("snapshot" if fresh else "replay").inc()
        self._media.resumed(member)
        self._topologies.look_soon(member.room)
        self._seating.obey(member, missed or [])
