"""Putting a person on their seat and catching them up: what JoinRoom and Resume have in common.

Between the directory's answer and the seat the room goes on: events and orders of that time are told, or done, once the
seat is taken. The resume secret names room and user; the directory keeps its hash.
"""

import asyncio
import hashlib
from typing import cast

from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, UserId
from conference.ports.presence import Present, RoomEvent, RoomView
from conference.protocol import messages as m
from conference.protocol.frames import Outgoing
from conference.protocol.session import CloseCode, Identity
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.recovery import Recovery
from media_workers.signaling.rooms import Member, Room, Rooms
from media_workers.signaling.services import Services


class Seating:
    def __init__(
        self, services: Services, rooms: Rooms, publisher: Publisher, leaving: Leaving, recovery: Recovery
    ) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._leaving = leaving
        self._recovery = recovery

    def secret(self, room_id: MeetingId, user_id: UserId) -> str:
        return f"{room_id}.{user_id}.{self._services.ids.new()}"

    async def seat(
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
        self._rooms.connect(connection, member)
        return member

    async def _recover(self, room: Room) -> None:
        try:
            await self._recovery.recover(room)
        except Unavailable:
            self._publisher.suspect = True  # the upkeep does it

    async def told_before(self, room: Room, view: RoomView) -> list[RoomEvent]:
        """What was told after the snapshot and before this process heard the room: of two who enter a new room at once,
        the one who entered last may be seated first."""
        if room.generation != view.generation or room.replay.after(view.seq) is not None:
            return []
        try:
            events = await self._services.presence.since(room.id, view.generation, view.seq)
        except Unavailable:
            return []
        return list(events or ())

    def obey(self, member: Member, missed: list[RoomEvent]) -> None:
        """Orders about the person (removed, taken over elsewhere, ...) that came between the directory's answer and
        the seat found nobody here; they are done now."""
        generation, seq = member.entered
        orders = {event.seq: event for event in (*missed, *member.room.orders) if "." in event.type}
        for _, event in sorted(orders.items()):
            concerns = event.to == member.user_id or event.type == "room.ended"
            if concerns and event.generation == generation and event.seq > seq:
                self._rooms.order(member.room, event)

    def turn_away(self, connection: Connection, error: Refused | Unavailable) -> None:
        """No seat: a refusal closes the connection; after an outage the client may try again on it."""
        if isinstance(error, Unavailable):
            connection.apply(connection.session.unavailable(asyncio.get_running_loop().time(), error.what))
            return
        if error.reason == "token-refused":
            self._services.metrics.token_refusals.labels(str(error.extra.get("cause", "unknown"))).inc()
        connection.apply(connection.session.refused(error))


def catch_up(connection: Connection, room: Room, missed: list[RoomEvent]) -> None:
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


def identity(member: Member, view: RoomView, seq: int) -> Identity:
    return Identity(
        room_id=view.room_id,
        user_id=member.user_id,
        participant_id=member.participant_id,
        role=cast(m.Role, member.present.role),
        generation=view.generation,
        epoch=view.epoch,
        seq=seq,
    )


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def named(secret: str) -> tuple[MeetingId, UserId]:
    """The room and user that a resume secret names; unchecked, the hash is what counts."""
    room_id, _, rest = secret.partition(".")
    return MeetingId(room_id), UserId(rest.partition(".")[0])
