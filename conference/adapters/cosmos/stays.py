"""Participants after the join: joined, left, renewed, removed, given another role. Each is one attempt; raises
Raced."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import MOST_OPERATIONS, Raced
from conference.adapters.cosmos.documents import CAPACITY, item_id, moment
from conference.adapters.cosmos.operations import literal, patch
from conference.adapters.cosmos.rooms import Room, Rooms, ending
from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain import events
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.domain.meetings import Participant, Role
from conference.domain.policies import may_change_role
from conference.ports.meetings import ParticipantPage


async def find(rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None:
    """`MeetingStore.participant`."""
    found = await rooms.items.read(meeting_id, item_id("participant", participant_id))
    return documents.participant(found) if found else None


async def place_of(rooms: Rooms, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
    """`MeetingStore.place_of`."""
    text = "SELECT * FROM c WHERE c.kind = 'participant' AND c.userId = @user AND c.open = true"
    found = [documents.participant(row) for row in await rooms.items.query(text, {"user": user_id}, key=meeting_id)]
    return next((stay for stay in found if stay.is_live(now)), None)


async def live_count(rooms: Rooms, meeting_id: MeetingId, now: datetime) -> int:
    """`MeetingStore.live_count`."""
    text = "SELECT VALUE COUNT(1) FROM c WHERE c.kind = 'participant' AND c.open = true AND c.leaseUntil > @now"
    found = await rooms.items.query(text, {"now": moment(now)}, key=meeting_id)
    return int(found[0])


async def page(rooms: Rooms, meeting_id: MeetingId, cursor: str | None, limit: int) -> ParticipantPage:
    """`MeetingStore.participants`."""
    conditions, given = ["c.kind = 'participant'"], dict[str, Any]()
    if cursor is not None:
        last_at, last_id = decode_cursor(cursor)
        conditions.append("(c.createdAt > @at OR (c.createdAt = @at AND c.id > @id))")
        given = {"at": moment(last_at), "id": item_id("participant", last_id)}
    text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.createdAt, c.id"  # noqa: S608
    found = await rooms.items.query(text, given, key=meeting_id, limit=limit + 1)
    stays = [documents.participant(row) for row in found]
    more, stays = len(stays) > limit, stays[:limit]
    return ParticipantPage(stays, encode_cursor(stays[-1].created_at, stays[-1].id) if more else None)


async def _named(
    rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId
) -> tuple[Room, Participant, str] | None:
    """The room and the stay of that id, with its ETag."""
    room = await rooms.read(meeting_id, "c.id = @stay", stay=item_id("participant", participant_id))
    return (room, *room.stays[0]) if room is not None and room.stays else None


async def mark_joined(
    rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId, now: datetime, lease_until: datetime
) -> Participant | None:
    """`MeetingStore.mark_joined`."""
    found = await _named(rooms, meeting_id, participant_id)
    if found is None or not found[1].is_live(now):
        return None
    room, before, etag = found
    after = replace(before, lease_until=lease_until, joined_at=before.joined_at or now)
    changes = [] if before.joined_at is not None else [events.participant_joined(after, now)]
    values = {"leaseUntil": moment(lease_until), "joinedAt": moment(after.joined_at or now)}
    await rooms.write(room.meeting, [patch(item_id("participant", after.id), set=values, etag=etag)], changes)
    return after


async def mark_left(
    rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId, now: datetime, reason: str
) -> bool:
    """`MeetingStore.mark_left`."""
    found = await _named(rooms, meeting_id, participant_id)
    if found is None or found[1].left_at is not None:
        return False
    room, stay, etag = found
    await rooms.end_stays(room.meeting, [(stay, etag)], now, reason)
    return True


async def renew_leases(
    rooms: Rooms, meeting_id: MeetingId, participant_ids: Collection[ParticipantId], now: datetime, until: datetime
) -> int:
    """`MeetingStore.renew_leases`: a hundred in a batch. Those that ended since they were read are left out, whatever
    clock ended them."""
    text = "SELECT VALUE c.id FROM c WHERE c.kind = 'participant' AND c.open = true AND c.leaseUntil > @now"
    live = await rooms.items.query(text, {"now": moment(now)}, key=meeting_id)
    wanted = {item_id("participant", id) for id in participant_ids}
    held = [id for id in live if id in wanted]
    renewed = 0
    for first in range(0, len(held), MOST_OPERATIONS):
        renewed += await _renew(rooms, meeting_id, held[first : first + MOST_OPERATIONS], now, until)
    return renewed


async def _renew(rooms: Rooms, meeting_id: MeetingId, held: list[str], now: datetime, until: datetime) -> int:
    still = f"c.open = true AND c.leaseUntil > {literal(moment(now))}"
    while held:
        try:
            await rooms.items.batch(
                meeting_id, [patch(id, set={"leaseUntil": moment(until)}, where=still) for id in held]
            )
        except Raced as raced:
            if raced.status == 449:
                raise
            held.pop(raced.index)
            continue
        return len(held)
    return 0


async def remove(
    rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId, by: UserId, now: datetime
) -> Participant | Refused:
    """`MeetingStore.remove`: the user's name on `capacity` keeps them out, from the batch on that ends their stay."""
    found = await _named(rooms, meeting_id, participant_id)
    if found is None:
        return Refused("not-found")
    named = found[1]
    if named.role is Role.HOST:
        return Refused("forbidden")
    room = await rooms.of_user(meeting_id, named.user_id)
    if room is None:
        return Refused("not-found")
    gone, operations, changes = ending(room.open_stays(), now, events.LEFT_REMOVED)
    is_new = named.user_id not in room.capacity["removed"]
    if gone or is_new:
        # Whoever joins meanwhile changes the item, and we look again.
        out = {f"removed/{named.user_id}": {"by": by, "at": moment(now)}} if is_new else {}
        capacity = patch(CAPACITY, set=out, add={"live": -len(gone)}, etag=room.capacity["_etag"])
        await rooms.write(room.meeting, [capacity, *operations], changes)
    return gone[0] if gone else named


async def set_role(
    rooms: Rooms, meeting_id: MeetingId, participant_id: ParticipantId, role: Role
) -> Participant | Refused:
    """`MeetingStore.set_role`."""
    found = await _named(rooms, meeting_id, participant_id)
    if found is None or found[1].left_at is not None:
        return Refused("not-found")
    room, stay, etag = found
    decision = may_change_role(stay, role, room.meeting.settings)
    if isinstance(decision, Refused):
        return decision
    await rooms.write(room.meeting, [patch(item_id("participant", stay.id), set={"role": role.value}, etag=etag)])
    return replace(stay, role=role)
