"""The ladder with rungs that are fakes: order, bounds, what is told of failures, and what is remembered."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_client.errors import JoinRefused, NoWay, Unreachable, WayFailed
from parley_client.ladder import LIMITS_S, MAX_FILE, MAX_ORIGINS, WAYS, LastGood, Way, climb, ordered

pytestmark = pytest.mark.unit

ORIGIN = "https://meet.example.com"


class Rungs:
    """A fake of what a rung does: it works, fails, refuses, or never comes to an end."""

    def __init__(self, **does: str | Exception) -> None:
        self.does = does
        self.tried: list[str] = []
        self.cut_short: list[str] = []

    async def attempt(self, way: Way) -> str:
        self.tried.append(way)
        outcome = self.does.get(way.replace("-", "_"), "fails")
        if isinstance(outcome, Exception):
            raise outcome
        if outcome == "works":
            return f"a link over {way}"
        if outcome == "hangs":
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cut_short.append(way)
        raise WayFailed(f"{way} is blocked")


async def test_rungs_are_tried_from_the_best_to_the_last_until_one_works() -> None:
    rungs = Rungs(stream="works", poll="works")
    assert await climb(WAYS, rungs.attempt) == ("stream", "a link over stream")
    assert rungs.tried == ["udp", "turn-udp", "turn-tcp", "turn-tls", "websocket", "stream"]


async def test_a_rung_that_hangs_is_left_after_its_limit_and_cut_short() -> None:
    rungs = Rungs(udp="hangs", websocket="works")
    limits = {**LIMITS_S, "udp": 0.05}
    began = asyncio.get_running_loop().time()
    way, _ = await climb(["udp", "websocket"], rungs.attempt, limits_s=limits)
    assert way == "websocket"
    assert rungs.cut_short == ["udp"]
    assert asyncio.get_running_loop().time() - began < 2


async def test_when_nothing_works_each_rungs_reason_is_told() -> None:
    rungs = Rungs(udp="hangs", turn_udp=WayFailed("the server offers no such TURN address"))
    limits = {**LIMITS_S, "udp": 0.01}
    with pytest.raises(NoWay) as failed:
        await climb(["udp", "turn-udp", "poll"], rungs.attempt, limits_s=limits, stage=lambda: "connecting media")
    assert failed.value.failures == (
        ("udp", "not connected within 0.01 s (connecting media)"),
        ("turn-udp", "the server offers no such TURN address"),
        ("poll", "poll is blocked"),
    )
    assert "turn-udp: the server offers no such TURN address; poll: poll is blocked" in str(failed.value)


@pytest.mark.parametrize("final", [JoinRefused("room-full", "The room is full.", 409), Unreachable("nobody there")])
async def test_what_no_other_rung_can_help_ends_the_climb(final: Exception) -> None:
    rungs = Rungs(turn_udp=final, poll="works")
    with pytest.raises(type(final)):
        await climb(WAYS, rungs.attempt)
    assert rungs.tried == ["udp", "turn-udp"]


async def test_no_ways_are_no_way() -> None:
    with pytest.raises(NoWay, match="no way was to be tried"):
        await climb([], Rungs().attempt)


def test_every_rung_is_bounded_and_the_whole_ladder_takes_less_than_a_minute() -> None:
    assert set(LIMITS_S) == set(WAYS)
    assert sum(LIMITS_S.values()) < 60


def test_the_last_good_way_is_tried_first_and_the_others_in_their_order() -> None:
    assert ordered(WAYS, "stream") == ("stream", "udp", "turn-udp", "turn-tcp", "turn-tls", "websocket", "poll")
    assert ordered(["udp", "poll"], "stream") == ("udp", "poll")
    assert ordered(WAYS, None) == WAYS


def test_the_last_good_way_is_remembered_for_each_origin() -> None:
    memory = LastGood()
    memory.put(ORIGIN, "poll")
    memory.put("https://other.example", "udp")
    assert (memory.get(ORIGIN), memory.get("https://other.example"), memory.get("https://new")) == ("poll", "udp", None)
    memory.forget(ORIGIN)
    assert memory.get(ORIGIN) is None


def test_only_so_many_origins_are_remembered_the_latest() -> None:
    memory = LastGood()
    for number in range(MAX_ORIGINS + 5):
        memory.put(str(number), "udp")
    assert memory.get("4") is None
    assert memory.get("5") == memory.get(str(MAX_ORIGINS + 4)) == "udp"


def test_a_file_outlives_the_client(tmp_path: Path) -> None:
    file = tmp_path / "ways.json"
    LastGood(file).put(ORIGIN, "turn-tls")
    assert LastGood(file).get(ORIGIN) == "turn-tls"
    assert json.loads(file.read_text()) == {ORIGIN: "turn-tls"}


def test_a_file_that_cannot_be_written_is_left(tmp_path: Path) -> None:
    memory = LastGood(tmp_path / "nowhere" / "ways.json")
    memory.put(ORIGIN, "udp")
    assert memory.get(ORIGIN) == "udp"


@given(st.binary(max_size=300) | st.just(b"x" * (MAX_FILE + 1)) | st.just(b'{"a": ["udp"], "b": {}}'))
def test_whatever_is_in_the_file_it_counts_as_a_hint(data: bytes) -> None:
    class File:
        def stat(self) -> object:
            return type("Stat", (), {"st_size": len(data)})()

        def read_text(self, encoding: str) -> str:
            return data.decode(encoding)

    assert LastGood(File()).get("a") in (None, *WAYS)  # type: ignore[arg-type]
