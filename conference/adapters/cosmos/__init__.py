"""The stores in Cosmos DB: azure-cosmos on one client a process; `containers` says what has to exist there."""

from conference.adapters.cosmos.client import CosmosDatabase, Patience
from conference.adapters.cosmos.feed import Feed
from conference.adapters.cosmos.meetings import CosmosMeetingStore
from conference.adapters.cosmos.outbox import CosmosOutbox
from conference.adapters.cosmos.records import (
    CosmosAuditLog,
    CosmosRecordingStore,
    CosmosTranscriptStore,
    CosmosUserStore,
)
from conference.adapters.cosmos.rooms import Rooms
from conference.adapters.cosmos.webhooks import CosmosWebhookStore
from conference.ports.clock import Ids
from conference.ports.records import EventQueue
from conference.ports.stores import Stores

__all__ = ["CosmosDatabase", "Patience", "cosmos_stores"]


def cosmos_stores(database: CosmosDatabase, ids: Ids, queue: EventQueue) -> Stores:
    """Every store over one database whose containers exist, beside the queue of another service; the caller closes
    both."""
    rooms = Rooms(database, ids)
    return Stores(
        meetings=CosmosMeetingStore(rooms),
        users=CosmosUserStore(database),
        recordings=CosmosRecordingStore(database),
        transcripts=CosmosTranscriptStore(database),
        audit=CosmosAuditLog(database),
        outbox=CosmosOutbox(rooms, Feed(rooms)),
        queue=queue,
        webhooks=CosmosWebhookStore(rooms),
    )
