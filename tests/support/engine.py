"""Peers of a forwarding engine without DTLS: UDP sockets with an ICE client and SRTP keys of the test's choice.

`ENGINES` are the engines that the suites run on: one line each.
"""

import asyncio
import contextlib
import importlib.util
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from conference.adapters.media.reference import ReferenceEngine
from conference.adapters.media.srtp import SrtpContext
from conference.ports.forwarding import (
    AddPlainTransport,
    AddTransport,
    Command,
    Event,
    ExtensionIds,
    ForwardingEngine,
    SetKeys,
    SetSender,
    SetTrack,
    TrackCodec,
    WantTrack,
)
from conference.protocol import rtcp, rtp, stun
from conference.protocol.rtp import RtpPacket
from tests.support.waiting import eventually

PWD = "p" * 24
VIDEO = TrackCodec("VP8", 96, 90_000, 97, has_nack=True)
AUDIO = TrackCodec("opus", 111, 48_000)
IDS = ExtensionIds(
    mid=4,
    rid=10,
    repaired_rid=11,
    audio_level=1,
    transport_cc=3,
    dependency_descriptor=12,
    orientation=13,
    abs_send_time=2,
)
KEY_FRAME = b"\x90\xe0\x81\x00\x07\x20\x00rest"
DELTA = b"\x90\xe0\x81\x01\x07\x20\x01rest"


class EngineFactory(Protocol):
    """Makes engines, and lets time pass for those that it has made."""

    name: str

    def make(self) -> ForwardingEngine: ...

    async def advance(self, seconds: float) -> None:
        """Returns once that much time has passed on the engines' clock."""


class ReferenceFactory:
    """The reference engine on a clock that runs `ahead` seconds before ours."""

    name = "reference"

    def __init__(self) -> None:
        self.ahead = 0.0

    def make(self) -> ForwardingEngine:
        return ReferenceEngine("127.0.0.1", 0, lambda: time.monotonic() + self.ahead)

    async def advance(self, seconds: float) -> None:
        self.ahead += seconds


class NativeFactory:
    """The native engine, whose own clock can be moved ahead."""

    name = "native"

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._made: list[Any] = []

    def make(self) -> ForwardingEngine:
        engine = importlib.import_module("conference.adapters.media.native").NativeEngine
        made: ForwardingEngine = engine("127.0.0.1", 0, workers=self._workers, seed=7)
        self._made.append(made)
        return made

    async def advance(self, seconds: float) -> None:
        for made in self._made:
            made.shift_clock(seconds)


def has_native() -> bool:
    """Whether the wheel is installed. Where CI=1 a missing one is an error, not a reason to skip."""
    return importlib.util.find_spec("parley_dataplane._native") is not None if _has_package() else False


def _has_package() -> bool:
    return importlib.util.find_spec("parley_dataplane") is not None


_FACTORIES: Final[tuple[Callable[[], EngineFactory], ...]] = (ReferenceFactory, NativeFactory)
ENGINES: Final = tuple(make for make in _FACTORIES if make is ReferenceFactory or has_native() or os.environ.get("CI"))


class EnginePeer:
    """One transport's far end. What arrives is opened and sorted into `rtp`, `padding` (RTX without payload, as probes
    are), `rtcp` and `other`."""

    def __init__(self, engine: ForwardingEngine, address: tuple[str, int], name: str, worker: int = 0) -> None:
        self._engine = engine
        self._address = address
        self._worker = worker
        self.name = name
        self.ufrag = f"ufrag{name}"
        self.pwd = PWD
        self.number = 0  # of the newest packet, where a test counts
        self.rtp: list[RtpPacket] = []
        self.padding: list[RtpPacket] = []
        self.rtcp: list[rtcp.RtcpPacket] = []
        self.raw_rtcp: list[bytes] = []
        self.other: list[bytes] = []
        self.mutilate: Callable[[bytes], bytes | None] = lambda data: data
        their, our = bytes([1]) * 28, bytes([2]) * 28
        self.keys = SetKeys(name, "AEAD_AES_128_GCM", their, our)
        self._srtp = SrtpContext("AEAD_AES_128_GCM", our, their)
        self.socket = self._open()

    def _open(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind(("127.0.0.1", 0))
        asyncio.get_running_loop().add_reader(made.fileno(), self._read, made)
        return made

    def move(self) -> None:
        """Goes on from another port, as after a NAT rebinding."""
        self.close()
        self.socket = self._open()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self.socket.close()

    def _read(self, source: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sort(source.recv(2_000))

    def _sort(self, data: bytes) -> None:
        if not 128 <= data[0] < 192:
            self.other.append(data)
        elif 192 <= data[1] <= 223:
            plain = self._srtp.open_rtcp(data)
            assert plain is not None
            self.raw_rtcp.append(plain)
            self.rtcp += rtcp.parse(plain)
        else:
            plain = self._srtp.open_rtp(data)
            assert plain is not None, "what the engine seals can be opened, once"
            packet = rtp.parse(plain)
            is_probe = packet.payload_type == VIDEO.rtx_payload_type and not packet.payload
            (self.padding if is_probe else self.rtp).append(packet)

    # --- sending -----------------------------------------------------------------------------------------------------
    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self._address)

    def check(self, *, ufrag: str | None = None, pwd: str | None = None) -> None:
        username = f"{ufrag or self.ufrag}:far"
        self.send(stun.binding_request(b"t" * 12, username, pwd or self.pwd, use_candidate=True))

    async def connect(self) -> None:
        """ICE and keys."""
        self._engine.apply([AddTransport(self.name, self.ufrag, PWD, self._worker)])
        await self.nominate()
        self._engine.apply([self.keys])

    def connect_plainly(self) -> None:
        """By a plain transport to our address, with the keys."""
        keys, address = self.keys, self.socket.getsockname()
        self._engine.apply(
            [AddPlainTransport(self.name, address, keys.profile, keys.receive_key, keys.send_key, self._worker)]
        )

    async def connect_as(self, ufrag: str, pwd: str) -> None:
        """ICE with a transport that is there already; its keys are set by who made it, to `keys`."""
        self.ufrag, self.pwd = ufrag, pwd
        await self.nominate()

    async def nominate(self) -> None:
        before = len(self.other)
        self.check()
        await eventually(lambda: len(self.other) > before)

    def send_rtp(self, packet: RtpPacket) -> bytes:
        sealed = self._srtp.seal_rtp(rtp.build(packet))
        assert sealed is not None
        changed = self.mutilate(sealed)
        if changed is not None:
            self.send(changed)
        return sealed

    def send_rtcp(self, data: bytes) -> None:
        sealed = self._srtp.seal_rtcp(data)
        assert sealed is not None
        self.send(sealed)


class Bench:
    """An engine with peers."""

    def __init__(self, factory: EngineFactory, engine: ForwardingEngine, host: str) -> None:
        self.engine = engine
        self.advance = factory.advance
        self.events: list[Event] = []
        self.peers: list[EnginePeer] = []
        self._host = host
        self._ssrcs = 1_000
        engine.on_wakeup(lambda: self.events.extend(engine.poll_events(1_000)))

    def apply(self, *commands: Command) -> None:
        self.engine.apply(commands)

    async def settle(self) -> None:
        """Lets an engine with threads of its own take in what it was told."""
        await asyncio.sleep(0.05)

    def dropped(self, reason: str) -> int:
        return self.engine.stats().dropped.get(reason, 0)

    def stranger(self, name: str = "stranger", worker: int = 0) -> EnginePeer:
        ports = self.engine.ports
        peer = EnginePeer(self.engine, (self._host, ports[worker % len(ports)]), name, worker)
        self.peers.append(peer)
        return peer

    async def peer(self, name: str, worker: int = 0) -> EnginePeer:
        peer = self.stranger(name, worker)
        await peer.connect()
        return peer

    def publish(
        self,
        peer: EnginePeer,
        track: str,
        codec: TrackCodec = VIDEO,
        *,
        mid: str = "0",
        rids: tuple[str, ...] = (),
        ssrcs: tuple[tuple[int, int | None], ...] = (),
        is_screen: bool = False,
    ) -> None:
        self.apply(SetTrack(peer.name, track, mid, codec, IDS, ssrcs, rids, is_screen))

    def subscribe(self, peer: EnginePeer, track: str, codec: TrackCodec = VIDEO, ids: ExtensionIds = IDS) -> SetSender:
        self._ssrcs += 2
        rtx = self._ssrcs + 1 if codec.rtx_payload_type is not None else None
        command = SetSender(f"{peer.name}/{track}", peer.name, track, "s0", codec, ids, self._ssrcs, rtx, "someone")
        self.apply(command)
        return command

    def want(self, sender_id: str, *, width: int = 1_280, visible: bool = True, pinned: bool = False) -> None:
        self.apply(WantTrack(sender_id, width, width * 9 // 16, visible, pinned))

    def of(self, kind: type[Event], **fields: Any) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())]


@asynccontextmanager
async def bench(factory: EngineFactory) -> AsyncIterator[Bench]:
    """A started engine."""
    engine = factory.make()
    host, _ = await engine.start()
    made = Bench(factory, engine, host)
    try:
        yield made
    finally:
        for peer in made.peers:
            peer.close()
        await engine.stop()


def media(number: int, *, payload: bytes = DELTA, ssrc: int = 50, payload_type: int = 96, mid: str = "0") -> RtpPacket:
    """A packet of the publisher's, with transport-wide number."""
    extensions: dict[int, bytes] = {3: (number & 0xFFFF).to_bytes(2, "big"), 4: mid.encode()}
    return RtpPacket(payload_type, number & 0xFFFF, number * 3_000, ssrc, payload, marker=True, extensions=extensions)


def vp8(picture: int, *, tl0: int = 7, temporal: int = 0, is_sync: bool = False, is_key: bool = False) -> bytes:
    """The only packet of a VP8 picture with a 15-bit picture id."""
    layer = temporal << 6 | (0x20 if is_sync else 0)
    return b"\x90\xe0" + (0x8000 | picture).to_bytes(2, "big") + bytes((tl0, layer, 0 if is_key else 1)) + b"rest"
