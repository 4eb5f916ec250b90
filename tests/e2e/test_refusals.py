"""What a person reads when they may not in: a sentence, what to do next, and the way back."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Route, expect

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.system import SystemIds
from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support.browser import screenshot
from tests.support.caller import Caller, call_as
from tests.support.media import BLUE, GREEN, RED
from tests.support.system import System
from tests.support.visitor import Visitor

pytestmark = pytest.mark.e2e

# What the provider gave is no longer good: another token, and no refresh token to mend it.
SPOIL_TOKENS = """() => {
  const tokens = JSON.parse(sessionStorage.getItem('parley.tokens'));
  for (const key of Object.keys(tokens)) {
    if (/refresh/i.test(key)) delete tokens[key];
    else if (String(tokens[key]).startsWith('eyJ')) tokens[key] = 'eyJhbGciOiJub25lIn0.e30.';
  }
  sessionStorage.setItem('parley.tokens', JSON.stringify(tokens));
}"""


@pytest_asyncio.fixture
async def caller(system: System) -> AsyncIterator[Caller]:
    """Alex at the API."""
    async with aiohttp.ClientSession() as http:
        yield await call_as(http, system.url, RED)


async def refused(visitor: Visitor, code: str, words: str) -> None:
    """The page says why, in words; there is no code and no stack in what is read."""
    notice = visitor.page.get_by_test_id("notice").first
    await expect(notice).to_have_attribute("data-code", code, timeout=20_000)
    await expect(notice).to_contain_text(words)
    assert code not in await notice.inner_text() or code in words
    await screenshot(visitor.page, SCREENSHOTS, f"refused-{code}")


async def test_a_wrong_password_can_be_tried_again(caller: Caller, arrive: Arrive) -> None:
    meeting_id = await caller.make_meeting({}, password="open sesame")
    blair = await arrive(GREEN)
    await blair.open_meeting(meeting_id)
    await blair.page.get_by_test_id("password").fill("open barley")
    await blair.page.get_by_test_id("join-button").click()
    await refused(blair, "wrong-password", "The password is not right")
    await blair.page.get_by_test_id("password").fill("open sesame")
    await blair.join(consent=None)


async def test_a_full_room_says_so_and_lets_in_when_somebody_has_left(
    caller: Caller, arrive: Arrive, system: System
) -> None:
    meeting_id = await caller.make_meeting({"maxParticipants": 2})
    blair, casey, alex = await asyncio.gather(arrive(GREEN), arrive(BLUE), arrive(RED))
    for first in (blair, casey):
        await first.open_meeting(meeting_id)
        await first.join(consent=None)
    await alex.open_meeting(meeting_id)
    await alex.page.get_by_test_id("join-button").click()
    await refused(alex, "room-full", "All places are taken")
    await casey.control("leave").click()
    await expect(casey.page.get_by_test_id("call-ended")).to_be_visible()
    await alex.page.get_by_test_id("join-button").click()
    await alex.in_call()


async def test_without_a_decision_on_consent_nobody_joins(caller: Caller, arrive: Arrive) -> None:
    meeting_id = await caller.make_meeting({"isRecordingEnabled": True, "aiEnabled": True})
    status, problem = await caller.post(f"/v1/meetings/{meeting_id}/join", {"userId": caller.user_id})
    assert (status, problem["type"].rpartition("/")[2]) == (403, "consent-required")
    blair = await arrive(GREEN)
    await blair.open_meeting(meeting_id)
    await blair.page.get_by_test_id("join-button").click()
    await refused(blair, "consent-required", "Accept or decline")
    for kind in ("recording", "ai"):
        await blair.page.locator(f'[data-testid=consent-accept][data-type="{kind}"]').click()
    await blair.page.get_by_test_id("join-button").click()
    await blair.in_call()


async def test_a_meeting_that_is_not_open_yet_says_when(caller: Caller, arrive: Arrive) -> None:
    starts = datetime.now(UTC) + timedelta(hours=3)
    meeting_id = await caller.make_meeting({}, scheduledTime=starts.isoformat())
    blair = await arrive(GREEN)
    await blair.open_meeting(meeting_id)
    await blair.page.get_by_test_id("join-button").click()
    await refused(blair, "not-started", "opens")


async def test_an_expired_join_token_is_told_in_words_and_a_new_one_gets_in(
    caller: Caller, arrive: Arrive, system: System
) -> None:
    keys = FileSigningKeys(system.data_dir / "keys", SystemIds())
    tokens = JwtTokens(issuer=system.url, keys=OwnPublicKeys(keys), signing=keys)
    meeting_id = await caller.make_meeting({})
    blair = await arrive(GREEN)

    async def expire(route: Route) -> None:
        answer = await route.fetch()
        grant = await answer.json()
        claims = await tokens.verify_join(grant["token"], datetime.now(UTC))
        past = datetime.now(UTC) - timedelta(minutes=1)
        stale = await tokens.mint_join(replace(claims, not_before=past - timedelta(minutes=5), expires_at=past))
        await route.fulfill(response=answer, body=json.dumps({**grant, "token": stale, "signalingToken": stale}))

    await blair.open_meeting(meeting_id)
    await blair.page.route("**/v1/meetings/*/join", expire)
    await blair.page.get_by_test_id("join-button").click()
    await refused(blair, "token-refused", "Sign in again")
    await blair.page.unroute("**/v1/meetings/*/join")
    await blair.page.get_by_test_id("join-button").click()
    await blair.in_call()


async def test_an_expired_sign_in_leads_back_to_the_sign_in(arrive: Arrive) -> None:
    blair = await arrive(GREEN)
    await blair.evaluate(SPOIL_TOKENS)
    await blair.page.reload()
    await expect(blair.page.get_by_test_id("sign-in")).to_be_visible()
