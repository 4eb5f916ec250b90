"""Reads what was asked for (PORT, HOST, TLS, DATA_DIR, PUBLIC_IP, PROFILE), plans the processes and runs them."""

import argparse
import asyncio
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from conference.domain.addresses import is_loopback
from conference.settings import Settings
from local.edge.addresses import lan_address
from local.runner import machine, parent, profiles
from local.runner.machine import NotPossible
from local.runner.specs import TENANT_VARIABLE, Ports, Site, Spec, bracketed, environment, processes, turn_variables
from local.runner.supervisor import StartFailed, Supervisor

ANY = ("0.0.0.0", "::")  # noqa: S104 - a value to compare with
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Wish:
    """What the environment asks for."""

    host: str
    port: int
    tls: bool
    data_dir: Path
    public_ip: str
    turn_host: str = ""
    profile: profiles.Profile = "embedded"


def wish(given: Mapping[str, str]) -> Wish:
    """Reads the variables. Raises NotPossible that names the one that is wrong."""
    port = given.get("PORT") or given.get("PARLEY_PORT") or "8080"
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise NotPossible(f"PORT={port} is no port. Use a number from 0 to 65535; 0 takes a free one.")
    tls = (given.get("TLS") or given.get("PARLEY_TLS") or "0").lower()
    if tls not in ("0", "1", "true", "false", "yes", "no", "on", "off"):
        raise NotPossible(f"TLS={tls} is neither 0 nor 1.")
    return Wish(
        host=given.get("HOST") or given.get("PARLEY_HOST") or "127.0.0.1",
        port=int(port),
        tls=tls in ("1", "true", "yes", "on"),
        data_dir=Path(given.get("DATA_DIR") or given.get("PARLEY_DATA_DIR") or ".data").absolute(),
        public_ip=given.get("PUBLIC_IP") or given.get("PARLEY_PUBLIC_IP") or "",
        turn_host=given.get("PARLEY_TURN_HOST") or "",
        profile=profiles.profile_of(given),
    )


def site_of(asked: Wish, port: int, lan: str) -> Site:
    """The addresses of the origin. Bound to all interfaces, it is known by the LAN address, else by loopback."""
    scheme = "https" if asked.tls else "http"
    if asked.host in ANY:
        public, loopback = lan or "127.0.0.1", "127.0.0.1"
    elif is_loopback(asked.host):
        public = loopback = "127.0.0.1" if asked.host == "localhost" else asked.host
    else:
        public = loopback = asked.host
    shown = "" if port == DEFAULT_PORTS[scheme] else f":{port}"  # browsers leave it out of the Origin, too
    urls = [f"{scheme}://{bracketed(name)}{shown}" for name in (public, loopback)]
    beside = lan or "127.0.0.1" if asked.host in ANY else loopback if ":" not in loopback else "127.0.0.1"
    turn_host = asked.turn_host or beside
    return Site(
        asked.host,
        port,
        asked.tls,
        urls[0],
        urls[1],
        asked.public_ip,
        turn_host,
        is_turn_host_given=bool(asked.turn_host),
    )


def plan(asked: Wish, site: Site, given: Mapping[str, str]) -> tuple[Spec, ...]:
    """The processes with their ports and variables. Raises NotPossible."""
    redis, functions, identity, signaling, sfu, tunnel, health, *emulator_ports = machine.free_ports(11)
    emulated = profiles.EmulatorPorts(*emulator_ports)
    given = _with_stores(asked, emulated, given)
    media = given.get("PARLEY_SFU_MEDIA_PORT", "")
    turn, turn_tls = turn_ports(site, given) if wants_turn(given) else (0, 0)
    media_port = int(media) if media else machine.free_media_port()
    ports = Ports(redis, functions, identity, signaling, sfu, media_port, tunnel, turn, turn_tls, health)
    tenant = given.get(TENANT_VARIABLE) or str(Settings.model_fields["identity_tenant"].default)
    relay = turn_variables(site, ports, asked.data_dir, secrets.token_hex(32), machine.packet_workers(given))
    variables = environment(site, ports, asked.data_dir, given, tenant, relay)
    server = () if given.get("PARLEY_REDIS_URL") else machine.redis_server(redis, asked.data_dir / "redis")
    emulators = profiles.emulators(emulated, asked.data_dir, variables) if asked.profile == "azurite" else ()
    return processes(site, ports, variables, server, given, emulators)


def _with_stores(asked: Wish, ports: profiles.EmulatorPorts, given: Mapping[str, str]) -> Mapping[str, str]:
    """The variables of the profile under those that were set by hand; emulators are never left out."""
    if asked.profile == "azurite":
        return {**given, **profiles.emulated(ports, asked.data_dir)}
    return {**profiles.chosen_for_azure(given), **given} if asked.profile == "azure" else given


def wants_turn(given: Mapping[str, str]) -> bool:
    """Whether a TURN server of this machine is to run: not where it is turned off or another one is given."""
    return given.get("PARLEY_TURN_SERVER", "auto") != "off" and not given.get("PARLEY_TURN_URLS")


def turn_ports(site: Site, given: Mapping[str, str]) -> tuple[int, int]:
    """Of UDP and TCP, and of TLS (0: none): those given by hand, else free ones. Raises NotPossible."""
    found = [0, 0]
    wanted = (("PARLEY_TURN_PORT", machine.DEFAULT_TURN_PORT), ("PARLEY_TURN_TLS_PORT", machine.DEFAULT_TURN_TLS_PORT))
    for place, (variable, default) in enumerate(wanted[: 2 if site.tls else 1]):
        by_hand = given.get(variable)
        if by_hand:
            found[place] = machine.claim_turn_port(site.turn_host, variable, by_hand)
        else:
            found[place] = machine.free_turn_port(site.turn_host, default)
    return found[0], found[1]


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


async def run(given: Mapping[str, str], *, with_parent: bool = False) -> int:
    """Runs the system until it is told to stop, or its parent is. Gives the exit code."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    watching = asyncio.create_task(_stop_with_parent(stop)) if with_parent else None
    try:
        return await _run(given, stop, hurry)
    finally:
        if watching is not None:
            watching.cancel()


async def _stop_with_parent(stop: asyncio.Event) -> None:
    parent.end_with_parent()
    await parent.interrupted()
    stop.set()


async def _run(given: Mapping[str, str], stop: asyncio.Event, hurry: asyncio.Event) -> int:
    try:
        asked = wish(given)
        port = machine.claim_port(asked.host, asked.port)
        lock = machine.lock(asked.data_dir)
        site = site_of(asked, port, lan_address())
        specs = plan(asked, site, given)
    except NotPossible as reason:
        say(f"Parley cannot start. {reason}")
        return 1
    if asked.profile == "azure" and not await _azure_is_open(specs):
        lock.close()
        return 1
    say(f"Parley is starting. Its data is in {asked.data_dir}")
    if asked.profile == "azurite":
        say("Meetings and recordings are kept by emulators in memory: they are gone when Parley stops.")
    supervisor = Supervisor(specs, asked.data_dir / "logs", lambda line: say(f"  {line}"))
    try:
        return await _until_stopped(supervisor, site, stop)
    finally:
        if stop.is_set():
            say("Parley is stopping. Press Ctrl-C again to hurry.")
        await supervisor.stop(hurry)
        lock.close()
        say("Parley has stopped.")


async def _azure_is_open(specs: Sequence[Spec]) -> bool:
    """Whether every service of Azure can be used; says what is wrong."""
    checks = import_module("local.runner.checks")  # by name: it imports the SDKs of all services
    variables = next(spec.environment for spec in specs if spec.name == "functions")
    say("Parley asks the services of Azure.")
    found: list[str] = await checks.problems_of(variables)
    for sentence in found:
        say(f"  {sentence}")
    if found:
        say("Parley cannot start: see above.")
    return not found


async def _until_stopped(supervisor: Supervisor, site: Site, stop: asyncio.Event) -> int:
    began = time.monotonic()
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return 0
        await starting
    except StartFailed as failure:
        say(f"Parley cannot start. {failure}")
        return 1
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
    say(f"Parley is ready at {site.loopback_url} ({time.monotonic() - began:.1f} s). Ctrl-C ends it.")
    if site.public_url != site.loopback_url:
        say(f"On this network: {site.public_url}")
        if not site.tls:
            say("Browsers on other machines give their cameras to https pages only: start with TLS=1 for them.")
    await stop.wait()
    return 0


def main() -> int:
    """The runner. Gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.runner", description="The whole system on one machine.")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    arguments = parser.parse_args()
    return asyncio.run(run(dict(os.environ), with_parent=arguments.with_parent))
