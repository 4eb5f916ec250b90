"""Peers of a forwarding engine without DTLS: UDP sockets with an ICE client and SRTP keys of the test's choice."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from conference.adapters.media.srtp import SrtpContext
from conference.ports.forwarding import (
    AddTransport,
    Event,
    ExtensionIds,
    ForwardingEngine,
    SetKeys,
    SetSender,
    SetTrack,
    TrackCodec,
)
from conference.protocol import rtcp, rtp, stun
from conference.protocol.rtp import RtpPacket
from tests.support.waiting import eventually

PWD = "p" * 24
VIDEO = TrackCodec("VP8", 96, 90_000, 97, has_nack=True)
AUDIO = TrackCodec("opus", 111, 48_000)
IDS = ExtensionIds(mid=4, rid=10, repaired_rid=11, audio_level=1, transport_cc=3)
KEY_FRAME = b"\x90\xe0\x81\x00\x07\x20\x00rest"
DELTA = b"\x90\xe0\x81\x01\x07\x20\x01rest"


class EnginePeer:
    """One transport's far end. What arrives is opened and sorted into `rtp`, `rtcp` and `other`."""

    def __init__(self, engine: ForwardingEngine, address: tuple[str, int], name: str) -> None:
        self._engine = engine
        self._address = address
        self.name = name
        self.ufrag = f"ufrag{name}"
        self.rtp: list[RtpPacket] = []
        self.rtcp: list[rtcp.RtcpPacket] = []
        self.raw_rtcp: list[bytes] = []
        self.other: list[bytes] = []
        self.mutilate: Callable[[bytes], bytes | None] = lambda data: data
        their, our = bytes([1]) * 28, bytes([2]) * 28
        self._keys = SetKeys(name, "AEAD_AES_128_GCM", their, our)
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
            self.rtp.append(rtp.parse(plain))

    # --- sending -----------------------------------------------------------------------------------------------------
    def send(self, data: bytes) -> None:
        self.socket.sendto(data, self._address)

    def check(self, *, ufrag: str | None = None, pwd: str = PWD) -> None:
        username = f"{ufrag or self.ufrag}:far"
        self.send(stun.binding_request(b"t" * 12, username, pwd, use_candidate=True))

    async def connect(self) -> None:
        """ICE and keys."""
        self._engine.apply([AddTransport(self.name, self.ufrag, PWD)])
        await self.nominate()
        self._engine.apply([self._keys])

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

    def __init__(self, engine: ForwardingEngine, address: tuple[str, int]) -> None:
        self.engine = engine
        self.address = address
        self.events: list[Event] = []
        self.peers: list[EnginePeer] = []
        self._ssrcs = 1_000
        engine.on_wakeup(lambda: self.events.extend(engine.poll_events(1_000)))

    def stranger(self, name: str = "stranger") -> EnginePeer:
        peer = EnginePeer(self.engine, self.address, name)
        self.peers.append(peer)
        return peer

    async def peer(self, name: str) -> EnginePeer:
        peer = self.stranger(name)
        await peer.connect()
        return peer

    def publish(
        self,
        peer: EnginePeer,
        track: str,
        codec: TrackCodec = VIDEO,
        *,
        rids: tuple[str, ...] = (),
        ssrcs: tuple[tuple[int, int | None], ...] = (),
    ) -> None:
        self.engine.apply([SetTrack(peer.name, track, "0", codec, IDS, ssrcs, rids)])

    def subscribe(self, peer: EnginePeer, track: str, codec: TrackCodec = VIDEO) -> SetSender:
        self._ssrcs += 2
        rtx = self._ssrcs + 1 if codec is VIDEO else None
        command = SetSender(f"{peer.name}/{track}", peer.name, track, "s0", codec, IDS, self._ssrcs, rtx, "someone")
        self.engine.apply([command])
        return command

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def bench(make: Callable[[Callable[[], float]], ForwardingEngine]) -> AsyncIterator[Bench]:
    """`make` builds the engine from a clock."""
    engine = make(time.monotonic)
    host, port = await engine.start()
    made = Bench(engine, (host, port))
    try:
        yield made
    finally:
        for peer in made.peers:
            peer.close()
        await engine.stop()


def media(number: int, *, payload: bytes = DELTA, ssrc: int = 50, payload_type: int = 96, mid: str = "0") -> RtpPacket:
    """A packet of the publisher's, with transport-wide number."""
    extensions = {3: (number & 0xFFFF).to_bytes(2, "big"), 4: mid.encode()}
    return RtpPacket(payload_type, number & 0xFFFF, number * 3_000, ssrc, payload, marker=True, extensions=extensions)
