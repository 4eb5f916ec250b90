"""How a person stops being here: the socket drops, they leave, time runs out, they are removed or taken over.

A dropped socket keeps the seat for the resume window. Whatever ends a stay tells the room, the store and the SFU; each
of the three is repeated later where it does not answer now, so that nobody is left behind as a ghost.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, UserId
from conference.ports.presence import Present, RoomEvent
from conference.protocol import control as c
from conference.protocol import messages as m
from conference.protocol.envelope import encode_payload
from conference.protocol.session import CloseCode
from media_workers.signaling.connection import Connection
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import Member, Room, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.store_writes import StoreWrites

_QUEUED: Final = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Exit:
    """A field to be removed from the directory once it answers."""

    room_id: MeetingId
    user_id: UserId
    connection_ids: tuple[str, ...]
    left: str | None  # ParticipantLeft as JSON; None: nobody has left, only the connection is gone


class Leaving:
    def __init__(
        self, services: Services, rooms: Rooms, publisher: Publisher, media: Media, store: StoreWrites
    ) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._store = store
        self._exits: deque[_Exit] = deque(maxlen=_QUEUED)

    async def disconnected(self, connection: Connection) -> None:
        """The socket is gone. The seat stays until the resume window is over."""
        member = self._rooms.disconnect(connection)
        if member is None or member.connection is not connection:
            return
        member.connection = None
        member.gone_at = asyncio.get_running_loop().time()
        now = self._services.clock.now()
        await self._publisher.change(member, None, lambda present: replace(present, disconnected_at=now))

    async def leave(self, member: Member, reason: m.LeaveReason) -> None:
        """Ends the stay, for the room, the store and the SFU."""
        if not self._rooms.unseat(member):
            return
        room, known = member.room, reason in ("ended", "removed")  # to the store, which decided it
        if known:
            self._media.close(member)
        elsewhere = await self._exit(member, reason)
        self._rooms.close_if_empty(room)
        if not elsewhere and not known:
            self._media.close(member)
            await self._store.left(room.id, member.participant_id, reason)

    async def leave_unseen(self, room_id: MeetingId, present: Present, reason: m.LeaveReason) -> None:
        """Ends a stay whose process is gone."""
        left = _left(present, reason)
        event = await self._services.presence.leave(
            room_id, present.user_id, connection_id=present.connection_id, left=left
        )
        if event is not None:
            await self._store.left(room_id, present.participant_id, reason)

    async def _exit(self, member: Member, reason: m.LeaveReason) -> bool:
        """Takes the person out of the directory. True where they are on another connection meanwhile, of which this
        process has not heard yet: then their session and their place are that one's."""
        room, present = member.room, member.present
        ids = tuple(id_ for id_ in (present.connection_id, member.stored_as) if id_)
        exit_ = _Exit(room.id, present.user_id, ids, _left(present, reason))
        try:
            if await self._remove(exit_):
                return False
            view = await self._services.presence.view(room.id)
            return view is not None and present.user_id in view.participants
        except Unavailable:
            self._publisher.suspect = True
            self._exits.append(exit_)
            self._publisher.tell_here(room, _payload(present, reason))
            return False

    async def _remove(self, exit_: _Exit) -> bool:
        presence = self._services.presence
        for id_ in exit_.connection_ids:
            if exit_.left is None:
                gone = await self._mark_absent(exit_.room_id, exit_.user_id, id_)
            else:
                gone = await presence.leave(exit_.room_id, exit_.user_id, connection_id=id_, left=exit_.left)
            if gone is not None:
                return True
        return False

    async def _mark_absent(self, room_id: MeetingId, user_id: UserId, connection_id: str) -> RoomEvent | None:
        """Their resume window begins now; the sweep of any process ends it."""
        view = await self._services.presence.view(room_id)
        present = view.participants.get(user_id) if view is not None else None
        room = self._rooms.get(room_id)
        member = room.members.get(user_id) if room is not None else None
        if present is None or present.connection_id != connection_id:
            return None
        if member is not None and member.present.connection_id == connection_id:
            return None
        absent = replace(present, disconnected_at=self._services.clock.now())
        return await self._services.presence.update(room_id, absent)

    def undo_later(self, room_id: MeetingId, present: Present, reason: m.LeaveReason) -> None:
        """The field may be in the directory, and nobody is behind it: removed as soon as the directory answers."""
        self._exits.append(_Exit(room_id, present.user_id, (present.connection_id,), _left(present, reason)))

    def doubt(self, room_id: MeetingId, user_id: UserId, connection_id: str) -> None:
        """A resume may have been written under this connection, which has no seat: the person is absent then."""
        self._exits.append(_Exit(room_id, user_id, (connection_id,), None))

    async def retry(self) -> None:
        """Raises Unavailable."""
        while self._exits:
            exit_ = self._exits[0]
            await self._remove(exit_)
            if self._exits and self._exits[0] is exit_:
                self._exits.popleft()

    async def expire(self, loop_time: float) -> None:
        """Ends the stays whose resume window is over."""
        for member in self._rooms.members():
            gone_at = member.gone_at
            if gone_at is not None and loop_time - gone_at >= self._services.options.resume_s:
                await self.leave(member, "timeout")

    async def removed(self, member: Member, by: UserId) -> None:
        """The host removed the person: told, then closed."""
        member.removed = True
        self.close(
            member, CloseCode.REMOVED, "removed", m.Moderated(action="remove", user_id=member.user_id, by_user_id=by)
        )
        await self.leave(member, "removed")

    def taken_over(self, member: Member) -> None:
        """The person is on another connection now, maybe on another process."""
        self._rooms.unseat(member)
        self.close(member, CloseCode.TAKEN_OVER, "duplicate")
        self._rooms.close_if_empty(member.room)

    def given_up(self, member: Member) -> None:
        """The others ended the stay while this process was frozen or cut off: the client has to join again."""
        if self._rooms.unseat(member):
            self._media.close(member)
            self.close(member, CloseCode.RESUME, "seat-lost")
            self._rooms.close_if_empty(member.room)

    async def ended(self, room: Room) -> None:
        """The room has ended for everybody."""
        self._media.close_room(room)
        for member in tuple(room.members.values()):
            self.close(member, CloseCode.ROOM_ENDED, "room-ended")
            await self.leave(member, "ended")

    def close(self, member: Member, code: CloseCode, reason: str, last: m.Payload | None = None) -> None:
        """Closes the person's connection, if there is one, after a last message."""
        connection, member.connection = member.connection, None
        if connection is None:
            return
        self._rooms.disconnect(connection)
        if last is not None:
            connection.tell(last)
        connection.end(code, reason)

    def mute(self, member: Member, muted: bool) -> None:
        """Holds at the SFU whatever the client does."""
        sources: list[m.Source] = ["microphone"]
        self._media.send(member, c.MuteTracks(participant_id=member.participant_id, sources=sources, muted=muted))


def _payload(present: Present, reason: m.LeaveReason) -> m.ParticipantLeft:
    return m.ParticipantLeft(user_id=present.user_id, participant_id=present.participant_id, reason=reason)


def _left(present: Present, reason: m.LeaveReason) -> str:
    return encode_payload(_payload(present, reason)).decode()
