"""Repetition of calls: how often, how long, and what is never done twice."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from conference.adapters.retries import Failure, Retries
from conference.domain.errors import Unavailable

pytestmark = pytest.mark.unit
QUICK = Retries(attempt_s=0.05, total_s=1.0, base_s=0.001, wait_s=0.01)


class Broken(Exception):
    def __init__(self, failure: Failure | None) -> None:
        self.failure = failure


def judge(error: Exception) -> Failure | None:
    return error.failure if isinstance(error, Broken) else None


def failing(*failures: Failure | None) -> tuple[list[int], Callable[[], Awaitable[str]]]:
    """A call that fails so and then succeeds; the list grows with each call."""
    calls: list[int] = []

    async def call() -> str:
        calls.append(1)
        if len(calls) <= len(failures):
            raise Broken(failures[len(calls) - 1])
        return "done"

    return calls, call


async def test_what_fails_is_tried_again() -> None:
    calls, call = failing(Failure(), Failure(untouched=True))
    assert await QUICK.run("it", call, judge) == "done"
    assert len(calls) == 3


async def test_the_attempts_are_bounded_and_the_last_error_is_the_cause() -> None:
    calls, call = failing(*[Failure(after_s=0.001)] * 9)
    with pytest.raises(Unavailable) as refused:
        await QUICK.run("it", call, judge)
    assert len(calls) == QUICK.attempts
    assert isinstance(refused.value.__cause__, Broken)
    assert (refused.value.what, refused.value.retryable, refused.value.after_s) == ("it", True, 0.001)


async def test_what_may_have_been_done_is_not_repeated() -> None:
    calls, call = failing(Failure())
    with pytest.raises(Unavailable):
        await QUICK.run("it", call, judge, repeatable=False)
    assert len(calls) == 1
    untouched, call = failing(Failure(untouched=True))
    assert await QUICK.run("it", call, judge, repeatable=False) == "done"
    assert len(untouched) == 2


async def test_a_refusal_is_not_repeated() -> None:
    calls, call = failing(Failure(retryable=False))
    with pytest.raises(Unavailable) as refused:
        await QUICK.run("it", call, judge)
    assert (len(calls), refused.value.retryable, refused.value.after_s) == (1, False, None)


async def test_what_the_judge_raises_goes_on_in_its_place() -> None:
    def strict(error: Exception) -> Failure | None:
        raise Unavailable("the sign-in") from error

    calls, call = failing(Failure())
    with pytest.raises(Unavailable, match="the sign-in is unavailable") as refused:
        await QUICK.run("it", call, strict)
    assert len(calls) == 1
    assert isinstance(refused.value.__cause__, Broken)


async def test_each_failure_is_logged_in_a_word(caplog: pytest.LogCaptureFixture) -> None:
    _, call = failing(Failure(), Failure(reason="Broken 503"), Failure(retryable=False))
    with pytest.raises(Unavailable):
        await QUICK.run("it", call, judge)
    assert [(record.levelname, record.message, vars(record)["reason"]) for record in caplog.records] == [
        ("WARNING", "a service is asked again", "Broken"),
        ("WARNING", "a service is asked again", "Broken 503"),
        ("ERROR", "a service was given up", "Broken"),
    ]


async def test_an_unknown_error_goes_on_as_it_is() -> None:
    _, call = failing(None)
    with pytest.raises(Broken):
        await QUICK.run("it", call, judge)


async def test_an_attempt_that_hangs_is_ended_and_counts_as_done_perhaps() -> None:
    calls: list[int] = []

    async def call() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await QUICK.run("it", call, judge, repeatable=False)
    assert len(calls) == 1
    with pytest.raises(Unavailable):
        await QUICK.run("it", call, judge)
    assert len(calls) == 1 + QUICK.attempts


async def test_no_attempt_begins_after_the_deadline() -> None:
    hasty = Retries(attempts=9, attempt_s=1.0, total_s=0.05, base_s=0.04, wait_s=0.04)
    calls, call = failing(*[Failure(after_s=0.03)] * 9)
    with pytest.raises(Unavailable):
        await hasty.run("it", call, judge)
    assert len(calls) <= 2


async def test_waits_differ() -> None:
    waits = {Retries()._wait(1, Failure()) for _ in range(20)}
    assert len(waits) > 10
    assert 0.1 <= min(waits) <= max(waits) <= 0.2
    assert Retries()._wait(1, Failure(after_s=1.5)) == 1.5
