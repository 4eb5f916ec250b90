"""Join: status, window, role and consent are decided from one query, and hold, with a free place, in one batch or not
at all.

The batch patches `capacity` under the condition that a place is free and that nothing the decision was based on has
changed (settings, session, removals), and the count of the user's decisions likewise. Only a failed condition makes us
look at the leases: stays that have lapsed end and free their places, so nobody is refused while one is free.
"""

from dataclasses import replace
from datetime import timedelta

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Operation, Raced
from conference.adapters.cosmos.documents import CAPACITY
from conference.adapters.cosmos.hosts import list_meeting
from conference.adapters.cosmos.operations import create, literal, patch
from conference.adapters.cosmos.operations import replace as replace_item
from conference.adapters.cosmos.rooms import Room, Rooms, started
from conference.domain import events
from conference.domain.consent import ConsentLog, required_grants
from conference.domain.errors import Refused
from conference.domain.events import Change
from conference.domain.ids import SessionId
from conference.domain.meetings import Meeting, Participant, Session
from conference.domain.policies import may_enter, may_take_place, participant_id_of
from conference.ports.meetings import Joined, JoinRequest, joined


async def join(rooms: Rooms, request: JoinRequest) -> Joined | Refused:
    """`MeetingStore.join`, one attempt. Raises Raced, Unavailable."""
    room = await rooms.of_user(request.meeting_id, request.user_id)
    if room is None:
        return Refused("not-found")
    lapsed = next(iter(room.open_stays()), None)
    place = lapsed if lapsed and lapsed[0].is_live(request.now) else None
    role = place[0].role if place else request.role  # a place keeps the role that the host may have given it
    entered = may_enter(room.meeting, request.user_id, role, request.now, timedelta(seconds=request.early_s))
    if isinstance(entered, Refused):
        return entered
    entries = _entries(room)
    decision = may_take_place(
        room.meeting.settings,
        entries,
        removed=request.user_id in room.capacity["removed"],
        others=0,  # the batch counts
        require_consent=request.require_consent,
    )
    if isinstance(decision, Refused):
        return decision
    if place:
        participant = await _kept(rooms, room, *place, request)
        return joined(participant, entries, room.meeting.settings, rejoined=True)
    if lapsed:
        await rooms.end_stays(room.meeting, [lapsed], None, events.LEFT_TIMEOUT)
        raise Raced(412)  # and decide again
    taken = await _take(rooms, room, request, entries)
    if isinstance(taken, Refused):
        return taken
    return joined(taken, entries, room.meeting.settings, rejoined=False)


def _entries(room: Room) -> list[ConsentLog]:
    """The user's decisions in chain order, where the room asks for any."""
    if not required_grants(room.meeting.settings):
        return []
    found = sorted(room.of_kind("consent"), key=lambda document: int(document["position"]))
    return [documents.consent(document) for document in found]


async def _kept(rooms: Rooms, room: Room, place: Participant, etag: str, request: JoinRequest) -> Participant:
    """The user's place with a longer lease. One that holds as long already is left alone."""
    if place.lease_until >= request.lease_until:
        return place
    longer = {"leaseUntil": documents.moment(request.lease_until)}
    await rooms.write(room.meeting, [patch(documents.item_id("participant", place.id), set=longer, etag=etag)])
    return replace(place, lease_until=request.lease_until)


async def _take(rooms: Rooms, room: Room, request: JoinRequest, entries: list[ConsentLog]) -> Participant | Refused:
    meeting, operations, changes = _session(room, request)
    participant = Participant(
        id=participant_id_of(request.meeting_id, request.user_id, len(room.stays) + 1),
        meeting_id=request.meeting_id,
        session_id=SessionId(room.session_id or request.session_id),
        user_id=request.user_id,
        role=request.role,
        created_at=request.now,
        lease_until=request.lease_until,
    )
    operations = [
        _reserve(room, meeting, request),
        *_still_decided(room, request, entries),
        create(documents.participant_document(participant)),
        *operations,
    ]
    try:
        await rooms.write(room.meeting, operations, changes)
    except Raced as raced:
        if raced.index == 0 and await is_full(rooms, request):
            return Refused("room-full")
        raise
    if meeting is not room.meeting:
        await list_meeting(rooms.hosts, meeting)
    return participant


def _reserve(room: Room, meeting: Meeting, request: JoinRequest) -> Operation:
    session = (
        f"c.sessionId = {literal(room.session_id)}" if room.session_id is not None else "NOT IS_DEFINED(c.sessionId)"
    )
    unchanged = f"c.version = {literal(room.meeting.version)} AND {session}"
    wanted = f"c.live < c.max AND {unchanged} AND NOT IS_DEFINED(c.removed[{literal(request.user_id)}])"
    opened = {} if room.session_id else {"sessionId": request.session_id, "version": meeting.version}
    return patch(CAPACITY, set=opened, add={"live": 1}, where=wanted)


def _still_decided(room: Room, request: JoinRequest, entries: list[ConsentLog]) -> list[Operation]:
    """That the user has taken no other decision meanwhile. Whoever records one in turn sees that they have joined, so a
    withdrawal names the stay whose grants it ends."""
    if not required_grants(room.meeting.settings):
        return []
    if not room.of_kind("decisions"):
        return [create(documents.decisions_document(request.meeting_id, request.user_id, count=0, joins=1))]
    counted = documents.item_id("decisions", request.user_id)
    return [patch(counted, add={"joins": 1}, where=f"c.count = {literal(len(entries))}")]


def _session(room: Room, request: JoinRequest) -> tuple[Meeting, list[Operation], list[Change]]:
    """Where none is open: opens a session; the first one makes the meeting ACTIVE."""
    if room.session_id is not None:
        return room.meeting, [], []
    session = Session(request.session_id, request.meeting_id, request.now)
    operations = [create(documents.session_document(session))]
    meeting = started(room.meeting, request.now)
    if meeting is not room.meeting:
        document = documents.meeting_document(meeting, room.meeting_document["fingerprint"])
        operations.append(replace_item(document, room.meeting_document["_etag"]))
    return meeting, operations, [events.session_started(session, request.user_id)]


async def is_full(rooms: Rooms, request: JoinRequest) -> bool:
    """Looks at the leases of a room whose batch found no place: ends those that have lapsed, and corrects a count that
    is not that of the stays. True where every place is held. Raises Raced, Unavailable."""
    room = await rooms.with_open_stays(request.meeting_id)
    if room is None or room.capacity["live"] < room.capacity["max"]:
        return False
    stays = room.open_stays()
    lapsed = [(stay, etag) for stay, etag in stays if not stay.is_live(request.now)]
    if lapsed:
        await rooms.end_stays(room.meeting, lapsed, None, events.LEFT_TIMEOUT)
    elif len(stays) < room.capacity["live"]:
        corrected = patch(CAPACITY, set={"live": len(stays)}, etag=room.capacity["_etag"])
        await rooms.write(room.meeting, [corrected])
    else:
        return True
    return False
