"""Presence in this process: what the Redis adapter does, in dictionaries. Several workers may share one object."""

import asyncio
import hmac
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId
from conference.ports.presence import Entered, MediaNode, Present, RoomEvent, RoomListener, RoomView, Told


@dataclass
class _Room:
    view: RoomView
    expires: float
    base: int = 0  # numbering begins after it
    events: deque[RoomEvent] = field(default_factory=lambda: deque(maxlen=1_000))


class MemoryPresence:
    """Implements the port `Presence`. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float], *, process_id: str = "", room_ttl_s: int = 120) -> None:
        self._clock = clock
        self._process_id = process_id
        self._room_ttl_s = room_ttl_s
        self._rooms: dict[MeetingId, _Room] = {}
        self._marks: dict[tuple[str, ...], float] = {}  # jtis, denials, ids seen, beats: until when
        self._listeners: list[_MemoryListener] = []

    def lose_everything(self) -> None:
        """What a restart of the directory does."""
        self._rooms.clear()
        self._marks.clear()

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
        if self._marked("denied", room_id, present.participant_id):
            return Refused("removed")
        if self._marked("used", room_id, jti):
            return _unknown()
        self._mark(jti_ttl_s, "used", room_id, jti)
        room = self._room(room_id) or self._make(_empty(room_id, generation, topology))
        before = room.view.participants.get(present.user_id)
        self._put(room, present)
        if before is not None:
            self._taken_over(room, present)
        for type_, payload in told(before):
            self._append(room, type_, payload)
        return Entered(room.view, before)

    async def update(
        self,
        room_id: MeetingId,
        present: Present,
        *,
        event: tuple[str, str] | None = None,
        event_id: str = "",
        instead_of: str = "",
    ) -> RoomEvent | None:
        room = self._owned(room_id, present.user_id, present.connection_id)
        if room is None and instead_of:
            room = self._owned(room_id, present.user_id, instead_of)
        if room is None:
            return None
        self._put(room, present)
        if event is None:
            return RoomEvent(room_id, room.view.generation, 0, "", "", None, self._process_id)
        return self._append(room, *event, id=event_id)

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
        room = self._room(room_id)
        present = room.view.participants.get(user_id) if room else None
        if room is None or present is None or present.participant_id != participant_id:
            return _unknown()
        if not any(hmac.compare_digest(known, secret_hash) for known in present.resume_hashes):
            return _unknown()
        if self._marked("denied", room_id, participant_id):
            return Refused("removed")
        taken = replace(
            present,
            connection_id=connection_id,
            process_id=process_id,
            resume_hashes=(new_hash, secret_hash),
            disconnected_at=None,
        )
        self._put(room, taken)
        self._taken_over(room, taken)
        return taken, room.view

    async def leave(self, room_id: MeetingId, user_id: UserId, *, connection_id: str, left: str) -> RoomEvent | None:
        room = self._owned(room_id, user_id, connection_id)
        if room is None:
            return None
        people = {key: person for key, person in room.view.participants.items() if key != user_id}
        room.view = replace(room.view, participants=people)
        return self._append(room, "ParticipantLeft", left)

    async def view(self, room_id: MeetingId) -> RoomView | None:
        room = self._room(room_id)
        return room.view if room else None

    async def touch(self, room_ids: Collection[MeetingId]) -> Mapping[MeetingId, str]:
        found = {}
        for room_id in room_ids:
            room = self._room(room_id)
            if room is not None:
                room.expires = self._clock() + self._room_ttl_s
                found[room_id] = room.view.generation
        return found

    async def announce(self, room: RoomView, *, generation: str) -> RoomView:
        made = self._room(room.room_id) or self._make(replace(room, generation=generation, participants={}))
        node, region = made.view.sfu_node or room.sfu_node, made.view.sfu_region or room.sfu_region
        people = {**room.participants, **made.view.participants}
        made.view = replace(made.view, participants=people, sfu_node=node, sfu_region=region)
        return made.view

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
        held = self._room(room_id)
        if again and held is not None and any(event.id == id for event in held.events):
            return None
        if once_s and not again and self._marked("once", room_id, id):
            return None
        if once_s:
            self._mark(once_s, "once", room_id, id)
        room = self._room(room_id)
        if numbered and room is not None:
            return self._append(room, type, payload, to=to, id=id, origin=origin)
        generation = room.view.generation if room else ""
        event = RoomEvent(room_id, generation, 0, type, payload, to, origin or self._process_id, id)
        self._fan_out(event)
        return event

    async def since(self, room_id: MeetingId, generation: str, seq: int) -> Sequence[RoomEvent] | None:
        room = self._room(room_id)
        if room is None or room.view.generation != generation:
            return None
        seq = max(seq, room.base)
        if seq >= room.view.seq:
            return []
        if not room.events or room.events[0].seq > seq + 1:
            return None
        return [event for event in room.events if event.seq > seq]

    def listener(self, deliver: Callable[[RoomEvent], None]) -> RoomListener:
        return _MemoryListener(self, deliver, self._listeners)

    async def deny(self, room_id: MeetingId, participant_id: ParticipantId, *, ttl_s: int) -> None:
        self._mark(ttl_s, "denied", room_id, participant_id)

    async def denied(self, room_id: MeetingId, participant_id: ParticipantId) -> bool:
        return self._marked("denied", room_id, participant_id)

    async def burn(self, room_id: MeetingId, participant_id: ParticipantId, *, jti: str, ttl_s: int) -> Refused | None:
        if self._marked("denied", room_id, participant_id):
            return Refused("removed")
        if self._marked("used", room_id, jti):
            return _unknown()
        self._mark(ttl_s, "used", room_id, jti)
        return None

    async def set_recording(self, room_id: MeetingId, recording: bool) -> None:
        room = self._room(room_id)
        if room is not None:
            room.view = replace(room.view, is_recording=recording)

    async def set_trigger(self, room_id: MeetingId, trigger: str, raised: bool) -> None:
        room = self._room(room_id)
        if room is None:
            return
        triggers = room.view.triggers | {trigger} if raised else room.view.triggers - {trigger}
        room.view = replace(room.view, triggers=triggers)
        self._fan_out(RoomEvent(room_id, room.view.generation, 0, "room.triggers", "{}", None, self._process_id))

    async def switch(
        self, room_id: MeetingId, *, epoch: int, to: str, event: tuple[str, str], generation: str
    ) -> RoomEvent | None:
        room = self._room(room_id)
        if room is None or room.view.epoch != epoch or room.view.generation != generation:
            return None
        room.view = replace(room.view, topology=to, epoch=epoch + 1)
        return self._append(room, *event)

    async def assign_node(self, room_id: MeetingId, node: MediaNode, *, instead_of: NodeId | None = None) -> NodeId:
        room = self._room(room_id)
        if room is None:
            return node.node_id
        if room.view.sfu_node is None or room.view.sfu_node == instead_of:
            room.view = replace(room.view, sfu_node=node.node_id, sfu_region=node.region)
        return room.view.sfu_node or node.node_id

    async def beat(self, process_id: str, *, ttl_s: int) -> None:
        self._mark(ttl_s, "process", process_id)

    async def silent(self, process_ids: Collection[str]) -> frozenset[str]:
        return frozenset(process for process in process_ids if not self._marked("process", process))

    async def ping(self) -> None:
        """Always there."""

    def _marked(self, *key: str) -> bool:
        return self._marks.get(key, 0.0) > self._clock()

    def _mark(self, seconds: float, *key: str) -> None:
        now = self._clock()
        self._marks = {kept: until for kept, until in self._marks.items() if until > now}
        self._marks[key] = now + seconds

    def _room(self, room_id: MeetingId) -> _Room | None:
        room = self._rooms.get(room_id)
        if room is not None and room.expires <= self._clock():
            del self._rooms[room_id]
            return None
        return room

    def _make(self, view: RoomView) -> _Room:
        now = self._clock()
        base = max(int(now * 1000), view.seq + 1)  # as make_room of prelude.lua
        room = self._rooms[view.room_id] = _Room(replace(view, seq=base), now + self._room_ttl_s, base)
        return room

    def _owned(self, room_id: MeetingId, user_id: UserId, connection_id: str) -> _Room | None:
        room = self._room(room_id)
        present = room.view.participants.get(user_id) if room else None
        return room if present is not None and present.connection_id == connection_id else None

    def _put(self, room: _Room, present: Present) -> None:
        room.expires = self._clock() + self._room_ttl_s
        room.view = replace(room.view, participants={**room.view.participants, present.user_id: present})

    def _taken_over(self, room: _Room, present: Present) -> None:
        self._append(room, "user.taken-over", f'{{"connectionId":"{present.connection_id}"}}', to=present.user_id)

    def _append(
        self, room: _Room, type_: str, payload: str, *, to: UserId | None = None, id: str = "", origin: str = ""
    ) -> RoomEvent:
        view = room.view = replace(room.view, seq=room.view.seq + 1)
        origin = origin or self._process_id
        event = RoomEvent(view.room_id, view.generation, view.seq, type_, payload, to, origin, id)
        room.events.append(event)
        self._fan_out(event)
        return event

    def _fan_out(self, event: RoomEvent) -> None:
        for listener in tuple(self._listeners):
            listener.hear(event)


class _MemoryListener:
    """Implements the port `RoomListener`; nothing is ever missed, so a position is only where delivery starts."""

    def __init__(
        self, presence: MemoryPresence, deliver: Callable[[RoomEvent], None], registered: list["_MemoryListener"]
    ) -> None:
        self._presence = presence
        self._deliver = deliver
        self._registered = registered
        self._waiting: deque[RoomEvent] = deque(maxlen=10_000)
        self._positions: dict[MeetingId, tuple[str, int]] = {}
        self._fresh: list[MeetingId] = []
        self._wake = asyncio.Event()
        registered.append(self)

    def follow(self, room_id: MeetingId, generation: str, seq: int) -> None:
        self._positions[room_id] = (generation, seq)
        self._fresh.append(room_id)
        self._wake.set()

    def unfollow(self, room_id: MeetingId) -> None:
        self._positions.pop(room_id, None)

    async def ready(self, room_id: MeetingId) -> None:
        """From `follow` on."""

    def hear(self, event: RoomEvent) -> None:
        if event.room_id in self._positions:
            self._waiting.append(event)
            self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._fresh:
                    await self._catch_up(self._fresh.pop())
                while self._waiting:
                    self._pass_on(self._waiting.popleft())
        finally:
            self._registered.remove(self)

    async def _catch_up(self, room_id: MeetingId) -> None:
        generation, seq = self._positions.get(room_id, ("", 0))
        missed = await self._presence.since(room_id, generation, seq)
        if missed is None:
            self._deliver(RoomEvent(room_id, generation, 0, "room.gap", "{}"))
        for event in missed or ():
            self._pass_on(event)

    def _pass_on(self, event: RoomEvent) -> None:
        generation, seq = self._positions.get(event.room_id, ("", 0))
        if event.seq == 0:
            self._deliver(event)
        elif event.generation != generation:
            self._deliver(RoomEvent(event.room_id, generation, 0, "room.gap", "{}"))
        elif event.seq > seq:
            self._positions[event.room_id] = (generation, event.seq)
            self._deliver(event)


def _empty(room_id: MeetingId, generation: str, topology: str) -> RoomView:
    return RoomView(room_id, generation, 0, 1, topology, False, None, None, {})


def _unknown() -> Refused:
    return Refused("token-refused", extra={"cause": "replayed"})
