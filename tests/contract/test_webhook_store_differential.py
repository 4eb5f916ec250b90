"""Generated operations on the webhooks of each store, and on those in memory: the same leases, the same log.

In Cosmos DB also while each write may meet a fault that passes: nothing is done twice, and nothing is left out."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.domain.ids import MeetingId
from conference.domain.webhook_streams import Settlement
from conference.ports.stores import Stores
from conference.ports.webhooks import Offer, StreamLease
from local.cosmos.faults import Fault, Kind
from tests.support.cosmos import RunningCosmos, stores_over
from tests.support.meetings import TENANT, a_meeting
from tests.support.webhooks import an_attempt, an_endpoint, webhook_id

pytestmark = pytest.mark.contract
STEPS = 150
HOLD_S = 60.0
ENDPOINTS, ROOMS = 2, 3
PASSING: tuple[Kind, ...] = ("lose-answer", "unavailable", "throttle")


class Both:
    """The same operations on two stores, whose answers have to be the same; `cosmos` makes faults."""

    def __init__(self, stores: Stores, random: Random, cosmos: RunningCosmos | None = None) -> None:
        self._random = random
        self._cosmos = cosmos
        self._stores = (memory_stores(SequenceIds(1)), stores)
        self._clock = ManualClock()
        self._leases: list[tuple[StreamLease, StreamLease]] = []
        self._ids = [webhook_id(number) for number in range(ENDPOINTS)]
        self._rooms = [a_meeting(self._clock.now(), number) for number in range(ROOMS)]
        self._logged = 0

    async def begin(self) -> None:
        for stores in self._stores:
            for number in range(ENDPOINTS):
                await stores.webhooks.create(an_endpoint(self._clock.now(), number), fingerprint="", most=ENDPOINTS)
            for room in self._rooms:
                await stores.meetings.create(room)

    async def step(self) -> None:
        self._clock.advance(self._random.choice((0, 1, 30)))
        if self._cosmos is not None:
            kind, on = self._random.choice(PASSING), self._random.choice(("write", "batch"))
            self._cosmos.server.faults.clear()
            self._cosmos.server.faults.switch_on(Fault(kind, 1, frozenset({on}), container="webhook-streams"))
        some = (
            self._offer,
            self._offer,
            self._claim,
            self._claim,
            self._settle,
            self._settle,
            self._rewind,
            self._wake,
        )
        await self._random.choice(some)()

    async def compare(self) -> None:
        """All that is left, and the log."""
        if self._cosmos is not None:
            self._cosmos.server.faults.clear()
        for endpoint_id in self._ids:
            one, other = [
                await stores.webhooks.attempts(endpoint_id, cursor=None, limit=999) for stores in self._stores
            ]
            assert list(one.items) == list(other.items)
        self._clock.advance(3 * HOLD_S)
        assert await self._claim() <= ENDPOINTS * ROOMS

    def _place(self) -> tuple[int, MeetingId]:
        return self._random.randrange(ENDPOINTS), self._random.choice(self._rooms).id

    async def _offer(self) -> None:
        number, room = self._place()
        offers = [Offer(TENANT, webhook_id(number), room, self._random.randint(1, 9)) for _ in range(2)]
        for stores in self._stores:
            await stores.webhooks.offer(offers, self._clock.now())

    async def _claim(self) -> int:
        claimed: list[Sequence[StreamLease]] = []
        for stores in self._stores:
            leases = await stores.webhooks.claim(self._clock.now(), limit=100, per_endpoint=100, hold_s=HOLD_S)
            claimed.append(sorted(leases, key=lambda lease: (lease.endpoint_id, lease.meeting_id)))
        one, other = claimed
        assert [replace(lease, token="") for lease in one] == [replace(lease, token="") for lease in other]
        self._leases += zip(one, other, strict=True)
        return len(one)

    async def _settle(self) -> None:
        if not self._leases:
            return
        pair = self._random.choice(self._leases[-ENDPOINTS * ROOMS :])
        now, later = self._clock.now(), self._clock.now() + timedelta(seconds=self._random.choice((0, 30, 300)))
        settlement = self._random.choice(
            (
                Settlement(pair[0].next_seq + 1, now),
                Settlement(pair[0].next_seq + 1, now, held_until=now + timedelta(seconds=HOLD_S)),
                Settlement(pair[0].next_seq, later, attempts=pair[0].attempts + 1, failing_since=now),
                Settlement(pair[0].next_seq, None, dead=True),
            )
        )
        self._logged += 1
        attempt = an_attempt(pair[0], now, self._logged) if self._random.random() < 0.7 else None
        one, other = [
            await stores.webhooks.settle(lease, settlement, attempt)
            for stores, lease in zip(self._stores, pair, strict=True)
        ]
        assert one == other

    async def _rewind(self) -> None:
        number, room = self._place()
        first, now = self._random.randint(1, 9), self._clock.now()
        last = self._random.randint(first, 9)
        for stores in self._stores:
            await stores.webhooks.rewind(TENANT, webhook_id(number), room, from_seq=first, last_seq=last, now=now)

    async def _wake(self) -> None:
        number, skip = self._random.randrange(ENDPOINTS), self._random.random() < 0.5
        for stores in self._stores:
            await stores.webhooks.wake(webhook_id(number), self._clock.now(), skip_dead=skip)


@pytest.mark.parametrize("seed", range(2))
async def test_every_store_does_as_the_one_in_memory(stores: Stores, seed: int) -> None:
    both = Both(stores, Random(seed))
    await both.begin()
    for _ in range(STEPS):
        await both.step()
    await both.compare()


@pytest.mark.parametrize("seed", range(4))
async def test_faults_that_pass_change_nothing(cosmos: RunningCosmos, seed: int) -> None:
    async with AsyncExitStack() as stack:
        database = cosmos.open()
        stack.push_async_callback(database.close)
        both = Both(stores_over(database, SequenceIds(2)), Random(100 + seed), cosmos)
        await both.begin()
        for _ in range(STEPS):
            await both.step()
        assert cosmos.server.faults.met > STEPS / 4
        await both.compare()
