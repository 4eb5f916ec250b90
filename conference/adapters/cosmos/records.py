"""Ports `UserStore`, `RecordingStore`, `TranscriptStore` and `AuditLog` in Cosmos DB."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import CosmosDatabase, Operation
from conference.adapters.cosmos.containers import AUDIT, MEETINGS, USERS
from conference.adapters.cosmos.documents import METADATA, item_id, moment
from conference.adapters.cosmos.gate import Gate
from conference.adapters.cosmos.operations import create, one_of
from conference.adapters.cosmos.operations import replace as replace_item
from conference.adapters.cosmos.telling import write_entry
from conference.domain.ids import MeetingId, TenantId, UserId
from conference.domain.meetings import User
from conference.domain.records import AuditAction, AuditEvent, MeetingMetadata, Recording, Segment

_SEGMENTS_A_BATCH = 90


class CosmosUserStore:
    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._items = database.items(USERS)
        self._gate = Gate()

    async def upsert(self, user: User) -> User:
        async def attempt() -> User:
            known = await self._items.read(user.id, user.id)
            if known is None:
                await self._items.create(documents.user_document(user))
                return user
            stored = replace(user, created_at=documents.user(known).created_at)
            await self._items.replace(documents.user_document(stored), known["_etag"])
            return stored

        return await self._database.settle(attempt)

    async def get(self, user_id: UserId) -> User | None:
        found = await self._items.read(user_id, user_id)
        return documents.user(found) if found else None

    async def names(self, user_ids: Sequence[UserId]) -> Mapping[UserId, str]:
        found = await self._gate.all(partial(self.get, user_id) for user_id in dict.fromkeys(user_ids))
        return {user.id: user.display_name for user in found if user is not None}


class CosmosRecordingStore:
    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._items = database.items(MEETINGS)

    async def put(self, recording: Recording) -> None:
        await self._database.settle(lambda: self._items.upsert(documents.recording_document(recording)))

    async def of_meeting(self, meeting_id: MeetingId) -> Sequence[Recording]:
        text = "SELECT * FROM c WHERE c.kind = 'recording' ORDER BY c.createdAt, c.id"
        return [documents.recording(row) for row in await self._items.query(text, key=meeting_id)]


class CosmosTranscriptStore:
    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._items = database.items(MEETINGS)

    async def put_segments(self, meeting_id: MeetingId, segments: Sequence[Segment]) -> None:
        newest: dict[str, Segment] = {}
        for segment in segments:
            if segment.id not in newest or _follows(segment, newest[segment.id]):
                newest[segment.id] = segment
        wanted = list(newest.values())
        for first in range(0, len(wanted), _SEGMENTS_A_BATCH):
            await self._put(meeting_id, wanted[first : first + _SEGMENTS_A_BATCH])

    async def _put(self, meeting_id: MeetingId, segments: Sequence[Segment]) -> None:
        async def attempt() -> None:
            named, given = one_of([item_id("segment", segment.id) for segment in segments])
            found = await self._items.query(f"SELECT * FROM c WHERE {named}", given, key=meeting_id)  # noqa: S608
            known = {documents.own_id(document): document for document in found}
            operations: list[Operation] = []
            for segment in segments:
                document = documents.segment_document(segment, meeting_id)
                if segment.id not in known:
                    operations.append(create(document))
                elif _follows(segment, documents.segment(known[segment.id])):
                    operations.append(replace_item(document, known[segment.id]["_etag"]))
            if operations:
                await self._items.batch(meeting_id, operations)

        await self._database.settle(attempt)

    async def segments(self, meeting_id: MeetingId) -> Sequence[Segment]:
        text = "SELECT * FROM c WHERE c.kind = 'segment' ORDER BY c.t0, c.id"
        return [documents.segment(row) for row in await self._items.query(text, key=meeting_id)]

    async def put_metadata(self, metadata: MeetingMetadata) -> None:
        await self._database.settle(lambda: self._items.upsert(documents.metadata_document(metadata)))

    async def metadata(self, meeting_id: MeetingId) -> MeetingMetadata | None:
        found = await self._items.read(meeting_id, METADATA)
        return documents.metadata(found) if found else None


def _follows(segment: Segment, known: Segment) -> bool:
    return segment.rev > known.rev and not known.final


class CosmosAuditLog:
    def __init__(self, database: CosmosDatabase) -> None:
        self._database = database
        self._items = database.items(AUDIT)

    async def write(self, event: AuditEvent) -> None:
        entry = documents.audit_document(event)
        await self._database.settle(lambda: write_entry(self._items, entry))

    async def find(
        self,
        *,
        tenant_id: TenantId | None = None,
        meeting_id: MeetingId | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEvent]:
        wanted: dict[str, Any] = {"meetingId": meeting_id, "action": action.value if action else None}
        given = {name: value for name, value in wanted.items() if value is not None}
        conditions = ["true", *(f"c.{name} = @{name}" for name in given)]
        if since is not None:
            conditions.append("c.at >= @since AND c.day >= @day")
            given |= {"since": moment(since), "day": moment(since)[:10]}
        text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.at DESC, c.id DESC"  # noqa: S608
        key = (tenant_id,) if tenant_id is not None else None
        return [documents.audit(row) for row in await self._items.query(text, given, key=key, limit=limit)]
