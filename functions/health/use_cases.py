"""Readiness over the ports: the store has to answer; the directory of live rooms is reported only."""

from collections.abc import Awaitable
from dataclasses import dataclass

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId
from functions.services import Services, ServicesProvider

_NO_MEETING = MeetingId("00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class Readiness:
    store: bool
    directory: bool


async def readiness(provider: ServicesProvider) -> Readiness:
    """Asks both dependencies."""
    try:
        services = await provider.services()
    except Unavailable:
        return Readiness(store=False, directory=False)
    store = await _answers(services.meetings.get(_NO_MEETING))
    return Readiness(store, await _answers(_ping(services)))


async def _ping(services: Services) -> None:
    await services.presence.ping()


async def _answers(question: Awaitable[object]) -> bool:
    try:
        await question
    except Unavailable:
        return False
    return True
