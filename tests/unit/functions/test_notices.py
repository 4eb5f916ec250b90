"""Notices to hosts, out of domain events."""

from dataclasses import replace
from typing import Any

import pytest

from conference.adapters.memory.notifier import MemoryNotifier
from conference.domain.errors import Unavailable
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent, EventType
from conference.protocol.events import encode_event
from functions.events import handle

pytestmark = pytest.mark.unit


@pytest.fixture
def notifier(stage: Any) -> MemoryNotifier:
    found = MemoryNotifier()
    stage.change(notifier=found, config=replace(stage.services.config, public_url="https://meet.example.com"))
    return found


def ready(stage: Any, meeting_id: str, type_: EventType, number: int = 1) -> str:
    id_ = EventId(f"00000000-0000-4000-8000-00000000000{number}")
    return encode_event(DomainEvent(id_, MeetingId(meeting_id), number, type_, stage.clock.now(), {}))


@pytest.mark.parametrize(
    ("type_", "subject"),
    [
        (EventType.RECORDING_READY, "The recording is ready"),
        (EventType.RECORDING_FAILED, "The recording failed"),
        (EventType.SUMMARY_READY, "The summary is ready"),
    ],
)
async def test_the_host_is_told_once(
    stage: Any, ada: Any, notifier: MemoryNotifier, type_: EventType, subject: str
) -> None:
    meeting = await ada.creates_meeting()
    for _ in range(2):
        await handle(stage.services, ready(stage, meeting["id"], type_))
    (notice,) = notifier.sent
    assert (notice.to, notice.subject) == ("ada@example.com", subject)
    assert "2026-01-01 12:00 UTC" in notice.text
    assert "https://meet.example.com" in notice.text
    assert meeting["id"] in notice.text


async def test_nothing_else_is_told(stage: Any, ada: Any, notifier: MemoryNotifier) -> None:
    meeting = await ada.creates_meeting()
    told = {EventType.RECORDING_READY, EventType.RECORDING_FAILED, EventType.SUMMARY_READY}
    for type_ in set(EventType) - told:
        await handle(stage.services, ready(stage, meeting["id"], type_))
    assert notifier.sent == []


async def test_a_meeting_that_is_gone_is_told_to_nobody(stage: Any, notifier: MemoryNotifier) -> None:
    await handle(stage.services, ready(stage, "00000000-0000-4000-8000-0000000000ff", EventType.RECORDING_READY))
    assert notifier.sent == []


async def test_a_notifier_that_is_away_is_asked_again(stage: Any, ada: Any, notifier: MemoryNotifier) -> None:
    meeting = await ada.creates_meeting()
    notifier.away = True
    with pytest.raises(Unavailable):
        await handle(stage.services, ready(stage, meeting["id"], EventType.SUMMARY_READY))
    notifier.away = False
    await handle(stage.services, ready(stage, meeting["id"], EventType.SUMMARY_READY))
    assert len(notifier.sent) == 1


async def test_without_a_notifier_nothing_happens(stage: Any, ada: Any) -> None:
    meeting = await ada.creates_meeting()
    await handle(stage.services, ready(stage, meeting["id"], EventType.RECORDING_READY))
