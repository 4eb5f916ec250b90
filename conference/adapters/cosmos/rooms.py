"""What the writers of one meeting share: its items as they were read, and the ways to end stays.

The `capacity` item is what concurrent writers compete for: the number of open stays and their limit, the version that
joins have to have read, the open session, who was removed, and the end of the consent chain. A change patches it under
a condition, so writers that do not contradict each other do not disturb each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import CosmosDatabase, Document, Items, Operation
from conference.adapters.cosmos.containers import AUDIT, CLAIMS, HOSTS, MEETINGS, WEBHOOK_STREAMS, WEBHOOKS
from conference.adapters.cosmos.documents import CAPACITY, MEETING
from conference.adapters.cosmos.operations import create, patch
from conference.adapters.cosmos.telling import audit_now, told
from conference.domain import events
from conference.domain.consent import GENESIS
from conference.domain.events import Change
from conference.domain.ids import MeetingId, UserId
from conference.domain.meetings import Meeting, MeetingStatus, Participant
from conference.ports.clock import Ids

STAYS_A_BATCH = 40  # each may take two operations of the hundred


@dataclass(frozen=True, slots=True)
class Room:
    """Items of one meeting as one query found them; `stays` are those that were asked for, with their ETags."""

    meeting: Meeting
    meeting_document: Document
    capacity: Document
    stays: tuple[tuple[Participant, str], ...]
    others: tuple[Document, ...]  # of other kinds

    @property
    def session_id(self) -> str | None:
        return self.capacity.get("sessionId")

    def open_stays(self) -> list[tuple[Participant, str]]:
        return [(stay, etag) for stay, etag in self.stays if stay.left_at is None]

    def of_kind(self, kind: str) -> list[Document]:
        return [document for document in self.others if document["kind"] == kind]


class Rooms:
    """The container of meetings, and those that follow it."""

    def __init__(self, database: CosmosDatabase, ids: Ids) -> None:
        self.database = database
        self.ids = ids
        self.items: Items = database.items(MEETINGS)
        self.hosts: Items = database.items(HOSTS)
        self.audit: Items = database.items(AUDIT)
        self.claims: Items = database.items(CLAIMS)
        self.webhooks: Items = database.items(WEBHOOKS)
        self.streams: Items = database.items(WEBHOOK_STREAMS)

    async def read(self, meeting_id: MeetingId, also: str = "false", **parameters: Any) -> Room | None:
        """The meeting with the items that the condition `also` names. None where there is no meeting."""
        text = f"SELECT * FROM c WHERE c.id IN (@meeting, @capacity) OR ({also})"  # noqa: S608
        given = {"meeting": MEETING, "capacity": CAPACITY, **parameters}
        found = {document["id"]: document for document in await self.items.query(text, given, key=meeting_id)}
        meeting, capacity = found.pop(MEETING, None), found.pop(CAPACITY, None)
        if meeting is None or capacity is None:
            return None
        stays = [
            (documents.participant(document), str(document["_etag"]))
            for document in found.values()
            if document["kind"] == "participant"
        ]
        others = tuple(document for document in found.values() if document["kind"] != "participant")
        in_order = tuple(sorted(stays, key=lambda stay: (stay[0].created_at, stay[0].id)))
        return Room(documents.meeting(meeting), meeting, capacity, in_order, others)

    async def of_user(self, meeting_id: MeetingId, user_id: UserId) -> Room | None:
        """With all stays of the user, their decisions, and the count of those."""
        also = "c.userId = @user AND c.kind IN ('participant', 'consent', 'decisions')"
        return await self.read(meeting_id, also, user=user_id)

    async def with_open_stays(self, meeting_id: MeetingId) -> Room | None:
        return await self.read(meeting_id, "c.kind = 'participant' AND c.open = true")

    async def write(self, meeting: Meeting, operations: Sequence[Operation], changes: Sequence[Change] = ()) -> None:
        """One batch with the events of what it changes, then their audit entries. Raises Raced, Unavailable."""
        items = told(self.ids, meeting, changes)
        await self.items.batch(meeting.id, [*operations, *map(create, items)])
        await audit_now(self.audit, items)

    async def end_stays(
        self, meeting: Meeting, stays: Sequence[tuple[Participant, str]], at: datetime | None, reason: str
    ) -> list[Participant]:
        """Ends open stays, at that moment or each at its lease's end, and frees their places; gives those ended. Many
        take several batches. Raises Raced where one of them has changed, Unavailable."""
        ended: list[Participant] = []
        for first in range(0, len(stays), STAYS_A_BATCH):
            some = stays[first : first + STAYS_A_BATCH]
            gone, operations, changes = ending(some, at, reason)
            await self.write(meeting, [patch(CAPACITY, add={"live": -len(gone)}), *operations], changes)
            ended += gone
        return ended


def ending(
    stays: Sequence[tuple[Participant, str]], at: datetime | None, reason: str
) -> tuple[list[Participant], list[Operation], list[Change]]:
    """The stays as they have ended, the operations that end them, and what is told."""
    gone = [replace(stay, left_at=at or stay.lease_until) for stay, _ in stays]
    operations = [
        patch(
            documents.item_id("participant", stay.id),
            set={"leftAt": documents.moment(at or stay.lease_until), "open": False},
            etag=etag,
        )
        for stay, etag in stays
    ]
    changes = [events.participant_left(stay, reason) for stay in gone if events.is_told(stay, reason)]
    return gone, operations, changes


def new_capacity(meeting: Meeting) -> Document:
    return {
        "id": CAPACITY,
        "kind": CAPACITY,
        "meetingId": meeting.id,
        "live": 0,
        "max": meeting.settings.max_participants,
        "version": meeting.version,
        "removed": {},
        "positions": 0,
        "tail": GENESIS,
    }


def started(meeting: Meeting, at: datetime) -> Meeting:
    """The meeting once its first session has opened; later sessions change nothing."""
    if meeting.status is MeetingStatus.ACTIVE:
        return meeting
    return replace(meeting, status=MeetingStatus.ACTIVE, start_time=at, version=meeting.version + 1)
