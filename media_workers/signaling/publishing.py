"""Room events out: through the directory where it answers, else to the connections of this process at once.

An event that could not be published is fanned out here without a number, kept, and published when the directory is
back, under the same id, so that nobody gets it twice. A person's field is written in order, one write at a time.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable

import msgspec

from conference.domain.errors import Unavailable
from conference.domain.ids import UserId
from conference.ports.presence import Present, RoomEvent
from conference.protocol.envelope import encode_payload
from conference.protocol.frames import Outgoing
from conference.protocol.messages import Payload
from media_workers.signaling.rooms import LATE_EVENTS, LateEvent, Member, Room
from media_workers.signaling.services import Services

_log = logging.getLogger(__name__)
_CHAT_ONCE_S = 300  # how long a retried chat message is recognised


class Publisher:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._numbers = itertools.count(1)
        self.suspect = False  # the directory failed since the last check; `recovery` looks and clears it

    def event_id(self) -> str:
        return f"{self._services.process_id}:{next(self._numbers)}"

    async def tell(self, room: Room, payload: Payload, *, to: UserId | None = None, once: str = "") -> None:
        """A numbered event of the room. With `once`, the same id again is dropped."""
        await self._publish(room, type(payload).__name__, encode_payload(payload).decode(), to=to, once=once)

    async def order(self, room: Room, type_: str, payload: object, *, to: UserId | None = None) -> None:
        """An order to whichever process has the person. Raises Unavailable."""
        text = msgspec.json.encode(payload).decode()
        event = await self._services.presence.publish(room.id, type_, text, to=to)
        self._check(event)

    def tell_here(self, room: Room, payload: Payload, *, to: UserId | None = None) -> None:
        """Only to the connections of this process, without a number."""
        room.fan_out(Outgoing(type(payload).__name__, encode_payload(payload)), to)

    async def change(self, member: Member, event: Payload | None, edit: Callable[[Present], Present | None]) -> bool:
        """Writes the person as `edit` gives them, and tells the room in the same step. False where `edit` gives None
        (nothing to do) or the seat is lost."""
        async with member.lock:
            edited = edit(member.present) if member.here else None
            if edited is None:
                return False
            member.present = edited
            await self._write(member, edited, event)
            return True

    async def _write(self, member: Member, present: Present, event: Payload | None) -> None:
        room, presence = member.room, self._services.presence
        name = "" if event is None else type(event).__name__
        text = "" if event is None else encode_payload(event).decode()
        id_ = self.event_id()
        waits = bool(name) and await self._behind(room)
        try:
            told = await presence.update(
                room.id,
                present,
                event=(name, text) if name and not waits else None,
                event_id=id_,
                instead_of=member.stored_as,
            )
            is_obsolete = told is None and await self._is_replaced(member)
        except Unavailable:
            told, is_obsolete = None, False
        member.unwritten = told is None
        if told is not None:
            member.stored_as = ""
        else:  # away, or the room was lost, or the seat: `recovery` looks
            self.suspect = True
        if name and (told is None or waits) and not is_obsolete:
            self._late(room, LateEvent(id_, name, text, None))

    async def _is_replaced(self, member: Member) -> bool:
        """Whether the person has joined anew since, maybe on another process. That told the room all that is to be told
        of this seat; an event that waited here would be told before it, and hold up what the new seat tells."""
        view = await self._services.presence.view(member.room.id)
        stored = view.participants.get(member.user_id) if view is not None else None
        ours = (member.present.connection_id, member.stored_as)
        return (
            stored is not None
            and stored.connection_id not in ours
            and (stored.participant_id, stored.joined_at) != (member.participant_id, member.present.joined_at)
        )

    async def _publish(self, room: Room, type_: str, payload: str, *, to: UserId | None, once: str) -> None:
        id_ = once or self.event_id()
        if await self._behind(room):
            self._late(room, LateEvent(id_, type_, payload, to))
            return
        try:
            event = await self._services.presence.publish(
                room.id, type_, payload, to=to, id=id_, once_s=_CHAT_ONCE_S if once else 0
            )
        except Unavailable:
            self.suspect = True
            self._late(room, LateEvent(id_, type_, payload, to))
            return
        self._check(event)

    async def _behind(self, room: Room) -> bool:
        """Whether events wait for the directory already, so that a new one has to wait behind them: order is kept.

        While the waiting ones are being published, new ones are held back instead: a busy room would else add to them
        as fast as they go, and never get back to the directory."""
        while room.late and room.drained is not None:
            await room.drained.wait()
        return bool(room.late)

    def _check(self, event: RoomEvent | None) -> None:
        if event is not None and event.generation == "":
            self.suspect = True  # the room is not there: it is announced again

    def _late(self, room: Room, event: LateEvent) -> None:
        if room.replay.seen(event.id):
            return
        if len(room.late) >= LATE_EVENTS:
            del room.late[0]
            self._services.metrics.dropped.labels("late-events").inc()
        room.late.append(event)
        room.fan_out(Outgoing(event.type, event.payload.encode()), event.to)

    async def publish_late(self, room: Room) -> None:
        """What was kept, in order. Raises Unavailable."""
        drained = room.drained = asyncio.Event()
        try:
            while room.late:
                event = room.late[0]
                await self._services.presence.publish(
                    room.id, event.type, event.payload, to=event.to, id=event.id, again=True
                )
                if room.late and room.late[0] is event:
                    del room.late[0]
        finally:
            room.drained = None
            drained.set()
