"""Meeting passwords: the parameters that are promised, and the bound on what runs and waits."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from conference.adapters.argon2 import Argon2Hasher
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret

pytestmark = pytest.mark.unit


@pytest.fixture
def hasher() -> Iterator[Argon2Hasher]:
    hasher = Argon2Hasher()
    yield hasher
    hasher.close()


async def test_a_password_matches_its_own_hash_only(hasher: Argon2Hasher) -> None:
    hashed = await hasher.hash(Secret("correct horse"))
    assert await hasher.verify(hashed, Secret("correct horse"))
    assert not await hasher.verify(hashed, Secret("Correct horse"))
    assert not await hasher.verify(hashed, Secret(""))


async def test_the_hash_is_argon2id_with_19_mib_two_passes_and_one_lane(hasher: Argon2Hasher) -> None:
    assert (await hasher.hash(Secret("password"))).reveal().startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_two_hashes_of_one_password_differ(hasher: Argon2Hasher) -> None:
    assert await hasher.hash(Secret("password")) != await hasher.hash(Secret("password"))


async def test_a_damaged_hash_is_an_error_and_not_a_wrong_password(hasher: Argon2Hasher) -> None:
    with pytest.raises(ValueError, match="hash"):
        await hasher.verify(Secret("$argon2id$damaged"), Secret("password"))


class _Gate:
    """Work that counts how much of it runs at once, until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.two_run = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def work(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == 2:
                self.two_run.set()
        self.open.wait(timeout=10)
        with self._lock:
            self.running -= 1


async def test_two_run_at_once_also_when_requests_are_cancelled() -> None:
    hasher, gate = Argon2Hasher(at_once=2, max_waiting=8), _Gate()
    first = [asyncio.create_task(hasher._run(gate.work)) for _ in range(2)]
    assert await asyncio.to_thread(gate.two_run.wait, 10)
    for task in first:
        task.cancel()
    await asyncio.gather(*first, return_exceptions=True)
    later = [asyncio.create_task(hasher._run(gate.work)) for _ in range(4)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(*later)
    hasher.close()
    assert gate.most == 2


async def test_what_waits_is_bounded() -> None:
    hasher, gate = Argon2Hasher(at_once=1, max_waiting=1), _Gate()
    tasks = [asyncio.create_task(hasher._run(gate.work)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await hasher.hash(Secret("password"))
    gate.open.set()
    await asyncio.gather(*tasks)
    hasher.close()
