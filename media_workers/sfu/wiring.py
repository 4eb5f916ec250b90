"""Builds the SFU worker from the settings."""

import importlib
import logging
import os
import secrets
import socket
import string
import time
from typing import Final, cast

from conference import telemetry
from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.reference import ReferenceEngine
from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.redis.wiring import open_redis
from conference.adapters.system import SystemClock
from conference.adapters.worker_tokens import worker_tokens
from conference.ports.forwarding import ForwardingEngine
from conference.settings import Settings, settings
from media_workers.sfu import engines
from media_workers.sfu.core import Chance, Options
from media_workers.sfu.worker import Worker, WorkerConfig, WorkerPorts

_logger: Final = logging.getLogger(__name__)
_LETTERS: Final = string.ascii_letters + string.digits
_NATIVE_ADAPTER: Final = "conference.adapters.media.native"
_EXIT_CODE: Final = 137  # as if killed
_ANY: Final = "0.0.0.0"  # noqa: S104  # compared, not bound
_DOCUMENTATION_ADDRESS: Final = ("192.0.2.1", 9)  # RFC 5737: nothing is ever sent to it


def random_source() -> Chance:
    """Cryptographic randomness."""
    return Chance(
        token=lambda length: "".join(secrets.choice(_LETTERS) for _ in range(length)),
        number=lambda: secrets.randbits(32),
    )


def interface_address() -> str | None:
    """The address of the interface that leads outside; None on a machine without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_DOCUMENTATION_ADDRESS)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def media_addresses(settings: Settings) -> tuple[str, ...]:
    """What goes into ICE candidates, best first: the public address, else the bound one, else the interface's and
    loopback."""
    if settings.public_ip:
        return (settings.public_ip,)
    if settings.sfu_media_host != _ANY:
        return (settings.sfu_media_host,)
    outside = interface_address()
    return tuple(dict.fromkeys(address for address in (outside, "127.0.0.1") if address))


def _control_url(settings: Settings, port: int) -> str:
    return settings.sfu_control_url or f"ws://{settings.sfu_host}:{port}/control"


def has_native() -> bool:
    """Whether the native engine's wheel and its adapter can be imported."""
    try:
        for name in (engines.NATIVE_WHEEL, _NATIVE_ADAPTER):
            importlib.import_module(name)
    except ImportError:
        return False
    return True


def make_engine(choice: engines.EngineChoice, host: str, port: int) -> ForwardingEngine:
    """The engine. The native one is imported here only, so that a missing wheel is no error elsewhere."""
    if choice.name == "reference":
        return ReferenceEngine(host, port, time.monotonic)
    adapter = importlib.import_module(_NATIVE_ADAPTER)
    engine = adapter.NativeEngine(host, port, workers=choice.workers, seed=secrets.randbits(63))
    return cast(ForwardingEngine, engine)


def build(chosen: Settings | None = None) -> tuple[Worker, RedisClient]:
    """The worker of these settings (default: the process's), and the client to close after it. Call inside the event
    loop. Raises pydantic.ValidationError, or engines.EngineMissing."""
    chosen = chosen or settings()
    telemetry.configure("parley-sfu", chosen)
    choice = engines.choose(
        chosen.sfu_engine, chosen.sfu_workers, is_installed=has_native(), cores=engines.usable_cores()
    )
    _logger.info(
        "the media engine is chosen",
        extra={"engine": choice.name, "workers": choice.workers, "reason": choice.reason},
    )
    server, close_redis = open_redis(chosen)
    redis = RedisClient(server, close=close_redis)
    addresses = media_addresses(chosen)
    has_hooks = chosen.debug_hooks and chosen.environment != "production"
    config = WorkerConfig(
        node_id=chosen.node_id or f"sfu-{secrets.token_hex(4)}",
        region=chosen.region,
        host=chosen.sfu_host,
        port=chosen.sfu_port,
        capacity=chosen.sfu_capacity,
        candidates=lambda port: tuple((address, port) for address in addresses),
        control_url=lambda port: _control_url(chosen, port),
        abort=(lambda: os._exit(_EXIT_CODE)) if has_hooks else None,
        options=Options(
            last_n=chosen.sfu_last_n or None,
            video_codecs=tuple(chosen.sfu_video_codecs.split(",")),
            has_red=chosen.sfu_audio_red,
        ),
    )
    ports = WorkerPorts(
        engine=make_engine(choice, chosen.sfu_media_host, chosen.sfu_media_port),
        dtls=AiortcEndpoints(),
        tokens=worker_tokens(chosen),
        nodes=RedisMediaNodes(redis),
        clock=SystemClock(),
        monotonic=time.monotonic,
        chance=random_source(),
    )
    return Worker(config, ports), redis
