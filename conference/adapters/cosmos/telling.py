"""What a change tells: event items in the change's own batch, and audit entries, which live in another container.

An event item carries its audit entry. The entry is written right after the batch; where that fails, the outbox relay
writes it when it meets the event, before it numbers it. So an entry may be late and is never lost or doubled.
"""

import asyncio
import logging
from collections.abc import Sequence

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import CONFLICT, Document, Items, Raced
from conference.domain.errors import Unavailable
from conference.domain.events import Change
from conference.domain.ids import EventId
from conference.domain.meetings import Meeting
from conference.ports.clock import Ids

log = logging.getLogger(__name__)
UNNUMBERED = 0


def told(ids: Ids, meeting: Meeting, changes: Sequence[Change]) -> list[Document]:
    """Event items of one batch, in order. They get their numbers when they are first delivered."""
    commit = ids.new()
    items = []
    for place, change in enumerate(changes):
        event = change.numbered(EventId(ids.new()), meeting.id, UNNUMBERED)
        entry = change.audited(EventId(ids.new()), meeting.id, meeting.tenant_id)
        items.append(documents.event_document(event, entry) | {"commit": commit, "place": place})
    return items


async def write_entry(audit: Items, entry: Document) -> None:
    """The same entry twice is one. Raises Raced where the service asks to try again, Unavailable."""
    try:
        await audit.create(entry)
    except Raced as raced:
        if raced.status != CONFLICT:
            raise


async def audit_now(audit: Items, events: Sequence[Document]) -> None:
    """Writes the entries of these events; what fails is left to the relay."""
    entries = [event["audit"] for event in events if "audit" in event]
    results = await asyncio.gather(*(write_entry(audit, entry) for entry in entries), return_exceptions=True)
    for result in results:
        if isinstance(result, Unavailable | Raced):
            log.warning("audit entry left to the outbox relay")
        elif isinstance(result, BaseException):
            raise result
