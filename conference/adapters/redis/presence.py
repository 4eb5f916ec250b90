"""Presence on Redis: the keys of contracts.md section 5, each change one Lua script in the room's slot.

`seq` is incremented, stored in the stream under the id `<seq>-0` and fanned out by sharded pub/sub in one step, so the
stream is the truth and pub/sub only the fast way to hear of it (see `listener.py`).
"""

import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.listener import RedisRoomListener
from conference.adapters.redis.stored import event_of_entry, pairs, person_of, person_text, room_of
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId
from conference.ports.presence import Entered, MediaNode, Present, RoomEvent, RoomListener, RoomView, Told

_SWAP_TRIES: Final = 5


class RedisPresence:
    """Implements the port `Presence`. `process_id` names the publisher in the events of this process."""

    def __init__(
        self, client: RedisClient, *, process_id: str = "", room_ttl_s: int = 120, events_kept: int = 1_000
    ) -> None:
        self._client = client
        self._process_id = process_id
        self._limits = (room_ttl_s, events_kept)

    async def _script(
        self, name: str, room_id: MeetingId, *args: str | int, keys: Sequence[str] = (), origin: str = ""
    ) -> Any:
        room = f"room:{{{room_id}}}"
        own = [room, f"{room}:participants", f"{room}:events", *(f"{room}:{key}" for key in keys)]
        return await self._client.script(name, own, [*self._limits, origin or self._process_id, *args])

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
        former = ""  # most often nobody is there: then one call is enough
        for _ in range(_SWAP_TRIES):
            replaced = person_of(present.user_id, former) if former else None
            answer = await self._script(
                "enter",
                room_id,
                present.user_id,
                person_text(present),
                present.connection_id,
                max(1, jti_ttl_s),
                generation,
                topology,
                former,
                *(part for event in told(replaced) for part in event),
                keys=(f"used:{jti}", f"denied:{present.participant_id}"),
            )
            if answer[0] == "ok":
                return Entered(_room(room_id, answer), replaced)
            if answer[0] != "changed":
                return _refusal(answer[0])
            former = answer[1]
        raise Unavailable("presence")

    async def update(
        self,
        room_id: MeetingId,
        present: Present,
        *,
        event: tuple[str, str] | None = None,
        event_id: str = "",
        instead_of: str = "",
    ) -> RoomEvent | None:
        type_, payload = event or ("", "")
        answer = await self._script(
            "update",
            room_id,
            present.user_id,
            person_text(present),
            present.connection_id,
            type_,
            payload,
            event_id,
            instead_of,
        )
        return None if answer is None else self._event(room_id, answer, type_, payload, id=event_id)

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
        for _ in range(_SWAP_TRIES):
            text = await self._client.run("resume", lambda: _hget(self._client, room_id, user_id))
            present = person_of(user_id, text) if text else None
            if present is None or present.participant_id != participant_id or not _knows(present, secret_hash):
                return _refusal("token-refused")
            taken = replace(
                present,
                connection_id=connection_id,
                process_id=process_id,
                resume_hashes=(new_hash, secret_hash),
                disconnected_at=None,
            )
            answer = await self._script(
                "swap", room_id, user_id, text, person_text(taken), connection_id, keys=(f"denied:{participant_id}",)
            )
            if answer[0] == "ok":
                return taken, _room(room_id, answer)
            if answer[0] != "changed":
                return _refusal(answer[0])
        raise Unavailable("presence")

    async def leave(self, room_id: MeetingId, user_id: UserId, *, connection_id: str, left: str) -> RoomEvent | None:
        answer = await self._script("leave", room_id, user_id, connection_id, left)
        return None if answer is None else self._event(room_id, answer, "ParticipantLeft", left)

    async def view(self, room_id: MeetingId) -> RoomView | None:
        async def read() -> tuple[dict[str, str], dict[str, str]]:
            room = f"room:{{{room_id}}}"
            redis: Any = self._client.redis
            return await redis.hgetall(room), await redis.hgetall(f"{room}:participants")

        fields, people = await self._client.run("view", read)
        return room_of(room_id, fields, people) if fields.get("generation") else None

    async def touch(self, room_ids: Collection[MeetingId]) -> Mapping[MeetingId, str]:
        found = {}
        for room_id in room_ids:
            generation = await self._script("touch", room_id)
            if generation is not None:
                found[room_id] = str(generation)
        return found

    async def announce(self, room: RoomView, *, generation: str) -> RoomView:
        people = [part for p in room.participants.values() for part in (p.user_id, person_text(p))]
        answer = await self._script(
            "announce",
            room.room_id,
            generation,
            room.seq,
            room.epoch,
            room.topology,
            int(room.is_recording),
            room.sfu_node or "",
            room.sfu_region or "",
            ",".join(sorted(room.triggers)),
            *people,
        )
        return _room(room.room_id, answer)

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
        answer = await self._script(
            "publish",
            room_id,
            type,
            payload,
            to or "",
            id,
            int(numbered),
            once_s,
            int(again),
            keys=(f"once:{id}",),
            origin=origin,
        )
        if answer is None:
            return None
        return replace(self._event(room_id, answer, type, payload, id=id), to=to, origin=origin or self._process_id)

    async def since(self, room_id: MeetingId, generation: str, seq: int) -> Sequence[RoomEvent] | None:
        answer = await self._script("since", room_id, generation, seq)
        if answer is None:
            return None
        return [event_of_entry(room_id, generation, entry_id, flat) for entry_id, flat in answer]

    def listener(self, deliver: Callable[[RoomEvent], None]) -> RoomListener:
        return RedisRoomListener(self._client, self.since, deliver)

    async def deny(self, room_id: MeetingId, participant_id: ParticipantId, *, ttl_s: int) -> None:
        redis: Any = self._client.redis
        await self._client.run("deny", lambda: redis.set(_denied(room_id, participant_id), "1", ex=max(1, ttl_s)))

    async def denied(self, room_id: MeetingId, participant_id: ParticipantId) -> bool:
        redis: Any = self._client.redis
        return bool(await self._client.run("denied", lambda: redis.exists(_denied(room_id, participant_id))))

    async def burn(self, room_id: MeetingId, participant_id: ParticipantId, *, jti: str, ttl_s: int) -> Refused | None:
        if await self.denied(room_id, participant_id):
            return _refusal("removed")
        redis: Any = self._client.redis
        key = f"room:{{{room_id}}}:used:{jti}"
        first = await self._client.run("burn", lambda: redis.set(key, "1", nx=True, ex=max(1, ttl_s)))
        return None if first else _refusal("token-refused")

    async def set_recording(self, room_id: MeetingId, recording: bool) -> None:
        await self._script("record", room_id, int(recording))

    async def set_trigger(self, room_id: MeetingId, trigger: str, raised: bool) -> None:
        await self._script("trigger", room_id, trigger, int(raised))

    async def switch(
        self, room_id: MeetingId, *, epoch: int, to: str, event: tuple[str, str], generation: str
    ) -> RoomEvent | None:
        type_, payload = event
        answer = await self._script("switch", room_id, epoch, to, type_, payload, generation)
        return None if answer is None else self._event(room_id, answer, type_, payload, id="")

    async def assign_node(self, room_id: MeetingId, node: MediaNode, *, instead_of: NodeId | None = None) -> NodeId:
        return NodeId(await self._script("assign", room_id, node.node_id, node.region, instead_of or ""))

    async def beat(self, process_id: str, *, ttl_s: int) -> None:
        redis: Any = self._client.redis
        await self._client.run("beat", lambda: redis.set(_process(process_id), "1", ex=ttl_s))

    async def silent(self, process_ids: Collection[str]) -> frozenset[str]:
        redis: Any = self._client.redis

        async def look() -> list[str]:
            return [p for p in process_ids if not await redis.exists(_process(p))]

        gone: list[str] = await self._client.run("silent", look)
        return frozenset(gone)

    async def ping(self) -> None:
        redis: Any = self._client.redis
        await self._client.run("ping", redis.ping)

    def _event(self, room_id: MeetingId, answer: Sequence[Any], type_: str, payload: str, *, id: str = "") -> RoomEvent:
        return RoomEvent(room_id, str(answer[1]), int(answer[0]), type_, payload, None, self._process_id, id)


async def _hget(client: RedisClient, room_id: MeetingId, user_id: UserId) -> str:
    redis: Any = client.redis
    return await redis.hget(f"room:{{{room_id}}}:participants", user_id) or ""


def _denied(room_id: MeetingId, participant_id: ParticipantId) -> str:
    return f"room:{{{room_id}}}:denied:{participant_id}"


def _process(process_id: str) -> str:
    return f"signaling:process:{process_id}"


def _room(room_id: MeetingId, answer: Sequence[Any]) -> RoomView:
    return room_of(room_id, dict(pairs(answer[2])), dict(pairs(answer[3])))


def _refusal(reason: str) -> Refused:
    return Refused(reason, extra={"cause": "replayed"} if reason == "token-refused" else {})


def _knows(present: Present, secret_hash: str) -> bool:
    return any(hmac.compare_digest(known, secret_hash) for known in present.resume_hashes)
