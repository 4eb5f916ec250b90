"""A small conference for recordings: cameras and microphones that send, people who watch, links that lose and reorder.

`Studio.perform` takes one move, a name with three small numbers, so that any list of moves is a recording: seeds and
Hypothesis make the lists, and a failing one shrinks. Each media payload ends in the NTP time at which
it was taken, so that a comparison can hold sender reports against it.

The native engine spreads periodic work over ten ticks by the place of a transport or sender in its tables, the
reference engine does it all in one. Idle ones are put between those that matter, so that each falls into the share of
that tick.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from conference.ports.forwarding import (
    AddPlainTransport,
    AddTransport,
    Command,
    ExtensionIds,
    MuteTrack,
    PauseSender,
    RemoveSender,
    RemoveTrack,
    SelectLayer,
    SetLastN,
    SetSender,
    SetTrack,
    TrackCodec,
    WantTrack,
)
from conference.protocol import rtcp, rtp, stun
from conference.protocol.rtp import RtpPacket
from tests.support.engine import AUDIO, IDS, PWD, VIDEO
from tests.support.recording import NTP, Address, Apply, Arrive, Ask, Item, Recording, keys_of

START_MS: Final = 10_000
SHARES: Final = 10
OFFSET_US: Final = 300  # of every item past its millisecond: never on the engines' own due times
SPACING_US: Final = 100
RIDS: Final = ("q", "h", "f")
TEMPORAL: Final = (
    (0, False),
    (2, True),
    (1, True),
    (2, False),
)  # L1T3: layer, and whether it needs the lowest alone
Move = tuple[str, int, int, int]
Kind = Literal["rtp", "rtcp", "raw", "again"]


@dataclass
class Source:
    """One outgoing stream of a publisher's: a simulcast layer or a microphone. Numbers begin just before they wrap."""

    ssrc: int
    rtx: int | None
    rid: str
    rate: int
    number: int = 65_500
    timestamp: int = 2**32 - 60_000
    picture: int = 0x7FF8
    tl0: int = 250
    rtx_number: int = 65_530
    pictures: int = 0
    taken: dict[int, RtpPacket] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)

    def next(self, at_ms: int) -> tuple[int, int]:
        """Number and time stamp of the next packet."""
        self.number += 1
        return self.number, self.stamp(at_ms)

    def stamp(self, at_ms: int) -> int:
        return (self.timestamp + (at_ms - START_MS) * self.rate // 1_000) & 0xFFFFFFFF

    def ntp(self, at_ms: int) -> int:
        return (3_900_000_000 << 32) + at_ms * NTP // 1_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A track and its sources."""

    peer: str
    track: str
    mid: str
    codec: TrackCodec
    sources: tuple[Source, ...]
    ids: ExtensionIds = IDS
    is_named: bool = False  # the SDP names the SSRCs

    def command(self) -> SetTrack:
        ssrcs = tuple((source.ssrc, source.rtx) for source in self.sources) if self.is_named else ()
        rids = tuple(source.rid for source in self.sources if source.rid)
        return SetTrack(self.peer, self.track, self.mid, self.codec, self.ids, ssrcs, rids)


def _screen_codec() -> TrackCodec:
    return TrackCodec("VP8", 98, 90_000, 99, has_nack=True)


def stages() -> tuple[Stage, ...]:
    """Ann's camera in three layers and her microphone; Dan's camera with SSRCs of the SDP, over a plain transport."""
    layers = tuple(Source(100 + at, 200 + at, rid, 90_000, number=65_500 - 7 * at) for at, rid in enumerate(RIDS))
    return (
        Stage("ann", "cam", "0", VIDEO, layers),
        Stage("ann", "mic", "1", AUDIO, (Source(300, None, "", 48_000),)),
        Stage("dan", "pic", "0", _screen_codec(), (Source(400, 500, "", 90_000, picture=0x7C),), is_named=True),
    )


class Studio:
    """Builds a recording move by move; `self.items` grows in the order of time."""

    def __init__(self, *, grouped: bool = False) -> None:
        self.now = START_MS
        self.items: list[Item] = []
        self.stages = stages()
        self.addresses: dict[str, Address] = {}
        self.known: dict[Address, str] = {}
        self.senders: dict[str, SetSender] = {}
        self.gone: dict[str, SetSender] = {}
        self._next_us = 0
        self._late: list[tuple[int, int, str, bytes]] = []
        self._wide = {"ann": 65_520, "dan": 65_000}
        self._ssrcs = 5_000
        self._grouped = grouped
        self._ended: set[str] = set()
        self._moves: dict[str, Callable[[int, int, int], None]] = {
            name.removeprefix("move_"): getattr(self, name) for name in dir(self) if name.startswith("move_")
        }
        self._open()

    # --- the world ---------------------------------------------------------------------------------------------------
    def _open(self) -> None:
        for place, name in enumerate(("ann", "bob", "dan", "cid")):
            port = 40_000 + place
            self.addresses[name] = ("10.0.0.1", port)
            self.known[self.addresses[name]] = name
            self._pad_transports(name)
            if name == "dan":
                keys = keys_of(name)
                to = self.addresses[name]
                self.apply(AddPlainTransport(name, to, keys.profile, keys.receive_key, keys.send_key))
            else:
                self.apply(AddTransport(name, f"ufrag{name}", PWD))
                self.check(name)
                self.apply(keys_of(name))
        for stage in self.stages:
            self.apply(stage.command())
        for name, track in (("bob", "cam"), ("bob", "mic"), ("cid", "cam"), ("bob", "pic"), ("cid", "mic")):
            self._pad_senders()
            self.subscribe(name, track)

    def _pad_transports(self, name: str) -> None:
        count = 1 if name == "ann" else SHARES - 1
        for at in range(count):
            self.apply(AddTransport(f"idle-{name}-{at}", f"idle{name}{at}", PWD))
        if name == "ann":
            self.apply(SetTrack("idle-ann-0", "idle", "9", AUDIO, IDS))

    def _pad_senders(self) -> None:
        count = SHARES - 1 if self.senders else 1
        for at in range(count):
            name = f"idle-{len(self.senders)}-{at}"
            self._ssrcs += 1
            self.apply(SetSender(name, "idle-ann-0", "idle", "9", AUDIO, IDS, self._ssrcs, None, "x"))

    def subscribe(self, name: str, track: str, ids: ExtensionIds = IDS) -> SetSender:
        codec = next(stage.codec for stage in self.stages if stage.track == track)
        self._ssrcs += 2
        rtx = self._ssrcs + 1 if codec.rtx_payload_type is not None else None
        command = SetSender(f"{name}/{track}", name, track, "s0", codec, ids, self._ssrcs, rtx, "someone")
        self.senders[command.sender_id] = command
        self.apply(command)
        return command

    def recording(self) -> Recording:
        self.wait(400)
        return Recording(START_MS * 1_000, self.now * 1_000, tuple(self.items), dict(self.known))

    # --- time --------------------------------------------------------------------------------------------------------
    def wait(self, milliseconds: int) -> None:
        """Lets time pass; what is late arrives meanwhile."""
        end = self.now + milliseconds
        while self._late and self._late[0][0] <= end:
            due, _, peer, data = heapq.heappop(self._late)
            self.now = max(self.now, due)
            self.arrive(peer, data, "rtp")
        self.now = max(self.now, end)

    def _at(self) -> int:
        at = max(self.now * 1_000 + OFFSET_US, self._next_us)
        self._next_us = at + SPACING_US
        self.now = max(self.now, at // 1_000)
        return at

    def apply(self, *commands: Command) -> None:
        self.items.append(Apply(self._at(), commands))

    def arrive(self, peer: str, data: bytes, kind: Kind) -> None:
        self.items.append(Arrive(self._at(), ((peer, self.addresses[peer], data, kind),)))

    def ask(self, sender: SetSender, kind: Literal["nack", "pli", "fir", "report"], **fields: object) -> None:
        self.wait(2)  # at the same part of a millisecond as all others
        at = self.now * 1_000 + OFFSET_US
        self._next_us = at + SPACING_US
        made = Ask(at, sender.transport_id, self.addresses[sender.transport_id], sender.ssrc, kind)
        self.items.append(replace(made, **fields))  # type: ignore[arg-type]

    def check(self, peer: str, *, nominates: bool = True, priority: int = 1) -> None:
        request = stun.binding_request(b"t" * 12, f"ufrag{peer}:far", PWD, priority=priority, use_candidate=nominates)
        self.arrive(peer, request, "raw")

    # --- media -------------------------------------------------------------------------------------------------------
    def _extensions(self, stage: Stage, source: Source, *, is_repair: bool = False) -> dict[int, bytes]:
        self._wide[stage.peer] += 1
        found = {3: (self._wide[stage.peer] & 0xFFFF).to_bytes(2, "big"), 4: stage.mid.encode()}
        if source.rid:
            found[11 if is_repair else 10] = source.rid.encode()
        return found

    def picture(self, stage: Stage, source: Source, *, key: bool, temporal: int, count: int) -> list[int]:
        """Takes a picture of `count` packets; their numbers. Nothing is sent yet."""
        layer, is_sync = TEMPORAL[temporal % 4]
        if key:
            layer, is_sync = 0, False
        source.picture += 1
        source.pictures += 1
        source.tl0 += layer == 0
        numbers = []
        for part in range(count):
            number, stamp = source.next(self.now)
            short = stage.track == "pic"
            picture = (
                bytes((source.picture & 0x7F,)) if short else (0x8000 | source.picture & 0x7FFF).to_bytes(2, "big")
            )
            head = bytes((0x90 if part == 0 else 0x80, 0xE0)) + picture
            head += bytes((source.tl0 & 0xFF, layer << 6 | (0x20 if is_sync else 0)))
            tag = b"\0" if key else b"\1"
            payload = head + tag + source.ssrc.to_bytes(4, "big") + source.ntp(self.now).to_bytes(8, "big")
            found = self._extensions(stage, source)
            if key and part == count - 1:
                found[13] = b"\1"  # orientation comes with the last packet of a key frame
            source.taken[number] = RtpPacket(
                stage.codec.payload_type,
                number & 0xFFFF,
                stamp,
                source.ssrc,
                payload,
                marker=part == count - 1,
                extensions=found,
                padding=4 if part == 2 else 0,
            )
            numbers.append(number)
        return numbers

    def send(self, stage: Stage, source: Source, number: int, fate: str = "sent") -> None:
        """Sends what was taken: it is `sent`, `lost`, `late` or sent `twice`."""
        if stage.track in self._ended:
            return
        data = rtp.build(source.taken[number])
        if fate == "lost":
            source.lost.append(number)
        elif fate == "late":
            heapq.heappush(self._late, (self.now + 45, len(self.items), stage.peer, data))
        else:
            self.arrive(stage.peer, data, "rtp")
            if fate == "twice":
                self.arrive(stage.peer, data, "again")

    def repair(self, stage: Stage, source: Source, number: int) -> None:
        """Sends a packet again by RTX."""
        packet = source.taken.get(number)
        if packet is None or source.rtx is None or stage.codec.rtx_payload_type is None or stage.track in self._ended:
            return
        source.rtx_number += 1
        again = RtpPacket(
            stage.codec.rtx_payload_type,
            source.rtx_number & 0xFFFF,
            packet.timestamp,
            source.rtx,
            packet.sequence.to_bytes(2, "big") + packet.payload,
            marker=packet.marker,
            extensions=self._extensions(stage, source, is_repair=True),
            padding=packet.padding,
        )
        self.arrive(stage.peer, rtp.build(again), "rtp")

    def clock(self, stage: Stage, source: Source) -> None:
        """A sender report of the publisher's."""
        at = self.now
        report = rtcp.SenderReport(source.ssrc, source.ntp(at), source.stamp(at), 1, 1)
        self.arrive(stage.peer, rtcp.sender_report(report) + rtcp.cname(source.ssrc, stage.peer), "rtcp")

    # --- moves -------------------------------------------------------------------------------------------------------
    def perform(self, move: Move) -> None:
        name, a, b, c = move
        self._moves[name](a, b, c)
        self.wait(3)

    def _stage(self, a: int) -> Stage:
        return self.stages[a % len(self.stages)]

    def _sender(self, a: int) -> SetSender | None:
        names = sorted(self.senders)
        return self.senders[names[a % len(names)]] if names else None

    def move_frames(self, a: int, b: int, c: int) -> None:
        """A picture of each of Ann's layers (bits of `a`: key frames), `b` the temporal layer, `c` what gets lost."""
        self.wait(20)
        for place, source in enumerate(self.stages[0].sources):
            self._frame(self.stages[0], source, key=bool(a >> place & 1), temporal=b, fate=c + 5 * place)

    def move_frame(self, a: int, b: int, c: int) -> None:
        """A picture of one layer or of Dan's camera."""
        self.wait(15)
        stage = self.stages[2] if a & 1 else self.stages[0]
        source = stage.sources[(a >> 1) % len(stage.sources)]
        self._frame(stage, source, key=b >= 8, temporal=b, fate=c)

    def _frame(self, stage: Stage, source: Source, *, key: bool, temporal: int, fate: int) -> None:
        count = 1 + (fate + source.pictures) % 3
        numbers = self.picture(stage, source, key=key, temporal=temporal, count=count)
        order = numbers[::-1] if fate % 16 == 7 else numbers
        for at, number in enumerate(order):
            kinds = {9: "lost", 10: "late", 11: "twice", 12: "late", 13: "lost"}
            hit = at == fate % count
            self.send(stage, source, number, kinds.get(fate % 16, "sent") if hit else "sent")

    def move_sound(self, a: int, b: int, c: int) -> None:
        stage, source = self.stages[1], self.stages[1].sources[0]
        self.wait(20)
        number, stamp = source.next(self.now)
        payload = b"sound" + source.ntp(self.now).to_bytes(8, "big")
        found = self._extensions(stage, source) | {1: bytes((0x80 | 8 * a & 0x7F,))}
        source.taken[number] = RtpPacket(111, number & 0xFFFF, stamp, source.ssrc, payload, extensions=found)
        self.send(stage, source, number, {9: "lost", 10: "late", 11: "twice"}.get(c, "sent"))

    def move_repair(self, a: int, b: int, c: int) -> None:
        """RTX of a lost packet, or (`c` odd) of one that came."""
        stage = self.stages[2] if a & 1 else self.stages[0]
        source = stage.sources[(a >> 1) % len(stage.sources)]
        numbers = sorted(source.taken)[-40:] if c & 1 else source.lost[-8:]
        if numbers:
            self.repair(stage, source, numbers[-1 - b % len(numbers)])

    def move_clock(self, a: int, b: int, c: int) -> None:
        stage = self._stage(a)
        self.clock(stage, stage.sources[b % len(stage.sources)])

    def move_padding(self, a: int, b: int, c: int) -> None:
        """Padding alone, in a layer's own stream or (`b` odd) its repair stream."""
        stage = self.stages[0]
        source = stage.sources[a % 3]
        if stage.track in self._ended:
            return
        stamp = source.stamp(self.now)
        if b & 1:
            source.rtx_number += 1
            head = (97, source.rtx_number & 0xFFFF, stamp, 200 + a % 3)
        else:
            source.number += 1
            head = (96, source.number & 0xFFFF, stamp, source.ssrc)
        found = self._extensions(stage, source, is_repair=bool(b & 1))
        self.arrive("ann", rtp.build(RtpPacket(*head, b"", extensions=found, padding=200)), "rtp")

    def move_jump(self, a: int, b: int, c: int) -> None:
        """A layer goes on from far ahead, as after an encoder's pause."""
        self.stages[0].sources[a % 3].number += 300

    def move_wait(self, a: int, b: int, c: int) -> None:
        self.wait(10 * (a + 1) * (b + 1))

    def move_nack(self, a: int, b: int, c: int) -> None:
        sender = self._sender(a)
        if sender is not None:
            self.ask(sender, "nack", numbers=tuple(range(b, b + c + 1)))

    def move_pli(self, a: int, b: int, c: int) -> None:
        sender = self._sender(a)
        if sender is not None:
            self.ask(sender, "fir" if b & 1 else "pli")

    def move_report(self, a: int, b: int, c: int) -> None:
        """A receiver report. Its round trip stays under the least interval of resends: the engines' sender reports come
        at moments of their own, so that one of them may not know a round trip yet."""
        sender = self._sender(a)
        if sender is not None:
            self.ask(sender, "report", fraction_lost=b, round_trip_us=1_000 * c)

    def move_pause(self, a: int, b: int, c: int) -> None:
        sender = self._sender(a)
        if sender is not None:
            self.apply(PauseSender(sender.sender_id, bool(b & 1)))

    def move_mute(self, a: int, b: int, c: int) -> None:
        self.apply(MuteTrack(self._stage(a).track, bool(b & 1)))

    def move_pin(self, a: int, b: int, c: int) -> None:
        sender = self._sender(a)
        if sender is not None:
            rid = RIDS[b % 3] if sender.track_id == "cam" else None
            temporal = None if c % 4 == 3 else c % 4
            self.apply(SelectLayer(sender.sender_id, rid, temporal, strict=bool(b & 4)))

    def move_show(self, a: int, b: int, c: int) -> None:
        sender = self._sender(a)
        if sender is not None:
            self.apply(WantTrack(sender.sender_id, 0, 0, bool(b & 1), pinned=False))

    def move_last_n(self, a: int, b: int, c: int) -> None:
        self.apply(SetLastN("bob" if a & 1 else "cid", None if b > 3 else b))

    def move_update(self, a: int, b: int, c: int) -> None:
        """The same track again, as after a renegotiation."""
        stage = self._stage(a)
        if stage.track not in self._ended:
            self.apply(stage.command())

    def move_leave(self, a: int, b: int, c: int) -> None:
        """A sender ends, and perhaps comes back under another SSRC."""
        if b & 1 and self.gone:
            former = self.gone.pop(sorted(self.gone)[a % len(self.gone)])
            self.subscribe(former.transport_id, former.track_id)
            return
        sender = self._sender(a)
        if sender is not None:
            self.gone[sender.sender_id] = self.senders.pop(sender.sender_id)
            self.apply(RemoveSender(sender.sender_id))

    def move_end(self, a: int, b: int, c: int) -> None:
        """A track ends; its packets are not sent any more."""
        stage = self._stage(a)
        self._ended.add(stage.track)
        self.apply(RemoveTrack(stage.track))
        for name in [name for name, sender in self.senders.items() if sender.track_id == stage.track]:
            del self.senders[name]
        for name in [name for name, sender in self.gone.items() if sender.track_id == stage.track]:
            del self.gone[name]

    def move_check(self, a: int, b: int, c: int) -> None:
        """A check from the peer's address or from another, where it may move to."""
        peer = ("ann", "bob", "cid")[a % 3]
        if b & 1:
            self.addresses[peer] = ("10.0.0.2", 41_000 + 10 * (a % 3) + b % 4)
            self.known[self.addresses[peer]] = peer
            self.check(peer, nominates=True, priority=1 + c)
        self.check(peer, nominates=bool(c & 1), priority=1 + c)


MOVES: Final = tuple(sorted(name.removeprefix("move_") for name in dir(Studio) if name.startswith("move_")))


def record(moves: list[Move]) -> Recording:
    studio = Studio()
    for move in moves:
        studio.perform(move)
    return studio.recording()
