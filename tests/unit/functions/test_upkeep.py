"""What the timers do."""

from datetime import timedelta
from typing import Any

import pytest

from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.records import AuditAction
from conference.ports.presence import Present
from functions.upkeep import expire, retain, rotate_keys

pytestmark = pytest.mark.unit


async def connects(stage: Any, person: Any, meeting_id: str, connection_id: str = "c1") -> ParticipantId:
    """Joins, and enters the room's directory as signaling does."""
    room, now = MeetingId(meeting_id), stage.clock.now()
    participant_id = ParticipantId((await person.joins(meeting_id)).json()["participantId"])
    await stage.services.meetings.mark_joined(room, participant_id, now=now, lease_until=now + timedelta(seconds=90))
    present = Present(person.id, participant_id, connection_id, "p1", "attendee", "Ben", now)
    await stage.presence.enter(
        room, present, jti=connection_id, jti_ttl_s=300, told=lambda _: [], generation="generation-1"
    )
    return participant_id


async def test_a_lost_client_loses_its_place_in_store_and_directory(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    participant_id = await connects(stage, ben, meeting_id)
    stage.clock.advance(89)
    await expire(stage.services)
    assert await stage.services.meetings.live_count(MeetingId(meeting_id), stage.clock.now()) == 1
    stage.clock.advance(2)
    await expire(stage.services)
    stay = await stage.services.meetings.participant(MeetingId(meeting_id), participant_id)
    assert stay.left_at is not None
    view = await stage.presence.view(MeetingId(meeting_id))
    assert view is None or ben.id not in view.participants
    (left,) = await stage.audited(AuditAction.PARTICIPANT_LEFT)
    assert (left.user_id, left.detail["reason"]) == (ben.id, "timeout")


async def test_joining_and_leaving_are_audited(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    await connects(stage, ben, meeting_id)
    (joined,) = await stage.audited(AuditAction.PARTICIPANT_JOINED)
    assert (joined.user_id, joined.meeting_id, joined.outcome) == (ben.id, meeting_id, "ok")


async def test_a_newer_connection_of_the_same_person_stays(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    await connects(stage, ben, meeting_id)
    stage.clock.advance(91)
    again = await connects(stage, ben, meeting_id, connection_id="c2")
    await expire(stage.services)
    view = await stage.presence.view(MeetingId(meeting_id))
    assert view.participants[ben.id].participant_id == again


async def test_leases_end_in_the_store_while_the_directory_is_away(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    participant_id = await connects(stage, ben, meeting_id)
    stage.presence.away = True
    stage.clock.advance(91)
    await expire(stage.services)
    stay = await stage.services.meetings.participant(MeetingId(meeting_id), participant_id)
    assert stay.left_at is not None


async def test_an_empty_rooms_session_ends_and_the_meeting_may_go_on(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    first = await connects(stage, ben, meeting_id)
    stage.clock.advance(91)
    await expire(stage.services)
    stage.clock.advance(121)
    await expire(stage.services)
    second = await connects(stage, ben, meeting_id, connection_id="c2")
    stays = [await stage.services.meetings.participant(MeetingId(meeting_id), id) for id in (first, second)]
    assert stays[0].session_id != stays[1].session_id


async def test_meetings_are_deleted_a_year_after_their_end(stage: Any, ada: Any) -> None:
    ended, lasting = [(await ada.creates_meeting())["id"] for _ in range(2)]
    await ada.call("PUT", f"/v1/meetings/{ended}/end")
    stage.clock.advance(timedelta(days=364, hours=23).total_seconds())
    assert await retain(stage.services) == 0
    stage.clock.advance(timedelta(hours=2).total_seconds())
    assert await retain(stage.services) == 1
    assert (await ada.get(f"/v1/meetings/{ended}")).status_code == 404
    assert (await ada.get(f"/v1/meetings/{lasting}")).status_code == 200


async def test_retention_goes_on_after_a_full_batch(stage: Any, ada: Any) -> None:
    for _ in range(101):
        meeting_id = (await ada.creates_meeting())["id"]
        await ada.call("PUT", f"/v1/meetings/{meeting_id}/end")
    stage.clock.advance(timedelta(days=366).total_seconds())
    assert await retain(stage.services) == 101


async def test_signing_keys_rotate_every_thirty_days(stage: Any) -> None:
    assert await rotate_keys(stage.services) is False  # makes the first one
    stage.clock.advance(timedelta(days=29).total_seconds())
    assert await rotate_keys(stage.services) is False
    stage.clock.advance(timedelta(days=1).total_seconds())
    assert await rotate_keys(stage.services) is True
    assert await rotate_keys(stage.services) is False
    assert len((await stage.client.get("/.well-known/jwks.json")).json()["keys"]) == 2
