"""What two engines' peers heard of one recording, compared. Each difference is a sentence; none is the aim.

Left out on purpose: first numbers, time stamps and SSRCs of the engines' own. Named tolerances: abs-send-time one unit
(3.8 us), a time stamp one unit of its clock, jitter two units, times in reports two units, a key frame request 200 ms.
A silence that ends within the second in which an engine would have noticed it is none.
Sender reports come at moments of each engine's choice; each is held against the media that it is about.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, Final

from conference.ports.forwarding import AudioLevels, FirstForwarded, IceChanged, SetSender
from conference.protocol import rtcp
from tests.support.feedback import TransportFeedback
from tests.support.recording import NTP, Apply, Heard, Hearing, Recording, StreamEar

ABS_TIME: Final = 2  # its extension id
JITTER: Final = 2
UNITS: Final = 2
SR_CLOCK: Final = 4  # units between what a report says and the media
SHARES_US: Final = 200_000  # the native engine visits a sender so often
CONSENT_US: Final = 1_000_000  # the reference engine looks so often whether peers are silent
SR_EVERY_US: Final = (1_000_000, 1_400_000)


def differences(recording: Recording, reference: Hearing, native: Hearing) -> list[str]:
    """At most the first twenty."""
    found: list[str] = []
    for difference in _all(recording, reference, native):
        found.append(difference)
        if len(found) >= 20:
            break
    return found


def _all(recording: Recording, reference: Hearing, native: Hearing) -> Iterator[str]:
    senders = [c for item in recording.items if isinstance(item, Apply) for c in item.commands]
    repairs = {(c.transport_id, c.rtx_ssrc): c.ssrc for c in senders if isinstance(c, SetSender) and c.rtx_ssrc}
    for key in sorted(reference.streams.keys() | native.streams.keys()):
        media = (key[0], repairs.get(key, key[1]))
        ours = _in_terms_of(reference.streams[key], reference.streams[media])
        theirs = _in_terms_of(native.streams[key], native.streams[media])
        yield from (f"stream {key}: {text}" for text in _compare_streams(ours, theirs))
    for peer in sorted(reference.control.keys() | native.control.keys()):
        yield from (f"rtcp to {peer}: {text}" for text in _compare_rtcp(reference.control[peer], native.control[peer]))
    for hearing, name in ((reference, "reference"), (native, "native")):
        for sender in senders:
            if isinstance(sender, SetSender):
                yield from (f"{name} {sender.sender_id}: {text}" for text in _check_reports(hearing, sender))
    yield from _compare_lists("raw datagrams", reference.raw, native.raw)
    yield from _compare_events(reference, native)
    if reference.dropped != native.dropped:
        yield f"dropped: {dict(reference.dropped)} / {dict(native.dropped)}"


# --- media -----------------------------------------------------------------------------------------------------------
def _in_terms_of(ear: StreamEar, media: StreamEar) -> list[Heard]:
    """Packets of a repair stream in the numbers of the media that it repairs."""
    if ear is media or ear.first is None:
        return ear.packets
    assert media.first is not None, "nothing is repaired that was not sent"
    shift = ear.first.timestamp - media.first.timestamp
    made = []
    for packet in ear.packets:
        original = (int.from_bytes(packet.payload[:2], "big") - media.first_number) & 0xFFFF
        payload = original.to_bytes(2, "big") + packet.payload[2:]
        made.append(packet._replace(payload=payload, timestamp=(packet.timestamp + shift) & 0xFFFFFFFF))
    return made


def _compare_streams(ours: list[Heard], theirs: list[Heard]) -> Iterator[str]:
    for at, (a, b) in enumerate(zip_longest(ours, theirs)):
        if a is None or b is None or not _is_alike(a, b):
            yield f"packet {at}: {_told(a)} / {_told(b)}"
            return


def _told(packet: Heard | None) -> str:
    if packet is None:
        return "nothing"
    fields = {number: value.hex() for number, value in sorted(packet.extensions.items())}
    text = f"{packet.at} no. {packet.number} at {packet.timestamp} pt {packet.payload_type} {packet.payload.hex()}"
    return f"{text} marker {packet.marker} padding {packet.padding} {fields}"


def _is_alike(a: Heard, b: Heard) -> bool:
    apart = (a.timestamp - b.timestamp + 1) & 0xFFFFFFFF
    ours, theirs = dict(a.extensions), dict(b.extensions)
    times = [int.from_bytes(found.pop(ABS_TIME, b""), "big") for found in (ours, theirs)]
    return (
        apart <= 2
        and (times[0] - times[1] + 1) & 0xFFFFFF <= 2
        and ours == theirs
        and a._replace(timestamp=0, extensions={}) == b._replace(timestamp=0, extensions={})
    )


# --- RTCP ------------------------------------------------------------------------------------------------------------
Told = list[tuple[int, Any]]


def _compare_rtcp(ours: Told, theirs: Told) -> Iterator[str]:
    yield from _compare_lists("NACKs", _nacks(ours), _nacks(theirs))
    asked, asked_too = _key_frames(ours), _key_frames(theirs)
    for ssrc in sorted(asked.keys() | asked_too.keys()):
        pairs = list(zip_longest(asked[ssrc], asked_too[ssrc], fillvalue=-(10**12)))
        if any(abs(a - b) > SHARES_US for a, b in pairs):
            yield f"key frames asked of {ssrc}: {asked[ssrc]} / {asked_too[ssrc]}"
    yield from _compare_reports(_of(ours, rtcp.ReceiverReport), _of(theirs, rtcp.ReceiverReport))
    feedback, feedback_too = _of(ours, TransportFeedback), _of(theirs, TransportFeedback)
    yield from _compare_lists("transport feedback", feedback, feedback_too)
    yield from _compare_lists("BYE", _of(ours, rtcp.Bye), _of(theirs, rtcp.Bye))


def _of(told: Told, kind: type) -> Told:
    return [(at, packet) for at, packet in told if isinstance(packet, kind)]


def _nacks(told: Told) -> list[tuple[int, int, tuple[int, ...]]]:
    return sorted((at, packet.media_ssrc, packet.lost) for at, packet in _of(told, rtcp.Nack))


def _key_frames(told: Told) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for at, packet in _of(told, rtcp.KeyFrameRequest):
        found[packet.media_ssrc].append(at)
    return found


def _compare_reports(ours: Told, theirs: Told) -> Iterator[str]:
    for a, b in zip_longest(ours, theirs):
        if a is None or b is None or a[0] != b[0]:
            yield f"receiver reports: {a} / {b}"
            return
        blocks, blocks_too = ({block.ssrc: block for block in report.blocks} for _, report in (a, b))
        if blocks.keys() != blocks_too.keys():
            yield f"receiver reports at {a[0]}: {sorted(blocks)} / {sorted(blocks_too)}"
        for ssrc in blocks.keys() & blocks_too.keys():
            if not _are_alike(blocks[ssrc], blocks_too[ssrc]):
                yield f"receiver report at {a[0]}: {blocks[ssrc]} / {blocks_too[ssrc]}"


def _are_alike(a: rtcp.ReportBlock, b: rtcp.ReportBlock) -> bool:
    exact = ("fraction_lost", "lost", "highest_sequence", "last_sr")
    is_near = abs(a.jitter - b.jitter) <= JITTER and abs(a.delay - b.delay) <= UNITS
    return is_near and all(getattr(a, name) == getattr(b, name) for name in exact)


def _check_reports(hearing: Hearing, sender: SetSender) -> Iterator[str]:
    """Sender reports against the media that one engine sent."""
    packets = hearing.streams[sender.transport_id, sender.ssrc].packets
    first = hearing.streams[sender.transport_id, sender.ssrc].first
    former: int | None = None
    for at, report in hearing.reports(sender.transport_id, sender.ssrc):
        before = [packet for packet in packets if packet.at < at]  # a tick comes first
        if (report.packets, report.octets) != (len(before), sum(len(p.payload) for p in before)):
            yield f"the report at {at} counts {report.packets} packets and {report.octets} bytes of {len(before)}"
        if former is not None and not SR_EVERY_US[0] <= at - former:
            yield f"a report at {at} after one at {former}"
        former = at
        media = [packet for packet in before if len(packet.payload) > 8]
        if first is not None and media:
            apart = _clock_apart(report, media[-1], first.timestamp, sender.codec.clock_rate)
            if abs(apart) > SR_CLOCK:
                yield f"the report at {at} is {apart} units from the media"


def _clock_apart(report: rtcp.SenderReport, packet: Heard, base: int, rate: int) -> int:
    """Between where a report puts the moment a packet was taken, and the packet's own time stamp."""
    taken = int.from_bytes(packet.payload[-8:], "big")
    since = (report.ntp - taken) * rate / NTP
    return (report.rtp_timestamp - base - packet.timestamp - round(since) + 2**31) % 2**32 - 2**31


# --- the rest --------------------------------------------------------------------------------------------------------
def _compare_lists(what: str, ours: list[Any], theirs: list[Any]) -> Iterator[str]:
    for at, (a, b) in enumerate(zip_longest(ours, theirs)):
        if a != b:
            yield f"{what}, {at}: {a} / {b}"
            return


def _compare_events(reference: Hearing, native: Hearing) -> Iterator[str]:
    transports = {e.transport_id for h in (reference, native) for _, e in h.events if isinstance(e, IceChanged)}
    for transport in sorted(transports):
        links, links_too = _links(reference, transport), _links(native, transport)
        if links != links_too:
            yield f"link of {transport}: {links} / {links_too}"
    for kind in (FirstForwarded, AudioLevels):
        ours, theirs = ([(at, _plain(e)) for at, e in h.events if isinstance(e, kind)] for h in (reference, native))
        yield from _compare_lists(kind.__name__, ours, theirs)


def _links(hearing: Hearing, transport: str) -> list[str]:
    """The states that a transport went through, without short silences."""
    states: list[tuple[int, str]] = []
    for at, state in hearing.links(transport):
        if states and states[-1][1] == "disconnected" and state == "connected" and at - states[-1][0] <= CONSENT_US:
            states.pop()
        else:
            states.append((at, state))
    return [state for _, state in states]


def _plain(event: FirstForwarded | AudioLevels) -> object:
    if isinstance(event, AudioLevels):
        return sorted(tuple(level) for level in event.levels)
    return (event.sender_id, event.transport_id, event.track_id)
