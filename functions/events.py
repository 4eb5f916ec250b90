"""Domain events on their way: from the outbox into the queue and to webhooks, and from the queue to their handlers.

At least once, in order per room: the outbox gives at most one event of a room at a time, and the next only when that
one was published. Handlers are a table (type -> function). Each is idempotent by the event's id: what it orders carries
an id that the directory knows, and it tells a state, not a step.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from conference.domain.events import LEFT_REMOVED
from conference.domain.ids import ConsentId, ParticipantId, UserId
from conference.domain.records import DomainEvent, EventType
from conference.protocol.events import decode_event, encode_event
from functions import media
from functions.live import order_end, order_grants, order_removal
from functions.notices import tell_host
from functions.services import Services
from functions.webhooks.delivery import Audience

log = logging.getLogger(__name__)
QUEUE: Final = "events"
_BATCH: Final = 100
_ROUNDS: Final = 500  # of one relay run, so the most events of one room in it; the next tick goes on

Handler = Callable[[Services, DomainEvent], Awaitable[None]]


async def relay(services: Services) -> int:
    """Moves what the outbox holds into the queue, and offers it to webhooks; gives the number moved. Raises
    Unavailable."""
    moved = 0
    audience = Audience(services)
    for _ in range(_ROUNDS):
        events = await services.outbox.claim(services.clock.now(), limit=_BATCH)
        if not events:
            break
        for event in events:
            await services.queue.send(QUEUE, encode_event(event), now=services.clock.now(), message_id=event.id)
        await audience.offer(events)
        await services.outbox.published([event.id for event in events], services.clock.now())
        moved += len(events)
    return moved


async def handle(services: Services, body: str) -> None:
    """Hands a queue message to its handler. Raises ProtocolError for one that is no event (it goes to the poison
    queue), Unavailable or Refused("provider-unavailable") where a dependency is away (the queue gives it again)."""
    event = decode_event(body)
    handler = HANDLERS.get(event.type)
    if handler is not None:
        await handler(services, event)


async def _on_meeting_ended(services: Services, event: DomainEvent) -> None:
    await order_end(services, event.meeting_id)
    meeting = await services.meetings.get(event.meeting_id)
    if meeting is not None:
        await media.close(services, meeting)


async def _on_participant_left(services: Services, event: DomainEvent) -> None:
    """Only a removal concerns a live connection; whoever left otherwise is gone."""
    if event.payload.get("reason") == LEFT_REMOVED:
        participant_id, user_id = _ids(event.payload)
        await order_removal(services, event.meeting_id, participant_id, user_id)
        meeting = await services.meetings.get(event.meeting_id)
        if meeting is not None:
            await media.revoke(services, meeting, user_id)


async def _on_consent_recorded(services: Services, event: DomainEvent) -> None:
    """A decision taken in the meeting changes what its media may be used for."""
    meeting = await services.meetings.get(event.meeting_id)
    if meeting is not None and event.payload.get("participantId"):
        consent_id = ConsentId(str(event.payload.get("consentId")))
        await order_grants(services, meeting, UserId(str(event.payload.get("userId"))), consent_id)


def _ids(payload: Mapping[str, object]) -> tuple[ParticipantId, UserId]:
    return ParticipantId(str(payload.get("participantId"))), UserId(str(payload.get("userId")))


HANDLERS: Final[Mapping[EventType, Handler]] = {
    EventType.MEETING_ENDED: _on_meeting_ended,
    EventType.PARTICIPANT_LEFT: _on_participant_left,
    EventType.CONSENT_RECORDED: _on_consent_recorded,
    EventType.RECORDING_READY: tell_host,
    EventType.RECORDING_FAILED: tell_host,
    EventType.SUMMARY_READY: tell_host,
}
