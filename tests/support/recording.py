"""Recordings: what peers and the control layer do to a packet engine, by the microsecond, and what comes of it.

The same recording is played to both engines, which have no sockets and no clock; what peers hear is compared. Packets
are sealed and opened here, with keys of the peers' own. First numbers, time stamps and the engine's own SSRC are random
in each engine: they are mapped away by each stream's first packet.
"""

import hashlib
import importlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from conference.adapters.media.core import ReferenceCore
from conference.adapters.media.srtp import SrtpContext
from conference.ports import forwarding
from conference.ports.forwarding import Command, Event, IceChanged, SetKeys
from conference.protocol import rtcp, rtp
from conference.protocol.rtp import RtpPacket, unroll
from tests.support.feedback import read_feedback

Address = tuple[str, int]
Datagrams = list[tuple[Address, bytes]]
TICK_US: Final = 20_000
HAIR_S: Final = 1e-12
PROFILE: Final = "AEAD_AES_128_GCM"
NTP: Final = 1 << 32


# --- what happens ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Apply:
    """The control layer's commands, in one batch."""

    at: int
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Arrive:
    """One drain of datagrams: (peer, address, plain packet, kind). Media and RTCP are sealed with the peer's key."""

    at: int
    datagrams: tuple[tuple[str, Address, bytes, Literal["rtp", "rtcp", "raw", "again"]], ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A subscriber's feedback about what it received under `ssrc`, in terms that hold for both engines: numbers count
    from the stream's first, a report names the newest sender report and the round trip that it is to tell."""

    at: int
    peer: str
    address: Address
    ssrc: int
    kind: Literal["nack", "pli", "fir", "report"]
    numbers: tuple[int, ...] = ()
    fraction_lost: int = 0
    round_trip_us: int = 0


Item = Apply | Arrive | Ask


@dataclass(frozen=True, slots=True)
class Recording:
    """Items in the order of time; ticks come every 20 ms from `start` to `end`."""

    start: int
    end: int
    items: tuple[Item, ...]
    addresses: dict[Address, str] = field(default_factory=dict)  # where peers are reached


def keys_of(peer: str) -> SetKeys:
    """The SRTP keys of a peer's transport, as the engine gets them."""
    theirs, ours = (hashlib.sha256(f"{peer}/{side}".encode()).digest()[:28] for side in ("peer", "engine"))
    return SetKeys(peer, PROFILE, theirs, ours)


# --- the engines -----------------------------------------------------------------------------------------------------
class Driver(Protocol):
    """An engine whose time is an argument, in microseconds."""

    def apply(self, now: int, commands: Sequence[Command]) -> Datagrams: ...
    def receive(self, now: int, datagrams: Datagrams) -> Datagrams: ...
    def tick(self, now: int) -> Datagrams: ...
    def events(self) -> list[Event]: ...
    def dropped(self) -> dict[str, int]: ...


class ReferenceDriver:
    """The reference engine counts in float seconds. Each step comes a hair later than its microsecond, so that what is
    due exactly then is not a rounding error too early."""

    def __init__(self, seed: int) -> None:
        self._sent: Datagrams = []
        chance = random.Random(seed)
        self._core = ReferenceCore(lambda data, to: self._sent.append((to, data)), lambda: chance.getrandbits(32))
        self._steps = 0

    def _now(self, now: int) -> float:
        self._steps += 1
        return now / 1e6 + self._steps * HAIR_S

    def _take(self) -> Datagrams:
        sent, self._sent = self._sent, []
        return sent

    def apply(self, now: int, commands: Sequence[Command]) -> Datagrams:
        self._core.apply(commands, self._now(now))
        return self._take()

    def receive(self, now: int, datagrams: Datagrams) -> Datagrams:
        at = self._now(now)
        for address, data in datagrams:
            self._core.receive(data, address, at)
        return self._take()

    def tick(self, now: int) -> Datagrams:
        self._core.tick(self._now(now))
        return self._take()

    def events(self) -> list[Event]:
        return self._core.poll_events(100_000)

    def dropped(self) -> dict[str, int]:
        return dict(self._core.dropped)


class NativeDriver:
    """One packet worker of the native engine."""

    def __init__(self, seed: int) -> None:
        self._engine = importlib.import_module("parley_dataplane._native").Engine(seed)

    def apply(self, now: int, commands: Sequence[Command]) -> Datagrams:
        return list(self._engine.apply(now, commands))

    def receive(self, now: int, datagrams: Datagrams) -> Datagrams:
        return list(self._engine.receive(now, datagrams))

    def tick(self, now: int) -> Datagrams:
        return list(self._engine.tick(now))

    def events(self) -> list[Event]:
        return [getattr(forwarding, kind)(*fields) for kind, *fields in self._engine.poll_events()]

    def dropped(self) -> dict[str, int]:
        return dict(self._engine.dropped())


# --- what is heard ---------------------------------------------------------------------------------------------------
class Heard(NamedTuple):
    """A media packet as a subscriber has it; `number` and `timestamp` count from the stream's first."""

    at: int
    number: int
    timestamp: int
    marker: bool
    payload_type: int
    extensions: dict[int, bytes]
    payload: bytes
    padding: int


class StreamEar:
    """One outgoing SSRC at one subscriber."""

    def __init__(self) -> None:
        self.first: RtpPacket | None = None
        self.first_number = 0
        self.highest = 0
        self.packets: list[Heard] = []

    def add(self, packet: RtpPacket, at: int) -> None:
        if self.first is None:
            self.first = packet
            self.first_number = self.highest = packet.sequence + 0x10000
        number = unroll(packet.sequence, self.highest)
        self.highest = max(self.highest, number)
        timestamp = (packet.timestamp - self.first.timestamp) & 0xFFFFFFFF
        self.packets.append(
            Heard(
                at,
                number - self.first_number,
                timestamp,
                packet.marker,
                packet.payload_type,
                packet.extensions,
                packet.payload,
                packet.padding,
            )
        )


@dataclass
class Hearing:
    """All that one engine's peers heard."""

    streams: dict[tuple[str, int], StreamEar] = field(default_factory=lambda: defaultdict(StreamEar))
    control: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    raw: list[tuple[int, Address, bytes]] = field(default_factory=list)
    events: list[tuple[int, Event]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def reports(self, peer: str, ssrc: int) -> list[tuple[int, rtcp.SenderReport]]:
        return [(at, p) for at, p in self.control[peer] if isinstance(p, rtcp.SenderReport) and p.ssrc == ssrc]

    def links(self, transport: str) -> list[tuple[int, str]]:
        """The states that a transport went through, and when."""
        found = [(at, e) for at, e in self.events if isinstance(e, IceChanged) and e.transport_id == transport]
        return [(at, event.state) for at, event in found]


class _Peer:
    """Keys of one transport's far end; remembers what it sent, to send it again."""

    def __init__(self, name: str) -> None:
        keys = keys_of(name)
        self.srtp = SrtpContext(keys.profile, keys.send_key, keys.receive_key)
        self.last: bytes = b""

    def seal(self, data: bytes, kind: str) -> bytes:
        if kind == "again":
            return self.last
        sealed = data
        if kind != "raw":
            made = self.srtp.seal_rtp(data) if kind == "rtp" else self.srtp.seal_rtcp(data)
            assert made is not None, "the recording seals each number once"
            sealed = made
        self.last = sealed
        return sealed


class Player:
    """Plays a recording to one engine."""

    def __init__(self, driver: Driver, recording: Recording) -> None:
        self._driver = driver
        self._recording = recording
        self._peers: dict[str, _Peer] = {}
        self.hearing = Hearing()

    def play(self) -> Hearing:
        tick = self._recording.start
        for item in self._recording.items:
            while tick <= item.at:
                self._hear(tick, self._driver.tick(tick))
                tick += TICK_US
            self._hear(item.at, self._do(item))
        while tick <= self._recording.end:
            self._hear(tick, self._driver.tick(tick))
            tick += TICK_US
        self.hearing.dropped = Counter(self._driver.dropped())
        return self.hearing

    def _do(self, item: Item) -> Datagrams:
        if isinstance(item, Apply):
            return self._driver.apply(item.at, item.commands)
        if isinstance(item, Arrive):
            sealed = [(address, self._peer(peer).seal(data, kind)) for peer, address, data, kind in item.datagrams]
            return self._driver.receive(item.at, sealed)
        data = self._feedback(item)
        return self._driver.receive(item.at, [(item.address, self._peer(item.peer).seal(data, "rtcp"))])

    def _peer(self, name: str) -> _Peer:
        if name not in self._peers:
            self._peers[name] = _Peer(name)
        return self._peers[name]

    def _feedback(self, ask: Ask) -> bytes:
        if ask.kind == "pli":
            return rtcp.picture_loss(1, ask.ssrc)
        if ask.kind == "fir":
            entry = ask.ssrc.to_bytes(4, "big") + b"\1\0\0\0"
            return b"\x84\xce\0\4" + (1).to_bytes(4, "big") + bytes(4) + entry
        ear = self.hearing.streams[ask.peer, ask.ssrc]
        if ask.kind == "nack":
            return rtcp.nack(1, ask.ssrc, [(ear.first_number + number) & 0xFFFF for number in ask.numbers])
        last, delay = 0, 0
        for at, report in self.hearing.reports(ask.peer, ask.ssrc)[-1:]:
            last = report.ntp >> 16 & 0xFFFFFFFF
            delay = max((ask.at - at - ask.round_trip_us) * 65_536 // 1_000_000, 0)
        block = rtcp.ReportBlock(ask.ssrc, ask.fraction_lost, 0, ear.highest & 0xFFFFFFFF, 0, last, delay)
        return rtcp.receiver_report(rtcp.ReceiverReport(1, (block,)))

    def _hear(self, at: int, datagrams: Datagrams) -> None:
        self.hearing.events += [(at, event) for event in self._driver.events()]
        for address, data in datagrams:
            if not 128 <= data[0] < 192:
                self.hearing.raw.append((at, address, data))
                continue
            name = self._recording.addresses[address]
            opener = self._peer(name).srtp
            if 192 <= data[1] <= 223:
                plain = opener.open_rtcp(data)
                assert plain is not None, "what the engine seals can be opened, once"
                found: list[Any] = [*read_feedback(plain), *rtcp.parse(plain)]
                self.hearing.control[name] += [(at, packet) for packet in found]
                continue
            plain = opener.open_rtp(data)
            assert plain is not None, "what the engine seals can be opened, once"
            packet = rtp.parse(plain)
            self.hearing.streams[name, packet.ssrc].add(packet, at)


def play(driver: Driver, recording: Recording) -> Hearing:
    return Player(driver, recording).play()
