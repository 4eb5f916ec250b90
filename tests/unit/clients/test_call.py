"""A call over links that are fakes: the climb, what takes over from what, and how it comes back and ends."""

import asyncio
from typing import Any

import pytest
from parley_client.call import Call
from parley_client.errors import JoinRefused, NotOffered, NoWay, WayFailed
from parley_client.ladder import WAYS, LastGood, Way
from parley_client.rest import Grant, IceServer

from tests.support.waiting import eventually

pytestmark = pytest.mark.unit

ORIGIN = "https://meet.example.com"


class FakeApi:
    """Gives places with numbered tokens, until it refuses."""

    def __init__(self) -> None:
        self.joins = 0
        self.refuses: JoinRefused | None = None

    async def join(self, room_id: str, **admission: Any) -> Grant:
        if self.refuses is not None:
            raise self.refuses
        self.joins += 1
        return Grant("p", f"token-{self.joins}", "wss://x/v1/signal", ())


class FakeLink:
    """A link that gets as far as `works` says."""

    def __init__(self, way: Way, works: bool) -> None:
        self.way, self.works = way, works
        self.lost = asyncio.Event()
        self.stage = "connecting media"
        self.joined: dict[str, Any] = {"userId": "me", "snapshot": {"participants": [{"userId": "ann"}]}}
        self.media = type("Media", (), {"received": {}})()
        self.signaling = None
        self.final = ""
        self.can_resume = False
        self.sent: list[tuple[str, Any]] = []
        self.token = ""
        self.media_stopped = False
        self.closed: bool | None = None  # whether it was left
        self.own_state: dict[str, Any] = {}
        self.heard: Any = None

    async def enter(self, room_id: str, token: str, *, display_name: str | None) -> dict[str, Any]:
        self.token = token
        return self.joined

    async def connected(self) -> None:
        if not self.works:
            raise WayFailed("blocked")

    async def send(self, type_: str, payload: Any) -> None:
        self.sent.append((type_, payload))

    async def stop_media(self) -> None:
        self.media_stopped = True

    async def resumed(self) -> bool:
        return False

    async def close(self, *, leave: bool) -> None:
        self.closed = leave


class Bench:
    """A call and every link that it made. `blocked` ways do not work, of TURN there is none."""

    def __init__(self, *blocked: Way) -> None:
        self.api = FakeApi()
        self.blocked = set(blocked)
        self.links: list[FakeLink] = []
        self.memory = LastGood()
        make: Any = self._link
        self.call = Call(self.api, "room", origin=ORIGIN, ways=WAYS, memory=self.memory, make_link=make)  # type: ignore[arg-type]

    def _link(self, call: Call, way: Way, grant: Grant) -> FakeLink:
        if way.startswith("turn-"):
            raise NotOffered("the server offers no such TURN address")
        self.links.append(FakeLink(way, way not in self.blocked))
        return self.links[-1]


async def test_a_failed_rungs_seat_is_taken_over_by_the_next_and_left_by_nobody() -> None:
    bench = Bench("udp", "websocket")
    await bench.call.climb()
    assert bench.call.way == "stream"
    assert [link.way for link in bench.links] == ["udp", "websocket", "stream"]
    assert [link.closed for link in bench.links] == [False, False, None]
    assert all(link.media_stopped for link in bench.links[:2])
    assert [link.token for link in bench.links] == ["token-1", "token-2", "token-3"]
    assert bench.api.joins == 3, "a way that is not offered uses up no token"
    assert bench.memory.get(ORIGIN) == "stream"
    await bench.call.leave()


async def test_without_any_way_the_seat_is_given_up_and_the_reasons_are_told() -> None:
    bench = Bench("udp", "websocket", "stream", "poll")
    with pytest.raises(NoWay, match="udp: blocked; turn-udp: the server offers no such TURN address"):
        await bench.call.climb()
    assert [link.closed for link in bench.links] == [True] * 4
    assert bench.memory.get(ORIGIN) is None


async def test_the_next_climb_begins_with_what_worked_and_a_new_network_with_the_top() -> None:
    bench = Bench("udp", "websocket")
    await bench.call.climb()
    await bench.call.climb()
    assert [link.way for link in bench.links[3:]] == ["stream"]
    bench.blocked.clear()
    await bench.call.network_changed()
    assert bench.call.way == "udp"
    assert bench.links[3].closed is False
    await bench.call.leave()


async def test_a_link_that_is_lost_is_followed_by_another_and_the_state_goes_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("parley_client.call.AGAIN_S", 0.0)
    bench = Bench()
    ways: list[Way] = []
    bench.call.on_way(ways.append)
    await bench.call.climb()
    await bench.call.update_state(is_hand_raised=True)
    bench.blocked.add("udp")
    bench.links[0].lost.set()
    await eventually(lambda: bench.call.way == "websocket")
    assert ways == ["udp", "websocket"]
    assert bench.links[-1].own_state["isHandRaised"] is True
    assert bench.call.climbs == 2
    await bench.call.leave()


@pytest.mark.parametrize("reason", ["removed", "replaced", "ended"])
async def test_what_signaling_ends_is_not_climbed_again(reason: str) -> None:
    bench = Bench()
    await bench.call.climb()
    bench.links[0].final = reason
    bench.links[0].lost.set()
    async with asyncio.timeout(5):
        assert await bench.call.wait_ended() == reason
    assert len(bench.links) == 1
    with pytest.raises(JoinRefused, match=reason):
        await bench.call.send_chat("to nobody")


async def test_a_refusal_in_mid_call_ends_it_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley_client.call.AGAIN_S", 0.0)
    bench = Bench()
    await bench.call.climb()
    bench.api.refuses = JoinRefused("meeting-ended", "The meeting has ended.", 410)
    bench.links[0].lost.set()
    async with asyncio.timeout(5):
        assert "meeting-ended" in await bench.call.wait_ended()


async def test_leaving_says_so_and_ends_the_call() -> None:
    bench = Bench()
    await bench.call.climb()
    await bench.call.leave()
    assert bench.links[0].closed is True
    assert bench.call.reason == "left"


async def test_people_come_and_go_and_handlers_hear_of_it() -> None:
    bench = Bench()
    heard: list[str] = []
    bench.call.on_chat(lambda message: heard.append(message["text"]))
    await bench.call.climb()
    tell = bench.links[0].heard
    tell("ParticipantJoined", {"userId": "bob", "displayName": "Bob"})
    tell("StateChanged", {"userId": "bob", "isMuted": True})
    tell("ParticipantLeft", {"userId": "ann"})
    tell("MessageReceived", {"text": "hello"})
    assert bench.call.participants == {"bob": {"userId": "bob", "displayName": "Bob", "isMuted": True}}
    assert heard == ["hello"]
    await bench.call.leave()


def test_a_grant_shows_no_secret() -> None:
    grant = Grant("p", "the-token", "wss://x", (IceServer(("turn:x",), "name", "the-password"),))
    assert "the-token" not in repr(grant)
    assert "the-password" not in repr(grant)
