"""The one wiring, and the application that waits for the first request."""

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest

from conference.domain.errors import Unavailable
from functions.provider import LazyApp, LazyWiring

pytestmark = pytest.mark.unit


class _Built:
    def __init__(self) -> None:
        self.services: Any = object()
        self.closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for functions.wiring; `built` lists what it built, `failures` how often it fails first."""
    fake: Any = ModuleType("fake_wiring")
    fake.built, fake.failures = [], 0

    async def build() -> _Built:
        await asyncio.sleep(0)
        if fake.failures:
            fake.failures -= 1
            raise Unavailable("database")
        built = _Built()
        fake.built.append(built)
        return built

    fake.build = build
    monkeypatch.setitem(sys.modules, "fake_wiring", fake)
    return fake


async def test_many_callers_at_once_share_one_wiring(module: Any) -> None:
    wiring = LazyWiring("fake_wiring")
    services = await asyncio.gather(*(wiring.services() for _ in range(50)))
    assert len(module.built) == 1
    assert len({id(found) for found in services}) == 1


async def test_a_failed_build_is_tried_again(module: Any) -> None:
    module.failures = 1
    wiring = LazyWiring("fake_wiring")
    with pytest.raises(Unavailable):
        await wiring.services()
    assert await wiring.services() is module.built[0].services


async def test_closing_closes_and_the_next_call_builds_anew(module: Any) -> None:
    wiring = LazyWiring("fake_wiring")
    await wiring.close()  # nothing yet
    await wiring.services()
    await wiring.close()
    assert module.built[0].closed
    await wiring.services()
    assert len(module.built) == 2


async def test_the_application_is_made_once_and_after_the_wiring(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    application: Any = ModuleType("fake_app")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(scope["path"])

    def create_app(provider: Any) -> Any:
        made.append(len(module.built))
        return app

    application.create_app = create_app
    monkeypatch.setitem(sys.modules, "fake_app", application)
    lazy, sent = LazyApp(LazyWiring("fake_wiring"), "fake_app"), []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    for path in ("/a", "/b"):
        await lazy({"type": "http", "path": path}, receive, send)
    assert (made, sent) == ([1], ["/a", "/b"])
