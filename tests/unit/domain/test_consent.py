"""Consent: what is asked, what was decided, and a chain that shows every later change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.consent import (
    GENESIS,
    TEXT_VERSION,
    TEXTS,
    ConsentLog,
    ConsentStatus,
    ConsentType,
    Grant,
    broken_link,
    chain_hash,
    chained,
    consent_required,
    decided_version,
    decisions,
    granted,
    required_grants,
    undecided,
)
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, UserId
from conference.domain.meetings import MeetingSettings

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOTH = MeetingSettings(ai_enabled=True, is_recording_enabled=True)


def entry(
    type: ConsentType = ConsentType.RECORDING_AI, status: ConsentStatus = ConsentStatus.ACCEPTED, number: int = 1
) -> ConsentLog:
    at = NOW + timedelta(seconds=number)
    return ConsentLog(ConsentId(str(number)), MeetingId("m"), UserId("u"), None, type, status, TEXT_VERSION, at)


def linked(entries: list[ConsentLog]) -> list[ConsentLog]:
    chain: list[ConsentLog] = []
    for one in entries:
        chain.append(chained(one, chain[-1].hash if chain else GENESIS))
    return chain


# --- what a room asks ---


@pytest.mark.parametrize(
    ("settings", "grants"),
    [
        (MeetingSettings(), ()),
        (MeetingSettings(ai_enabled=True), (Grant.AI,)),
        (MeetingSettings(is_recording_enabled=True), (Grant.RECORDING,)),
        (BOTH, (Grant.RECORDING, Grant.AI)),
        (replace(BOTH, e2ee=True), ()),
    ],
)
def test_a_room_asks_for_what_its_settings_will_do(settings: MeetingSettings, grants: tuple[Grant, ...]) -> None:
    assert required_grants(settings) == grants
    needed = consent_required(settings)
    assert [(need.type, need.text, need.version) for need in needed] == [(g, TEXTS[g], TEXT_VERSION) for g in grants]


# --- what a person decided ---


def test_the_combined_type_decides_on_both() -> None:
    assert decisions([entry()]) == {Grant.RECORDING: ConsentStatus.ACCEPTED, Grant.AI: ConsentStatus.ACCEPTED}
    assert undecided([entry()], BOTH) == ()
    assert granted([entry()], BOTH) == {Grant.RECORDING, Grant.AI}


def test_a_withdrawal_is_a_decision_that_takes_the_grant_away() -> None:
    log = [entry(), entry(ConsentType.AI, ConsentStatus.WITHDRAWN, 2)]
    assert granted(log, BOTH) == {Grant.RECORDING}
    assert undecided(log, BOTH) == ()


def test_a_decline_is_a_decision_without_a_grant() -> None:
    log = [entry(status=ConsentStatus.DECLINED)]
    assert granted(log, BOTH) == frozenset()
    assert undecided(log, BOTH) == ()


def test_what_was_never_asked_is_neither_granted_nor_missing() -> None:
    assert granted([entry()], MeetingSettings()) == frozenset()
    assert undecided([], MeetingSettings()) == ()


def test_the_version_is_that_of_the_latest_decision() -> None:
    assert decided_version([]) is None
    assert decided_version([replace(entry(), text_version="old"), entry(number=2)]) == TEXT_VERSION


# --- the chain ---

ENTRIES = st.lists(
    st.builds(
        ConsentLog,
        id=st.text(max_size=8).map(ConsentId),
        meeting_id=st.just(MeetingId("m")),
        user_id=st.text(max_size=8).map(UserId),
        participant_id=st.none() | st.text(max_size=8).map(ParticipantId),
        consent_type=st.sampled_from(ConsentType),
        status=st.sampled_from(ConsentStatus),
        text_version=st.text(max_size=8),
        timestamp=st.datetimes(timezones=st.just(UTC)),
    ),
    min_size=1,
    max_size=6,
)
TAMPERINGS = st.sampled_from(
    [
        lambda e: replace(e, id=ConsentId(e.id + "x")),
        lambda e: replace(e, meeting_id=MeetingId("another")),
        lambda e: replace(e, user_id=UserId(e.user_id + "x")),
        lambda e: replace(e, participant_id=ParticipantId((e.participant_id or "") + "x")),
        lambda e: replace(
            e, consent_type=ConsentType.AI if e.consent_type is not ConsentType.AI else ConsentType.RECORDING
        ),
        lambda e: replace(
            e, status=ConsentStatus.DECLINED if e.status is ConsentStatus.ACCEPTED else ConsentStatus.ACCEPTED
        ),
        lambda e: replace(e, text_version=e.text_version + "x"),
        lambda e: replace(e, timestamp=e.timestamp.replace(microsecond=(e.timestamp.microsecond + 1) % 1_000_000)),
        lambda e: replace(e, previous_hash="f" * 64),
        lambda e: replace(e, hash="0" * 64),
    ]
)


@given(ENTRIES)
def test_an_appended_chain_is_sound(entries: list[ConsentLog]) -> None:
    assert broken_link(linked(entries)) is None


@given(ENTRIES, st.data())
def test_a_changed_entry_breaks_the_chain_where_it_stands(entries: list[ConsentLog], data: st.DataObject) -> None:
    chain = linked(entries)
    index = data.draw(st.integers(0, len(chain) - 1))
    chain[index] = data.draw(TAMPERINGS)(chain[index])
    assert broken_link(chain) == index


@given(ENTRIES, st.data())
def test_an_entry_whose_hash_was_made_to_fit_breaks_the_next(entries: list[ConsentLog], data: st.DataObject) -> None:
    chain = linked([*entries, entry()])
    index = data.draw(st.integers(0, len(chain) - 2))
    forged = replace(chain[index], user_id=UserId(chain[index].user_id + "x"))
    chain[index] = replace(forged, hash=chain_hash(forged))
    assert broken_link(chain) == index + 1


@given(ENTRIES, st.data())
def test_a_missing_entry_breaks_the_chain(entries: list[ConsentLog], data: st.DataObject) -> None:
    chain = linked([*entries, entry()])
    index = data.draw(st.integers(0, len(chain) - 2))
    del chain[index]
    assert broken_link(chain) == index


def test_swapped_entries_break_the_chain() -> None:
    first, second = linked([entry(), entry(number=2)])
    assert broken_link([second, first]) == 0


def test_an_empty_chain_is_sound() -> None:
    assert broken_link([]) is None


def test_the_hash_is_of_the_instant_not_of_its_zone() -> None:
    here = entry()
    there = replace(here, timestamp=here.timestamp.astimezone(timezone(timedelta(hours=3))))
    assert chain_hash(there) == chain_hash(here)


def test_the_hash_never_changes_between_versions_of_this_program() -> None:
    assert chain_hash(entry()) == "cc9e3a8089430e1a576626ee06c50de96761ef6b9997cbfeb25b76919f1f18ae"
