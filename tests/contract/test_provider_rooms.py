"""Port `MeetingStore`: what is kept of a meeting whose media is another provider's."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.meetings import Meeting
from conference.ports.meetings import Ended, MeetingStore
from conference.ports.stores import Stores
from tests.support.meetings import HOST, a_meeting, seated, user

pytestmark = pytest.mark.contract


@pytest.fixture
def store(stores: Stores) -> MeetingStore:
    return stores.meetings


@pytest.fixture
async def meeting(store: MeetingStore, clock: ManualClock) -> Meeting:
    stored = await store.create(replace(a_meeting(clock.now()), provider_room="99445276259151407"))
    assert isinstance(stored, Meeting)
    return stored


async def test_the_providers_room_is_kept_with_the_meeting(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    await seated(store, meeting, HOST, clock.now())
    changed = await store.change_settings(meeting.id, meeting.settings, expected_version=2, now=clock.now())
    ended = await store.end(meeting.id, by=HOST, now=clock.now())
    assert isinstance(changed, Meeting)
    assert isinstance(ended, Ended)
    read = await store.get(meeting.id)
    rooms = {found.provider_room for found in (meeting, changed, ended.meeting, read) if found is not None}
    assert rooms == {"99445276259151407"}


async def test_a_meeting_of_our_own_has_none(store: MeetingStore, clock: ManualClock) -> None:
    stored = await store.create(a_meeting(clock.now(), 2))
    assert isinstance(stored, Meeting)
    assert stored.provider_room is None


async def test_the_first_name_of_a_user_counts(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    other = await store.create(a_meeting(clock.now(), 2))
    assert isinstance(other, Meeting)
    assert await store.provider_identity(meeting.id, HOST) is None
    assert await store.bind_provider_identity(meeting.id, HOST, "8:acs:one_first") == "8:acs:one_first"
    assert await store.bind_provider_identity(meeting.id, HOST, "8:acs:one_second") == "8:acs:one_first"
    assert await store.provider_identity(meeting.id, HOST) == "8:acs:one_first"
    assert await store.provider_identity(meeting.id, user(1)) is None
    assert await store.provider_identity(other.id, HOST) is None


async def test_of_names_that_come_at_once_one_counts(store: MeetingStore, meeting: Meeting) -> None:
    names = [f"8:acs:{number}" for number in range(10)]
    counted = await asyncio.gather(*(store.bind_provider_identity(meeting.id, user(1), name) for name in names))
    assert len(set(counted)) == 1
    assert await store.provider_identity(meeting.id, user(1)) == counted[0]


async def test_the_names_go_with_the_meeting(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    await store.bind_provider_identity(meeting.id, HOST, "8:acs:one")
    await store.end(meeting.id, by=HOST, now=clock.now())
    assert await store.delete_ended_before(clock.now() + timedelta(days=1)) == [meeting.id]
    assert await store.provider_identity(meeting.id, HOST) is None
