"""Ports `UserStore`, `RecordingStore`, `TranscriptStore` and `AuditLog` in SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.engine import Database
from conference.adapters.sql.statements import insert
from conference.adapters.sql.tables import audit_events, meeting_metadata, recordings, transcript_segments, users
from conference.domain.ids import MeetingId, TenantId, UserId
from conference.domain.meetings import User
from conference.domain.records import AuditAction, AuditEvent, MeetingMetadata, Recording, Segment


class SqlUserStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, user: User) -> User:
        def work(connection: sa.Connection) -> User:
            new = insert(connection, users)
            changed = {name: new.excluded[name] for name in ("tenant_id", "email", "display_name")}
            first = sa.func.coalesce(users.c.created_at, new.excluded.created_at)
            stored = new.on_conflict_do_update(index_elements=["id"], set_={**changed, "created_at": first})
            return rows.user(connection.execute(stored.returning(users), rows.values(user)).one())

        return await self._database.write(work)

    async def get(self, user_id: UserId) -> User | None:
        def work(connection: sa.Connection) -> User | None:
            signed_in = sa.select(users).where(users.c.id == user_id, users.c.tenant_id.is_not(None))
            row = connection.execute(signed_in).first()
            return rows.user(row) if row else None

        return await self._database.read(work)

    async def names(self, user_ids: Sequence[UserId]) -> Mapping[UserId, str]:
        def work(connection: sa.Connection) -> dict[UserId, str]:
            wanted = (users.c.id.in_(user_ids), users.c.display_name.is_not(None))
            found = connection.execute(sa.select(users.c.id, users.c.display_name).where(*wanted))
            return {UserId(id): name for id, name in found}

        return await self._database.read(work) if user_ids else {}


class SqlRecordingStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, recording: Recording) -> None:
        values = rows.values(recording)

        def work(connection: sa.Connection) -> None:
            new = insert(connection, recordings)
            changed = {name: new.excluded[name] for name in values if name != "id"}
            connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=changed), values)

        await self._database.write(work)

    async def of_meeting(self, meeting_id: MeetingId) -> Sequence[Recording]:
        def work(connection: sa.Connection) -> list[Recording]:
            of_meeting = sa.select(recordings).where(recordings.c.meeting_id == meeting_id)
            found = connection.execute(of_meeting.order_by(recordings.c.created_at, recordings.c.id))
            return [rows.recording(row) for row in found]

        return await self._database.read(work)


class SqlTranscriptStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_segments(self, meeting_id: MeetingId, segments: Sequence[Segment]) -> None:
        values = [rows.values(segment) | {"meeting_id": meeting_id} for segment in segments]

        def work(connection: sa.Connection) -> None:
            new = insert(connection, transcript_segments)
            changed = {name: new.excluded[name] for name in values[0] if name not in ("meeting_id", "id")}
            newer = (transcript_segments.c.rev < new.excluded.rev) & ~transcript_segments.c.final
            keys = ["meeting_id", "id"]
            connection.execute(new.on_conflict_do_update(index_elements=keys, set_=changed, where=newer), values)

        if values:
            await self._database.write(work)

    async def segments(self, meeting_id: MeetingId) -> Sequence[Segment]:
        def work(connection: sa.Connection) -> list[Segment]:
            of_meeting = sa.select(transcript_segments).where(transcript_segments.c.meeting_id == meeting_id)
            found = connection.execute(of_meeting.order_by(transcript_segments.c.t0, transcript_segments.c.id))
            return [rows.segment(row) for row in found]

        return await self._database.read(work)

    async def put_metadata(self, metadata: MeetingMetadata) -> None:
        values = rows.meeting_metadata_values(metadata)

        def work(connection: sa.Connection) -> None:
            new = insert(connection, meeting_metadata)
            changed = {name: new.excluded[name] for name in values if name != "meeting_id"}
            connection.execute(new.on_conflict_do_update(index_elements=["meeting_id"], set_=changed), values)

        await self._database.write(work)

    async def metadata(self, meeting_id: MeetingId) -> MeetingMetadata | None:
        def work(connection: sa.Connection) -> MeetingMetadata | None:
            of_meeting = sa.select(meeting_metadata).where(meeting_metadata.c.meeting_id == meeting_id)
            row = connection.execute(of_meeting).first()
            return rows.meeting_metadata(row) if row else None

        return await self._database.read(work)


class SqlAuditLog:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, event: AuditEvent) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(insert(connection, audit_events).on_conflict_do_nothing(), rows.values(event))

        await self._database.write(work)

    async def find(
        self,
        *,
        tenant_id: TenantId | None = None,
        meeting_id: MeetingId | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEvent]:
        columns = audit_events.c
        wanted = {columns.tenant_id: tenant_id, columns.meeting_id: meeting_id, columns.action: action}
        statement = sa.select(audit_events).where(*(c == value for c, value in wanted.items() if value is not None))
        if since is not None:
            statement = statement.where(columns.at >= since)
        newest = statement.order_by(columns.at.desc(), columns.id.desc()).limit(limit)
        return await self._database.read(lambda c: [rows.audit_event(row) for row in c.execute(newest)])
