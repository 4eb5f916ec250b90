"""Port `MeetingStore`: the consent log and what it decides at the door."""

import asyncio
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
import sqlalchemy as sa

from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.sql import open_database, sql_stores
from conference.domain.consent import (
    GENESIS,
    TEXT_VERSION,
    ConsentLog,
    ConsentStatus,
    ConsentType,
    Grant,
    broken_link,
)
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId
from conference.domain.meetings import Meeting, MeetingSettings
from conference.domain.records import AuditAction, EventType
from conference.ports.meetings import Joined, MeetingStore
from conference.ports.stores import Stores
from tests.support.meetings import HOST, a_consent, a_join, a_meeting, seated, user

pytestmark = pytest.mark.contract

BOTH = frozenset({Grant.RECORDING, Grant.AI})


@pytest.fixture
def store(stores: Stores) -> MeetingStore:
    return stores.meetings


@pytest.fixture
async def meeting(store: MeetingStore, clock: ManualClock) -> Meeting:
    """One that asks for both consents."""
    meeting = a_meeting(clock.now(), settings=MeetingSettings(ai_enabled=True, is_recording_enabled=True))
    await store.create(meeting)
    return meeting


async def _recorded(
    store: MeetingStore, meeting: Meeting, clock: ManualClock, number: int, **fields: object
) -> ConsentLog:
    entry = await store.record_consent(a_consent(meeting, user(1), clock.now(), number, **fields))  # type: ignore[arg-type]
    assert isinstance(entry, ConsentLog)
    return entry


async def test_decisions_form_a_sound_chain(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    first = await _recorded(store, meeting, clock, 1)
    clock.advance(0.000001)
    second = await _recorded(store, meeting, clock, 2, status=ConsentStatus.WITHDRAWN)
    chain = await store.consents(meeting.id)
    assert list(chain) == [first, second]
    assert (first.previous_hash, second.previous_hash) == (GENESIS, first.hash)
    assert broken_link(chain) is None
    assert await store.consent(meeting.id, second.id) == second
    assert await store.consent(meeting.id, ConsentId("x")) is None
    assert await store.consents(meeting.id, HOST) == []


async def test_concurrent_decisions_form_one_chain(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    decisions = (a_consent(meeting, user(n), clock.now(), n) for n in range(30))
    await asyncio.gather(*(store.record_consent(decision) for decision in decisions))
    chain = await store.consents(meeting.id)
    assert len(chain) == 30
    assert broken_link(chain) is None


async def test_decisions_by_two_processes_form_one_chain(twins: tuple[Stores, Stores], clock: ManualClock) -> None:
    meeting = a_meeting(clock.now())
    await twins[0].meetings.create(meeting)
    decisions = [a_consent(meeting, user(n), clock.now(), n) for n in range(12)]
    await asyncio.gather(*(twins[n % 2].meetings.record_consent(one) for n, one in enumerate(decisions)))
    chain = await twins[0].meetings.consents(meeting.id)
    assert len(chain) == 12
    assert broken_link(chain) is None


async def test_the_database_itself_refuses_a_fork(sql_url: str, clock: ManualClock) -> None:
    database = open_database(sql_url)
    store = sql_stores(database, SequenceIds()).meetings
    meeting = a_meeting(clock.now())
    await store.create(meeting)
    await store.record_consent(a_consent(meeting, HOST, clock.now()))
    fork = (
        "INSERT INTO consent_log SELECT 'forged', meeting_id, user_id, participant_id, consent_type, status,"
        " text_version, timestamp, position + 1, previous_hash, 'x' FROM consent_log"
    )
    with pytest.raises(sa.exc.IntegrityError):
        await database.write(lambda connection: connection.execute(sa.text(fork)))
    assert len(await store.consents(meeting.id)) == 1
    await database.close()


async def test_a_decision_is_told_and_audited(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    entry = await _recorded(stores.meetings, meeting, clock, 1, status=ConsentStatus.DECLINED)
    event = (await stores.outbox.events(meeting.id))[-1]
    assert (event.type, event.at) == (EventType.CONSENT_RECORDED, clock.now())
    assert event.payload == {
        "consentId": entry.id,
        "userId": user(1),
        "participantId": None,
        "consentType": "recording_ai",
        "status": "declined",
        "textVersion": TEXT_VERSION,
    }
    (audited,) = await stores.audit.find(meeting_id=meeting.id, action=AuditAction.CONSENT)
    assert (audited.user_id, audited.detail["status"]) == (user(1), "declined")


async def test_the_same_decision_again_is_the_stored_entry(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    entry = await _recorded(stores.meetings, meeting, clock, 1)
    clock.advance(60)
    assert await _recorded(stores.meetings, meeting, clock, 1) == entry
    assert len(await stores.meetings.consents(meeting.id)) == 1
    other = a_consent(meeting, user(1), clock.now(), 1, status=ConsentStatus.DECLINED)
    assert await stores.meetings.record_consent(other) == Refused("idempotency-conflict")


async def test_an_id_is_of_one_entry_in_all_meetings(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    other = a_meeting(clock.now(), 77, settings=meeting.settings)
    await stores.meetings.create(other)
    both = [a_consent(room, user(1), clock.now(), 1) for room in (meeting, other)]
    answers = await asyncio.gather(*(stores.meetings.record_consent(consent) for consent in both))
    assert answers.count(Refused("idempotency-conflict")) == 1
    entries = [*await stores.meetings.consents(meeting.id), *await stores.meetings.consents(other.id)]
    assert [entry for entry in answers if not isinstance(entry, Refused)] == entries


async def test_no_decision_is_recorded_where_there_is_no_meeting_or_it_has_ended(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    nowhere = a_meeting(clock.now(), 404)
    assert await store.record_consent(a_consent(nowhere, HOST, clock.now())) == Refused("not-found")
    entry = await _recorded(store, meeting, clock, 1)
    await store.end(meeting.id, by=HOST, now=clock.now())
    assert await store.record_consent(a_consent(meeting, HOST, clock.now(), 2)) == Refused("meeting-ended")
    assert await _recorded(store, meeting, clock, 1) == entry


async def test_an_entry_names_the_live_participant(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    place = await seated(store, meeting, user(1), clock.now(), require_consent=False)
    assert (await _recorded(store, meeting, clock, 1)).participant_id == place.id
    await store.mark_left(meeting.id, place.id, now=clock.now(), reason="left")
    assert (await _recorded(store, meeting, clock, 2)).participant_id is None


async def test_without_a_decision_nobody_enters(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    refused = await store.join(a_join(meeting, user(1), clock.now()))
    assert isinstance(refused, Refused)
    assert refused.reason == "consent-required"
    needed = refused.extra["consentRequired"]
    assert isinstance(needed, list)
    assert [(need["type"], need["version"]) for need in needed] == [("recording", TEXT_VERSION), ("ai", TEXT_VERSION)]
    assert await store.live_count(meeting.id, clock.now()) == 0


async def test_half_a_decision_asks_for_the_other_half(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    await _recorded(store, meeting, clock, 1, type=ConsentType.AI)
    refused = await store.join(a_join(meeting, user(1), clock.now()))
    assert isinstance(refused, Refused)
    needed = refused.extra["consentRequired"]
    assert isinstance(needed, list)
    assert [need["type"] for need in needed] == ["recording"]


@pytest.mark.parametrize(("status", "grants"), [(ConsentStatus.ACCEPTED, BOTH), (ConsentStatus.DECLINED, frozenset())])
async def test_a_decision_opens_the_door_with_the_grants_it_gives(
    store: MeetingStore, meeting: Meeting, clock: ManualClock, status: ConsentStatus, grants: frozenset[Grant]
) -> None:
    await _recorded(store, meeting, clock, 1, status=status)
    joined = await store.join(a_join(meeting, user(1), clock.now()))
    assert isinstance(joined, Joined)
    assert (joined.grants, joined.declined, joined.consent_version) == (grants, BOTH - grants, TEXT_VERSION)


async def test_the_latest_decision_counts(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    await _recorded(store, meeting, clock, 1)
    clock.advance(1)
    await _recorded(store, meeting, clock, 2, type=ConsentType.RECORDING, status=ConsentStatus.WITHDRAWN)
    joined = await store.join(a_join(meeting, user(1), clock.now()))
    assert isinstance(joined, Joined)
    assert (joined.grants, joined.declined) == (frozenset({Grant.AI}), frozenset({Grant.RECORDING}))


async def test_another_users_decision_opens_nothing(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    await _recorded(store, meeting, clock, 1)
    assert isinstance(await store.join(a_join(meeting, user(2), clock.now())), Refused)


async def test_the_hosts_first_place_comes_before_any_decision_and_without_grants(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    joined = await store.join(a_join(meeting, HOST, clock.now(), require_consent=False))
    assert isinstance(joined, Joined)
    assert (joined.grants, joined.declined, joined.consent_version) == (frozenset(), BOTH, None)


async def test_a_room_that_asks_nothing_has_no_consent_version(store: MeetingStore, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now())
    await store.create(meeting)
    await store.record_consent(a_consent(meeting, user(1), clock.now()))
    joined = await store.join(a_join(meeting, user(1), clock.now()))
    assert isinstance(joined, Joined)
    assert (joined.grants, joined.declined, joined.consent_version) == (frozenset(), frozenset(), None)


async def test_the_chain_survives_another_time_zone(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    from_afar = replace(
        a_consent(meeting, user(1), clock.now()), now=clock.now().astimezone(timezone(timedelta(hours=3)))
    )
    await store.record_consent(from_afar)
    chain = await store.consents(meeting.id)
    assert broken_link(chain) is None
    assert chain[0].timestamp.utcoffset() == timedelta(0)
