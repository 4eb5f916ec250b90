"""The consent log of a meeting: one hash chain, whose end stands on `capacity`.

An entry's item is named by the hash before it, so a fork is refused by the container itself. An entry's own id is one
over all meetings: it is claimed in a container of its own before the entry is written.
"""

from collections.abc import Sequence

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Operation, Raced
from conference.adapters.cosmos.documents import CAPACITY, item_id
from conference.adapters.cosmos.operations import create, literal, patch
from conference.adapters.cosmos.rooms import Room, Rooms
from conference.domain import events
from conference.domain.consent import ConsentLog, chained
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, UserId
from conference.domain.meetings import MeetingStatus
from conference.ports.meetings import NewConsent


async def record(rooms: Rooms, consent: NewConsent) -> ConsentLog | Refused:
    """`MeetingStore.record_consent`, one attempt. Raises Raced, Unavailable."""
    room = await _room(rooms, consent)
    if room is None:
        return Refused("not-found")
    known = next((documents.consent(document) for document in room.of_kind("consent")), None)
    if known:
        return known if consent.is_of(known) else Refused("idempotency-conflict")
    if room.meeting.status is MeetingStatus.COMPLETED:
        return Refused("meeting-ended")
    if not await _claim(rooms, consent):
        return Refused("idempotency-conflict")
    stay = next((stay for stay, _ in room.open_stays() if stay.is_live(consent.now)), None)
    entry = chained(consent.entry(stay.id if stay else None), room.capacity["tail"])
    await rooms.write(room.meeting, _append(room, entry), [events.consent_recorded(entry)])
    return entry


async def _room(rooms: Rooms, consent: NewConsent) -> Room | None:
    """With the entry of that id, the user's open stays and the count of their decisions."""
    also = (
        "c.consentId = @consent OR c.id = @decisions OR (c.kind = 'participant' AND c.userId = @user AND c.open = true)"
    )
    counted = item_id("decisions", consent.user_id)
    return await rooms.read(consent.meeting_id, also, consent=consent.id, decisions=counted, user=consent.user_id)


async def _claim(rooms: Rooms, consent: NewConsent) -> bool:
    """True where the id is this meeting's, now or from an earlier try."""
    claim = {"id": consent.id, "meetingId": consent.meeting_id}
    try:
        await rooms.claims.create(claim)
    except Raced:
        known = await rooms.claims.read(consent.id, consent.id)
        return known is not None and known["meetingId"] == consent.meeting_id
    return True


def _append(room: Room, entry: ConsentLog) -> list[Operation]:
    position = int(room.capacity["positions"]) + 1
    is_last = f"c.tail = {literal(entry.previous_hash)} AND c.version = {literal(room.meeting.version)}"
    tail = {"tail": entry.hash, "positions": position}
    counted = item_id("decisions", entry.user_id)
    known = room.of_kind("decisions")
    count = (
        patch(counted, add={"count": 1}, where=f"c.joins = {literal(known[0]['joins'])}")
        if known
        else create(documents.decisions_document(entry.meeting_id, entry.user_id, count=1, joins=0))
    )
    return [patch(CAPACITY, set=tail, where=is_last), create(documents.consent_document(entry, position)), count]


async def chain(
    rooms: Rooms, meeting_id: MeetingId, user_id: UserId | None = None, consent_id: ConsentId | None = None
) -> Sequence[ConsentLog]:
    """The meeting's entries in order; of one user, or with one id, where named."""
    conditions, given = ["c.kind = 'consent'"], dict[str, str]()
    if user_id is not None:
        conditions.append("c.userId = @user")
        given["user"] = user_id
    if consent_id is not None:
        conditions.append("c.consentId = @consent")
        given["consent"] = consent_id
    text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.position"  # noqa: S608
    return [documents.consent(document) for document in await rooms.items.query(text, given, key=meeting_id)]
