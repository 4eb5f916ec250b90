"""Delivery of events to webhooks in virtual time, over the memory adapters: the outbox, the relay, the timer."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import TenantId
from conference.domain.meetings import Meeting
from conference.domain.records import DomainEvent, EventType
from conference.domain.webhooks import GIVE_UP_AFTER, AttemptOutcome, PauseReason, WebhookEndpoint, WebhookStatus
from conference.ports.webhooks import WebhookAnswer
from functions.events import relay
from functions.upkeep import ATTEMPTS_KEPT, prune_webhooks
from functions.webhooks.delivery import HOLD_S, PER_ENDPOINT, STREAMS, deliver
from tests.support.meetings import HOST, TENANT, a_consent, a_meeting, user
from tests.support.waiting import eventually
from tests.support.webhooks import DOWN, OK, Receivers, an_endpoint

pytestmark = pytest.mark.unit
ADMINS = TenantId("5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60")  # the tenant of the fixture `admin`


@pytest.fixture
def receivers(stage: Any) -> Receivers:
    made: Receivers = stage.services.webhook_sender
    return made


async def subscribes(stage: Any, number: int = 1, **fields: Any) -> WebhookEndpoint:
    endpoint = an_endpoint(stage.clock.now(), number, **{"tenant_id": ADMINS, **fields})
    created = await stage.services.webhooks.create(endpoint, fingerprint="", most=20)
    assert isinstance(created, WebhookEndpoint)
    return created


async def begins(stage: Any, number: int = 1, decisions: int = 0) -> Meeting:
    """A room with one event of its creation and one a decision."""
    meeting = replace(a_meeting(stage.clock.now(), number), tenant_id=ADMINS)
    await stage.services.meetings.create(meeting)
    for index in range(decisions):
        await decides(stage, meeting, index)
    return meeting


async def decides(stage: Any, meeting: Meeting, index: int) -> None:
    number = 1_000 * int(meeting.id[-4:], 16) + index
    await stage.services.meetings.record_consent(a_consent(meeting, user(index), stage.clock.now(), number))


async def runs(stage: Any) -> int:
    """What the timers do in their turn: relay, then deliver."""
    await relay(stage.services)
    return await deliver(stage.services)


async def passes(stage: Any, time: timedelta, step_s: float = 60.0) -> None:
    """Lets time pass, with the timers running on the way."""
    until = stage.clock.now() + time
    while stage.clock.now() < until:
        stage.clock.advance(step_s)
        await runs(stage)


async def endpoint_of(stage: Any, endpoint: WebhookEndpoint) -> WebhookEndpoint:
    stored = await stage.services.webhooks.get(endpoint.tenant_id, endpoint.id)
    assert stored is not None
    return stored  # type: ignore[no-any-return]


async def attempts_of(stage: Any, endpoint: WebhookEndpoint) -> list[Any]:
    """Oldest first."""
    page = await stage.services.webhooks.attempts(endpoint.id, cursor=None, limit=10_000)
    return list(reversed(page.items))


async def test_every_event_of_every_room_is_delivered_once_and_in_order(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    rooms = [await begins(stage, number, decisions=6) for number in (1, 2, 3)]
    assert await runs(stage) == 21
    assert await runs(stage) == 0
    assert receivers.numbers() == {room.id: list(range(1, 8)) for room in rooms}
    assert max(receivers.most_at_once[endpoint.url, room.id] for room in rooms) == 1
    delivered = await attempts_of(stage, endpoint)
    assert len(delivered) == 21
    assert {(attempt.outcome, attempt.status, attempt.attempt) for attempt in delivered} == {
        (AttemptOutcome.DELIVERED, 200, 1)
    }


async def test_a_delivery_carries_the_event_as_the_queue_has_it(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage)
    await runs(stage)
    (event,) = await stage.services.outbox.events(room.id)
    (sent,) = receivers.taken
    assert sent.event == event
    assert (sent.url, sent.headers["Content-Type"]) == (endpoint.url, "application/json")
    assert (sent.headers["Parley-Event-Id"], sent.headers["Parley-Event-Type"]) == (event.id, "RoomCreated")
    assert (sent.headers["Parley-Webhook-Id"], sent.headers["Parley-Attempt"]) == (endpoint.id, "1")


async def test_a_webhook_is_sent_the_types_it_wants_from_its_own_tenant(stage: Any, receivers: Receivers) -> None:
    ends = await subscribes(stage, 1, events=(EventType.MEETING_ENDED, EventType.ROOM_CREATED))
    await subscribes(stage, 2, tenant_id=TENANT)
    room = await begins(stage, decisions=3)
    await stage.services.meetings.end(room.id, by=HOST, now=stage.clock.advance(1))
    await runs(stage)
    assert receivers.numbers() == {room.id: [1, 5]}
    assert {delivery.url for delivery in receivers.deliveries} == {ends.url}


async def test_a_webhook_of_a_room_under_way_begins_with_what_comes_next(stage: Any, receivers: Receivers) -> None:
    room = await begins(stage, decisions=2)
    await runs(stage)
    await subscribes(stage)
    await decides(stage, room, 7)
    await runs(stage)
    assert receivers.numbers() == {room.id: [4]}


async def test_a_receiver_that_was_down_for_hours_gets_everything_in_order(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    other = await subscribes(stage, 2)
    down = True
    receivers.answer = lambda url, event: DOWN if down and url == endpoint.url else OK
    rooms = [await begins(stage, number) for number in range(1, 6)]
    for hour in range(9):
        for room in rooms:
            await decides(stage, room, hour)
        await passes(stage, timedelta(hours=1))
    assert receivers.numbers(endpoint.url) == {}
    assert receivers.numbers(other.url) == {room.id: list(range(1, 11)) for room in rooms}  # who is up waits for nobody
    down = False
    await passes(stage, timedelta(hours=1))
    assert receivers.numbers(endpoint.url) == {room.id: list(range(1, 11)) for room in rooms}
    assert (await endpoint_of(stage, endpoint)).status is WebhookStatus.ACTIVE
    failed = [attempt for attempt in await attempts_of(stage, endpoint) if attempt.outcome is AttemptOutcome.FAILED]
    assert {attempt.seq for attempt in failed} == {1}  # the newer ones waited behind it
    assert max(attempt.attempt for attempt in failed) < 30


async def test_a_flaky_receiver_gets_each_event_at_least_once_and_in_order(stage: Any, receivers: Receivers) -> None:
    """Each third answer is a failure, each fifth is lost on its way back: then the event was seen, and comes again."""
    await subscribes(stage)
    seen: list[int] = []
    count = 0

    def answer(url: str, event: DomainEvent) -> WebhookAnswer:
        nonlocal count
        count += 1
        if count % 3 == 0:
            return WebhookAnswer(503)
        seen.append(event.seq)
        return WebhookAnswer(None, "timeout") if count % 5 == 0 else OK

    receivers.answer = answer
    room = await begins(stage, decisions=30)
    await passes(stage, timedelta(minutes=30), step_s=5)
    assert receivers.numbers() == {room.id: list(range(1, 32))}
    assert sorted(set(seen)) == list(range(1, 32))
    assert seen == sorted(seen)
    assert 0 < len(seen) - len(set(seen)) <= count // 5


async def test_an_event_that_is_refused_for_three_days_is_dead_and_its_webhook_paused(
    stage: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: WebhookAnswer(500)
    room = await begins(stage, decisions=2)
    began = stage.clock.now()
    await passes(stage, GIVE_UP_AFTER + timedelta(minutes=2))
    tried = await attempts_of(stage, endpoint)
    assert {attempt.seq for attempt in tried} == {1}
    assert [attempt.outcome for attempt in tried] == [AttemptOutcome.FAILED] * (len(tried) - 1) + [AttemptOutcome.DEAD]
    assert [attempt.attempt for attempt in tried] == list(range(1, len(tried) + 1))
    assert {(attempt.status, attempt.error) for attempt in tried} == {(500, None)}
    assert timedelta() <= tried[-1].at - began - GIVE_UP_AFTER <= timedelta(minutes=2)
    paused = await endpoint_of(stage, endpoint)
    assert (paused.status, paused.pause_reason) == (WebhookStatus.PAUSED, PauseReason.DEAD_EVENT)
    assert paused.paused_at is not None
    sent = len(receivers.deliveries)
    await decides(stage, room, 9)
    await passes(stage, timedelta(hours=3))
    assert len(receivers.deliveries) == sent


@pytest.mark.parametrize(("skip_dead", "first"), [(False, 1), (True, 2)])
async def test_a_resumed_webhook_gets_all_that_waited(
    stage: Any, admin: Any, receivers: Receivers, skip_dead: bool, first: int
) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: DOWN
    room, other = [await begins(stage, number, decisions=2) for number in (1, 2)]
    await passes(stage, GIVE_UP_AFTER + timedelta(minutes=2))
    for each in (room, other):
        await decides(stage, each, 9)
    await runs(stage)
    receivers.answer = lambda url, event: OK
    answer = await admin.post(f"/v1/webhooks/{endpoint.id}/resume", {"skipDead": skip_dead})
    assert answer.json()["status"] == "active"
    await runs(stage)
    numbers = receivers.numbers()
    dead = {attempt.meeting_id for attempt in await attempts_of(stage, endpoint) if attempt.outcome == "dead"}
    assert dead
    for each in (room, other):
        assert numbers[each.id] == list(range(first if each.id in dead else 1, 5))


async def test_a_webhook_that_is_paused_while_it_is_sent_to_goes_on_where_it_stopped(
    stage: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage, decisions=5)

    def answer(url: str, event: DomainEvent) -> WebhookAnswer:
        if event.seq == 3:
            tasks.append(asyncio.ensure_future(_change(stage, endpoint, WebhookStatus.PAUSED)))
        return OK

    tasks: list[asyncio.Future[None]] = []
    receivers.answer = answer
    await runs(stage)
    assert receivers.numbers()[room.id][-1] in (3, 4)  # the one under way is finished
    stopped = len(receivers.taken)
    await passes(stage, timedelta(hours=2))
    assert len(receivers.taken) == stopped
    await _change(stage, endpoint, WebhookStatus.ACTIVE)
    await stage.services.webhooks.wake(endpoint.id, stage.clock.now())
    await runs(stage)
    assert receivers.numbers()[room.id] == list(range(1, 7))


async def test_a_webhook_that_is_resumed_soon_after_its_pause_goes_on_at_once(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage, decisions=2)

    async def pauses_once() -> None:
        receivers.pause = None
        await _change(stage, endpoint, WebhookStatus.PAUSED)

    receivers.pause = pauses_once
    await runs(stage)
    assert receivers.numbers() == {room.id: [1]}
    await _change(stage, endpoint, WebhookStatus.ACTIVE)
    await stage.services.webhooks.wake(endpoint.id, stage.clock.now())
    await runs(stage)
    assert receivers.numbers() == {room.id: [1, 2, 3]}


async def _change(stage: Any, endpoint: WebhookEndpoint, status: WebhookStatus) -> None:
    stored = await endpoint_of(stage, endpoint)
    changed = await stage.services.webhooks.change(replace(stored, status=status))
    assert not isinstance(changed, Refused)


async def test_a_resume_that_comes_between_the_look_and_the_parking_is_not_lost(
    stage: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage)
    await relay(stage.services)
    await _change(stage, endpoint, WebhookStatus.PAUSED)
    store = stage.services.webhooks
    settle = store.settle

    async def resumed_first(*given: Any) -> Any:
        store.settle = settle
        await _change(stage, endpoint, WebhookStatus.ACTIVE)
        await store.wake(endpoint.id, stage.clock.now())  # finds nothing: the stream is held
        return await settle(*given)

    store.settle = resumed_first
    await deliver(stage.services)
    assert receivers.numbers() == {room.id: [1]}


async def test_a_replay_sends_the_same_events_again_and_then_goes_on(
    stage: Any, admin: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage, decisions=4)
    await runs(stage)
    answer = await admin.post(f"/v1/webhooks/{endpoint.id}/replay", {"meetingId": room.id, "fromSeq": 3})
    assert (answer.status_code, answer.json()) == (202, {"meetingId": room.id, "fromSeq": 3, "toSeq": 5})
    await decides(stage, room, 9)
    await runs(stage)
    assert receivers.numbers() == {room.id: [1, 2, 3, 4, 5, 3, 4, 5, 6]}
    ids = [delivery.headers["Parley-Event-Id"] for delivery in receivers.taken]
    assert ids[2:5] == ids[5:8]


async def test_a_replay_while_an_event_is_under_way_lets_nobody_send_beside_it(
    stage: Any, admin: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    room = await begins(stage, decisions=2)
    await relay(stage.services)
    gate = asyncio.Event()
    receivers.pause = gate.wait  # type: ignore[assignment]
    first = asyncio.create_task(deliver(stage.services))
    await eventually(lambda: bool(receivers.deliveries))
    await admin.post(f"/v1/webhooks/{endpoint.id}/replay", {"meetingId": room.id, "fromSeq": 1})
    assert await deliver(stage.services) == 0
    gate.set()
    await first
    stage.clock.advance(HOLD_S)
    await deliver(stage.services)
    assert receivers.most_at_once[endpoint.url, room.id] == 1
    assert receivers.numbers() == {room.id: [1, 1, 2, 3]}


async def test_both_secrets_sign_until_the_former_ends(stage: Any, admin: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    await admin.post(f"/v1/webhooks/{endpoint.id}/secret")
    for advance in (0, 23 * 3_600, 3_600):
        stage.clock.advance(advance)
        await begins(stage, len(receivers.taken) + 1)
        await runs(stage)
    signed = [delivery.headers["Parley-Signature"].count("v1=") for delivery in receivers.taken]
    assert signed == [2, 2, 1]


async def test_a_changed_address_holds_for_what_waits(stage: Any, admin: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: OK if "moved" in url else DOWN
    room = await begins(stage, decisions=2)
    await runs(stage)
    change = {"url": "https://moved.example.com/", "events": ["RoomCreated", "MeetingEnded"]}
    assert (await admin.call("PATCH", f"/v1/webhooks/{endpoint.id}", change, If_Match="*")).status_code == 200
    await passes(stage, timedelta(minutes=1), step_s=5)
    assert receivers.numbers() == {room.id: [1]}


async def test_an_event_pays_for_no_failure_of_one_that_is_wanted_no_more(
    stage: Any, admin: Any, receivers: Receivers
) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: DOWN
    await begins(stage, decisions=1)
    await passes(stage, GIVE_UP_AFTER - timedelta(hours=2))
    change = {"events": ["ConsentRecorded"]}
    assert (await admin.call("PATCH", f"/v1/webhooks/{endpoint.id}", change, If_Match="*")).status_code == 200
    await passes(stage, timedelta(hours=6))
    of_second = [attempt for attempt in await attempts_of(stage, endpoint) if attempt.seq == 2]
    assert [attempt.attempt for attempt in of_second] == list(range(1, len(of_second) + 1))
    assert len(of_second) > 10
    assert {attempt.outcome for attempt in of_second} == {AttemptOutcome.FAILED}
    assert (await endpoint_of(stage, endpoint)).status is WebhookStatus.ACTIVE


async def test_a_deleted_webhook_is_sent_nothing_more(stage: Any, admin: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: DOWN
    await begins(stage)
    await runs(stage)
    assert (await admin.call("DELETE", f"/v1/webhooks/{endpoint.id}")).status_code == 204
    await passes(stage, timedelta(minutes=10))
    assert len(receivers.deliveries) == 1


async def test_slow_receivers_take_no_more_than_their_share(stage: Any, receivers: Receivers) -> None:
    slow, quick = await subscribes(stage, 1), await subscribes(stage, 2)
    rooms = [await begins(stage, number) for number in range(1, 2 * STREAMS + 1)]
    await relay(stage.services)
    gate = asyncio.Event()
    answers = receivers.send

    async def send(url: str, body: bytes, headers: Any) -> WebhookAnswer:
        if url == slow.url:
            await gate.wait()
        return await answers(url, body, headers)

    stage.change(webhook_sender=type("Sender", (), {"send": staticmethod(send)})())
    run = asyncio.create_task(deliver(stage.services))
    await eventually(lambda: len(receivers.numbers(quick.url)) == len(rooms))
    assert receivers.numbers(slow.url) == {}
    gate.set()
    await run
    while await deliver(stage.services):
        pass
    assert len(receivers.numbers(slow.url)) == len(rooms)
    assert receivers.most_at_once[slow.url] <= PER_ENDPOINT


async def test_two_instances_at_once_send_no_event_twice(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    rooms = [await begins(stage, number, decisions=9) for number in range(1, 13)]
    await relay(stage.services)
    await asyncio.gather(*(deliver(stage.services) for _ in range(3)))
    assert receivers.numbers() == {room.id: list(range(1, 11)) for room in rooms}
    assert max(receivers.most_at_once[endpoint.url, room.id] for room in rooms) == 1


async def test_an_instance_that_dies_before_it_has_said_so_sends_the_event_again(
    stage: Any, receivers: Receivers
) -> None:
    await subscribes(stage)
    room = await begins(stage, decisions=2)
    await relay(stage.services)
    store = stage.services.webhooks
    settle = store.settle

    async def away(*_: Any) -> bool:
        raise Unavailable("database")

    store.settle = away
    assert await deliver(stage.services) == 0
    store.settle = settle
    assert await deliver(stage.services) == 0  # still held
    stage.clock.advance(HOLD_S)
    assert await deliver(stage.services) == 3
    assert receivers.numbers() == {room.id: [1, 1, 2, 3]}


async def test_an_instance_that_stood_still_sends_nothing_beside_its_successor(
    stage: Any, receivers: Receivers
) -> None:
    await subscribes(stage)
    room = await begins(stage, decisions=1)
    await relay(stage.services)
    outbox = stage.services.outbox
    events = outbox.events

    async def late(*given: Any, **more: Any) -> Any:
        outbox.events = events
        stage.clock.advance(HOLD_S - 5)
        return await events(*given, **more)

    outbox.events = late
    assert await deliver(stage.services) == 0
    assert receivers.deliveries == []
    stage.clock.advance(5)
    assert await deliver(stage.services) == 2
    assert receivers.numbers() == {room.id: [1, 2]}


async def test_a_bug_in_one_turn_concerns_no_other_room(
    stage: Any, receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribes(stage)
    bad, good = [await begins(stage, number) for number in (1, 2)]

    def answer(url: str, event: DomainEvent) -> WebhookAnswer:
        if event.meeting_id == bad.id:
            raise ArithmeticError
        return OK

    receivers.answer = answer
    assert await runs(stage) == 1
    assert receivers.numbers() == {good.id: [1]}
    assert "a webhook's turn failed" in caplog.text


async def test_a_store_that_is_away_fails_the_run_and_the_relay_but_loses_nothing(
    stage: Any, receivers: Receivers
) -> None:
    await subscribes(stage)
    room = await begins(stage)
    store = stage.services.webhooks

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("database")

    for name in ("of_tenant", "offer", "claim"):
        method = getattr(store, name)
        setattr(store, name, away)
        with pytest.raises(Unavailable):
            await runs(stage)
        setattr(store, name, method)
        stage.clock.advance(31)  # the claim of the outbox is over
    await runs(stage)
    assert receivers.numbers() == {room.id: [1]}


async def test_a_long_run_ends_in_time_and_the_next_goes_on(stage: Any, receivers: Receivers) -> None:
    await subscribes(stage)
    room = await begins(stage, decisions=99)

    async def takes_a_while() -> None:
        stage.clock.advance(0.5)

    receivers.pause = takes_a_while
    assert 0 < await runs(stage) <= 41
    while await runs(stage):
        pass
    assert receivers.numbers() == {room.id: list(range(1, 101))}


async def test_rooms_that_retention_deleted_are_not_sent(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    receivers.answer = lambda url, event: DOWN
    room = await begins(stage)
    await runs(stage)
    await stage.services.meetings.end(room.id, by=HOST, now=stage.clock.now())
    await stage.services.meetings.delete_ended_before(stage.clock.advance(1))
    await passes(stage, timedelta(minutes=10))
    assert len(receivers.deliveries) == 1
    assert len(await attempts_of(stage, endpoint)) == 1  # the log outlives the room


async def test_old_attempts_are_pruned(stage: Any, receivers: Receivers) -> None:
    endpoint = await subscribes(stage)
    await begins(stage, 1)
    await runs(stage)
    stage.clock.advance(ATTEMPTS_KEPT.total_seconds() + 1)
    await begins(stage, 2)
    await runs(stage)
    assert await prune_webhooks(stage.services) == 1
    assert len(await attempts_of(stage, endpoint)) == 1
