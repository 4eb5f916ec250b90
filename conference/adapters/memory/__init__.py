"""The ports in memory: fakes that are shipped, held to the same contract suites as the real adapters.

Every method runs without an `await` inside, so one event loop sees each as atomic. Nothing survives the process.
"""

from conference.adapters.memory.audit import MemoryAuditLog
from conference.adapters.memory.meetings import MemoryMeetingStore
from conference.adapters.memory.outbox import MemoryOutbox
from conference.adapters.memory.queue import MemoryEventQueue
from conference.adapters.memory.recordings import MemoryRecordingStore
from conference.adapters.memory.transcripts import MemoryTranscriptStore
from conference.adapters.memory.users import MemoryUserStore
from conference.adapters.memory.webhooks import MemoryWebhookStore
from conference.ports.clock import Ids
from conference.ports.stores import Stores


def memory_stores(ids: Ids) -> Stores:
    """Empty stores that share one state: what a change tells appears in `outbox` and `audit`."""
    audit, outbox = MemoryAuditLog(), MemoryOutbox()
    recordings, transcripts = MemoryRecordingStore(), MemoryTranscriptStore()
    webhooks = MemoryWebhookStore(ids, outbox.knows)
    belongings = (outbox, recordings, transcripts, webhooks)
    return Stores(
        meetings=MemoryMeetingStore(ids, audit, outbox, belongings),
        users=MemoryUserStore(),
        recordings=recordings,
        transcripts=transcripts,
        audit=audit,
        outbox=outbox,
        queue=MemoryEventQueue(ids),
        webhooks=webhooks,
    )
