"""The meeting itself: created, changed, ended.

An end of more stays than one batch takes goes in steps: the meeting is COMPLETED first, so nobody joins any more; then
stays end, forty at a time; the last batch closes the session and tells MeetingEnded. Whoever finds an end half done
goes on.
"""

from dataclasses import replace
from datetime import datetime

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Operation, Raced
from conference.adapters.cosmos.documents import CAPACITY, MEETING, OUTBOX
from conference.adapters.cosmos.hosts import list_meeting
from conference.adapters.cosmos.operations import create as create_item
from conference.adapters.cosmos.operations import literal, patch
from conference.adapters.cosmos.operations import replace as replace_item
from conference.adapters.cosmos.rooms import STAYS_A_BATCH, Room, Rooms, ending, new_capacity
from conference.domain import events
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Session
from conference.ports.meetings import Ended


async def create(rooms: Rooms, meeting: Meeting, fingerprint: str) -> Meeting | Refused:
    """`MeetingStore.create`, one attempt. Raises Raced, Unavailable."""
    outbox = {"id": OUTBOX, "kind": OUTBOX, "meetingId": meeting.id, "last": 0, "published": 0, "waiting": False}
    operations = [
        create_item(documents.meeting_document(meeting, fingerprint)),
        create_item(new_capacity(meeting)),
        create_item(outbox | {"heldUntil": "", "nextAt": ""}),
    ]
    try:
        await rooms.write(meeting, operations, [events.room_created(meeting)])
    except Raced:
        room = await rooms.read(meeting.id)
        if room is None:
            raise
        return room.meeting if room.meeting_document["fingerprint"] == fingerprint else Refused("idempotency-conflict")
    await list_meeting(rooms.hosts, meeting)
    return meeting


async def change_settings(
    rooms: Rooms, meeting_id: MeetingId, settings: MeetingSettings, expected_version: int
) -> Meeting | Refused:
    """`MeetingStore.change_settings`, one attempt. Raises Raced, Unavailable."""
    room = await rooms.read(meeting_id)
    if room is None:
        return Refused("not-found")
    if room.meeting.status is MeetingStatus.COMPLETED:
        return Refused("meeting-ended")
    if room.meeting.version != expected_version:
        return Refused("precondition-failed")
    changed = replace(room.meeting, settings=settings, version=expected_version + 1)
    capacity = {"max": settings.max_participants, "version": changed.version}
    await rooms.write(changed, [_replaced(room, changed), patch(CAPACITY, set=capacity)])
    await list_meeting(rooms.hosts, changed)
    return changed


async def end(
    rooms: Rooms, meeting_id: MeetingId, by: UserId, now: datetime, expected_version: int | None
) -> Ended | Refused:
    """`MeetingStore.end`, one attempt. Raises Raced, Unavailable."""
    room = await _to_end(rooms, meeting_id)
    if room is None:
        return Refused("not-found")
    closing = room.meeting_document.get("closing")
    if room.meeting.status is MeetingStatus.COMPLETED:
        if closing is None:
            return Ended(room.meeting, _last_session(room), already=True)
        return await close(rooms, room)
    if expected_version not in (None, room.meeting.version):
        return Refused("precondition-failed")
    ended = replace(room.meeting, status=MeetingStatus.COMPLETED, end_time=now, version=room.meeting.version + 1)
    version = {"version": ended.version}
    if len(room.stays) <= STAYS_A_BATCH:
        # Whoever joins meanwhile changes the item, and we look again.
        unchanged = patch(CAPACITY, set=version, etag=room.capacity["_etag"])
        return await _finish(rooms, _begun(room, ended, by), [unchanged])
    await rooms.write(ended, [_replaced(room, ended, by=by), patch(CAPACITY, set=version)])
    raise Raced(412)  # and go on from what is stored now


async def close(rooms: Rooms, room: Room) -> Ended:
    """Goes on with an end that was begun. Raises Raced, Unavailable."""
    first = room.open_stays()[: max(0, len(room.open_stays()) - STAYS_A_BATCH)]
    await rooms.end_stays(room.meeting, first, room.meeting.end_time, events.LEFT_ENDED)
    gone = {stay.id for stay, _ in first}
    rest = tuple(stay for stay in room.stays if stay[0].id not in gone)
    return await _finish(rooms, replace(room, stays=rest), [])


async def half_ended(rooms: Rooms, limit: int) -> list[MeetingId]:
    """Meetings whose end was begun and not finished, by a process that is gone perhaps."""
    text = "SELECT VALUE c.meetingId FROM c WHERE c.kind = 'meeting' AND IS_DEFINED(c.closing)"
    return await rooms.items.query(text, limit=limit)


async def _to_end(rooms: Rooms, meeting_id: MeetingId) -> Room | None:
    """With open stays and all sessions."""
    return await rooms.read(meeting_id, "c.kind = 'session' OR (c.kind = 'participant' AND c.open = true)")


async def _finish(rooms: Rooms, room: Room, operations: list[Operation]) -> Ended:
    """The last batch of an end: the last stays, the session, the meeting."""
    meeting, at = room.meeting, room.meeting.end_time
    by = UserId(room.meeting_document["closing"]["by"])
    gone, ending_operations, changes = ending(room.open_stays(), at, events.LEFT_ENDED)
    operations = [*operations, _replaced(room, meeting), *ending_operations]
    if gone:
        operations.append(patch(CAPACITY, add={"live": -len(gone)}))
    session = _last_session(room) if room.session_id is not None else None
    if session is not None and at is not None:
        session = replace(session, end_time=at)
        ended = {"endTime": documents.moment(at), "open": False}
        operations.append(patch(documents.item_id("session", session.id), set=ended))
        unchanged = f"c.sessionId = {literal(session.id)}"
        operations.append(patch(CAPACITY, remove=("sessionId",), where=unchanged))
    if at is not None:
        changes = [*changes, events.meeting_ended(session, by, at)]
    await rooms.write(meeting, operations, changes)
    await list_meeting(rooms.hosts, meeting)
    return Ended(meeting, session, already=False)


def _begun(room: Room, meeting: Meeting, by: UserId) -> Room:
    """The room as it is once its end has begun; the stored document is still the one that was read."""
    return replace(room, meeting=meeting, meeting_document=room.meeting_document | {"closing": {"by": by}})


def _replaced(room: Room, meeting: Meeting, *, by: UserId | None = None) -> Operation:
    """The meeting's item, where it still is as it was read; `by` marks an end that has begun."""
    document = documents.meeting_document(meeting, room.meeting_document["fingerprint"])
    marked = document | {"closing": {"by": by}} if by is not None else document
    return replace_item(marked, room.meeting_document["_etag"])


def _last_session(room: Room) -> Session | None:
    sessions = [documents.session(document) for document in room.of_kind("session")]
    return max(sessions, key=lambda session: session.start_time, default=None)


async def session(rooms: Rooms, session_id: SessionId) -> Session | None:
    """`MeetingStore.session`: over all meetings, by the index of ids."""
    text = "SELECT * FROM c WHERE c.id = @id"
    found = await rooms.items.query(text, {"id": documents.item_id("session", session_id)}, limit=1)
    return documents.session(found[0]) if found else None


async def find(rooms: Rooms, meeting_id: MeetingId) -> Meeting | None:
    """`MeetingStore.get`."""
    found = await rooms.items.read(meeting_id, MEETING)
    return documents.meeting(found) if found else None
