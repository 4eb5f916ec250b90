"""Builds the TURN server from the settings and serves it, with health and metrics on a loopback port."""

import asyncio
import random
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from conference import telemetry
from conference.adapters.system import SystemClock
from conference.adapters.turn import TurnIceServers
from conference.domain.addresses import parse_address
from conference.domain.ids import ParticipantId, Secret
from conference.settings import Settings, settings
from local.turn import coturn
from local.turn.core import TurnCore
from local.turn.metrics import TurnMetrics
from local.turn.nonces import Nonces
from local.turn.peers import PeerRules, Ports, parse_peers
from local.turn.server import Addresses, TurnServer

REALM = "parley"


def live_secrets(chosen: Settings) -> Sequence[Secret]:
    """The current and the previous one."""
    given = (chosen.turn_secret, chosen.turn_secret_previous)
    return tuple(Secret(value.get_secret_value()) for value in given if value and value.get_secret_value())


def credentials(chosen: Settings) -> TurnIceServers:
    """Raises ValueError where there is no secret."""
    known = live_secrets(chosen)
    if not known:
        raise ValueError("The TURN server needs PARLEY_TURN_SECRET.")
    return TurnIceServers(
        [f"turn:{chosen.turn_host}:{chosen.turn_port}"], known[0], previous=known[1] if known[1:] else None
    )


def relay_ports(chosen: Settings) -> Ports:
    """Raises ValueError."""
    first, _, last = chosen.turn_relay_ports.partition("-")
    return Ports(int(first), int(last or first))


def build(chosen: Settings) -> TurnServer:
    """Raises ValueError where a setting cannot be read."""
    known = credentials(chosen)
    ports = relay_ports(chosen)
    rules = PeerRules(parse_address(chosen.turn_host), ports, parse_peers(chosen.turn_peers))
    return TurnServer(
        lambda open_relay: TurnCore(
            realm=REALM,
            rules=rules,
            passwords=known.credentials,
            open_relay=open_relay,
            nonces=Nonces(secrets.token_bytes(32)),
        ),
        relay_host=chosen.turn_host,
        ports=ports,
        date=SystemClock().now,
        chance=random.SystemRandom(),
    )


def addresses(chosen: Settings) -> Addresses:
    certificate, key = chosen.turn_certificate, chosen.turn_certificate_key
    return Addresses(
        chosen.turn_host,
        chosen.turn_port,
        chosen.turn_tls_port,
        Path(certificate) if certificate else None,
        Path(key) if key else None,
    )


async def _serve_health(port: int, registry: CollectorRegistry) -> web.AppRunner:
    async def ready(request: web.Request) -> web.Response:
        return web.json_response({"status": "ready"})

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    application = web.Application()
    application.router.add_get("/ready", ready)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def serve(chosen: Settings, stop: asyncio.Event) -> None:
    """Until `stop`: coturn where it is wanted, installed and safe, else the embedded server. Raises OSError where a
    port is taken, ValueError for a bad setting, RuntimeError where coturn has ended or was asked for in vain."""
    if chosen.turn_server in ("auto", "coturn"):
        process = await _coturn(chosen)
        if process is not None:
            await _serve_coturn(process, chosen, stop)
            return
    server = build(chosen)
    await server.start(addresses(chosen))
    health = await _serve_health(chosen.turn_health_port, TurnMetrics(server.core).registry)
    try:
        await stop.wait()
    finally:
        await health.cleanup()
        await server.stop()


async def _coturn(chosen: Settings) -> asyncio.subprocess.Process | None:
    program = coturn.installed()
    if program is None:
        if chosen.turn_server == "coturn":
            raise RuntimeError("PARLEY_TURN_SERVER=coturn, and there is no turnserver program. Install coturn.")
        return None
    media = tuple(str(host) for host, _ in parse_peers(chosen.turn_peers))
    configured = coturn.Coturn(
        chosen.turn_host,
        chosen.turn_port,
        relay_ports(chosen),
        media,
        live_secrets(chosen),
        chosen.turn_tls_port,
        chosen.turn_certificate,
        chosen.turn_certificate_key,
    )
    process = await coturn.start(program, coturn.write(configured, chosen.data_dir / "turn"))
    probe = credentials(chosen).for_participant(ParticipantId("probe"), SystemClock().now())[0]
    password = probe.credential.reveal() if probe.credential else ""
    allowed = (chosen.turn_host, *media)
    reason = await coturn.why_not((chosen.turn_host, chosen.turn_port), probe.username or "", password, allowed)
    if reason is None:
        return process
    await coturn.end(process)
    text = f"The installed coturn is not used: {reason}."
    if chosen.turn_server == "coturn":
        raise RuntimeError(text)
    print(f"ERROR {text} The embedded TURN server runs instead.", file=sys.stderr, flush=True)
    return None


async def _serve_coturn(process: asyncio.subprocess.Process, chosen: Settings, stop: asyncio.Event) -> None:
    health = await _serve_health(chosen.turn_health_port, CollectorRegistry())
    ending, stopping = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            raise RuntimeError(f"coturn has ended with code {ending.result()}")
    finally:
        stopping.cancel()
        await health.cleanup()
        await coturn.end(process)


async def _main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings(), stop)


def main() -> None:
    """The process: logs, then serves until SIGINT or SIGTERM."""
    telemetry.configure("parley-turn", settings())
    asyncio.run(_main())
