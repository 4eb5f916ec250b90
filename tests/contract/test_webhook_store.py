"""Port `WebhookStore`: endpoints by version, streams by lease, the log by time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.errors import ProtocolError, Refused
from conference.domain.ids import MeetingId, TenantId
from conference.domain.meetings import Meeting
from conference.domain.records import EventType
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import (
    AttemptOutcome,
    PauseReason,
    SealedSecret,
    WebhookEndpoint,
    WebhookStatus,
)
from conference.ports.stores import Stores
from conference.ports.webhooks import Offer, StreamLease, WebhookStore
from tests.support.meetings import HOST, TENANT, a_meeting, uuid_of
from tests.support.webhooks import an_attempt, an_endpoint, webhook_id

pytestmark = pytest.mark.contract
OTHER_TENANT = TenantId("22222222-2222-4222-8222-222222222222")
HOLD_S = 60.0


@pytest.fixture
def webhooks(stores: Stores) -> WebhookStore:
    return stores.webhooks


async def _created(store: WebhookStore, endpoint: WebhookEndpoint, most: int = 20) -> WebhookEndpoint:
    created = await store.create(endpoint, fingerprint="", most=most)
    assert isinstance(created, WebhookEndpoint), created
    return created


async def _rooms(stores: Stores, now: datetime, count: int = 1) -> list[Meeting]:
    rooms = [a_meeting(now, number) for number in range(1, count + 1)]
    for room in rooms:
        await stores.meetings.create(room)
    return rooms


async def _offered(stores: Stores, now: datetime, *numbers: int) -> tuple[WebhookEndpoint, Meeting]:
    """An endpoint and a room, and these numbers of it on their way."""
    endpoint = await _created(stores.webhooks, an_endpoint(now))
    (room,) = await _rooms(stores, now)
    for number in numbers:
        await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, number)], now)
    return endpoint, room


async def _claimed(
    store: WebhookStore, now: datetime, *, limit: int = 100, per_endpoint: int = 100
) -> list[StreamLease]:
    return list(await store.claim(now, limit=limit, per_endpoint=per_endpoint, hold_s=HOLD_S))


# --- endpoints ---


async def test_an_endpoint_is_given_back_as_it_was_stored(webhooks: WebhookStore, clock: ManualClock) -> None:
    former = SealedSecret("r", "v1.former", clock.now(), clock.now() + timedelta(hours=1))
    endpoint = an_endpoint(
        clock.now(),
        events=(EventType.MEETING_ENDED, EventType.RECORDING_READY),
        description="ä €",
        secrets=(SealedSecret("q", "v1.newest", clock.now()), former),
        status=WebhookStatus.PAUSED,
        pause_reason=PauseReason.DEAD_EVENT,
        paused_at=clock.now(),
    )
    assert await _created(webhooks, endpoint) == endpoint
    assert await webhooks.get(TENANT, endpoint.id) == endpoint
    assert await webhooks.get(OTHER_TENANT, endpoint.id) is None
    assert await webhooks.get(TENANT, webhook_id(9)) is None


async def test_a_retry_finds_its_endpoint_and_another_request_is_a_conflict(
    webhooks: WebhookStore, clock: ManualClock
) -> None:
    endpoint = an_endpoint(clock.now())
    first = await webhooks.create(endpoint, fingerprint="a", most=1)
    again = await webhooks.create(replace(endpoint, secrets=()), fingerprint="a", most=1)
    assert first == again == endpoint
    assert await webhooks.create(endpoint, fingerprint="b", most=1) == Refused("idempotency-conflict")


async def test_a_tenant_has_so_many_endpoints_and_sees_its_own_in_order(
    webhooks: WebhookStore, clock: ManualClock
) -> None:
    theirs = await _created(webhooks, an_endpoint(clock.now(), 7, tenant_id=OTHER_TENANT))
    ours = [await _created(webhooks, an_endpoint(clock.advance(1), number), most=3) for number in (3, 1, 2)]
    fourth = await webhooks.create(an_endpoint(clock.now(), 4), fingerprint="", most=3)
    assert fourth == Refused("too-many-webhooks")
    assert list(await webhooks.of_tenant(TENANT)) == ours
    assert list(await webhooks.of_tenant(OTHER_TENANT)) == [theirs]


async def test_a_change_needs_the_version_that_was_read(webhooks: WebhookStore, clock: ManualClock) -> None:
    endpoint = await _created(webhooks, an_endpoint(clock.now()))
    changed = await webhooks.change(replace(endpoint, url="https://elsewhere.example.com/"))
    assert changed == replace(endpoint, url="https://elsewhere.example.com/", version=2)
    assert await webhooks.get(TENANT, endpoint.id) == changed
    assert await webhooks.change(replace(endpoint, url="https://lost.example.com/")) == Refused("precondition-failed")
    assert await webhooks.change(replace(endpoint, tenant_id=OTHER_TENANT)) == Refused("not-found")
    assert await webhooks.change(an_endpoint(clock.now(), 9)) == Refused("not-found")
    assert await webhooks.get(TENANT, endpoint.id) == changed


async def test_of_concurrent_changes_one_wins(webhooks: WebhookStore, clock: ManualClock) -> None:
    endpoint = await _created(webhooks, an_endpoint(clock.now()))
    changes = (webhooks.change(replace(endpoint, description=str(number))) for number in range(8))
    answers = await asyncio.gather(*changes)
    assert sum(isinstance(answer, WebhookEndpoint) for answer in answers) == 1
    assert answers.count(Refused("precondition-failed")) == 7


async def test_a_deleted_endpoint_takes_its_streams_and_attempts_along(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1, 2)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    following = Settlement(2, clock.now(), held_until=clock.now() + timedelta(seconds=HOLD_S))
    assert await stores.webhooks.settle(lease, following, an_attempt(lease, clock.now()))
    assert not await stores.webhooks.delete(OTHER_TENANT, endpoint.id)
    assert await stores.webhooks.delete(TENANT, endpoint.id)
    assert not await stores.webhooks.delete(TENANT, endpoint.id)
    assert not await stores.webhooks.settle(lease, Settlement(3, None), an_attempt(lease, clock.now(), 2))
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 3)], clock.now())
    await stores.webhooks.rewind(TENANT, endpoint.id, room.id, from_seq=1, last_seq=3, now=clock.now())
    assert await _claimed(stores.webhooks, clock.advance(3_600)) == []
    assert (await stores.webhooks.attempts(endpoint.id, cursor=None, limit=10)).items == []


# --- streams ---


async def test_a_stream_begins_with_the_first_event_offered(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 3, 4, 6, 4)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert (lease.tenant_id, lease.endpoint_id, lease.meeting_id) == (TENANT, endpoint.id, room.id)
    assert (lease.next_seq, lease.last_seq, lease.attempts, lease.failing_since) == (3, 6, 0, None)


async def test_offers_of_many_rooms_and_endpoints_go_together(stores: Stores, clock: ManualClock) -> None:
    endpoints = [await _created(stores.webhooks, an_endpoint(clock.now(), number)) for number in (1, 2)]
    rooms = await _rooms(stores, clock.now(), 3)
    offers = [Offer(TENANT, endpoint.id, room.id, seq) for seq in (2, 3) for endpoint in endpoints for room in rooms]
    nowhere = [
        Offer(TENANT, webhook_id(9), rooms[0].id, 1),
        Offer(TENANT, endpoints[0].id, MeetingId(uuid_of(0xBBBB, 99)), 1),
    ]
    await stores.webhooks.offer([*nowhere, *offers], clock.now())
    await stores.webhooks.offer([], clock.now())
    leases = await _claimed(stores.webhooks, clock.now())
    expected = {(endpoint.id, room.id, 2, 3) for endpoint in endpoints for room in rooms}
    assert len(leases) == 6
    assert {(lease.endpoint_id, lease.meeting_id, lease.next_seq, lease.last_seq) for lease in leases} == expected


async def test_a_held_stream_is_claimed_by_nobody_until_its_hold_ends(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now())
    assert await _claimed(stores.webhooks, clock.advance(HOLD_S - 1)) == []
    (other,) = await _claimed(stores.webhooks, clock.advance(1))
    assert (other.next_seq, other.last_seq) == (1, 2)
    assert other.token != lease.token


async def test_only_the_latest_lease_settles(stores: Stores, clock: ManualClock) -> None:
    endpoint, _ = await _offered(stores, clock.now(), 1, 2)
    (stale,) = await _claimed(stores.webhooks, clock.now())
    (fresh,) = await _claimed(stores.webhooks, clock.advance(HOLD_S))
    assert not await stores.webhooks.settle(stale, Settlement(3, None), an_attempt(stale, clock.now()))
    assert await stores.webhooks.settle(fresh, Settlement(2, clock.now()), an_attempt(fresh, clock.now(), 2))
    assert not await stores.webhooks.settle(fresh, Settlement(3, None))  # it was given back
    (next_lease,) = await _claimed(stores.webhooks, clock.now())
    assert next_lease.next_seq == 2
    logged = await stores.webhooks.attempts(endpoint.id, cursor=None, limit=10)
    assert [attempt.id for attempt in logged.items] == [uuid_of(0xFFFF, 2)]


async def test_a_lease_that_nobody_took_over_still_settles_after_its_time(stores: Stores, clock: ManualClock) -> None:
    await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert await stores.webhooks.settle(lease, Settlement(2, clock.advance(HOLD_S + 1)))
    assert await _claimed(stores.webhooks, clock.now()) == []


async def test_a_kept_lease_goes_on_and_a_stream_with_nothing_left_is_idle(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1, 2)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    held_until = clock.advance(HOLD_S - 1) + timedelta(seconds=HOLD_S)
    assert await stores.webhooks.settle(lease, Settlement(2, clock.now(), held_until=held_until))
    assert await _claimed(stores.webhooks, clock.advance(HOLD_S - 1)) == []
    assert await stores.webhooks.settle(lease, Settlement(3, clock.now()))
    assert await _claimed(stores.webhooks, clock.advance(3_600)) == []
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now())  # told again: it was delivered
    assert await _claimed(stores.webhooks, clock.now()) == []
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 3)], clock.now())
    (again,) = await _claimed(stores.webhooks, clock.now())
    assert (again.next_seq, again.last_seq) == (3, 3)


async def test_an_event_that_comes_while_the_last_is_settled_is_not_forgotten(
    stores: Stores, clock: ManualClock
) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now())
    assert await stores.webhooks.settle(lease, Settlement(2, clock.now()))
    (again,) = await _claimed(stores.webhooks, clock.now())
    assert (again.next_seq, again.last_seq) == (2, 2)


async def test_a_failed_event_waits_for_its_time_and_newer_ones_behind_it(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    since = clock.now()
    retry = Settlement(1, since + timedelta(seconds=30), attempts=1, failing_since=since)
    assert await stores.webhooks.settle(lease, retry)
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now())
    assert await _claimed(stores.webhooks, clock.advance(29)) == []
    (again,) = await _claimed(stores.webhooks, clock.advance(1))
    assert (again.next_seq, again.last_seq, again.attempts, again.failing_since) == (1, 2, 1, since)


async def test_a_parked_stream_waits_for_a_wake_or_an_event(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    for rouse in (
        stores.webhooks.wake(endpoint.id, clock.now()),
        stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now()),
        None,
    ):
        (lease,) = await _claimed(stores.webhooks, clock.now())
        assert await stores.webhooks.settle(lease, Settlement(1, None, attempts=7, failing_since=clock.now()))
        assert await _claimed(stores.webhooks, clock.now() + timedelta(days=30)) == []
        if rouse is not None:
            await rouse


@pytest.mark.parametrize(("skip_dead", "goes_on_with"), [(False, 1), (True, 2)])
async def test_a_dead_event_is_tried_again_or_passed_over(
    stores: Stores, clock: ManualClock, skip_dead: bool, goes_on_with: int
) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1, 2)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    dead = Settlement(1, None, attempts=99, failing_since=clock.now(), dead=True)
    assert await stores.webhooks.settle(lease, dead)
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 3)], clock.now())
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert (lease.next_seq, lease.attempts, lease.failing_since, lease.dead) == (1, 99, clock.now(), True)
    assert await stores.webhooks.settle(lease, dead)
    for _ in range(2):  # the second finds no dead event
        await stores.webhooks.wake(endpoint.id, clock.advance(60), skip_dead=skip_dead)
    (again,) = await _claimed(stores.webhooks, clock.now())
    assert (again.next_seq, again.attempts, again.failing_since, again.dead) == (goes_on_with, 0, None, False)


async def test_a_dead_event_that_was_the_last_leaves_nothing_when_passed_over(
    stores: Stores, clock: ManualClock
) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert await stores.webhooks.settle(lease, Settlement(1, None, dead=True))
    await stores.webhooks.wake(endpoint.id, clock.now(), skip_dead=True)
    assert await _claimed(stores.webhooks, clock.now()) == []
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 2)], clock.now())
    assert [lease.next_seq for lease in await _claimed(stores.webhooks, clock.now())] == [2]


async def test_a_wake_makes_waiting_streams_due_and_leaves_held_idle_and_foreign_ones(
    stores: Stores, clock: ManualClock
) -> None:
    ours, theirs = [await _created(stores.webhooks, an_endpoint(clock.now(), number)) for number in (1, 2)]
    waiting, held, idle = await _rooms(stores, clock.now(), 3)
    for endpoint in (ours, theirs):
        for room in (waiting, held, idle):
            await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 1)], clock.now())
    later = clock.now() + timedelta(hours=1)
    for lease in await _claimed(stores.webhooks, clock.now()):
        if lease.meeting_id == idle.id:
            await stores.webhooks.settle(lease, Settlement(2, None))
        elif lease.meeting_id == waiting.id:
            await stores.webhooks.settle(lease, Settlement(1, later, attempts=3, failing_since=clock.now()))
    await stores.webhooks.wake(ours.id, clock.advance(1))
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert (lease.endpoint_id, lease.meeting_id, lease.attempts) == (ours.id, waiting.id, 0)


async def test_a_rewind_goes_back_and_nobody_sends_beside_whoever_is_sending(
    stores: Stores, clock: ManualClock
) -> None:
    endpoint, room = await _offered(stores, clock.now(), 5)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    await stores.webhooks.rewind(TENANT, endpoint.id, room.id, from_seq=2, last_seq=4, now=clock.now())
    assert not await stores.webhooks.settle(lease, Settlement(6, None))
    assert await _claimed(stores.webhooks, clock.advance(HOLD_S - 1)) == []
    (again,) = await _claimed(stores.webhooks, clock.advance(1))
    assert (again.next_seq, again.last_seq, again.attempts) == (2, 5, 0)


async def test_a_rewind_makes_a_stream_where_there_was_none(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now())
    await stores.webhooks.rewind(TENANT, endpoint.id, room.id, from_seq=2, last_seq=4, now=clock.now())
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert (lease.next_seq, lease.last_seq) == (2, 4)


async def test_a_room_that_does_not_exist_or_was_deleted_has_no_stream(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    nowhere = MeetingId(uuid_of(0xBBBB, 99))
    await stores.webhooks.offer([Offer(TENANT, endpoint.id, nowhere, 1)], clock.now())
    await stores.webhooks.rewind(TENANT, endpoint.id, nowhere, from_seq=1, last_seq=1, now=clock.now())
    (lease,) = await _claimed(stores.webhooks, clock.now())
    assert lease.meeting_id == room.id
    await stores.meetings.end(room.id, by=HOST, now=clock.advance(1))
    assert await stores.meetings.delete_ended_before(clock.advance(1)) == [room.id]
    assert not await stores.webhooks.settle(lease, Settlement(2, None))
    assert await _claimed(stores.webhooks, clock.advance(3_600)) == []


async def test_a_claim_takes_no_more_than_its_limit_the_longest_due_first(stores: Stores, clock: ManualClock) -> None:
    endpoint = await _created(stores.webhooks, an_endpoint(clock.now()))
    rooms = await _rooms(stores, clock.now(), 5)
    for room in reversed(rooms):
        await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, 1)], clock.advance(1))
    batches = [await _claimed(stores.webhooks, clock.now(), limit=2) for _ in range(3)]
    order = [lease.meeting_id for batch in batches for lease in batch]
    assert order == [room.id for room in reversed(rooms)]
    assert [len(batch) for batch in batches] == [2, 2, 1]


async def test_one_endpoint_holds_no_more_than_its_share(stores: Stores, clock: ManualClock) -> None:
    busy, other = [await _created(stores.webhooks, an_endpoint(clock.now(), number)) for number in (1, 2)]
    rooms = await _rooms(stores, clock.now(), 6)
    for room in rooms:
        await stores.webhooks.offer([Offer(TENANT, busy.id, room.id, 1)], clock.now())
    await stores.webhooks.offer([Offer(TENANT, other.id, rooms[0].id, 1)], clock.advance(1))
    first = await _claimed(stores.webhooks, clock.now(), per_endpoint=2)
    assert sorted(lease.endpoint_id for lease in first) == [busy.id, busy.id, other.id]
    assert await _claimed(stores.webhooks, clock.now(), per_endpoint=2) == []
    await stores.webhooks.settle(first[0], Settlement(2, None))
    second = await _claimed(stores.webhooks, clock.now(), per_endpoint=2)
    assert [lease.endpoint_id for lease in second] == [busy.id]


async def test_what_waits_for_an_endpoint_that_has_its_share_hides_no_other(stores: Stores, clock: ManualClock) -> None:
    busy, other = [await _created(stores.webhooks, an_endpoint(clock.now(), number)) for number in (1, 2)]
    rooms = await _rooms(stores, clock.now(), 8)
    await stores.webhooks.offer([Offer(TENANT, busy.id, room.id, 1) for room in rooms], clock.now())
    await stores.webhooks.offer([Offer(TENANT, other.id, room.id, 1) for room in rooms], clock.advance(1))
    first = await _claimed(stores.webhooks, clock.now(), limit=3, per_endpoint=2)
    assert sorted(lease.endpoint_id for lease in first) == [busy.id, busy.id, other.id]
    assert len(await _claimed(stores.webhooks, clock.now(), limit=1, per_endpoint=2)) == 1
    assert await _claimed(stores.webhooks, clock.now(), limit=3, per_endpoint=2) == []


async def test_instances_that_claim_at_once_get_no_stream_twice(
    twins: tuple[Stores, Stores], clock: ManualClock
) -> None:
    endpoint = await _created(twins[0].webhooks, an_endpoint(clock.now()))
    for room in await _rooms(twins[0], clock.now(), 20):
        await twins[0].webhooks.offer([Offer(TENANT, endpoint.id, room.id, 1)], clock.now())
    claims: Sequence[list[StreamLease]] = await asyncio.gather(
        *(_claimed(twins[number % 2].webhooks, clock.now(), limit=5) for number in range(8))
    )
    claimed = [lease.meeting_id for leases in claims for lease in leases]
    assert len(claimed) == len(set(claimed))
    rest = await _claimed(twins[0].webhooks, clock.now())
    assert len(claimed) + len(rest) == 20


async def test_concurrent_offers_and_settlements_lose_no_event(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    sent: list[int] = []

    async def offers() -> None:
        for number in range(2, 21):
            await stores.webhooks.offer([Offer(TENANT, endpoint.id, room.id, number)], clock.now())

    async def sends() -> None:
        while not sent or sent[-1] < 20:
            for lease in await _claimed(stores.webhooks, clock.now()):
                sent.append(lease.next_seq)
                assert await stores.webhooks.settle(lease, Settlement(lease.next_seq + 1, clock.now()))

    await asyncio.wait_for(asyncio.gather(offers(), sends(), sends()), 60)
    assert sent == list(range(1, 21))


# --- the log ---


async def test_attempts_are_listed_newest_first_by_pages(stores: Stores, clock: ManualClock) -> None:
    endpoint, room = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    held_until = clock.now() + timedelta(seconds=HOLD_S)
    logged = [
        an_attempt(lease, clock.advance(1 if number % 2 else 0), number, outcome=outcome, status=status, error=error)
        for number, (outcome, status, error) in enumerate(
            [
                (AttemptOutcome.FAILED, None, "timeout"),
                (AttemptOutcome.FAILED, 503, None),
                (AttemptOutcome.DEAD, None, "tls-failed"),
                (AttemptOutcome.DELIVERED, 204, None),
                (AttemptOutcome.DELIVERED, 200, None),
            ]
        )
    ]
    for attempt in logged:
        assert await stores.webhooks.settle(lease, Settlement(1, clock.now(), held_until=held_until), attempt)
    newest = sorted(logged, key=lambda attempt: (attempt.at, attempt.id), reverse=True)
    pages, cursor = [], None
    for _ in range(3):
        page = await stores.webhooks.attempts(endpoint.id, cursor=cursor, limit=2)
        pages.append(list(page.items))
        cursor = page.next_cursor
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert cursor is None
    of_room = await stores.webhooks.attempts(endpoint.id, meeting_id=room.id, cursor=None, limit=5)
    assert (list(of_room.items), of_room.next_cursor) == (newest, None)
    other = MeetingId(uuid_of(0xBBBB, 2))
    assert (await stores.webhooks.attempts(endpoint.id, meeting_id=other, cursor=None, limit=5)).items == []
    assert (await stores.webhooks.attempts(webhook_id(9), cursor=None, limit=5)).items == []
    with pytest.raises(ProtocolError):
        await stores.webhooks.attempts(endpoint.id, cursor="made up", limit=5)


async def test_old_attempts_are_pruned_the_oldest_first(stores: Stores, clock: ManualClock) -> None:
    endpoint, _ = await _offered(stores, clock.now(), 1)
    (lease,) = await _claimed(stores.webhooks, clock.now())
    held_until = clock.now() + timedelta(seconds=HOLD_S)
    for number in range(5):
        attempt = an_attempt(lease, clock.advance(1), number)
        assert await stores.webhooks.settle(lease, Settlement(1, clock.now(), held_until=held_until), attempt)
    assert await stores.webhooks.prune(clock.now(), limit=3) == 3
    assert await stores.webhooks.prune(clock.now(), limit=3) == 1
    assert await stores.webhooks.prune(clock.now(), limit=3) == 0
    (left,) = (await stores.webhooks.attempts(endpoint.id, cursor=None, limit=5)).items
    assert left.at == clock.now()
