"""The tunnel's frames, its reliable stream and its queues: any bytes, any cut, lossy wires, slow readers."""

import contextlib
import random
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import (
    DISCARDABLE,
    HEADER,
    KEY,
    MAX_PAYLOAD,
    Frame,
    FrameReader,
    FrameType,
    decode_all,
    encode,
    encode_all,
    is_newer,
)
from conference.protocol.tunnel.queue import MediaQueue
from conference.protocol.tunnel.reliable import MAX_FRAMES, Reliable
from conference.protocol.tunnel.session import ControlCame, Event, Heard, Media, Signal, TunnelSession

pytestmark = pytest.mark.protocol


def frames() -> st.SearchStrategy[Frame]:
    number = st.integers(0, 0xFFFF)

    def made(kind: FrameType) -> st.SearchStrategy[Frame]:
        is_media = kind in (FrameType.AUDIO, FrameType.VIDEO, FrameType.DATAGRAM)
        is_empty = kind in (FrameType.ACK, FrameType.PING, FrameType.PONG)
        return st.builds(
            Frame,
            st.just(kind),
            st.integers(1, 0xFFFF) if is_media else st.just(0),
            st.just(b"") if is_empty else st.binary(max_size=300),
            number,
            st.integers(0, 0xFFFF_FFFF),
            st.integers(0, 3),
        )

    return st.sampled_from(FrameType).flatmap(made)


# --- frames ----------------------------------------------------------------------------------------------------------
@given(st.lists(frames(), max_size=20), st.lists(st.integers(0, 6_000), max_size=10))
def test_frames_are_read_again_wherever_the_stream_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    data = encode_all(sent)
    reader, read = FrameReader(), []
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        read += list(reader.feed(data[start:end]))
    assert read == sent
    assert reader.buffered == 0
    assert decode_all(data) == sent


@given(st.binary(max_size=400))
def test_any_bytes_are_frames_or_refused_and_little_is_kept(data: bytes) -> None:
    reader = FrameReader()
    try:
        list(reader.feed(data))
    except ProtocolError as error:
        assert error.code == "bad-frame"  # noqa: PT017 - most bytes are not refused
    assert reader.buffered <= HEADER + MAX_PAYLOAD
    with contextlib.suppress(ProtocolError):
        decode_all(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80" + bytes(11),  # no such type
        b"\x00" + bytes(8) + b"\x04\x00\x01",  # too long
        b"\x40\x00\x01" + bytes(6) + b"\x00\x05\xdd",  # a datagram of 1,501 bytes
        b"\x20" + bytes(11),  # sound on stream 0
        b"\x00\x00\x01" + bytes(9),  # a signal on another stream
        b"\x50" + bytes(10) + b"\x01x",  # an acknowledgement that carries something
    ],
)
def test_what_cannot_be_a_frame_is_refused_at_its_header(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(FrameReader().feed(data[:HEADER]))


def test_a_message_ends_with_a_frame() -> None:
    with pytest.raises(ProtocolError):
        decode_all(encode(Frame(FrameType.AUDIO, 1, b"sound"))[:-1])


@pytest.mark.parametrize(
    "frame",
    [Frame(FrameType.AUDIO, 70_000), Frame(FrameType.AUDIO, 1, b"", -1), Frame(FrameType.VIDEO, 1, bytes(300_000))],
)
def test_a_frame_that_cannot_be_written_is_an_error_of_ours(frame: Frame) -> None:
    with pytest.raises(ValueError, match="frame"):
        encode(frame)


def test_numbers_wrap() -> None:
    assert is_newer(0, 0xFFFF)
    assert not is_newer(0xFFFF, 0)
    assert not is_newer(5, 5)


# --- the reliable stream ---------------------------------------------------------------------------------------------
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400))
def test_stream_0_arrives_once_and_in_order_over_wires_that_lose_repeat_and_break(seed: int, count: int) -> None:
    chance = random.Random(seed)
    one, other = TunnelSession(), TunnelSession()
    sent: dict[TunnelSession, list[bytes]] = {one: [], other: []}
    heard: dict[TunnelSession, list[bytes]] = {one: [], other: []}
    now = 0.0

    def exchange(source: TunnelSession, to: TunnelSession, loss: float) -> None:
        batch = source.outgoing(now, chance.choice([100, 10_000]))
        if chance.random() < 0.2:
            batch += batch  # two wires carry the same
        for frame in batch:
            if chance.random() >= loss:
                events = to.receive(frame, now)
                heard[to] += [event.text for event in events if isinstance(event, Signal)]

    for number in range(count):
        now += 0.01
        source, to = (one, other) if chance.random() < 0.5 else (other, one)
        if source.reliable.unacknowledged < MAX_FRAMES - 1:
            sent[to].append(f"{number}".encode())
            source.signal(sent[to][-1])
        exchange(source, to, 0.0)
        exchange(to, source, 0.0)
        if chance.random() < 0.1:  # a wire dies with what was on it, and another begins
            exchange(source, to, 1.0)
            exchange(to, source, 1.0)
            one.attach()
            other.attach()
    for _ in range(50):
        now += 0.2
        exchange(one, other, 0.0)
        exchange(other, one, 0.0)
    assert heard == sent
    assert one.reliable.unacknowledged == other.reliable.unacknowledged == 0


def test_a_peer_that_acknowledges_nothing_is_too_far_behind() -> None:
    stream = Reliable()
    for _ in range(MAX_FRAMES):
        stream.send(FrameType.SIGNAL, b"x")
    with pytest.raises(ProtocolError, match="acknowledge"):
        stream.send(FrameType.SIGNAL, b"x")
    with pytest.raises(ProtocolError, match="acknowledge"):
        Reliable().send(FrameType.SIGNAL, bytes(1_048_577))


def test_a_peer_that_leaves_a_gap_without_end_is_too_far_behind() -> None:
    stream = Reliable()
    for number in range(1, MAX_FRAMES):
        assert stream.receive(Frame(FrameType.SIGNAL, 0, b"", number), 0) == []
    with pytest.raises(ProtocolError, match="missing"):
        stream.receive(Frame(FrameType.SIGNAL, 0, b"", MAX_FRAMES), 0)
    assert len(stream.receive(Frame(FrameType.SIGNAL, 0, b"", 0), 0)) == MAX_FRAMES


def test_what_waits_for_a_missing_frame_is_bounded_in_bytes_too() -> None:
    session = TunnelSession()
    for number in range(1, 5):
        session.receive(Frame(FrameType.SIGNAL, 0, bytes(262_144), number), 0.0)
    session.receive(Frame(FrameType.SIGNAL, 0, bytes(262_144), 1), 0.0)  # once more: nothing is kept twice
    with pytest.raises(ProtocolError, match="too-far-behind"):
        session.receive(Frame(FrameType.SIGNAL, 0, b"{}", 5), 0.0)
    whole = TunnelSession()
    for number in (1, 2, 3, 0):
        events = whole.receive(Frame(FrameType.SIGNAL, 0, bytes(262_144), number), 0.0)
    assert len(events) == 4


def test_what_was_not_sent_cannot_be_acknowledged() -> None:
    stream = Reliable()
    stream.send(FrameType.SIGNAL, b"x")
    stream.acknowledged(1)
    stream.acknowledged(0)  # an old one
    with pytest.raises(ProtocolError):
        stream.acknowledged(2)


def test_acknowledgements_are_due_after_sixteen_frames_or_a_tenth_of_a_second() -> None:
    stream = Reliable()
    stream.receive(Frame(FrameType.SIGNAL, 0, b"", 0), 1.0)
    assert not stream.ack_due(1.05)
    assert stream.ack_at == pytest.approx(1.1)
    assert stream.ack_due(1.11)
    assert stream.ack().sequence == 1
    for number in range(1, 17):
        stream.receive(Frame(FrameType.SIGNAL, 0, b"", number), 2.0)
    assert stream.ack_due(2.0)


# --- queues ----------------------------------------------------------------------------------------------------------
def audio(number: int = 0, stream: int = 1) -> Frame:
    return Frame(FrameType.AUDIO, stream, b"s" * 80, timestamp=number)


def video(number: int = 0, stream: int = 2, flags: int = 0, size: int = 1_000) -> Frame:
    return Frame(FrameType.VIDEO, stream, bytes(size), timestamp=number, flags=flags)


def drain(queue: MediaQueue, now: float) -> list[Frame]:
    taken = []
    while (frame := queue.take(now)) is not None:
        taken.append(frame)
    return taken


def test_sound_goes_first_and_numbers_have_no_gaps_for_what_was_dropped() -> None:
    queue = MediaQueue()
    queue.put(video(flags=KEY), 0)
    queue.put(audio(1), 0)
    queue.put(audio(2), 0.15)
    taken = drain(queue, 0.21)  # the first sound is too old by now
    assert [(frame.type.name, frame.timestamp, frame.sequence) for frame in taken] == [("AUDIO", 2, 0), ("VIDEO", 0, 0)]
    assert queue.dropped[FrameType.AUDIO] == 1


def test_with_a_picture_go_those_that_depend_on_it_until_a_key_frame() -> None:
    queue = MediaQueue()
    queue.put(video(1, flags=KEY), 0)
    queue.put(video(2), 0.3)
    queue.put(video(3, stream=3, flags=KEY), 0.3)
    assert [frame.timestamp for frame in drain(queue, 0.41)] == [3]
    assert queue.key_frames_wanted() == [2]
    assert queue.key_frames_wanted() == []
    queue.put(video(4), 0.5)
    assert drain(queue, 0.5) == []
    queue.put(video(5, flags=KEY), 0.6)
    queue.put(video(6), 0.6)
    assert [frame.timestamp for frame in drain(queue, 0.6)] == [5, 6]
    assert queue.dropped[FrameType.VIDEO] == 3


def test_a_discardable_picture_goes_alone() -> None:
    queue = MediaQueue()
    queue.put(video(1, flags=DISCARDABLE), 0)
    queue.put(video(2), 0.3)
    assert [frame.timestamp for frame in drain(queue, 0.41)] == [2]
    assert queue.key_frames_wanted() == []


def test_the_age_of_what_waits_gives_the_level_up_and_calm_gives_it_back() -> None:
    queue = MediaQueue()
    levels = []
    for step in range(40):
        queue.put(video(step, flags=KEY), step * 0.01)
        queue.expire(step * 0.01)
        levels.append(queue.level)
    assert [levels[5], levels[15], levels[35]] == ["all", "low", "audio"]
    drain(queue, 0.4)
    for now, level in ((0.5, "audio"), (5.3, "audio"), (5.5, "low"), (10.4, "low"), (10.6, "all")):
        queue.expire(now)
        assert queue.level == level, now


@given(st.lists(st.tuples(st.sampled_from(["audio", "key", "delta", "datagram"]), st.integers(0, 50)), max_size=300))
def test_a_reader_that_never_reads_costs_bounded_memory(plan: list[tuple[str, int]]) -> None:
    queue, now = MediaQueue(), 0.0
    for kind, wait_ms in plan:
        now += wait_ms / 1000
        frame = {
            "audio": audio(),
            "key": video(flags=KEY, size=100_000),
            "delta": video(size=100_000),
            "datagram": Frame(FrameType.DATAGRAM, 5, bytes(1_200)),
        }[kind]
        queue.put(frame, now)
        assert queue.bytes <= 2_097_152
    assert queue.bytes == sum(frame.size for frame in drain(queue, now)) or queue.bytes == 0
    assert len(queue) == 0


# --- sessions --------------------------------------------------------------------------------------------------------
def test_media_of_a_stream_that_is_not_open_is_refused_and_old_frames_are_late() -> None:
    session = TunnelSession()
    with pytest.raises(ProtocolError):
        session.receive(audio(), 0)
    session.open(1)
    for sequence, lost in ((65_534, 0), (65_535, 0), (1, 1)):
        assert session.receive(audio()._replace(sequence=sequence), 0) == [
            Media(audio()._replace(sequence=sequence), lost)
        ]
    assert session.receive(audio()._replace(sequence=65_535), 0) == []
    assert session.late == 1
    session.close(1)
    with pytest.raises(ProtocolError):
        session.receive(audio(), 0)


def test_control_and_signals_are_delivered_in_their_order_and_a_ping_is_answered() -> None:
    one, other = TunnelSession(), TunnelSession()
    one.signal(b'{"type":"KeepAlive"}')
    one.control(c.OpenPath(stream=1, ip="10.0.0.1", port=7882))
    one.ping(5.0)
    heard: list[Event] = []
    for frame in one.outgoing(5.0, 10_000):
        heard += other.receive(frame, 5.02)
    assert heard == [Signal(b'{"type":"KeepAlive"}'), ControlCame(c.OpenPath(stream=1, ip="10.0.0.1", port=7882))]
    back = [event for frame in other.outgoing(5.02, 10_000) for event in one.receive(frame, 5.04)]
    assert back == [Heard(40)]


def test_a_picture_that_was_dropped_is_told_to_who_encodes_it() -> None:
    session = TunnelSession()
    session.media(video(1, flags=KEY), 0)
    assert session.outgoing(0.5, 10_000) == []
    assert (session.key_frames_wanted(), session.key_frames_wanted()) == ([2], [])


def test_three_bad_wires_end_a_session() -> None:
    session = TunnelSession()
    assert [session.bad_wire() for _ in range(3)] == [False, False, True]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_control_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        c.decode(data)


MESSAGES: Final[tuple[Any, ...]] = (
    c.OpenPath(stream=1, ip="::1", port=1),
    c.PathRefused(stream=1, code="not-a-media-node"),
    c.OpenTrack(track_id="t", kind="video", source="camera", codec="vp8", streams=[c.LayerStream(stream=3, rid="q")]),
    c.TrackOpened(stream=2, track_id="t", user_id="u", kind="audio", source="microphone", codec="opus"),
    c.Clock(stream=2, timestamp=5, ntp_ms=1.5),
    c.Queue(level="low"),
)


@pytest.mark.parametrize("message", MESSAGES)
def test_control_messages_are_read_again(message: c.ControlMessage) -> None:
    assert c.decode(c.encode(message)) == message


@pytest.mark.parametrize(
    "text",
    [b"{}", b'{"type":"OpenPath"}', b'{"type":"Queue","level":"all","more":1}', b'{"type":"Nothing"}', b"[" * 20_000],
)
def test_control_messages_are_strict(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        c.decode(text)
