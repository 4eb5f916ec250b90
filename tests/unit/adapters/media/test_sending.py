"""The subscriber's side, above all its law: an (ssrc, index) is sealed once."""

from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.media.headers import NOTHING, Passed
from conference.adapters.media.receiving import Stream
from conference.adapters.media.sending import CACHE, Sender
from conference.ports.forwarding import ExtensionIds, SetSender, TrackCodec
from conference.protocol import rtp
from conference.protocol.payload import vp8_descriptor
from conference.protocol.rtcp import ReportBlock, SenderReport, parse
from conference.protocol.rtp import RtpPacket

pytestmark = pytest.mark.unit

VP8 = TrackCodec("VP8", 96, 90_000, 97)
OPUS = TrackCodec("opus", 111, 48_000)
IDS = ExtensionIds(mid=4, transport_cc=3, audio_level=1)
KEY, DELTA = b"\x90\xe0\x81\x00\x07\x20\x00rest", b"\x90\xe0\x81\x01\x07\x20\x01rest"


def sender(codec: TrackCodec = VP8, ids: ExtensionIds = IDS) -> Sender:
    wide, numbers = count(1), count(12_345, 77)
    command = SetSender("s", "t", "k", "s3", codec, ids, 1_000, 1_001 if codec is VP8 else None, "someone")
    made = Sender(command, lambda: next(wide), lambda: next(numbers))
    made.is_connected = True
    return made


def layer(place: int, codec: TrackCodec = VP8) -> Stream:
    return Stream(place + 1, "qhf"[place], place, codec)


def packet(sequence: int, *, timestamp: int = 0, payload: bytes = DELTA, marker: bool = False) -> RtpPacket:
    return RtpPacket(50, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 9, payload, marker=marker)


def send(
    target: Sender, number: int, source: Stream, *, payload: bytes = DELTA, timestamp: int = 0, now: float = 0.0
) -> RtpPacket | None:
    """The packet as the subscriber sees it; None where nothing was sent."""
    if not target.accepts(source, payload == KEY):
        return None
    data = target.rewrite(packet(number, timestamp=timestamp, payload=payload), number, source, now, Passed(0x95))
    return None if data is None else rtp.parse(data)


def stop(target: Sender, paused: bool) -> None:
    target.is_stopped = paused
    target.wait()


def test_a_packet_goes_out_in_the_subscribers_terms() -> None:
    target, source = sender(), layer(0)
    target.target = source
    out = send(target, 70_000, source, payload=KEY)
    assert out is not None
    assert (out.ssrc, out.payload_type, out.payload) == (1_000, 96, KEY)
    assert out.extensions == {3: b"\0\1", 1: b"\x95", 4: b"s3"}


def test_a_subscriber_without_extensions_gets_none() -> None:
    target, source = sender(OPUS, ExtensionIds()), layer(0, OPUS)
    target.target = source
    out = send(target, 70_000, source)
    assert out is not None
    assert out.extensions == {}


def test_video_begins_with_a_key_frame() -> None:
    target, source = sender(), layer(0)
    target.target = source
    wanted = [target.wants_key_frame]
    assert send(target, 1, source) is None
    assert send(target, 2, source, payload=KEY) is not None
    wanted.append(target.wants_key_frame)
    assert wanted == [True, False]
    assert send(target, 3, source) is not None


def test_late_packets_keep_their_place_and_those_before_the_start_are_dropped() -> None:
    target, source = sender(), layer(0)
    target.target = source
    start = send(target, 100, source, payload=KEY)
    third = send(target, 102, source)
    second = send(target, 101, source)
    assert start is not None
    assert second is not None
    assert third is not None
    assert (second.sequence - start.sequence, third.sequence - start.sequence) == (1, 2)
    assert send(target, 99, source) is None
    assert send(target, 101, source) is None, "sealed already"


def test_a_pause_leaves_no_hole_in_the_numbers() -> None:
    target, source = sender(), layer(0)
    target.target = source
    before = send(target, 10, source, payload=KEY)
    stop(target, True)
    assert send(target, 11, source, payload=KEY) is None
    stop(target, False)
    assert send(target, 12, source) is None
    after = send(target, 13, source, payload=KEY, timestamp=9_000)
    assert before is not None
    assert after is not None
    assert after.sequence == before.sequence + 1
    assert (after.timestamp - before.timestamp) & 0xFFFFFFFF == 9_000, "the clock of a stream goes on by itself"


def test_a_switch_of_layers_goes_on_in_number_clock_and_picture() -> None:
    target, low, high = sender(), layer(0), layer(1)
    target.target = low
    first = send(target, 10, low, payload=KEY, timestamp=1_000)
    target.target = high
    assert send(target, 500, high, timestamp=777_000, now=0.1) is None
    second = send(target, 501, high, payload=KEY, timestamp=777_000, now=0.1)
    assert send(target, 11, low, now=0.1) is None
    assert first is not None
    assert second is not None
    assert second.sequence == first.sequence + 1
    assert (second.timestamp - first.timestamp) & 0xFFFFFFFF == 9_000
    pictures = [vp8_descriptor(p.payload) for p in (first, second)]
    assert pictures[0] is not None
    assert pictures[1] is not None
    assert pictures[1].picture_id == pictures[0].picture_id + 1
    assert pictures[1].tl0 == pictures[0].tl0 + 1


def test_frame_numbers_of_descriptors_go_on_at_a_switch_of_layers() -> None:
    ids = ExtensionIds(dependency_descriptor=6)
    target, low, high = sender(ids=ids), layer(0), layer(1)

    def frame(number: int, source: Stream, payload: bytes, frame_number: int) -> int:
        target.target = source
        passed = Passed(descriptor=b"\x80" + frame_number.to_bytes(2, "big") + b"rest")
        data = target.rewrite(packet(number, payload=payload), number, source, 0.0, passed)
        assert data is not None
        value = rtp.parse(data).extensions[6]
        assert (value[:1], value[3:]) == (b"\x80", b"rest")
        return int.from_bytes(value[1:3], "big")

    assert [frame(1, low, KEY, 65_535), frame(2, low, DELTA, 0)] == [65_535, 0]
    assert [frame(9, high, KEY, 500), frame(10, high, DELTA, 501)] == [1, 2]


def test_layers_are_aligned_by_their_sender_reports() -> None:
    target, low, high = sender(), layer(0), layer(1)
    second = 1 << 32
    low.sr, high.sr = SenderReport(1, 5 * second, 1_000, 0, 0), SenderReport(2, 6 * second, 500_000, 0, 0)
    target.target = low
    first = send(target, 10, low, payload=KEY, timestamp=1_000)
    target.target = high
    # Captured 1.1 s after the first, arrives a little late: the reports tell, not the arrival.
    other = send(target, 20, high, payload=KEY, timestamp=509_000, now=1.15)
    assert first is not None
    assert other is not None
    assert (other.timestamp - first.timestamp) & 0xFFFFFFFF == 99_000


def test_a_lost_packet_comes_back_by_rtx_under_its_own_numbers() -> None:
    target, source = sender(), layer(0)
    target.target = source
    first = send(target, 10, source, payload=KEY)
    assert first is not None
    data = target.resend(first.sequence, 1.0)
    assert data is not None
    again = rtp.parse(data)
    assert (again.ssrc, again.payload_type) == (1_001, 97)
    assert again.payload == first.sequence.to_bytes(2, "big") + first.payload
    assert again.extensions[3] == b"\0\2", "a number of its own in the transport"
    assert target.resend(first.sequence, 1.001) is None, "just resent"
    later = target.resend(first.sequence, 1.1)
    assert later is not None
    assert rtp.parse(later).sequence == again.sequence + 1
    assert target.resend(first.sequence + 5, 1.0) is None


def test_a_copy_that_may_be_on_its_way_is_not_sent_again() -> None:
    target, source = sender(), layer(0)
    target.target = source
    first = send(target, 10, source, payload=KEY)
    assert first is not None
    target.round_trip_s = 0.2
    assert target.resend(first.sequence, 1.0) is not None
    assert target.resend(first.sequence, 1.15) is None
    assert target.resend(first.sequence, 1.21) is not None
    target.round_trip_s = 9.0
    assert target.resend(first.sequence, 1.6) is not None, "a round trip that nobody believes"


def test_who_asks_for_key_frames_all_the_time_is_served_ever_more_slowly() -> None:
    target = sender()
    steps = [number / 10 for number in range(300)]
    asked = [now for now in steps if target.may_ask_key_frame(now)]
    assert asked[0] == 0.0
    assert len(asked) < 12
    assert min(b - a for a, b in pairwise(asked[3:])) >= 4.0
    assert not target.is_ask_due(asked[-1] + 1.0)
    assert target.is_ask_due(asked[-1] + 4.5), "held back, not lost"
    assert not target.is_ask_due(99.0)
    assert target.may_ask_key_frame(99.0)
    assert target.may_ask_key_frame(99.6), "after a quiet time it is as at first"


def test_a_stream_without_rtx_is_never_resent() -> None:
    target, source = sender(OPUS), layer(0, OPUS)
    target.target = source
    out = send(target, 10, source)
    assert out is not None
    assert target.resend(out.sequence, 1.0) is None


def test_reports_carry_the_publishers_clock_and_give_the_round_trip() -> None:
    target, source = sender(), layer(0)
    target.target = source
    first = send(target, 10, source, payload=KEY, timestamp=1_000)
    assert target.report(1.0) is None, "no clock is known yet"
    source.sr, source.sr_arrival = SenderReport(1, 100 << 32, 1_000, 0, 0), 1.0
    data = target.report(1.5)
    assert data is not None
    assert first is not None
    (report,) = parse(data)
    assert isinstance(report, SenderReport)
    assert report.ntp == (100 << 32) + (1 << 31)
    assert (report.rtp_timestamp - first.timestamp) & 0xFFFFFFFF == 45_000
    assert (report.packets, report.octets) == (1, len(KEY))
    assert target.report(1.6) is None
    target.reported(ReportBlock(1_000, 64, 0, 0, 0, report.ntp >> 16 & 0xFFFFFFFF, 32_768), 2.1)
    assert target.fraction_lost == 0.25
    assert target.round_trip_s == pytest.approx(0.1)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(-300, 40)),
        st.tuples(st.just("aim"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("pause"), st.booleans(), st.just(0)),
        st.tuples(st.just("key"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("jump"), st.integers(0, 2), st.integers(1, 3 * CACHE)),
        st.tuples(st.just("resend"), st.integers(0, 50), st.just(0)),
    ),
    max_size=200,
)


@given(EVENTS)
def test_no_number_is_ever_sealed_twice(events: list[tuple[str, int, int]]) -> None:
    target, layers, positions = sender(), [layer(n) for n in range(3)], [100_000, 200_000, 300_000]
    sealed: set[tuple[int, int]] = set()
    outs: list[int] = []
    clock = 0.0
    for kind, value, amount in events:
        clock += 0.05
        data = None
        if kind == "aim":
            target.target = layers[value]
        elif kind == "pause":
            stop(target, bool(value))
        elif kind == "resend":
            data = target.resend(outs[-1 - value % len(outs)], clock) if outs else None
        else:
            number = positions[value] + amount
            positions[value] = max(positions[value], number)
            is_key = kind == "key"
            source = layers[value]
            if target.accepts(source, is_key):
                payload = KEY if is_key else DELTA
                data = target.rewrite(packet(number, payload=payload), number, source, clock, NOTHING)
        if data is not None:
            out = rtp.parse(data)
            full = (out.ssrc, target._numbers.highest_out if out.ssrc == 1_000 else target._rtx_number)
            number = rtp.unroll(out.sequence, full[1])
            assert (out.ssrc, number) not in sealed
            sealed.add((out.ssrc, number))
            if out.ssrc == 1_000:
                outs.append(out.sequence)
