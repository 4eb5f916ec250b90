"""How often a call is made, how long is waited between, and what its failure becomes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from conference.adapters.azure.calls import Calls, error_code, reason
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable

pytestmark = pytest.mark.unit
RETRIES = Retries(attempts=5, attempt_s=0.01, total_s=60.0, base_s=1.0, wait_s=3.0)


def answer(status: int, **headers: str) -> HttpResponseError:
    response: Any = SimpleNamespace(status_code=status, reason="", headers=headers)
    return HttpResponseError("https://secret.example/?sig=c2VjcmV0", response=response)


class Service:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.pauses: list[float] = []
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def called(self) -> str:
        return await Calls("the service", replace(RETRIES, sleep=self.sleep))(self)


PASSING: Sequence[Exception] = (
    *(answer(status) for status in (401, 408, 429, 500, 502, 503, 504)),
    ServiceRequestError("refused"),
    ServiceResponseError("cut off"),
    TimeoutError(),
    ConnectionResetError(),
)


@pytest.mark.parametrize("failure", PASSING, ids=reason)
async def test_what_may_pass_is_tried_again(failure: Exception) -> None:
    service = Service(failure)
    assert await service.called() == "done"
    assert service.tries == 2


@pytest.mark.parametrize("status", [400, 404, 409, 412, 416])
async def test_an_answer_is_the_callers_and_is_not_tried_again(status: int) -> None:
    service = Service(answer(status))
    with pytest.raises(HttpResponseError) as raised:
        await service.called()
    assert raised.value.status_code == status
    assert service.tries == 1


async def test_pauses_double_with_chance_and_are_bounded() -> None:
    service = Service(*[answer(503)] * 5)
    with pytest.raises(Unavailable) as unavailable:
        await service.called()
    assert unavailable.value.retryable
    assert service.tries == 5
    bounds = [(0.5, 1.0), (1.0, 2.0), (1.5, 3.0), (1.5, 3.0)]
    assert all(low <= pause <= high for pause, (low, high) in zip(service.pauses, bounds, strict=True))


@pytest.mark.parametrize(
    ("headers", "least"),
    [({"Retry-After": "2"}, 2.0), ({"x-ms-retry-after-ms": "2500"}, 2.5), ({"Retry-After": "900"}, 3.0)],
)
async def test_a_delay_that_the_service_names_is_kept_up_to_a_bound(headers: dict[str, str], least: float) -> None:
    service = Service(answer(429, **headers))
    await service.called()
    assert service.pauses == [least]


@pytest.mark.parametrize("text", ["soon", "", "-5", "Wed, 30 Nov 2026 12:00:00 GMT", "nan"])
async def test_a_delay_that_is_no_number_is_not_waited_for(text: str) -> None:
    service = Service(answer(429, **{"Retry-After": text}))
    await service.called()
    assert 0.5 <= service.pauses[0] <= 1.0


async def test_a_try_that_hangs_is_given_up() -> None:
    service = Service()
    tries = 0

    async def hang() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        return "done"

    assert await Calls("the service", replace(RETRIES, sleep=service.sleep))(hang) == "done"


async def test_who_may_not_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(answer(403))
    with pytest.raises(Unavailable) as unavailable:
        await service.called()
    assert not unavailable.value.retryable
    assert service.tries == 1
    assert "c2VjcmV0" not in caplog.text


async def test_a_sign_in_that_fails_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(ClientAuthenticationError("Please run az login"))
    with pytest.raises(Unavailable, match="the sign-in to Azure is unavailable") as unavailable:
        await service.called()
    assert unavailable.value.retryable
    assert service.tries == 1
    assert getattr(caplog.records[-1], "reason", "") == "Please run az login"


def test_a_reason_holds_no_text_of_the_service() -> None:
    error = answer(503)
    error.error_code = "ServerBusy"  # type: ignore[attr-defined]
    assert reason(error) == "HttpResponseError 503 ServerBusy"
    assert error_code(ResourceNotFoundError("text")) == ""
