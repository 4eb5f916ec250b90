"""What a failure of Communication Services means where it is not the service that failed."""

import logging

import pytest
from azure.core.exceptions import ClientAuthenticationError

from conference.adapters.acs.calls import Calls
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable

pytestmark = pytest.mark.unit


async def test_a_sign_in_that_fails_is_named_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def call() -> None:
        nonlocal tries
        tries += 1
        raise ClientAuthenticationError("Please run az login")

    with caplog.at_level(logging.ERROR), pytest.raises(Unavailable, match="the sign-in to Azure"):
        await Calls(Retries(attempts=3, attempt_s=1.0, total_s=5.0, base_s=0.01, wait_s=0.1)).run(call)
    assert tries == 1
    assert caplog.messages == ["the sign-in to Azure failed"]
