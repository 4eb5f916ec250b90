"""What time alone changes: lapsed leases, idle rooms, retention. Every run is bounded; the next run does the rest.

Candidates are found by queries over all meetings; each meeting is then changed by an attempt of its own, which looks
again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from conference.adapters.cosmos import aggregate, documents
from conference.adapters.cosmos.client import MOST_OPERATIONS
from conference.adapters.cosmos.documents import CAPACITY, MEETING, STREAM, moment
from conference.adapters.cosmos.hosts import unlist
from conference.adapters.cosmos.operations import delete, literal, patch
from conference.adapters.cosmos.rooms import Room, Rooms
from conference.domain import events
from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.meetings import Meeting, Participant

_CANDIDATES = 1_000  # rooms that one run looks at


async def expire_leases(rooms: Rooms, now: datetime, limit: int) -> Sequence[Participant]:
    """`MeetingStore.expire_leases`."""
    text = (
        "SELECT c.id, c.meetingId FROM c WHERE c.kind = 'participant' AND c.open = true AND c.leaseUntil <= @now"
        " ORDER BY c.leaseUntil"
    )
    by_room: dict[MeetingId, set[ParticipantId]] = {}
    for row in await rooms.items.query(text, {"now": moment(now)}, limit=limit):
        by_room.setdefault(row["meetingId"], set()).add(ParticipantId(documents.own_id(row)))
    ended: list[Participant] = []
    for meeting_id, stays in by_room.items():
        ended += await _expire(rooms, meeting_id, stays, now)
    return ended


async def _expire(
    rooms: Rooms, meeting_id: MeetingId, stays: set[ParticipantId], now: datetime
) -> Sequence[Participant]:
    async def attempt() -> Sequence[Participant]:
        room = await rooms.with_open_stays(meeting_id)
        if room is None:
            return ()
        still = [(stay, etag) for stay, etag in room.open_stays() if stay.id in stays and stay.lease_until <= now]
        return await rooms.end_stays(room.meeting, still, None, events.LEFT_TIMEOUT)

    return await rooms.database.settle(attempt)


async def expire_rooms(rooms: Rooms, now: datetime, idle_s: float, limit: int) -> Sequence[MeetingId]:
    """`MeetingStore.expire_rooms`. On the way it finishes ends that were left half done."""
    for meeting_id in await aggregate.half_ended(rooms, limit):
        await _finish_end(rooms, meeting_id, now)
    before = now - timedelta(seconds=idle_s)
    closed: list[MeetingId] = []
    for meeting_id in await _maybe_idle(rooms, before):
        if len(closed) == limit:
            break
        if await _close_idle(rooms, meeting_id, before):
            closed.append(meeting_id)
    return closed


async def _finish_end(rooms: Rooms, meeting_id: MeetingId, now: datetime) -> None:
    async def attempt() -> None:
        room = await rooms.read(meeting_id)
        by = room.meeting_document.get("closing") if room is not None else None
        if by is not None:
            await aggregate.end(rooms, meeting_id, by["by"], now, None)

    await rooms.database.settle(attempt)


async def _maybe_idle(rooms: Rooms, before: datetime) -> list[MeetingId]:
    """Rooms that stand empty with an open session, and those where a lease ran out and nobody has looked since."""
    empty = (
        "SELECT VALUE c.meetingId FROM c WHERE c.kind = 'capacity' AND c.live = 0 AND IS_DEFINED(c.sessionId)"
        " ORDER BY c._ts"
    )
    lapsed = (
        "SELECT VALUE c.meetingId FROM c WHERE c.kind = 'participant' AND c.open = true AND c.leaseUntil <= @before"
        " ORDER BY c.leaseUntil"
    )
    found = await rooms.items.query(empty, limit=_CANDIDATES)
    found += await rooms.items.query(lapsed, {"before": moment(before)}, limit=_CANDIDATES)
    return list(dict.fromkeys(found))


async def _close_idle(rooms: Rooms, meeting_id: MeetingId, before: datetime) -> bool:
    async def attempt() -> bool:
        room = await _with_session(rooms, meeting_id)
        if room is None or room.session_id is None:
            return False
        opened = room.of_kind("session")
        if not opened:  # a query is no snapshot: it has ended meanwhile
            return False
        session = documents.session(opened[0])
        ends = (stay.left_at or stay.lease_until for stay, _ in room.stays if stay.session_id == session.id)
        last = max((session.start_time, *ends))
        if last > before:
            return False
        # A join would have changed `capacity`; a stay that has lapsed is not renewed.
        operations = [
            patch(CAPACITY, remove=("sessionId",), where=f"c.sessionId = {literal(session.id)}", etag=_etag(room)),
            patch(documents.item_id("session", session.id), set={"endTime": moment(last), "open": False}),
        ]
        await rooms.write(room.meeting, operations)
        return True

    return await rooms.database.settle(attempt)


def _etag(room: Room) -> str:
    return str(room.capacity["_etag"])


async def _with_session(rooms: Rooms, meeting_id: MeetingId) -> Room | None:
    """With the open session and the stays in it."""
    also = "(c.kind = 'session' AND c.open = true) OR c.kind = 'participant'"
    return await rooms.read(meeting_id, also)


async def delete_ended(rooms: Rooms, before: datetime, limit: int) -> Sequence[MeetingId]:
    """`MeetingStore.delete_ended_before`: a meeting's own item goes last, so what was interrupted is found again."""
    text = (
        "SELECT * FROM c WHERE c.kind = 'meeting' AND c.endTime < @before AND c.status = 'COMPLETED' ORDER BY c.endTime"
    )
    deleted: list[MeetingId] = []
    for document in await rooms.items.query(text, {"before": moment(before)}, limit=limit):
        meeting = documents.meeting(document)
        await unlist(rooms.hosts, meeting)
        await _empty(rooms, meeting.id)
        await _end_streams(rooms, meeting)
        if await rooms.items.delete(meeting.id, MEETING):
            deleted.append(meeting.id)
        await _end_streams(rooms, meeting)  # again: a replay may have begun one meanwhile
        await unlist(rooms.hosts, meeting)  # again: the reader of the change feed may have listed it meanwhile
    return deleted


async def _end_streams(rooms: Rooms, meeting: Meeting) -> None:
    """Those of the tenant's webhooks, which lie with their endpoints. The tries are left to their expiry."""
    for endpoint_id in await rooms.webhooks.query("SELECT VALUE c.id FROM c", key=meeting.tenant_id):
        await rooms.streams.delete((endpoint_id, meeting.id), STREAM)


async def _empty(rooms: Rooms, meeting_id: MeetingId) -> None:
    """Deletes all items of the meeting but its own."""
    text = "SELECT VALUE c.id FROM c WHERE c.id != @meeting"

    async def attempt() -> None:
        while ids := await rooms.items.query(text, {"meeting": MEETING}, key=meeting_id, limit=MOST_OPERATIONS):
            await rooms.items.batch(meeting_id, [delete(id) for id in ids])

    await rooms.database.settle(attempt)
