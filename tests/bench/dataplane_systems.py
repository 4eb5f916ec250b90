"""Servers under load: our engines and the floor. Each serves one scenario with all peers connected."""

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from tests.bench.dataplane_generator import Generator, LoadError, LoadPeer, generator, talking
from tests.bench.dataplane_network import GENERATOR_CORE, Network
from tests.bench.dataplane_scenario import (
    EXTENSIONS,
    MIDS,
    PAYLOAD_TYPES,
    RID_EXTENSION,
    RTX_PAYLOAD_TYPE,
    Kind,
    Scenario,
)

Words = dict[str, Any]
PROFILE: Final = "AEAD_AES_128_GCM"
_KEY_BYTES: Final = 28  # key and salt of that profile
_CODECS: Final[dict[Kind, Words]] = {
    "video": {
        "name": "VP8",
        "payload_type": PAYLOAD_TYPES["video"],
        "clock_rate": 90_000,
        "rtx_payload_type": RTX_PAYLOAD_TYPE,
        "has_nack": True,
    },
    "audio": {"name": "opus", "payload_type": PAYLOAD_TYPES["audio"], "clock_rate": 48_000},
}


@dataclass(frozen=True, slots=True)
class Site:
    """Where a bench runs: the network and the generator's program."""

    network: Network
    program: Path


@dataclass(frozen=True, slots=True)
class Running:
    """A server with its peers connected. `has_rtcp` is False where it takes no feedback; `transport_cc` is the id of
    the transport-wide number that it sends, None for none."""

    name: str
    pid: int
    generator: Generator
    scenario: Scenario
    has_rtcp: bool = True
    transport_cc: int | None = EXTENSIONS["video"]["transport_cc"]


class System(Protocol):
    """Something that forwards."""

    name: str

    def serve(self, site: Site, scenario: Scenario) -> AbstractAsyncContextManager[Running]:
        """Starts it and connects the scenario's peers. Raises LoadError."""


def check_profiles(profiles: dict[str, str]) -> None:
    """Raises LoadError where a server chose another SRTP profile than the one that is compared."""
    others = {profile for profile in profiles.values() if profile != PROFILE}
    if others:
        raise LoadError(f"SRTP with {', '.join(sorted(others))} instead of {PROFILE}")


# --- our engines -----------------------------------------------------------------------------------------------------
class Parley:
    """A data plane of ours: an engine with DTLS, without signaling."""

    def __init__(self, engine: str) -> None:
        self.name = engine

    @asynccontextmanager
    async def serve(self, site: Site, scenario: Scenario) -> AsyncIterator[Running]:
        network = site.network
        command = network.command(sys.executable, "-m", "tests.bench.dataplane_server", self.name, network.server_host)
        async with (
            talking(command) as server,
            generator(site.program, core=GENERATOR_CORE, host=network.generator_host) as load,
        ):
            peers = await load.peers([*scenario.publisher_names(), *scenario.subscriber_names()])
            opened = await server.ask({"peers": [{"id": p.id, "fingerprint": p.fingerprint} for p in peers]})
            connections = [connection | {"profiles": [PROFILE]} for connection in opened["connections"]]
            check_profiles(await load.connect(connections))
            await server.ask({"tracks": engine_tracks(scenario), "senders": engine_senders(scenario)})
            yield Running(self.name, server.pid, load, scenario)


def engine_tracks(scenario: Scenario) -> list[Words]:
    return [
        {
            "transport_id": track.publisher,
            "track_id": track.id,
            "mid": MIDS[track.kind],
            "codec": _CODECS[track.kind],
            "extensions": EXTENSIONS[track.kind] | ({"rid": RID_EXTENSION} if track.rids else {}),
            "ssrcs": [] if track.rids else track.ssrcs,
            "rids": track.rids,
        }
        for track in scenario.tracks()
    ]


def engine_senders(scenario: Scenario) -> list[Words]:
    made = []
    for subscriber in scenario.subscriber_names():
        received = [track for track in scenario.tracks() if scenario.receives(subscriber, track.publisher)]
        for place, track in enumerate(received):
            ssrc = 1_000_000 + 2 * place
            made.append(
                {
                    "transport_id": subscriber,
                    "track_id": track.id,
                    "mid": str(place),
                    "codec": _CODECS[track.kind],
                    "extensions": EXTENSIONS[track.kind],
                    "ssrc": ssrc,
                    "rtx_ssrc": ssrc + 1 if track.kind == "video" else None,
                }
            )
    return made


# --- the floor -------------------------------------------------------------------------------------------------------
class Floor:
    """`parley-load sendto`: receive, open, and for everybody copy, seal, `sendto`."""

    name = "sendto"

    @asynccontextmanager
    async def serve(self, site: Site, scenario: Scenario) -> AsyncIterator[Running]:
        network = site.network
        command = network.command(str(site.program.absolute()), "sendto")
        async with (
            talking(command) as server,
            generator(site.program, core=GENERATOR_CORE, host=network.generator_host) as load,
        ):
            publishers = await load.peers(scenario.publisher_names())
            subscribers = await load.peers(scenario.subscriber_names())
            keys = {peer.id: secrets.token_hex(_KEY_BYTES) for peer in (*publishers, *subscribers)}
            server.tell(
                {
                    "host": network.server_host,
                    "profile": PROFILE,
                    "transport_cc": EXTENSIONS["video"]["transport_cc"],
                    "publishers": [_end(peer, keys) for peer in publishers],
                    "subscribers": [_end(peer, keys) for peer in subscribers],
                }
            )
            address = await server.hear()
            await load.connect([_preset(name, key, address) for name, key in keys.items()])
            yield Running(self.name, server.pid, load, scenario, has_rtcp=False)


def _end(peer: LoadPeer, keys: dict[str, str]) -> Words:
    return {"ip": peer.ip, "port": peer.port, "key": keys[peer.id]}


def _preset(name: str, key: str, address: Words) -> Words:
    return {"id": name, "remote": address, "keys": {"profile": PROFILE, "send": key, "receive": key}}
