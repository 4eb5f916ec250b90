"""The rooms that this process serves, the people in them, and the fan-out of events.

A `Member` is a person's seat on this process; it outlives its connection for the time in which it may be resumed. A
`Room` is the process's view of a room: what it needs to go on by itself while the directory is away.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId
from conference.ports.presence import Present, RoomEvent, RoomListener, RoomView
from conference.protocol import messages as m
from conference.protocol.frames import Outgoing
from conference.protocol.replay import Kept, Replay
from conference.protocol.topology import TopologyMachine
from media_workers.signaling.connection import Connection
from media_workers.signaling.metrics import Metrics

_READY_S: Final = 0.5
LATE_EVENTS: Final = 256  # of one room, kept while the directory is away


@dataclass(slots=True)
class MediaSeat:
    """A member's session on an SFU node, as this process knows it."""

    node_id: NodeId | None = None
    endpoints: tuple[m.SfuEndpoint, ...] = ()
    offer: m.ReceiveOffer | None = None  # of the SFU, not answered yet
    answer: m.ReceiveAnswer | None = None  # the latest, sent again after a resume
    attach: bool = False  # the session is this stay's own: it is taken up, where a join opens one afresh
    opening: bool = False
    told: bool = False  # that no media server is there


@dataclass(slots=True, eq=False)
class Member:
    """A person on this process. `entered` is the (generation, seq) of their JoinRoom or Resume."""

    room: "Room"
    present: Present
    connection: Connection | None
    entered: tuple[str, int]
    capabilities: m.Capabilities = field(default_factory=m.Capabilities)
    traceparent: str | None = None  # of the join, for spans that end it
    trace_reported: bool = False  # its end
    spans_reported: bool = False  # the client's
    gone_at: float | None = None  # loop time at which the connection was lost
    removed: bool = False
    unwritten: bool = False  # the directory did not take the last write
    stored_as: str = ""  # a former connection id, still in the directory that was away at the resume
    media: MediaSeat = field(default_factory=MediaSeat)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # orders the writes of `present`

    @property
    def user_id(self) -> UserId:
        return self.present.user_id

    @property
    def participant_id(self) -> ParticipantId:
        return self.present.participant_id

    @property
    def here(self) -> bool:
        """True while this is the person's seat."""
        return self.room.members.get(self.user_id) is self


@dataclass(frozen=True, slots=True)
class LateEvent:
    """An event that was fanned out here and could not be published yet."""

    id: str
    type: str
    payload: str
    to: UserId | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """People whom another process brought back after a loss, with their tracks; `seq` orders it among snapshots."""

    seq: int
    people: tuple[m.ParticipantJoined, ...]
    tracks: tuple[m.TrackInfo, ...]


class Room:
    def __init__(self, view: RoomView) -> None:
        self.id = view.room_id
        self.generation = view.generation
        self.epoch = view.epoch
        self.topology = view.topology
        self.told_epoch = view.epoch  # of the last switch that was acted on
        self.last_switch: m.SwitchTopology | None = None
        self.machine: TopologyMachine | None = None
        self.is_recording = view.is_recording
        self.triggers = view.triggers
        self.node_id = view.sfu_node
        self.region = view.sfu_region
        self.members: dict[UserId, Member] = {}
        self.replay = Replay()
        self.replay.reset(view.seq)
        self.late: list[LateEvent] = []
        self.drained: asyncio.Event | None = None  # while `late` is being published
        self.lock = asyncio.Lock()  # one recovery at a time
        self.untold = False  # announced again, and the other processes do not know of our people yet
        self.announcements: deque[Announcement] = deque(maxlen=32)
        self.orders: deque[RoomEvent] = deque(maxlen=64)  # the latest, for whoever is being seated meanwhile

    @property
    def wants_sfu(self) -> bool:
        """Whether its people need a session on a media node."""
        return self.topology == "sfu"

    def view(self) -> RoomView:
        """What this process knows, to be announced again."""
        return RoomView(
            room_id=self.id,
            generation=self.generation,
            seq=self.replay.seq,
            epoch=self.epoch,
            topology=self.topology,
            is_recording=self.is_recording,
            sfu_node=self.node_id,
            sfu_region=self.region,
            triggers=self.triggers,
            participants={user: member.present for user, member in self.members.items()},
        )

    def fan_out(self, outgoing: Outgoing, to: UserId | None = None) -> None:
        """To every connection of the room here that has not had it; encoded once."""
        addressed = self.members.get(to) if to is not None else None
        targets = tuple(self.members.values()) if to is None else (addressed,)
        for member in targets:
            connection = member.connection if member is not None else None
            if connection is not None and connection.session.wants(outgoing.seq, to):
                connection.relay(outgoing)

    def hear(self, event: RoomEvent) -> None:
        """A signaling message of the room, from the directory."""
        if self.replay.seen(event.id):
            if event.seq:
                self.replay.seq = max(self.replay.seq, event.seq)
            return
        outgoing = Outgoing(event.type, event.payload.encode(), seq=event.seq)
        if event.seq:
            self.replay.keep(Kept(event.seq, event.to, outgoing))
        self.fan_out(outgoing, event.to)


class Rooms:
    """All rooms of this process. `order` is called for events that are orders among processes, `heard` for all."""

    def __init__(self, metrics: Metrics) -> None:
        self._rooms: dict[MeetingId, Room] = {}
        self._participants: dict[ParticipantId, Member] = {}
        self._joined: dict[Connection, Member] = {}
        self._metrics = metrics
        self.listener: RoomListener | None = None
        self.order: Callable[[Room, RoomEvent], None] = lambda room, event: None
        self.heard: Callable[[Room, RoomEvent], None] = lambda room, event: None

    def __iter__(self) -> Iterator[Room]:
        return iter(tuple(self._rooms.values()))

    def __len__(self) -> int:
        return len(self._rooms)

    def get(self, room_id: MeetingId) -> Room | None:
        return self._rooms.get(room_id)

    def participant(self, participant_id: str) -> Member | None:
        """The member with that participant id."""
        return self._participants.get(ParticipantId(participant_id))

    def members(self) -> Iterator[Member]:
        return iter(tuple(self._participants.values()))

    def joined(self, connection: Connection) -> Member | None:
        """Who has joined on that connection; nobody once the socket is gone or `Leaving` has closed it."""
        return self._joined.get(connection)

    def connect(self, connection: Connection, member: Member) -> None:
        self._joined[connection] = member

    def disconnect(self, connection: Connection) -> Member | None:
        """Gives who had joined on it."""
        return self._joined.pop(connection, None)

    def open(self, view: RoomView) -> Room:
        """The room, followed from `view.seq` on where it is new here."""
        room = self._rooms.get(view.room_id)
        if room is None:
            room = self._rooms[view.room_id] = Room(view)
            self.follow(room, view.seq)
            self._metrics.rooms.set(len(self._rooms))
        return room

    def follow(self, room: Room, seq: int) -> None:
        if self.listener is not None:
            self.listener.follow(room.id, room.generation, seq)

    async def ready(self, room: Room) -> None:
        """The room is heard; what carries no number (SDP of another person) would be lost before. Bounded: numbered
        events come in any case."""
        if self.listener is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_S):
                    await self.listener.ready(room.id)

    def seat(self, member: Member) -> Member | None:
        """Gives the member their place; gives the one who had it."""
        former = member.room.members.get(member.user_id)
        if former is not None:
            self._participants.pop(former.participant_id, None)
        member.room.members[member.user_id] = member
        self._participants[member.participant_id] = member
        return former

    def unseat(self, member: Member) -> bool:
        """False where the seat is no longer theirs. An empty room is forgotten."""
        room = member.room
        if room.members.get(member.user_id) is not member:
            return False
        del room.members[member.user_id]
        if self._participants.get(member.participant_id) is member:
            del self._participants[member.participant_id]
        return True

    def close_if_empty(self, room: Room) -> None:
        if not room.members and self._rooms.get(room.id) is room:
            del self._rooms[room.id]
            if self.listener is not None:
                self.listener.unfollow(room.id)
            self._metrics.rooms.set(len(self._rooms))

    def hear(self, event: RoomEvent) -> None:
        """An event of the listener."""
        room = self._rooms.get(event.room_id)
        if room is None:
            return
        if "." in event.type:
            if event.seq:
                room.replay.seq = max(room.replay.seq, event.seq)
                room.orders.append(event)
            self.order(room, event)
        else:
            room.hear(event)
        self.heard(room, event)


def rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
