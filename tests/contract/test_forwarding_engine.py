"""What every forwarding engine does, over real sockets: the suite of the port `ForwardingEngine`."""

import asyncio
import time

import pytest

from conference.ports.forwarding import (
    AddTransport,
    AudioLevels,
    CapBandwidth,
    DropPairs,
    DtlsReceived,
    FirstForwarded,
    IceChanged,
    LinkReport,
    MuteTrack,
    PauseSender,
    RemoveSender,
    RemoveTrack,
    RemoveTransport,
    RestartIce,
    SelectLayer,
    SendDtls,
)
from conference.protocol import rtcp, stun
from conference.protocol.rtp import RtpPacket
from tests.support.engine import AUDIO, DELTA, KEY_FRAME, PWD, Bench, EnginePeer, media
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract


async def call(engine: Bench) -> tuple[EnginePeer, EnginePeer]:
    """A publisher of the video track `cam` and a subscriber that has received its key frame."""
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    ann.send_rtp(media(1))
    await eventually(lambda: _asked(ann))
    ann.send_rtp(media(2, payload=KEY_FRAME))
    await eventually(lambda: bool(bob.rtp))
    return ann, bob


def link_reports(engine: Bench, name: str) -> list[LinkReport]:
    return [e for e in engine.events if isinstance(e, LinkReport) and e.transport_id == name]


def _asked(peer: EnginePeer) -> bool:
    return any(isinstance(packet, rtcp.KeyFrameRequest) for packet in peer.rtcp)


async def test_a_check_is_answered_and_the_transport_connected(engine: Bench) -> None:
    ann = await engine.peer("ann")
    answer = stun.parse(ann.other[0])
    assert answer.type == stun.BINDING_SUCCESS
    assert stun.has_integrity(answer, PWD)
    await eventually(lambda: engine.of(IceChanged) == [IceChanged("ann", "connected")])


async def test_dtls_passes_both_ways_for_validated_pairs_only(engine: Bench) -> None:
    ann = await engine.peer("ann")
    stranger = engine.stranger()
    stranger.send(b"\x16stranger")
    ann.send(b"\x16hello")
    await eventually(lambda: engine.of(DtlsReceived) == [DtlsReceived("ann", b"\x16hello")])
    engine.apply(SendDtls("ann", (b"\x16one", b"\x16two")))
    await eventually(lambda: ann.other[-2:] == [b"\x16one", b"\x16two"])
    await eventually(lambda: engine.dropped("stranger") == 1)


async def test_forged_and_broken_checks_validate_nothing(engine: Bench) -> None:
    ann = await engine.peer("ann")
    stranger = engine.stranger()
    stranger.check(ufrag=ann.ufrag, pwd="x" * 24)
    stranger.check(ufrag="nobody")
    stranger.send(b"\0\1\0\x50" + bytes(40))
    stranger.send(b"\x16hello")
    await eventually(lambda: engine.dropped("stranger") == 1)
    assert stranger.other == []
    assert not engine.of(DtlsReceived)


async def test_an_address_in_use_cannot_be_claimed_by_another_transport(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    answered = len(ann.other)
    ann.check(ufrag=bob.ufrag)
    ann.send(b"\x16mine")
    await eventually(lambda: bool(engine.of(DtlsReceived)))
    assert engine.of(DtlsReceived) == [DtlsReceived("ann", b"\x16mine")]
    assert len(ann.other) == answered


async def test_media_goes_out_in_the_subscribers_terms(engine: Bench) -> None:
    ann, bob = await call(engine)
    for number in range(3, 20):
        ann.send_rtp(media(number))
    await eventually(lambda: len(bob.rtp) == 18)
    first = bob.rtp[0]
    assert (first.ssrc, first.payload, first.extensions[4]) == (1_002, KEY_FRAME, b"s0")
    assert [(p.sequence - first.sequence) & 0xFFFF for p in bob.rtp] == list(range(18))
    wide = [int.from_bytes(p.extensions[3], "big") for p in bob.rtp]
    assert wide == list(range(wide[0], wide[0] + 18))
    assert [(p.timestamp - first.timestamp) & 0xFFFFFFFF for p in bob.rtp][-1] == 17 * 3_000
    assert engine.of(FirstForwarded) == [FirstForwarded("bob/cam", "bob", "cam")]


async def test_replayed_forged_and_oversize_media_is_dropped(engine: Bench) -> None:
    ann, bob = await call(engine)
    sealed = ann.send_rtp(media(3))
    ann.send(sealed)
    ann.send(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    ann.send(b"\x80" + bytes(1_600))
    ann.send_rtp(media(4))
    await eventually(lambda: len(bob.rtp) == 3)
    await eventually(lambda: (engine.dropped("srtp-refused"), engine.dropped("oversize")) == (2, 1))


async def test_a_gap_is_asked_for_and_filled_by_rtx(engine: Bench) -> None:
    ann, bob = await call(engine)
    ann.send_rtp(media(4))
    await eventually(lambda: any(isinstance(p, rtcp.Nack) for p in ann.rtcp))
    assert next(p for p in ann.rtcp if isinstance(p, rtcp.Nack)) == rtcp.Nack(50, (3,))
    repair = media(900, payload=(3).to_bytes(2, "big") + DELTA + b"3", ssrc=51, payload_type=97)
    repair.timestamp = 9_000
    ann.send_rtp(repair)
    await eventually(lambda: len(bob.rtp) == 3)
    assert (bob.rtp[2].sequence - bob.rtp[0].sequence, bob.rtp[2].payload) == (1, DELTA + b"3")


async def test_the_first_packet_of_an_ssrc_may_be_rtx_padding(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    padding = RtpPacket(97, 1, 0, 51, b"", extensions={4: b"0"}, padding=200)
    ann.send_rtp(padding)
    ann.send_rtp(media(2, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)


async def test_a_subscribers_loss_is_resent_under_the_rtx_ssrc(engine: Bench) -> None:
    _, bob = await call(engine)
    lost = bob.rtp[0]
    bob.send_rtcp(rtcp.nack(1, lost.ssrc, [lost.sequence]))
    await eventually(lambda: len(bob.rtp) == 2)
    again = bob.rtp[1]
    assert (again.ssrc, again.payload_type) == (1_003, 97)
    assert again.payload == lost.sequence.to_bytes(2, "big") + lost.payload
    await eventually(lambda: engine.engine.stats().retransmitted_packets == 1)


async def test_key_frame_requests_are_throttled_and_deferred(engine: Bench) -> None:
    ann, bob = await call(engine)
    before = len([p for p in ann.rtcp if isinstance(p, rtcp.KeyFrameRequest)])
    started = time.monotonic()
    for _ in range(20):
        bob.send_rtcp(rtcp.picture_loss(1, 1_002))
    await eventually(lambda: len([p for p in ann.rtcp if isinstance(p, rtcp.KeyFrameRequest)]) == before + 1)
    assert time.monotonic() - started < 1.5
    ann.send_rtp(media(3, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 2)


async def test_the_publisher_gets_reports_and_transport_feedback(engine: Bench) -> None:
    ann, _ = await call(engine)
    await eventually(lambda: any(isinstance(p, rtcp.ReceiverReport) for p in ann.rtcp))
    report = next(p for p in ann.rtcp if isinstance(p, rtcp.ReceiverReport))
    assert report.blocks[0].ssrc == 50
    assert any(raw[:2] == b"\x8f\xcd" for raw in ann.raw_rtcp)


async def test_sender_reports_are_rewritten(engine: Bench) -> None:
    ann, bob = await call(engine)
    ann.send_rtcp(rtcp.sender_report(rtcp.SenderReport(50, 7 << 32, 6_000, 2, 30)))
    await eventually(lambda: any(isinstance(p, rtcp.SenderReport) for p in bob.rtcp))
    report = next(p for p in bob.rtcp if isinstance(p, rtcp.SenderReport))
    assert (report.ssrc, report.ntp >> 32) == (1_002, 7)
    # The publisher's 6000 was the time stamp of packet 2, the first that was forwarded.
    assert (report.rtp_timestamp - bob.rtp[0].timestamp) & 0xFFFFFFFF < 9_000


async def test_muted_and_paused_media_stops_and_comes_back_without_a_hole(engine: Bench) -> None:
    ann, bob = await call(engine)
    for stop, go in (
        (MuteTrack("cam", True), MuteTrack("cam", False)),
        (PauseSender("bob/cam", True), PauseSender("bob/cam", False)),
    ):
        count, last = len(bob.rtp), bob.rtp[-1].sequence
        engine.apply(stop)
        await engine.settle()
        number = 10 * count
        received = engine.engine.stats().received_packets
        ann.send_rtp(media(number, payload=KEY_FRAME))
        await eventually(lambda received=received: engine.engine.stats().received_packets > received)  # type: ignore[misc]
        await engine.settle()
        engine.apply(go)
        await engine.settle()
        ann.send_rtp(media(number + 1))
        ann.send_rtp(media(number + 2, payload=KEY_FRAME))
        await eventually(lambda count=count: len(bob.rtp) == count + 1)  # type: ignore[misc]
        assert (bob.rtp[-1].sequence - last) & 0xFFFF == 1


async def test_layers_are_told_apart_and_switched_at_key_frames(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam", rids=("q", "f"))
    engine.subscribe(bob, "cam")

    def layered(number: int, rid: str, payload: bytes = DELTA) -> RtpPacket:
        packet = media(number, payload=payload + rid.encode(), ssrc={"q": 60, "f": 61}[rid])
        packet.extensions[10] = rid.encode()
        return packet

    ann.send_rtp(layered(1, "q", KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    ann.send_rtp(layered(100, "f"))
    await eventually(lambda: rtcp.KeyFrameRequest(61) in ann.rtcp)
    ann.send_rtp(layered(2, "q"))
    ann.send_rtp(layered(101, "f", KEY_FRAME))
    ann.send_rtp(layered(3, "q"))
    await eventually(lambda: len(bob.rtp) == 3)
    assert [p.payload[-1:] for p in bob.rtp] == [b"q", b"q", b"f"]
    engine.apply(SelectLayer("bob/cam", "q"))
    ann.send_rtp(layered(4, "q", KEY_FRAME))
    ann.send_rtp(layered(102, "f"))
    await eventually(lambda: len(bob.rtp) == 4)
    assert bob.rtp[3].payload[-1:] == b"q"
    assert [(p.sequence - bob.rtp[0].sequence) & 0xFFFF for p in bob.rtp] == [0, 1, 2, 3]
    assert {p.ssrc for p in bob.rtp} == {1_002}


async def test_audio_levels_are_told_and_passed_on(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "mic", AUDIO, ssrcs=((70, None),))
    engine.subscribe(bob, "mic", AUDIO)
    packet = media(1, payload=b"opus", ssrc=70, payload_type=111)
    packet.extensions[1] = bytes([0x80 | 30])
    ann.send_rtp(packet)
    await eventually(lambda: any(("mic", 30) in event.levels for event in engine.of(AudioLevels)))
    await eventually(lambda: bool(bob.rtp))
    assert bob.rtp[0].extensions[1] == bytes([0x80 | 30])


async def test_links_are_reported(engine: Bench) -> None:
    _, bob = await call(engine)
    block = rtcp.ReportBlock(1_002, 128, 0, 0, 0, 0, 0)
    bob.send_rtcp(rtcp.receiver_report(rtcp.ReceiverReport(1, (block,))))
    await eventually(
        lambda: any(
            isinstance(e, LinkReport) and e.transport_id == "bob" and e.sent_loss == 0.5 and e.is_active
            for e in engine.events
        )
    )


async def test_a_peer_that_moved_is_followed_after_its_check(engine: Bench) -> None:
    ann, bob = await call(engine)
    bob.move()
    await bob.nominate()
    count = len(bob.rtp)
    ann.send_rtp(media(3))
    await eventually(lambda: len(bob.rtp) == count + 1)


async def test_an_ice_restart_keeps_keys_and_media(engine: Bench) -> None:
    ann, bob = await call(engine)
    engine.apply(RestartIce("bob", "another", "n" * 24))
    ann.send_rtp(media(3))
    await eventually(lambda: len(bob.rtp) == 2)
    bob.move()
    bob.check(ufrag="another", pwd="n" * 24)
    await eventually(lambda: len(bob.other) == 2)
    ann.send_rtp(media(4))
    await eventually(lambda: len(bob.rtp) == 3)


async def test_dropped_pairs_stop_media_until_a_restart(engine: Bench) -> None:
    ann, bob = await call(engine)
    engine.apply(DropPairs("bob"))
    ann.send_rtp(media(3))
    await eventually(lambda: engine.dropped("not-connected") == 1)
    bob.check()
    engine.apply(RestartIce("bob", "another", "n" * 24))
    bob.check(ufrag="another", pwd="n" * 24)
    await eventually(lambda: len(bob.other) == 2)
    ann.send_rtp(media(4))
    await eventually(lambda: len(bob.rtp) == 2)


async def test_a_bandwidth_cap_drops_what_is_beyond(engine: Bench) -> None:
    ann, bob = await call(engine)
    engine.apply(CapBandwidth("bob", 50_000))
    for number in range(3, 30):
        ann.send_rtp(media(number, payload=DELTA + bytes(1_000)))
    await eventually(lambda: engine.dropped("bandwidth-cap") > 20)
    assert len(bob.rtp) < 8
    engine.apply(CapBandwidth("bob", None))
    count = len(bob.rtp)
    ann.send_rtp(media(30))
    await eventually(lambda: len(bob.rtp) == count + 1)


async def test_removal_ends_forwarding_and_later_commands_are_ignored(engine: Bench) -> None:
    ann, _ = await call(engine)
    engine.apply(RemoveSender("bob/cam"), RemoveSender("bob/cam"), PauseSender("bob/cam", True))
    await eventually(lambda: engine.engine.stats().senders == 0)
    engine.apply(RemoveTrack("cam"), MuteTrack("cam", True), RemoveTransport("ann"), RemoveTransport("ann"))
    await eventually(lambda: (engine.engine.stats().transports, engine.engine.stats().tracks) == (1, 0))
    ann.send(b"\x16late")
    await eventually(lambda: engine.dropped("stranger") == 1)


async def test_an_address_that_changes_hands_stays_with_its_new_transport(engine: Bench) -> None:
    ann, bob = await call(engine)
    engine.apply(AddTransport("eve", "ufrageve", PWD))
    await engine.advance(10.0)
    ann.check()
    answered = len(bob.other)
    bob.check(ufrag="ufrageve")  # the same port serves another page now
    await eventually(lambda: len(bob.other) > answered)
    count, received = len(bob.rtp), engine.engine.stats().received_packets
    ann.send_rtp(media(3))
    await eventually(lambda: engine.engine.stats().received_packets > received)
    assert len(bob.rtp) == count, "nothing of the former transport goes there"
    await engine.advance(21.0)
    ann.check()
    await eventually(lambda: IceChanged("bob", "failed") in engine.events)
    bob.send(b"\x16hello")
    await eventually(lambda: DtlsReceived("eve", b"\x16hello") in engine.events)


async def test_addresses_beyond_the_most_are_forgotten(engine: Bench) -> None:
    ann = await engine.peer("ann")
    first = engine.stranger("ann")
    first.check()
    await eventually(lambda: bool(first.other))
    for _ in range(20):
        ann.move()
        await ann.nominate()
    first.send(b"\x16early")
    ann.send(b"\x16now")
    await eventually(lambda: bool(engine.of(DtlsReceived)))
    assert engine.of(DtlsReceived) == [DtlsReceived("ann", b"\x16now")]
    await eventually(lambda: engine.dropped("stranger") == 1)


async def test_forged_packets_do_not_use_up_a_peers_ssrcs(engine: Bench) -> None:
    ann, bob = await call(engine)
    for number in range(2_000):
        ann.send(b"\x80\x60" + bytes(6) + (9_000 + number).to_bytes(4, "big") + bytes(20))
        if number % 200 == 0:
            await eventually(lambda n=number: engine.dropped("srtp-refused") > n)  # type: ignore[misc]
    engine.publish(ann, "cam")
    ann.send_rtp(media(1, payload=KEY_FRAME, ssrc=77))
    await eventually(lambda: len(bob.rtp) == 2)


async def test_the_ssrcs_of_reports_are_bounded_too(engine: Bench) -> None:
    ann, _ = await call(engine)
    for number in range(1_200):
        ann.send_rtcp(rtcp.receiver_report(rtcp.ReceiverReport(9_000 + number)))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: engine.dropped("too-many-ssrcs") > 100)


async def test_a_storm_of_nacks_gets_a_share_of_what_was_sent(engine: Bench) -> None:
    ann, bob = await call(engine)
    for number in range(3, 153):
        ann.send_rtp(media(number, payload=DELTA + bytes(1_000)))
        if number % 30 == 0:
            await eventually(lambda n=number: len(bob.rtp) == n - 1)  # type: ignore[misc]
    await eventually(lambda: len(bob.rtp) == 151)
    numbers = sorted({packet.sequence for packet in bob.rtp})

    def storm() -> bool:
        bob.send_rtcp(rtcp.nack(1, 1_002, numbers[-60:]))
        return engine.dropped("repair-budget") > 5

    await eventually(storm)
    stats = engine.engine.stats()
    assert stats.retransmitted_packets * 1_000 < stats.forwarded_bytes * 0.5 + 400_000


async def test_sequence_numbers_wrap_with_reordering_in_both_directions(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    ann.send_rtp(media(65_500, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    order = [65_501, 65_535, 65_534, 65_537, 65_536, 65_533, *range(65_502, 65_533), 65_540, 65_538, 65_539]
    for number in order:
        ann.send_rtp(media(number, payload=DELTA + number.to_bytes(4, "big")))
    await eventually(lambda: len(bob.rtp) == len(order) + 1)
    base = bob.rtp[0].sequence
    places = [(packet.sequence - base) & 0xFFFF for packet in bob.rtp[1:]]
    assert places == [number - 65_500 for number in order]
    assert [int.from_bytes(packet.payload[-4:], "big") for packet in bob.rtp[1:]] == order


async def test_what_a_peer_reported_long_ago_is_not_its_link_now(engine: Bench) -> None:
    ann, bob = await call(engine)
    block = rtcp.ReportBlock(1_002, 128, 0, 0, 0, 0, 0)
    bob.send_rtcp(rtcp.receiver_report(rtcp.ReceiverReport(1, (block,))))
    await eventually(lambda: any(r.sent_loss == 0.5 for r in link_reports(engine, "bob")))
    await engine.advance(7.0)
    ann.check()
    bob.check()
    seen = len(link_reports(engine, "bob"))
    await eventually(lambda: any(r.sent_loss == 0.0 for r in link_reports(engine, "bob")[seen:]))


async def test_a_layer_that_begins_is_aimed_at_at_once(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam", rids=("q", "f"))
    engine.subscribe(bob, "cam")
    for number, (ssrc, rid) in enumerate(((60, b"q"), (61, b"f")), 1):
        packet = media(number, payload=KEY_FRAME + rid, ssrc=ssrc)
        packet.extensions[10] = rid
        ann.send_rtp(packet)
        await eventually(lambda number=number: len(bob.rtp) == number)  # type: ignore[misc]
    assert [packet.payload[-1:] for packet in bob.rtp] == [b"q", b"f"]


async def test_srtcp_too_short_to_be_any_is_dropped_and_the_next_is_read(engine: Bench) -> None:
    ann, bob = await call(engine)
    for length in range(2, 40):
        ann.send(b"\x81\xc9" + bytes(length - 2))
    ann.send_rtcp(rtcp.sender_report(rtcp.SenderReport(50, 7 << 32, 6_000, 2, 30)))
    await eventually(lambda: any(isinstance(p, rtcp.SenderReport) for p in bob.rtcp))


async def test_an_event_batch_is_bounded_and_in_order(engine: Bench) -> None:
    engine.engine.on_wakeup(lambda: None)
    ann = await engine.peer("ann")
    for number in range(10):
        ann.send(b"\x16%d" % number)
    events: list[bytes] = []

    def drain() -> bool:
        batch = engine.engine.poll_events(3)
        assert len(batch) <= 3
        events.extend(e.datagram for e in batch if isinstance(e, DtlsReceived))
        return len(events) == 10

    await eventually(drain)
    assert events == [b"\x16%d" % number for number in range(10)]


async def test_thirty_seconds_without_consent_end_a_transport(engine: Bench) -> None:
    ann, bob = await call(engine)
    await engine.advance(10.0)
    await eventually(lambda: IceChanged("bob", "disconnected") in engine.events)
    ann.check()
    await eventually(lambda: engine.of(IceChanged).count(IceChanged("ann", "connected")) == 2)
    await engine.advance(21.0)
    await eventually(lambda: IceChanged("bob", "failed") in engine.events)
    await eventually(lambda: engine.engine.stats().transports == 1)
    count = len(bob.rtp)
    received = engine.engine.stats().received_packets
    ann.send_rtp(media(9))
    await eventually(lambda: engine.engine.stats().received_packets > received)
    assert len(bob.rtp) == count
