"""The reference engine without sockets: time is an argument, and a seed gives the same run."""

from random import Random

import pytest

from conference.adapters.media.core import ReferenceCore
from conference.adapters.media.srtp import SrtpContext
from conference.ports.forwarding import (
    AddPlainTransport,
    Event,
    IceChanged,
    SelectLayer,
    SenderChanged,
    SetSender,
    SetTrack,
)
from conference.protocol import rtcp, rtp
from tests.support.engine import IDS, VIDEO, media, vp8

pytestmark = pytest.mark.unit

ANN, BOB = ("192.0.2.1", 1_000), ("192.0.2.2", 2_000)
THEIRS, OURS = bytes(28), bytes(range(28))


def run(seed: int) -> tuple[list[tuple[bytes, tuple[str, int]]], list[Event]]:
    """Two seconds of two plain transports: every datagram that went out, and every event."""
    sent: list[tuple[bytes, tuple[str, int]]] = []
    source = Random(seed)
    core = ReferenceCore(lambda data, address: sent.append((data, address)), lambda: source.getrandbits(32))
    peer = SrtpContext("AEAD_AES_128_GCM", OURS, THEIRS)
    core.apply(
        [
            AddPlainTransport("ann", ANN, "AEAD_AES_128_GCM", THEIRS, OURS),
            AddPlainTransport("bob", BOB, "AEAD_AES_128_GCM", THEIRS, OURS),
            SetTrack("ann", "cam", "0", VIDEO, IDS, ((50, 51),)),
            SetSender("s", "bob", "cam", "m", VIDEO, IDS, 1_002, 1_003, "ann"),
            SelectLayer("s", None, temporal=1),
        ],
        10.0,
    )
    for number in range(100):
        now = 10.0 + number / 50
        payload = vp8(number, temporal=number % 4 and 2, is_sync=True, is_key=not number)
        sealed = peer.seal_rtp(rtp.build(media(number + 1, payload=payload)))
        assert sealed is not None
        core.receive(sealed, ANN, now)
        core.tick(now)
    return sent, core.poll_events(1_000)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert run(1) == run(1)
    assert run(1) != run(2)


def test_what_it_sends_can_be_opened_and_has_no_gap() -> None:
    sent, events = run(3)
    peer = SrtpContext("AEAD_AES_128_GCM", OURS, THEIRS)
    opened = [peer.open_rtp(data) for data, address in sent if address == BOB and not 192 <= data[1] <= 223]
    packets = [rtp.parse(data) for data in opened if data is not None]
    assert len(packets) == len(opened) == 25
    assert [(p.sequence - packets[0].sequence) & 0xFFFF for p in packets] == list(range(25))
    assert IceChanged("ann", "connected") in events


def test_a_layer_that_begins_is_aimed_at_at_once() -> None:
    sent: list[bytes] = []
    core = ReferenceCore(lambda data, address: sent.append(data), lambda: 7)
    peer = SrtpContext("AEAD_AES_128_GCM", OURS, THEIRS)
    core.apply(
        [
            AddPlainTransport("ann", ANN, "AEAD_AES_128_GCM", THEIRS, OURS),
            AddPlainTransport("bob", BOB, "AEAD_AES_128_GCM", THEIRS, OURS),
            SetTrack("ann", "cam", "0", VIDEO, IDS, ((60, None), (61, None)), ("q", "f")),
            SetSender("s", "bob", "cam", "m", VIDEO, IDS, 1_002, 1_003, "ann"),
        ],
        1.0,
    )
    for ssrc in (60, 61):
        sealed = peer.seal_rtp(rtp.build(media(1, payload=vp8(1, is_key=True), ssrc=ssrc)))
        assert sealed is not None
        core.receive(sealed, ANN, 1.0)
    told = [event.rid for event in core.poll_events(10) if isinstance(event, SenderChanged)]
    assert told == ["q", "f"]
    assert len(sent) == 2


def test_an_engine_that_nobody_asks_keeps_a_bounded_number_of_events() -> None:
    wakes: list[int] = []
    core = ReferenceCore(lambda data, address: None, lambda: 7, lambda: wakes.append(1))
    core.apply([AddPlainTransport("ann", ANN, "AEAD_AES_128_GCM", THEIRS, OURS)], 0.0)
    peer = SrtpContext("AEAD_AES_128_GCM", OURS, THEIRS)
    report = peer.seal_rtcp(rtcp.receiver_report(rtcp.ReceiverReport(1)))
    assert report is not None
    core.receive(report, ANN, 0.0)
    for second in range(5_000):
        core.tick(float(second))
    assert len(wakes) == 1
    assert len(core.poll_events(10_000)) == 4_096
    assert core.dropped["event-queue-full"] > 0
