"""Plain transports of a forwarding engine: no ICE and no DTLS, keys and one address of the control layer's choice."""

import pytest

from conference.ports.forwarding import FirstForwarded, IceChanged, RemoveTrack, SelectLayer
from conference.protocol import rtcp
from tests.support.engine import DELTA, KEY_FRAME, Bench, EnginePeer, media
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

REPORT = rtcp.receiver_report(rtcp.ReceiverReport(1))


async def plain(engine: Bench, name: str) -> EnginePeer:
    peer = engine.stranger(name)
    peer.connect_plainly()
    await engine.settle()
    return peer


async def test_it_connects_with_the_first_authentic_packet_and_reports_every_second(engine: Bench) -> None:
    far = await plain(engine, "far")
    far.send(b"\x81\xc9" + bytes(30))
    await eventually(lambda: sum(engine.engine.stats().dropped.values()) == 1)
    assert not engine.of(IceChanged, state="connected")
    far.send_rtcp(REPORT)
    await eventually(lambda: engine.of(IceChanged, transport_id="far", state="connected") != [])
    await eventually(lambda: any(isinstance(p, rtcp.ReceiverReport) for p in far.rtcp))
    seen = len(far.rtcp)
    await engine.advance(1.0)
    await eventually(lambda: len(far.rtcp) > seen, within_s=10.0)


async def test_three_seconds_of_silence_are_told_and_so_is_the_return(engine: Bench) -> None:
    far = await plain(engine, "far")
    far.send_rtcp(REPORT)
    await eventually(lambda: engine.of(IceChanged, state="connected") != [])
    await engine.advance(2.0)
    far.send_rtcp(REPORT)
    await engine.advance(2.0)
    await engine.settle()
    assert not engine.of(IceChanged, state="disconnected")
    await engine.advance(1.5)
    await eventually(lambda: engine.of(IceChanged)[-1] == IceChanged("far", "disconnected"))
    far.send_rtcp(REPORT)
    await eventually(lambda: engine.of(IceChanged)[-1] == IceChanged("far", "connected"))


async def test_media_goes_to_its_address_without_any_packet_from_there(engine: Bench) -> None:
    ann, far = await engine.peer("ann"), await plain(engine, "far")
    engine.publish(ann, "cam")
    sender = engine.subscribe(far, "cam")
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(far.rtp) == 1)
    assert far.rtp[0].ssrc == sender.ssrc
    await eventually(lambda: FirstForwarded("far/cam", "far", "cam") in engine.events)
    asked = len(ann.rtcp)
    far.send_rtcp(rtcp.picture_loss(1, sender.ssrc))
    await eventually(lambda: rtcp.KeyFrameRequest(50) in ann.rtcp[asked:])


async def test_the_layers_of_a_piped_track_are_named_by_their_ssrcs(engine: Bench) -> None:
    far, bob = await plain(engine, "far"), await engine.peer("bob")
    engine.publish(far, "cam", ssrcs=((60, 160), (61, 161)), rids=("q", "f"))
    sender = engine.subscribe(bob, "cam")
    engine.apply(SelectLayer(sender.sender_id, "q"))
    await engine.settle()

    def is_chosen() -> bool:
        far.number += 1
        far.send_rtp(media(far.number, payload=KEY_FRAME + b"f", ssrc=61))
        far.send_rtp(media(far.number, payload=KEY_FRAME + b"q", ssrc=60))
        return bool(bob.rtp) and bob.rtp[-1].payload.endswith(b"q")

    await eventually(is_chosen)
    next_one, lost, last = range(far.number + 1, far.number + 4)
    far.send_rtp(media(next_one, payload=DELTA + b"f", ssrc=61))
    far.send_rtp(media(next_one, payload=DELTA + b"next-q", ssrc=60))
    await eventually(lambda: bob.rtp[-1].payload.endswith(b"next-q"))
    far.send_rtp(media(last, payload=DELTA + b"q", ssrc=60))
    await eventually(lambda: rtcp.Nack(60, (lost,)) in far.rtcp)
    count = len(bob.rtp)
    far.send_rtp(media(9, payload=lost.to_bytes(2, "big") + DELTA + b"q", ssrc=160, payload_type=97))
    await eventually(lambda: len(bob.rtp) == count + 1)


async def test_streams_that_were_not_named_belong_to_nothing(engine: Bench) -> None:
    far, bob = await plain(engine, "far"), await engine.peer("bob")
    engine.publish(far, "one", ssrcs=((60, None),))
    engine.publish(far, "two", mid="1", ssrcs=((61, None),))
    engine.subscribe(bob, "one")
    engine.apply(RemoveTrack("two"))
    await engine.settle()
    for number in range(1, 30):
        far.send_rtp(media(number, payload=KEY_FRAME + b"two", ssrc=61, mid=""))
        far.send_rtp(media(number, payload=KEY_FRAME + b"one", ssrc=60, mid=""))
        await engine.settle()
        if len(bob.rtp) > 2:
            break
    assert {packet.payload[-3:] for packet in bob.rtp} == {b"one"}


async def test_a_check_cannot_take_the_address_of_a_plain_transport(engine: Bench) -> None:
    far, bob = await plain(engine, "far"), await engine.peer("bob")
    far.check(ufrag=bob.ufrag)
    await eventually(lambda: engine.dropped("stun-refused") == 1)
    far.send_rtcp(REPORT)
    await eventually(lambda: engine.of(IceChanged, transport_id="far", state="connected") != [])
