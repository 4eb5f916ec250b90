"""Rooms that talk peer to peer, and change to the SFU and back, with real browsers. Two people are a mesh here."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support.browser import screenshot, watch_errors
from tests.support.media import BLUE, GREEN, RED
from tests.support.system import System, running
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

CALM_S: Final = 3
WITHIN_S: Final = 2.0
_STATE: Final = """() => {
  const {topology, mesh, transports} = globalThis.parley.call;
  const up = [...mesh.links.values()].filter(({isUp}) => isUp).length;
  const hasSfu = transports.publisher !== null;
  return {side: topology.side, epoch: topology.epoch, links: mesh.links.size, up, hasSfu};
}"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of which two people are a mesh and three are not."""
    settings = {"PARLEY_DEBUG_HOOKS": "1", "PARLEY_MESH_LIMIT": "2", "PARLEY_MESH_CALM_SECONDS": str(CALM_S)}
    with running(tmp_path_factory.mktemp("mesh"), settings) as started:
        yield started


async def _meet(arrive: Arrive, *others: object) -> tuple[str, list[Visitor]]:
    people = list(await asyncio.gather(*(arrive(person) for person in (RED, *others))))
    meeting_id = await people[0].create_meeting(recording=False)
    await people[0].join(consent=None)
    for guest in people[1:]:
        await guest.open_meeting(meeting_id)
        await guest.join(consent=None)
    return meeting_id, people


async def _settles(person: Visitor, **wanted: Any) -> None:
    last: dict[str, Any] = {}

    async def look() -> bool:
        last.update(await person.evaluate(_STATE))
        return wanted.items() <= last.items()

    await wait_for(look, lambda: f"{person.person.login}: {wanted}, but {last}", 20)


async def _perceive(*people: Visitor) -> None:
    """Everybody sees and hears everybody."""
    for one in people:
        for other in people:
            if one is not other:
                await one.sees(other)
                await one.hears(other)


async def test_two_are_a_mesh_the_third_moves_them_to_the_sfu_and_they_come_back(arrive: Arrive) -> None:
    meeting_id, (alex, blair) = await _meet(arrive, GREEN)
    errors = [error for person in (alex, blair) for error in watch_errors(person.page)]
    for person in (alex, blair):
        await _settles(person, side="mesh", links=1, up=1, hasSfu=False)
    await _perceive(alex, blair)
    await screenshot(alex.page, SCREENSHOTS, "call-mesh")

    chris = await arrive(BLUE)
    await chris.open_meeting(meeting_id)
    await chris.join(consent=None)
    for person in (alex, blair, chris):
        await _settles(person, side="sfu", links=0, hasSfu=True)
    await _perceive(alex, blair, chris)

    await chris.control("leave").click()
    for person in (alex, blair):
        await _settles(person, side="mesh", links=1, up=1, hasSfu=False)
    await _perceive(alex, blair)
    assert not errors


async def test_what_a_person_does_is_seen_in_a_mesh_too(arrive: Arrive) -> None:
    _, (alex, blair) = await _meet(arrive, GREEN)
    await _settles(alex, side="mesh", up=1)
    await alex.hears(blair)
    await blair.control("microphone").click()
    await expect(alex.tile(blair)).to_have_attribute("data-muted", "true")
    await alex.hears_nothing_of(blair)
    await blair.control("microphone").click()
    await alex.hears(blair)
    await expect(alex.tile(blair)).to_have_attribute("data-speaking", "true")
    await blair.control("camera").click()
    await expect(alex.tile(blair).locator("video")).to_be_hidden()
    await blair.control("camera").click()
    await alex.sees(blair)
    shared = alex.page.locator('[data-testid=tile][data-source="screen"]')
    for _ in range(2):  # the m-section of the first share is used by the second
        await blair.control("share").click()
        await expect(shared.locator("video")).to_be_visible()
        await wait_for(lambda: shared.locator("video").evaluate("video => video.videoWidth > 0"), "the share is shown")
        await blair.control("share").click()
        await expect(shared).to_have_count(0)


async def test_a_lost_way_is_found_again(arrive: Arrive) -> None:
    _, (alex, blair) = await _meet(arrive, GREEN)
    await _settles(alex, side="mesh", up=1)
    await blair.evaluate("dispatchEvent(new Event('online'))")
    await blair.evaluate("parley.call.networkChanged()")
    await _perceive(alex, blair)
    await _settles(alex, side="mesh", links=1, up=1)


async def test_whoever_comes_back_to_the_page_is_linked_anew(arrive: Arrive) -> None:
    meeting_id, (alex, blair) = await _meet(arrive, GREEN)
    await _settles(alex, side="mesh", up=1)
    await blair.page.reload()
    await blair.open_meeting(meeting_id)
    await blair.join(consent=None)
    await _settles(blair, side="mesh", links=1, up=1)
    await _perceive(alex, blair)


async def test_moderation_and_removal_hold_against_a_client_that_does_not_obey(arrive: Arrive) -> None:
    _, (alex, blair) = await _meet(arrive, GREEN)
    await _settles(alex, side="mesh", up=1)
    await alex.hears(blair)
    # Whatever blair's page is told from now on, its connection goes on sending.
    await blair.evaluate(
        """() => {
          const {call} = globalThis.parley;
          call.mesh.setTrack = async () => {};
          for (const link of call.mesh.links.values()) {
            link.setTrack = async () => {};
            link.close = () => {};
          }
        }"""
    )
    await alex.evaluate("userId => parley.call.moderate('mute', userId)", blair.user_id)
    silenced = """userId => [...parley.call.topology.received.values()]
      .some(({info, media}) => info.userId === userId && info.source === 'microphone' && !media.enabled)"""
    await wait_for(lambda: alex.evaluate(silenced, blair.user_id), "alex has silenced blair", WITHIN_S)
    await alex.hears_nothing_of(blair)
    sending = "() => [...parley.call.mesh.links.values()][0].connection.getSenders().some(({track}) => track?.enabled)"
    assert await blair.evaluate(sending)
    await alex.evaluate("userId => parley.call.moderate('remove', userId)", blair.user_id)
    started = time.monotonic()
    await _settles(alex, links=0)
    assert time.monotonic() - started < WITHIN_S
    await expect(alex.tile(blair)).to_have_count(0)
