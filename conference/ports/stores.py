"""The stores of one installation together: what `memory_stores` and `sql_stores` build and a wiring hands on."""

from dataclasses import dataclass

from conference.ports.meetings import MeetingStore
from conference.ports.records import AuditLog, EventQueue, Outbox, RecordingStore, TranscriptStore, UserStore
from conference.ports.webhooks import WebhookStore


@dataclass(frozen=True, slots=True)
class Stores:
    meetings: MeetingStore
    users: UserStore
    recordings: RecordingStore
    transcripts: TranscriptStore
    audit: AuditLog
    outbox: Outbox
    queue: EventQueue
    webhooks: WebhookStore
