"""Presence: the shared directory of live rooms (Redis; contracts.md section 5), and of the media nodes.

A directory, never the only copy: a signaling process keeps its own connections in memory and announces them again when
the directory was lost. Adapters: `redis`, `memory`; one contract suite runs against both. `Unavailable` is raised where
the directory does not answer in time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId

Told = Callable[["Present | None"], Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Present:
    """One person in a room, as stored under their user id. `state` holds isMuted and the other flags of UpdateState;
    `resume_hashes` are SHA-256 of the newest and the previous resume secret."""

    user_id: UserId
    participant_id: ParticipantId
    connection_id: str
    process_id: str
    role: str
    display_name: str = field(repr=False)
    joined_at: datetime
    state: Mapping[str, bool] = field(default_factory=dict)
    grants: tuple[str, ...] = ()
    resume_hashes: tuple[str, ...] = ()
    disconnected_at: datetime | None = None
    tracks: tuple[Mapping[str, str], ...] = ()  # trackId, kind, source of what is published
    can_mesh: bool = False  # the client talks peer to peer
    ready_epoch: int = 0  # of the last TopologyReady, and the users whom it named
    ready_peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoomView:
    """A room at one moment."""

    room_id: MeetingId
    generation: str
    seq: int
    epoch: int
    topology: str
    is_recording: bool
    sfu_node: NodeId | None
    sfu_region: str | None
    participants: Mapping[UserId, Present]
    triggers: frozenset[str] = frozenset()  # what keeps the room on the SFU: recording, captions, live


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """An entry of a room's stream. `seq` 0 marks one that carries none (latest wins). `to` addresses one user.

    `origin` is the process that published it. Types that start with a capital are signaling messages; `payload` is
    their JSON text. Types with a dot (`room.ended`, `user.removed`, `user.taken-over`, `user.grants`) are orders among
    signaling processes and never reach a client. A listener gives `room.gap` where events of
    that generation were lost for good.
    """

    room_id: MeetingId
    generation: str
    seq: int
    type: str
    payload: str
    to: UserId | None = None
    origin: str = ""
    id: str = ""  # of the publisher's choice: an event that is published again after an outage keeps its id


@dataclass(frozen=True, slots=True)
class Entered:
    """The atomic join's result: the room after it, and the connection that was taken over (None for a newcomer)."""

    room: RoomView
    replaced: Present | None


@dataclass(frozen=True, slots=True)
class MediaNode:
    """An SFU node as it announces itself; `load` from 0 to 1."""

    node_id: NodeId
    region: str
    control_url: str
    load: float
    rooms: int
    draining: bool = False


class Presence(Protocol):
    async def enter(
        self,
        room_id: MeetingId,
        present: Present,
        *,
        jti: str,
        jti_ttl_s: int,
        told: Told,
        generation: str,
        topology: str = "sfu",
    ) -> Entered | Refused:
        """The atomic JoinRoom, one script: burns `jti`, checks that the participant is not denied, sets the field,
        counts only an added one, renews the TTL and appends the events (type, payload JSON) that `told` gives for
        whom it replaces; for a take-over, `user.taken-over` addressed to the user comes first. So the room knows that
        the former connection's state and tracks are gone before the new one can say anything. `generation` and
        `topology` are used where the room is new. Refused: token-refused (jti seen before; extra cause "replayed"),
        removed."""
        ...

    async def update(
        self,
        room_id: MeetingId,
        present: Present,
        *,
        event: tuple[str, str] | None = None,
        event_id: str = "",
        instead_of: str = "",
    ) -> RoomEvent | None:
        """Writes a person's field if they are still there under the same connection id (or under `instead_of`: they
        resumed while the directory was away), and appends an event (type, payload JSON) in the same step.
        None where they are not there (the directory was lost, or taken over); without an event, one of type "" where
        it was written."""
        ...

    async def reconnect(
        self,
        room_id: MeetingId,
        user_id: UserId,
        participant_id: ParticipantId,
        *,
        secret_hash: str,
        new_hash: str,
        connection_id: str,
        process_id: str,
    ) -> tuple[Present, RoomView] | Refused:
        """Resume: valid under the newest or the previous secret; the new one becomes newest. Appends
        `user.taken-over` so that whoever still holds the old socket closes it. Refused: token-refused (unknown
        secret or nobody there), removed."""
        ...

    async def leave(self, room_id: MeetingId, user_id: UserId, *, connection_id: str, left: str) -> RoomEvent | None:
        """Removes the field if it is still this connection's and appends ParticipantLeft with the JSON `left`.
        None where it was not."""
        ...

    async def view(self, room_id: MeetingId) -> RoomView | None: ...

    async def touch(self, room_ids: Collection[MeetingId]) -> Mapping[MeetingId, str]:
        """Renews the TTL of rooms and sets participantCount to the size of the participants hash. Gives the
        generation of those that exist; a room that is absent, or has another one, was lost meanwhile."""
        ...

    async def announce(self, room: RoomView, *, generation: str) -> RoomView:
        """After a loss: merges this process's participants into the room, which is made under `generation` if nobody
        else has made it yet, and sets participantCount to HLEN. Appends nothing; whoever is there already stays."""
        ...

    async def publish(
        self,
        room_id: MeetingId,
        type: str,
        payload: str,
        *,
        to: UserId | None = None,
        origin: str = "",
        numbered: bool = True,
        id: str = "",
        once_s: int = 0,
        again: bool = False,
    ) -> RoomEvent | None:
        """Appends an event with the next seq and fans it out; not numbered: fans out only. In a room that does not
        exist (the directory was lost) it fans out unnumbered under the generation "". With `once_s`, None where the
        same `id` was published within so many seconds; with `again` (a first attempt may have been executed), None
        where the stream holds that id."""
        ...

    async def since(self, room_id: MeetingId, generation: str, seq: int) -> Sequence[RoomEvent] | None:
        """Events after `seq`, in order; None where the generation is another or they are no longer there. A room
        that is made anew numbers above whatever the lost one gave; a `seq` from before its making is its beginning."""
        ...

    def listener(self, deliver: Callable[[RoomEvent], None]) -> "RoomListener":
        """The events of the rooms that a process serves, handed to `deliver` in the loop that runs the listener."""
        ...

    async def deny(self, room_id: MeetingId, participant_id: ParticipantId, *, ttl_s: int) -> None:
        """Revokes a participant's tokens and resume secrets at once."""
        ...

    async def denied(self, room_id: MeetingId, participant_id: ParticipantId) -> bool: ...

    async def burn(self, room_id: MeetingId, participant_id: ParticipantId, *, jti: str, ttl_s: int) -> Refused | None:
        """The single use of a token outside a join (those of a join are burned by `enter`). Refused: token-refused
        (jti seen before; extra cause "replayed"), removed."""
        ...

    async def set_recording(self, room_id: MeetingId, recording: bool) -> None: ...

    async def set_trigger(self, room_id: MeetingId, trigger: str, raised: bool) -> None:
        """Raises or clears what keeps a room on the SFU, where the room exists. Fans out `room.triggers` without a
        number."""
        ...

    async def switch(
        self, room_id: MeetingId, *, epoch: int, to: str, event: tuple[str, str], generation: str
    ) -> RoomEvent | None:
        """Makes the room's topology `to` and its epoch one more, and appends the event (type, payload JSON) in the
        same step. None where the epoch or the generation is another by now, or the room is not there."""
        ...

    async def assign_node(self, room_id: MeetingId, node: MediaNode, *, instead_of: NodeId | None = None) -> NodeId:
        """Sticks the room to a node unless it has one other than `instead_of`; gives the room's node."""
        ...

    async def beat(self, process_id: str, *, ttl_s: int) -> None:
        """This signaling process lives for another `ttl_s`."""
        ...

    async def silent(self, process_ids: Collection[str]) -> frozenset[str]:
        """Those whose last beat is over."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable."""
        ...


class RoomListener(Protocol):
    """Follows rooms; each numbered event after the given `seq` is delivered exactly once and in order per room.

    Fan-out may lose messages, the stream may not: a gap in seq, a broken connection and a new subscription are all
    made good from the stream. Where that is impossible (another generation, or too far behind) `room.gap` is delivered.
    """

    def follow(self, room_id: MeetingId, generation: str, seq: int) -> None:
        """From now on, or anew from this position."""
        ...

    def unfollow(self, room_id: MeetingId) -> None: ...

    async def ready(self, room_id: MeetingId) -> None:
        """Returns once nothing that is fanned out unnumbered from now on is missed; may take as long as an outage."""
        ...

    async def run(self) -> None:
        """Until cancelled."""
        ...


class MediaNodes(Protocol):
    async def announce(self, node: MediaNode, *, ttl_s: int = 15) -> None: ...

    async def nodes(self) -> Sequence[MediaNode]: ...

    async def withdraw(self, node_id: NodeId) -> None: ...
