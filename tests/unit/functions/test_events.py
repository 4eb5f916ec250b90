"""Domain events from the outbox over the queue to their handlers."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from conference.domain.errors import ProtocolError, Unavailable
from conference.domain.ids import EventId, MeetingId, ParticipantId
from conference.domain.records import DomainEvent, EventType
from conference.protocol.events import decode_event, encode_event
from functions.events import HANDLERS, QUEUE, handle, relay

pytestmark = pytest.mark.unit


async def queued(stage: Any) -> list[DomainEvent]:
    """Everything in the queue, taken out of it."""
    found = []
    while messages := await stage.services.queue.receive(QUEUE, now=stage.clock.now()):
        for message in messages:
            found.append(decode_event(message.body))
            await stage.services.queue.delete(QUEUE, message)
    return found


async def handles(stage: Any, delivered: list[DomainEvent]) -> None:
    for event in delivered:
        await handle(stage.services, encode_event(event))


async def connects(stage: Any, person: Any, meeting_id: str) -> ParticipantId:
    participant_id = ParticipantId((await person.joins(meeting_id)).json()["participantId"])
    now = stage.clock.now()
    await stage.services.meetings.mark_joined(
        MeetingId(meeting_id), participant_id, now=now, lease_until=now + timedelta(seconds=90)
    )
    return participant_id


def test_an_event_survives_the_queue() -> None:
    event = DomainEvent(
        EventId("e"),
        MeetingId("m"),
        3,
        EventType.MEETING_ENDED,
        datetime.fromisoformat("2026-01-01T12:00:00.000123+00:00"),
        {"by": "u", "sessionId": None},
    )
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "nonsense", '{"id": 1}', '{"type": "Tea"}', "[" * 50_000, '{"payload": 3}']
)
def test_a_message_that_is_no_event_is_refused(body: str) -> None:
    with pytest.raises(ProtocolError):
        decode_event(body)


async def test_the_relay_moves_every_event_once_and_in_order_per_room(stage: Any, ada: Any, ben: Any) -> None:
    rooms = [(await ada.creates_meeting(settings={"aiEnabled": True}))["id"] for _ in range(2)]
    for room in rooms:
        await ben.decides(room, "accepted", "ai")
        await connects(stage, ben, room)
        await ada.call("PUT", f"/v1/meetings/{room}/end")
    moved = await relay(stage.services)
    delivered = await queued(stage)
    assert moved == len(delivered) == 12
    for room in rooms:
        assert [(event.seq, event.type.value) for event in delivered if event.meeting_id == room] == [
            (1, "RoomCreated"),
            (2, "ConsentRecorded"),
            (3, "SessionStarted"),
            (4, "ParticipantJoined"),
            (5, "ParticipantLeft"),
            (6, "MeetingEnded"),
        ]
    assert await relay(stage.services) == 0


async def test_events_wait_in_the_outbox_while_the_queue_is_away(stage: Any, ada: Any) -> None:
    await ada.creates_meeting()
    queue = stage.services.queue

    class Away:
        async def send(self, *_: Any, **__: Any) -> None:
            raise Unavailable("queue")

    stage.change(queue=Away())
    with pytest.raises(Unavailable):
        await relay(stage.services)
    stage.change(queue=queue)
    stage.clock.advance(31)  # the claim is over
    assert await relay(stage.services) == 1


async def test_the_queue_repeats_what_the_directory_missed_and_nothing_else(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting(settings={"aiEnabled": True}))["id"]
    await ben.decides(meeting_id, "accepted", "ai")
    participant_id = await connects(stage, ben, meeting_id)
    stage.presence.away = True
    await ben.decides(meeting_id, "withdrawn", "ai")
    await ada.post(f"/v1/rooms/{meeting_id}/participants/{participant_id}/remove")
    await ada.call("PUT", f"/v1/meetings/{meeting_id}/end")
    await relay(stage.services)
    delivered = await queued(stage)
    with pytest.raises(Unavailable):  # the queue gives it again
        await handles(stage, delivered)
    stage.presence.away = False
    for _ in range(2):  # at least once: a second delivery changes nothing
        await handles(stage, delivered)
    assert stage.orders("user.grants") == [{"userId": ben.id, "grants": [], "declined": ["ai"]}]
    assert stage.orders("user.removed") == [{"userId": ben.id, "participantId": participant_id}]
    assert stage.orders("room.ended") == [{}]
    assert set(stage.presence.revoked) == {participant_id}


async def test_what_was_ordered_at_once_is_not_ordered_again(stage: Any, ada: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    await ada.call("PUT", f"/v1/meetings/{meeting_id}/end")
    await relay(stage.services)
    await handles(stage, await queued(stage))
    assert len(stage.orders("room.ended")) == 1


async def test_events_without_a_handler_are_taken_and_dropped(stage: Any, ada: Any) -> None:
    await ada.creates_meeting()
    await relay(stage.services)
    (event,) = await queued(stage)
    assert event.type not in HANDLERS
    await handle(stage.services, encode_event(event))
    assert stage.presence.events == []
