"""Orders among processes: room events with a dot in their type, from REST, from a host's Moderate, from the directory.

Each process gets every order of its rooms and acts where it has the person. Orders may be repeated without harm.
Payloads are those of functions/live.py; an order that cannot be read is logged and dropped.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, cast

import msgspec

from conference.domain.ids import UserId
from conference.ports.presence import Present, RoomEvent
from conference.protocol import messages as m
from conference.tasks import Tasks
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery
from media_workers.signaling.requests import change_state
from media_workers.signaling.rooms import Announcement, Member, Room

_log = logging.getLogger(__name__)


class _Order(msgspec.Struct, rename="camel", frozen=True):
    """Members of all orders; each uses its own."""

    user_id: str = ""
    participant_id: str = ""
    by_user_id: str = ""
    role: m.Role = "attendee"
    grants: list[m.Grant] = []
    connection_id: str = ""
    people: list[m.ParticipantJoined] = []
    tracks: list[m.TrackInfo] = []


_decode: Final = msgspec.json.Decoder(_Order).decode


class Orders:
    def __init__(self, publisher: Publisher, media: Media, leaving: Leaving, recovery: Recovery, tasks: Tasks) -> None:
        self._publisher = publisher
        self._media = media
        self._leaving = leaving
        self._recovery = recovery
        self._tasks = tasks

    def handle(self, room: Room, event: RoomEvent) -> None:
        """Acts in the background; take-overs at once, since the next event may be about the new connection."""
        try:
            order = _decode(event.payload)
        except msgspec.MsgspecError:
            _log.warning("unreadable order", extra={"order": event.type})
            return
        if event.type == "user.taken-over":
            self._taken_over(room, event, order)
        elif event.type == "room.announced":
            if event.origin != self._recovery.process_id:
                news = Announcement(event.seq, tuple(order.people), tuple(order.tracks))
                self._recovery.announced(room, event.generation, news)
        elif event.type == "room.gap":
            self._tasks.spawn(self._recovery.gap(room, event.generation))
        elif event.type == "room.ended":
            self._tasks.spawn(self._leaving.ended(room))
        else:
            self._person(room, event, order)

    def _person(self, room: Room, event: RoomEvent, order: _Order) -> None:
        handler = _PERSON.get(event.type)
        member = room.members.get(UserId(order.user_id or event.to or ""))
        if handler is None or member is None:
            return
        if order.participant_id and order.participant_id != member.participant_id:
            return  # of an earlier stay

        async def act() -> None:
            await handler(self, member, order)

        self._tasks.spawn(act())

    def _taken_over(self, room: Room, event: RoomEvent, order: _Order) -> None:
        if event.origin == self._recovery.process_id:
            return  # the new connection is on this process, which gives it the seat by itself
        member = room.members.get(UserId(event.to or ""))
        if member is None or member.present.connection_id == order.connection_id:
            return
        generation, seq = member.entered
        if generation == event.generation and event.seq <= seq:
            return  # an earlier one, of which this connection was the winner
        self._leaving.taken_over(member)

    async def _removed(self, member: Member, order: _Order) -> None:
        await self._leaving.removed(member, UserId(order.by_user_id or member.user_id))

    async def _muted(self, member: Member, order: _Order) -> None:
        self._leaving.mute(member, True)
        if member.connection is not None:
            by = order.by_user_id or member.user_id
            member.connection.tell(m.Moderated(action="mute", user_id=member.user_id, by_user_id=by))
        await change_state(self._publisher, member, {"is_muted": True})

    async def _role(self, member: Member, order: _Order) -> None:
        event = m.StateChanged(user_id=member.user_id, role=order.role)
        changed = await self._publisher.change(member, event, lambda present: _with_role(present, order.role))
        if not changed:
            return
        self._media.update(member)
        connection = member.connection
        if connection is not None:
            session = connection.session
            if session.identity is not None:
                session.identity = replace(session.identity, role=order.role)
            by = order.by_user_id or member.user_id
            connection.tell(m.Moderated(action="role", user_id=member.user_id, by_user_id=by, role=order.role))

    async def _grants(self, member: Member, order: _Order) -> None:
        grants = tuple(sorted(order.grants))
        if not await self._publisher.change(member, None, lambda present: _with_grants(present, grants)):
            return
        self._media.update(member)
        if member.connection is not None:
            told = cast(list[m.Grant], list(grants))
            member.connection.tell(m.StateChanged(user_id=member.user_id, grants=told))


def _with_role(present: Present, role: str) -> Present | None:
    return None if present.role == role else replace(present, role=role)


def _with_grants(present: Present, grants: tuple[str, ...]) -> Present | None:
    return None if present.grants == grants else replace(present, grants=grants)


_PERSON: Final[dict[str, Callable[[Orders, Member, _Order], Awaitable[None]]]] = {
    "user.removed": Orders._removed,
    "user.muted": Orders._muted,
    "user.role": Orders._role,
    "user.grants": Orders._grants,
}
