"""Arbitrary sequences of messages, results and time: the session machine keeps its promises whatever comes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.protocol import messages as m
from conference.protocol.dialect import ClientCodec, Dialect, snake_table
from conference.protocol.frames import Outgoing, text_frame
from conference.protocol.rate import TokenBucket
from conference.protocol.session import (
    Close,
    Enter,
    Identity,
    Limits,
    Output,
    Reattach,
    Send,
    Session,
    State,
)

pytestmark = pytest.mark.protocol

CODEC = ClientCodec(m.DEBUG_MESSAGES)
NAMES = [*m.CLIENT_MESSAGES, *snake_table(m.CLIENT_MESSAGES), "Simulate", "nonsense"]
IDENTITY = Identity(MeetingId("r"), UserId("ann"), ParticipantId("p"), "host", "g", 1, 0)
WELCOME = m.RoomJoined(
    participant_id="p",
    user_id="ann",
    snapshot=m.Snapshot(room_id="r", participants=[], tracks=[]),
    resume_secret="s",
    topology="sfu",
    epoch=1,
    generation="g",
    seq=0,
)
FIELDS = {
    "roomId": st.just("r"),
    "token": st.just("t"),
    "targetUserId": st.sampled_from(["sfu", "ann", "bob", ""]),
    "transportId": st.sampled_from(["pub", "sub", "", "x"]),
    "negotiationId": st.integers(-1, 3),
    "sdp": st.text(max_size=5),
    "candidate": st.none() | st.just({"candidate": ""}),
    "epoch": st.integers(0, 2),
    "isMuted": st.booleans() | st.none(),
    "participantId": st.just("p"),
    "resumeSecret": st.just("s"),
    "generation": st.just("g"),
    "lastSeq": st.integers(-1, 5),
    "action": st.sampled_from(["mute", "remove", "dance"]),
    "text": st.text(max_size=3),
    "messageId": st.text(max_size=3),
    "tracks": st.just([]),
}
payloads = st.fixed_dictionaries({}, optional=FIELDS) | st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
messages = st.builds(
    lambda type_, payload, id_: json.dumps({"type": type_, "payload": payload, **({"id": id_} if id_ else {})}),
    st.sampled_from(NAMES),
    payloads,
    st.none() | st.text(max_size=70),
)
steps = st.one_of(
    st.tuples(st.just("text"), messages),
    st.tuples(st.just("text"), st.text(max_size=40)),
    st.tuples(st.just("bytes"), st.binary(max_size=40)),
    st.tuples(st.just("wait"), st.floats(0, 30)),
    st.tuples(st.just("result"), st.sampled_from(["joined", "refused", "unavailable"])),
    st.tuples(st.just("pong"), st.none()),
    st.tuples(st.just("sfu"), st.none()),
    st.tuples(st.just("binary"), st.none()),
)


def play(session: Session, step: tuple[str, Any], now: float) -> list[Output]:
    kind, value = step
    if kind in ("text", "bytes"):
        return session.receive(value, now)
    if kind == "wait":
        return session.tick(now)
    if kind == "binary":
        return session.binary()
    if kind == "pong":
        session.alive(now)
    if kind == "sfu":
        session.transports([("pub", "publish"), ("sub", "subscribe")])
        session.offered("sub")
    if kind != "result":
        return []
    if value == "joined":
        return session.joined(IDENTITY, WELCOME, None)
    return session.refused(Refused("token-refused")) if value == "refused" else session.unavailable(now, "presence")


@given(st.lists(steps, max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_the_machine_closes_at_most_once_and_enters_at_most_once_at_a_time(
    script: list[tuple[str, Any]],
) -> None:
    now = 0.0
    session = Session(CODEC, Limits(messages_per_s=5, burst=20), now)
    closed = False
    for step in script:
        now += step[1] if step[0] == "wait" else 0.01
        before = session.state
        outputs = play(session, step, now)
        assert not (closed and outputs), "nothing follows a close"
        for output in outputs:
            assert not closed
            closed = isinstance(output, Close)
            if isinstance(output, Enter | Reattach):
                assert before is State.AWAITING
            elif not isinstance(output, Send | Close) and before is not State.JOINED:
                assert type(output).__name__ in {"Ping", "Depart", "Serve"}
        assert (session.state is State.CLOSED) == closed
        assert session.deadline > now or closed or step[0] != "wait"


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 10), st.integers(1, 20))
def test_a_bucket_never_allows_more_than_its_burst_and_rate(gaps: list[float], per_s: int, burst: int) -> None:
    bucket = TokenBucket(per_s, burst, 0.0)
    now, allowed = 0.0, 0
    for gap in gaps:
        now += gap / 100
        allowed += bucket.take(now)
        assert allowed <= burst + now * per_s + 1e-6


def test_a_bucket_forgives_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(101.0)


@given(st.binary(max_size=70_000))
@settings(max_examples=50)
def test_a_frame_says_its_length(text: bytes) -> None:
    frame = text_frame(text)
    assert frame[0] == 0x81
    marker = frame[1]
    size, head = (marker, 2) if marker < 126 else (int.from_bytes(frame[2:4], "big"), 4)
    if marker == 127:
        size, head = int.from_bytes(frame[2:10], "big"), 10
    assert size == len(text)
    assert frame[head:] == text


def test_a_message_is_encoded_once_a_dialect() -> None:
    outgoing = Outgoing("TrackPublished", b"{}", seq=4)
    assert outgoing.frame(Dialect.CANONICAL) is outgoing.frame(Dialect.CANONICAL)
    assert b'"track_published"' in outgoing.frame(Dialect.SNAKE)
