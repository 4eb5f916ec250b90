"""What follows from changes of meetings: numbers of events, audit entries, hosts' lists. Read from the change feed.

Within a partition the feed gives changes in the order they were committed, so the events of a room get their numbers in
that order, each once: the batch that numbers them holds the room's `outbox` item and every event to the ETags that were
read. Where the reader stands is kept in `leases`, and moves on only when all of a page is done; readers that work on
one page at once meet in the ETags.
"""

from asyncio import Lock
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Document
from conference.adapters.cosmos.containers import LEASES
from conference.adapters.cosmos.documents import MEETING, OUTBOX
from conference.adapters.cosmos.hosts import repair, unlist
from conference.adapters.cosmos.operations import one_of, patch
from conference.adapters.cosmos.rooms import Rooms
from conference.adapters.cosmos.telling import write_entry
from conference.domain.ids import MeetingId

READER = "outbox"
_EVENTS_A_BATCH = 90
_PAGES = 50


class Feed:
    """The reader of this process."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._leases = rooms.database.items(LEASES)
        self._reading = Lock()
        self._continuation: str | None = None
        self._begun = 0  # readings
        self._reached_end = 0  # the last of them that did

    async def catch_up(self) -> None:
        """Reads on until nothing has changed, or so many pages that the next call has to do the rest. Those who wait
        meanwhile need one more reading, all of them the same. Raises Unavailable, also where others read for longer
        than an operation may take."""
        wanted = self._begun + 1
        async with self._turn():
            if self._reached_end >= wanted:
                return
            self._begun += 1
            if self._continuation is None:
                lease = await self._leases.read(READER, READER)
                self._continuation = lease["continuation"] if lease else None
            for _ in range(_PAGES):
                changed, reached = await self._rooms.items.changes(self._continuation)
                if await self._follow(changed):
                    await self._stand_at(reached)
                self._continuation = reached
                if not changed:
                    self._reached_end = self._begun
                    return

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._rooms.database.bounded():
            await self._reading.acquire()
        try:
            yield
        finally:
            self._reading.release()

    async def _stand_at(self, continuation: str | None) -> None:
        """A slower reader may put it back: then some pages are read again, and nothing is done twice."""
        place = {"id": READER, "continuation": continuation}
        await self._rooms.database.settle(lambda: self._leases.upsert(place))

    async def _follow(self, changed: list[Document]) -> bool:
        """True where there was anything to do: other pages are not worth a note of where we stand."""
        is_of_ours = False
        events: dict[MeetingId, list[Document]] = {}
        for document in changed:
            is_of_ours = is_of_ours or document["kind"] in (MEETING, "event")
            if document["kind"] == MEETING:
                await self._list(document)
            elif document["kind"] == "event" and "seq" not in document:
                events.setdefault(document["meetingId"], []).append(document)
        for meeting_id, unnumbered in events.items():
            for event in unnumbered:
                if "audit" in event:
                    await self._audit(event["audit"])
            await self._number(meeting_id, unnumbered)
        return is_of_ours

    async def _audit(self, entry: Document) -> None:
        await self._rooms.database.settle(lambda: write_entry(self._rooms.audit, entry))

    async def _list(self, document: Document) -> None:
        """Repairs the host's list; takes the meeting off again where it was deleted meanwhile."""
        meeting = documents.meeting(document)
        written = await repair(self._rooms.hosts, meeting)
        if written and await self._rooms.items.read(meeting.id, MEETING) is None:
            await unlist(self._rooms.hosts, meeting)

    async def _number(self, meeting_id: MeetingId, events: list[Document]) -> None:
        ids = [event["id"] for event in in_order(events)]
        for first in range(0, len(ids), _EVENTS_A_BATCH):
            await self._number_some(meeting_id, ids[first : first + _EVENTS_A_BATCH])

    async def _number_some(self, meeting_id: MeetingId, ids: list[str]) -> None:
        await self._rooms.database.settle(lambda: self._number_once(meeting_id, ids))

    async def _number_once(self, meeting_id: MeetingId, ids: list[str]) -> None:
        """Numbers those of the events that have no number yet, in the order given."""
        named, given = one_of([OUTBOX, *ids])
        found = await self._rooms.items.query(f"SELECT * FROM c WHERE {named}", given, key=meeting_id)  # noqa: S608
        by_id = {document["id"]: document for document in found}
        outbox = by_id.get(OUTBOX)
        fresh = [by_id[id] for id in ids if id in by_id and "seq" not in by_id[id]]
        if outbox is None or not fresh:
            return
        last = int(outbox["last"])
        values = {"last": last + len(fresh), "waiting": True}
        if not outbox["waiting"]:
            values["nextAt"] = fresh[0]["at"]
        numbered = [
            patch(event["id"], set={"seq": number}, etag=event["_etag"]) for number, event in enumerate(fresh, last + 1)
        ]
        await self._rooms.items.batch(meeting_id, [patch(OUTBOX, set=values, etag=outbox["_etag"]), *numbered])


def in_order(events: Sequence[Document]) -> list[Document]:
    """Events of one room as the feed gave them: the order of commits is the feed's, that within one commit was written
    down, since the feed does not promise it."""
    commits: dict[str, int] = {}
    for event in events:
        commits.setdefault(event["commit"], len(commits))
    return sorted(events, key=lambda event: (commits[event["commit"]], event["place"]))
