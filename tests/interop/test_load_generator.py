"""The load generator against the reference engine: it connects as a browser does, and counts what becomes of packets.

It is a Rust program, built with `cargo build -p parley-load`; without it these tests are skipped."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conference.adapters.media.reference import ReferenceEngine
from conference.ports.forwarding import AudioLevels, Event, RemoveSender
from tests.bench.dataplane_generator import Generator, LoadError, generator
from tests.bench.dataplane_network import Network
from tests.bench.dataplane_scenario import Scenario
from tests.bench.dataplane_server import ENGINES, Server
from tests.bench.dataplane_systems import Floor, Site, engine_senders, engine_tracks
from tests.support import rust_program

pytestmark = pytest.mark.interop

PROFILES = ("AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES128_CM_SHA1_80")
VIDEO = Scenario("video", 1, 3, ("video",))
HOST = "127.0.0.1"
Send = Callable[[bytes, Any], None]


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return rust_program.built("parley-load")
    except rust_program.NotBuilt as reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(reason))


@dataclass
class Call:
    """An engine with a generator's peers, connected."""

    engine: ReferenceEngine
    server: Server
    load: Generator
    scenario: Scenario
    profiles: dict[str, str]

    def between(self, change: Callable[[Send, bytes, Any], None]) -> None:
        """From now on `change` decides what becomes of media on its way to subscribers."""
        send = self.engine.core.state.send
        self.engine.core.state.send = lambda data, address: (
            change(send, data, address) if 128 <= data[0] < 192 and len(data) > 200 else send(data, address)
        )

    async def run(self, seconds: float = 1.0, *, scale: float = 1.0) -> dict[str, Any]:
        return await self.load.run(self.scenario.send(scale), self.scenario.receive(), seconds)

    async def total(self, seconds: float = 1.0) -> dict[str, Any]:
        return dict((await self.run(seconds))["total"])


@asynccontextmanager
async def call(
    program: Path, scenario: Scenario = VIDEO, *, profiles: tuple[str, ...] = PROFILES
) -> AsyncIterator[Call]:
    engine = ENGINES["reference"](HOST)
    assert isinstance(engine, ReferenceEngine)
    server = Server(engine)
    await server.start()
    try:
        async with generator(program) as load:
            peers = await load.peers([*scenario.publisher_names(), *scenario.subscriber_names()])
            opened = server.obey({"peers": [{"id": p.id, "fingerprint": p.fingerprint} for p in peers]})
            connections = [one | {"profiles": list(profiles)} for one in opened["connections"]]
            agreed = await load.connect(connections)
            server.obey({"tracks": engine_tracks(scenario), "senders": engine_senders(scenario)})
            yield Call(engine, server, load, scenario, agreed)
    finally:
        await server.stop()


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_packet_arrives_once_and_in_order_under_the_profile_that_is_offered(
    program: Path, profile: str
) -> None:
    async with call(program, profiles=(profile,)) as made:
        assert set(made.profiles.values()) == {profile}
        report = await made.run()
        total = report["total"]
        assert {total[name] for name in ("lost", "reordered", "duplicated", "bad", "foreign", "nacked")} == {0}
        assert report["sent"] > 100
        assert 0 <= 3 * report["sent"] - total["packets"] < 3 * 4 * 2, "only what is on its way is missing"
        assert total["streams"] == 3
        assert 0 < total["delay_p50_ms"] <= total["delay_p99_ms"] <= total["delay_max_ms"]


async def test_the_server_chooses_among_the_profiles_that_are_offered(program: Path) -> None:
    async with call(program) as made:
        assert set(made.profiles.values()) == {"AEAD_AES_128_GCM"}


async def test_a_loss_is_counted_and_asked_for_again(program: Path) -> None:
    async with call(program) as made:
        await made.run(0.3)
        count = itertools.count()
        made.between(lambda send, data, address: None if next(count) % 20 == 7 else send(data, address))
        total = await made.total()
        assert total["packets"] / 30 < total["lost"] < total["packets"] / 10
        assert total["retransmissions"] > total["lost"] / 2
        assert total["reordered"] == total["bad"] == 0


async def test_a_copy_a_late_and_a_forged_packet_are_told_apart(program: Path) -> None:
    async with call(program) as made:
        await made.run(0.3)
        count = itertools.count()

        def change(send: Send, data: bytes, address: Any) -> None:
            place = next(count) % 30
            send(data[:-1] + bytes([data[-1] ^ 1]) if place == 20 else data, address)
            if place == 10:
                send(data, address)

        made.between(change)
        total = await made.total()
        assert total["duplicated"] > 5
        assert total["bad"] > 5
        assert total["lost"] == pytest.approx(total["bad"], abs=2), "what cannot be opened did not arrive"


async def test_packets_that_change_places_are_no_loss(program: Path) -> None:
    async with call(program, Scenario("video", 1, 1, ("video",))) as made:
        await made.run(0.3)
        held = list[tuple[bytes, Any]]()
        count = itertools.count()

        def change(send: Send, data: bytes, address: Any) -> None:
            if next(count) % 10 == 5:
                held.append((data, address))
                return
            send(data, address)
            while held:
                send(*held.pop())

        made.between(change)
        total = await made.total()
        assert total["reordered"] > 10
        assert total["lost"] <= 1


async def test_sound_has_levels_and_goes_to_everybody_but_its_source(program: Path) -> None:
    meeting = Scenario("meeting", 3, 3, ("audio",), is_meeting=True)
    async with call(program, meeting) as made:
        poll, levels = made.engine.poll_events, set[str]()

        def listen(limit: int) -> list[Event]:
            events = poll(limit)
            for event in events:
                levels.update(track for track, _ in event.levels) if isinstance(event, AudioLevels) else None
            return events

        made.engine.poll_events = listen  # type: ignore[method-assign]
        report = await made.run()
        assert {peer["streams"] for peer in report["peers"] if peer["id"].startswith("s")} == {2}
        assert report["total"]["lost"] == 0
        assert levels == {f"p0-{place}-audio" for place in range(3)}


async def test_simulcast_layers_are_learned_by_their_rid(program: Path) -> None:
    simulcast = Scenario("simulcast", 1, 2, ("video",), has_simulcast=True)
    async with call(program, simulcast) as made:
        report = await made.run()
        assert report["total"]["streams"] == 2
        assert report["total"]["packets"] > 0
        assert report["total"]["lost"] == 0
        publisher = next(peer for peer in report["peers"] if peer["id"] == "p0-0")
        assert publisher["sent"] > 300, "one, two and five packets a frame"


async def test_a_key_frame_is_sent_when_one_is_asked_for(program: Path) -> None:
    async with call(program, Scenario("video", 1, 1, ("video",))) as made:
        await made.load.begin(made.scenario.send(1.0), made.scenario.receive())
        await asyncio.sleep(0.3)
        await made.load.mark()
        made.engine.apply([RemoveSender("s0-0/p0-0-video")])
        again = [sender | {"ssrc": 77, "rtx_ssrc": 78} for sender in engine_senders(made.scenario)]
        made.server.obey({"tracks": [], "senders": again})
        await asyncio.sleep(0.5)
        report = await made.load.stop()
        assert report["total"]["key_frame_requests"] >= 1
        assert report["total"]["packets"] > 10, "nothing is forwarded before a key frame"


async def test_consent_is_kept(program: Path) -> None:
    async with call(program) as made:
        await made.run(7.0, scale=0.1)
        assert made.engine.stats().transports == 4
        assert made.engine.stats().dropped.get("stranger", 0) == 0
        total = await made.total(0.5)
        assert total["streams"] == 3


async def test_a_server_with_another_certificate_is_refused(program: Path) -> None:
    engine = ENGINES["reference"](HOST)
    server = Server(engine)
    await server.start()
    try:
        async with generator(program) as load:
            (peer,) = await load.peers(["p"])
            (connection,) = server.obey({"peers": [{"id": "p", "fingerprint": peer.fingerprint}]})["connections"]
            connection["remote"]["fingerprint"] = ":".join(["00"] * 32)
            with pytest.raises(LoadError, match="fingerprint"):
                await load.connect([connection], timeout_s=5)
    finally:
        await server.stop()


async def test_a_peer_whose_server_is_silent_fails_when_the_time_is_over(program: Path) -> None:
    async with generator(program) as load:
        (peer, deaf) = await load.peers(["peer", "deaf"])
        remote = {"ip": HOST, "port": deaf.port, "ufrag": "u", "pwd": "p" * 24, "fingerprint": peer.fingerprint}
        with pytest.raises(LoadError, match="the time was over"):
            await load.connect([{"id": "peer", "remote": remote}], timeout_s=0.4)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"nonsense": 1}, "not a command"),
        ({"peers": [{"id": "a"}], "host": "nowhere"}, "no IP address"),
        ({"peers": [{"id": "a"}, {"id": "a"}]}, "already"),
        ({"send": [], "receive": [{"id": "nobody"}]}, "no peer nobody"),
    ],
)
async def test_what_cannot_be_done_is_said_and_does_not_end_the_generator(
    program: Path, command: dict[str, Any], words: str
) -> None:
    async with generator(program) as load:
        with pytest.raises(LoadError, match=words):
            await load._talker.ask(command)
        assert [peer.id for peer in await load.peers(["b"])] == ["b"]


async def test_the_floor_forwards_everything_to_everybody(program: Path) -> None:
    site = Site(Network(HOST, HOST, None, "a test"), program)
    sound = Scenario("sound", 2, 5, ("audio",))
    async with Floor().serve(site, sound) as running:
        report = await running.generator.run(sound.send(1.0), sound.receive(rtcp=False), 1.0)
        await asyncio.sleep(0)
        assert report["sent"] > 60
        assert 0 <= 5 * report["sent"] - report["total"]["packets"] <= 10
        assert report["total"]["lost"] == report["total"]["bad"] == report["total"]["foreign"] == 0
        assert report["total"]["streams"] == 10
