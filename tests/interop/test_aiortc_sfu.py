"""aiortc clients publish to and subscribe from a real SFU worker over UDP on loopback."""

import asyncio
import json
import re

import aiohttp
import pytest
from aiortc import RTCSessionDescription

from conference.adapters.media.sending import Sender
from conference.adapters.system import SystemClock
from conference.protocol import control
from conference.protocol.messages import Candidate, ReceiveTrack, TrackInfo
from tests.support.sfu import Colour, Peer, Sfu, error_code, lose_media, peer, running_sfu
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


async def test_two_people_see_and_hear_each_other() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        peer(link, "ann", shade=60) as ann,
        peer(link, "bob", shade=180) as bob,
    ):
        picture = await ann.receives("bob-video")
        assert abs((picture.shade or 0) - 180) < 15
        await ann.receives("bob-audio")
        picture = await bob.receives("ann-video")
        assert abs((picture.shade or 0) - 60) < 15
        await bob.receives("ann-audio")
        await link.until(control.FirstPacket, participant_id="ann")
        await link.until(control.FirstPacket, participant_id="bob")
        assert sfu.engine.stats().dropped == {}


async def test_who_comes_third_gets_both_others_from_one_offer() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        peer(link, "ann", shade=60) as ann,
        peer(link, "bob", shade=180) as bob,
    ):
        await ann.receives("bob-video")
        await bob.receives("ann-video")
        async with peer(link, "eve", shade=120) as eve:
            await eve.receives("ann-video")
            await eve.receives("bob-video")
            await eve.receives("bob-audio")
            await ann.receives("eve-video")


async def test_telemetry_comes_over_the_data_channel() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60) as ann:
        await eventually(lambda: ann.channel.readyState == "open")
        ann.channel.send(json.dumps({"type": "stats", "loss": 0.1}))
        assert (await link.until(control.DataReceived)).message == {"type": "stats", "loss": 0.1}


async def test_a_muted_microphone_is_not_forwarded_until_it_is_unmuted() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60) as ann, peer(link, "bob") as bob:
        await bob.receives("ann-audio")
        sender = next(s for _, s in sfu.engine.core.state.senders.values() if s.track_id == "room/ann-audio")
        await link.ask(control.MuteTracks(participant_id=ann.name, sources=["microphone"], muted=True))
        muted_at = sender.forwarded
        await bob.receives("ann-video", 15)
        assert sender.forwarded == muted_at
        await link.ask(control.MuteTracks(participant_id=ann.name, sources=["microphone"], muted=False))
        await eventually(lambda: sender.forwarded > muted_at + 10)


async def test_hidden_video_is_paused_and_resumes_with_a_picture() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60), peer(link, "bob") as bob:
        await bob.receives("ann-video")
        sender = next(s for _, s in sfu.engine.core.state.senders.values() if s.track_id == "room/ann-video")
        await link.ask(_shown("bob", "ann-video", visible=False))
        paused_at = sender.forwarded
        await bob.receives("ann-audio", 40)
        assert sender.forwarded == paused_at
        await link.ask(_shown("bob", "ann-video", visible=True))
        await bob.receives("ann-video")


def _shown(participant: str, track_id: str, *, visible: bool) -> control.SelectTracks:
    return control.SelectTracks(
        participant_id=participant, tracks=[ReceiveTrack(track_id=track_id, visible=visible, width=640)]
    )


async def test_who_leaves_is_gone_and_the_section_serves_the_next() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann") as ann:
        async with peer(link, "bob", shade=180):
            await ann.receives("bob-video")
            assert isinstance(await link.ask(control.CloseSession(participant_id="bob")), control.Ok)
            await link.until(control.TrackRemoved, track_id="bob-video")
        await eventually(lambda: "a=inactive" in ann.offers[-1].sdp and not ann.offers[-1].tracks)
        await eventually(lambda: ann.subscribe.signalingState == "stable" and len(ann.offers) == 2)
        async with peer(link, "eve", shade=120):
            await link.until(control.TrackAdded, participant_id="eve")
            await eventually(lambda: len(ann.offers[-1].tracks) == 2)
            assert {info.mid for info in ann.offers[-1].tracks} == {info.mid for info in ann.offers[0].tracks}
            sender = await _sender_of(sfu, "room/eve-video")
            await eventually(lambda: sender.forwarded > 20)


async def _sender_of(sfu: Sfu, key: str) -> Sender:
    def found() -> list[Sender]:
        return [s for _, s in sfu.engine.core.state.senders.values() if s.track_id == key]

    await eventually(lambda: bool(found()))
    return found()[0]


async def test_lost_packets_are_repaired_in_both_directions() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60), peer(link, "bob") as bob:
        await bob.receives("ann-video")
        lose_media(sfu, every=10)
        await bob.receives("ann-video", 60, within_s=30)
        stats = sfu.engine.stats()
        assert stats.retransmitted_packets > 0
        stream = next(iter(sfu.engine.core.state.tracks["room/ann-video"].streams.values()))
        assert stream.highest - stream.base + 1 - stream.received <= 3, "the publisher's losses were repaired"


async def test_a_viewer_receives_but_may_not_publish() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60):
        async with peer(link, "vic", role="viewer") as viewer:
            await viewer.receives("ann-video")
            reply = await viewer.offer()
            assert isinstance(reply, control.Answer), "a data channel alone is welcome"
        async with peer(link, "val", role="viewer") as other:
            other.add(Colour(10))
            assert error_code(await other.offer()) == "role-not-allowed"
            assert not link.of(control.TrackAdded, participant_id="val")


async def test_a_participant_made_a_viewer_stops_being_seen() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60):
        await link.until(control.TrackAdded, participant_id="ann")
        await link.ask(control.UpdateSession(participant_id="ann", role="viewer"))
        await link.until(control.TrackRemoved, track_id="ann-video")
        assert not sfu.engine.stats().tracks


async def test_wrong_ids_are_refused_by_name() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60) as ann, peer(link, "bob") as bob:
        bob.add(Colour(10))
        taken = [TrackInfo(track_id="ann-video", kind="video", source="camera", mid="0")]
        assert error_code(await bob.offer(tracks=taken)) == "duplicate-track"
        assert error_code(await bob.offer(tracks=[_info("x", "9")])) == "unknown-mid"
        assert error_code(await bob.offer(tracks=[_info("x", "0"), _info("x", "0")])) == "duplicate-track"
        bob.transports["publish"] = ann.transports["publish"]
        assert error_code(await bob.offer()) == "unknown-transport"
        stale = control.Answer(
            participant_id="bob", transport_id=bob.transports["subscribe"], negotiation_id=99, sdp="v=0"
        )
        assert error_code(await link.ask(stale)) == "stale-answer"
        unknown = control.SelectTracks(participant_id="nobody", tracks=[])
        assert error_code(await link.ask(unknown)) == "unknown-session"


def _info(track_id: str, mid: str) -> TrackInfo:
    return TrackInfo(track_id=track_id, kind="video", source="camera", mid=mid)


async def test_a_candidate_before_an_offer_is_accepted() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann") as ann:
        candidate = Candidate(candidate="candidate:1 1 udp 1 10.0.0.1 9 typ host", sdp_mid="0")
        for transport_id, expected in ((ann.transports["publish"], "ok"), ("other", "unknown-transport")):
            message = control.AddCandidate(participant_id="ann", transport_id=transport_id, candidate=candidate)
            assert error_code(await link.ask(message)) == expected


async def test_an_offer_of_ten_thousand_sections_is_refused_quickly() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann") as ann:
        sdp = "v=0\r\n" + "m=audio 9 RTP 0\r\n" * 10_000
        started = asyncio.get_running_loop().time()
        message = control.Offer(participant_id="ann", transport_id=ann.transports["publish"], negotiation_id=1, sdp=sdp)
        assert error_code(await link.ask(message)) == "sdp-too-large"
        assert asyncio.get_running_loop().time() - started < 0.5


async def test_a_certificate_other_than_the_offered_one_fails_the_transport() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann") as ann:
        ann.add(Colour(10))
        await ann.publish.setLocalDescription(await ann.publish.createOffer())
        sdp = re.sub(r"a=fingerprint:sha-(384|512).*\r\n", "", ann.publish.localDescription.sdp)
        sdp = re.sub(r"(a=fingerprint:sha-256) .{11}", r"\1 00:11:22:33", sdp)
        reply = await link.ask(
            control.Offer(
                participant_id="ann",
                transport_id=ann.transports["publish"],
                negotiation_id=1,
                sdp=sdp,
                tracks=ann.infos(),
            )
        )
        assert isinstance(reply, control.Answer)
        await ann.publish.setRemoteDescription(RTCSessionDescription(reply.sdp, "answer"))
        await link.until(control.TransportChanged, participant_id="ann", state="failed")
        await link.until(control.TrackRemoved, track_id="ann-video")
        assert sfu.engine.stats().received_packets == 0


async def test_an_attached_link_takes_the_session_over_and_gets_the_waiting_offer() -> None:
    async with running_sfu() as sfu, sfu.link() as first, peer(first, "ann", shade=60):
        async with sfu.link() as lost:
            bob = Peer(lost, "bob")
            bob.auto_answer = False
            await bob.open()
            await lost.until(control.Offer, participant_id="bob")
        async with sfu.link() as second:
            hello = await second.until(control.Hello)
            assert {s.participant_id for s in hello.sessions} == {"ann", "bob"}
            second.peers["bob"] = bob
            bob.link, bob.auto_answer = second, True
            opened = await second.ask(control.AttachSession(room_id="room", participant_id="bob"))
            assert isinstance(opened, control.SessionOpened)
            assert {info.track_id for info in opened.tracks} == {"ann-audio", "ann-video"}
            await bob.receives("ann-video")
        await bob.close()


async def test_an_orphaned_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media_workers.sfu.node.ORPHAN_TIMEOUT_S", 0.2)
    async with running_sfu() as sfu, sfu.link() as watcher:
        async with sfu.link() as lost, peer(lost, "ann", shade=60):
            pass
        await eventually(lambda: sfu.engine.stats().transports == 0)
        assert isinstance(
            await watcher.ask(control.AttachSession(room_id="room", participant_id="ann")), control.ControlError
        )


async def test_a_link_needs_a_service_token_for_the_sfu() -> None:
    async with running_sfu() as sfu, aiohttp.ClientSession() as http:
        now = SystemClock().now()
        other = await sfu.tokens.mint_service(subject="signaling", audience="tunnel", now=now)
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Bearer {other}"}):
            async with http.get(f"{sfu.url}/control", headers=headers) as response:
                assert response.status == 401


async def test_bad_control_messages_are_answered_and_malformed_ones_close_the_link() -> None:
    async with running_sfu() as sfu, sfu.link() as link:
        await link.send_raw('{"type":"Nonsense","payload":{}}')
        assert (await link.until(control.ControlError)).code == "unknown-type"
        assert isinstance(await link.ask(control.CloseSession(participant_id="nobody")), control.Ok)
        await link.send_raw("{")
        await eventually(lambda: link.is_closed)


async def test_metrics_count_what_is_forwarded() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60), peer(link, "bob") as bob:
        await bob.receives("ann-video")
        async with aiohttp.ClientSession() as http, http.get(f"{sfu.url}/metrics") as response:
            text = await response.text()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
        assert float(values["parley_sfu_forwarded_bytes_total"]) > 1_000
        assert values["parley_sfu_publishers"] == values["parley_sfu_subscribers"] == "1.0"
        assert float(values["process_resident_memory_bytes"]) > 0


async def test_draining_is_announced_and_takes_no_new_sessions() -> None:
    async with running_sfu() as sfu, sfu.link() as link, peer(link, "ann", shade=60):
        assert [n.node_id for n in await sfu.nodes.nodes()] == ["sfu-test"]
        await sfu.worker.drain()
        await link.until(control.Draining)
        assert [n.draining for n in await sfu.nodes.nodes()] == [True]
        opening = control.OpenSession(room_id="room", participant_id="bob", user_id="u", role="attendee")
        assert error_code(await link.ask(opening)) == "sfu-unavailable"
        await sfu.worker.stop()
        assert (await link.until(control.SessionClosed)).reason == "shutdown"
        assert not await sfu.nodes.nodes()
