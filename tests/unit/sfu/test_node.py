"""A node's sessions, without sockets: who is offered what, what is told to whom, what ends when."""

import asyncio

import pytest

from conference.domain.errors import ProtocolError, Refused, Unavailable
from conference.ports.forwarding import (
    AddTransport,
    AudioLevels,
    CapBandwidth,
    DropPairs,
    DtlsReceived,
    FirstForwarded,
    IceChanged,
    LayersWanted,
    LinkReport,
    MuteTrack,
    RankTrack,
    RemoveTransport,
    RestartIce,
    SenderChanged,
    SetLastN,
    SetSender,
    SetTrack,
    WantTrack,
)
from conference.protocol import control
from conference.protocol.messages import Capabilities, ReceiveTrack, TrackInfo
from media_workers.sfu.core import Options
from media_workers.sfu.node import ORPHAN_TIMEOUT_S
from media_workers.sfu.transports import CONNECT_TIMEOUT_S
from tests.support.quiet_node import DATA, SIMULCAST, Inbox, QuietNode, browser_answer

pytestmark = pytest.mark.unit


@pytest.fixture
async def world() -> QuietNode:
    return QuietNode()


@pytest.fixture
async def pair(world: QuietNode) -> QuietNode:
    """ann publishes, bob receives."""
    ann = world.open("ann")
    world.open("bob")
    world.publish("ann", ann["publish"])
    world.accept("bob")
    return world


def connect(world: QuietNode) -> None:
    """Every handshake succeeds."""
    for endpoint in world.dtls.opened:
        endpoint.callbacks.on_state("connected")


def show(world: QuietNode, *, visible: bool = True, width: int = 0, pinned: bool = False) -> None:
    wish = ReceiveTrack(track_id="ann-cam", visible=visible, width=width, pinned=pinned)
    world.ask(control.SelectTracks(participant_id="bob", tracks=[wish]))


async def test_a_track_is_announced_and_offered_after_its_answer(world: QuietNode) -> None:
    ann = world.open("ann")
    world.open("bob")
    reply = world.publish("ann", ann["publish"])
    assert isinstance(reply, control.Answer)
    assert [m.track.track_id for m in world.link.of(control.TrackAdded)] == ["ann-mic", "ann-cam"]
    (offer,) = world.link.of(control.Offer)
    assert (offer.participant_id, [t.mid for t in offer.tracks]) == ("bob", ["s0", "s1"])
    assert world.engine.of(SetTrack)[1].rids == ("q", "h", "f")
    assert not world.engine.of(SetSender)
    world.accept("bob")
    assert {c.track_id for c in world.engine.of(SetSender)} == {"r/ann-mic", "r/ann-cam"}


async def test_a_newcomer_is_told_of_and_offered_what_is_there(pair: QuietNode) -> None:
    opened = pair.ask(control.OpenSession(room_id="r", participant_id="eve", user_id="u", role="attendee"))
    assert isinstance(opened, control.SessionOpened)
    assert [t.track_id for t in opened.tracks] == ["ann-mic", "ann-cam"]
    assert len(pair.link.of(control.Offer, participant_id="eve")) == 1


async def test_the_same_offer_again_gets_the_same_answer(world: QuietNode) -> None:
    ann = world.open("ann")
    first, second = (world.publish("ann", ann["publish"]) for _ in range(2))
    assert first == second
    with pytest.raises(ProtocolError, match="stale-negotiation"):
        world.publish("ann", ann["publish"], sdp=SIMULCAST + "a=x\r\n", negotiation_id=1)


async def test_an_offer_with_new_ice_credentials_restarts_ice_and_keeps_the_association(world: QuietNode) -> None:
    ann = world.open("ann")
    world.publish("ann", ann["publish"])
    restarted = SIMULCAST.replace("a=ice-ufrag:oMpg", "a=ice-ufrag:next")
    reply = world.publish("ann", ann["publish"], sdp=restarted, negotiation_id=2)
    assert isinstance(reply, control.Answer)
    (restart,) = world.engine.of(RestartIce)
    assert f"a=ice-ufrag:{restart.ice_ufrag}" in reply.sdp
    assert len(world.dtls.opened) == 1


async def test_another_certificate_on_a_transport_is_refused_and_changes_nothing(pair: QuietNode) -> None:
    transport = pair.core.sessions["ann"].publish.transport_id
    forged = SIMULCAST.replace("sha-256 52:67", "sha-256 00:00").replace("a=sendonly", "a=inactive")
    with pytest.raises(ProtocolError, match="fingerprint-changed"):
        pair.publish("ann", transport, sdp=forged, negotiation_id=2)
    assert set(pair.core.sessions["ann"].tracks) == {"ann-mic", "ann-cam"}


async def test_a_section_that_stops_sending_ends_its_track(pair: QuietNode) -> None:
    transport = pair.core.sessions["ann"].publish.transport_id
    head, video = SIMULCAST.split("m=video")
    pair.publish("ann", transport, sdp=head + "m=video" + video.replace("a=sendonly", "a=inactive"), negotiation_id=2)
    assert [m.track_id for m in pair.link.of(control.TrackRemoved)] == ["ann-cam"]
    assert [t.track_id for t in pair.link.of(control.Offer, participant_id="bob")[-1].tracks] == ["ann-mic"]


async def test_a_client_hello_may_outrun_the_answer(world: QuietNode) -> None:
    ann, bob = world.open("ann"), world.open("bob")
    world.publish("ann", ann["publish"])
    world.raise_event(*(DtlsReceived(bob["subscribe"], b"\x16%d" % n) for n in range(20)))
    world.accept("bob")
    endpoint = world.dtls.opened[-1]
    assert endpoint.is_started
    assert endpoint.received == [b"\x16%d" % n for n in range(8)]


async def test_states_of_ice_and_dtls_are_told_as_one(world: QuietNode) -> None:
    ann = world.open("ann")
    world.publish("ann", ann["publish"])
    callbacks = world.dtls.opened[0].callbacks
    world.raise_event(IceChanged(ann["publish"], "connected"))
    callbacks.on_state("connecting")
    callbacks.on_state("connected")
    world.raise_event(IceChanged(ann["publish"], "disconnected"), IceChanged(ann["publish"], "connected"))
    states = [m.state for m in world.link.of(control.TransportChanged)]
    assert states == ["connecting", "connected", "disconnected", "connected"]


async def test_lost_consent_ends_the_tracks_and_the_session(pair: QuietNode) -> None:
    connect(pair)
    ann = pair.core.sessions["ann"]
    pair.raise_event(IceChanged(ann.publish.transport_id, "failed"))
    assert {m.track_id for m in pair.link.of(control.TrackRemoved)} == {"ann-mic", "ann-cam"}
    (closed,) = pair.link.of(control.SessionClosed)
    assert (closed.participant_id, closed.reason) == ("ann", "consent-expired")
    assert set(pair.core.sessions) == {"bob"}
    await pair.core.finish()
    assert RemoveTransport(ann.publish.transport_id) in pair.engine.commands


async def test_a_transport_that_never_connects_fails_in_time(world: QuietNode) -> None:
    ann = world.open("ann")
    world.publish("ann", ann["publish"])
    world.wait(CONNECT_TIMEOUT_S - 1)
    assert not world.link.of(control.TransportChanged, state="failed")
    world.wait(2)
    assert world.link.of(control.TransportChanged, state="failed")
    assert [m.reason for m in world.link.of(control.SessionClosed)] == ["failed"]


async def test_a_second_session_of_a_participant_replaces_the_first(pair: QuietNode) -> None:
    transports = pair.open("ann")
    assert pair.core.sessions["ann"].publish.transport_id == transports["publish"]
    assert len(pair.link.of(control.TrackRemoved)) == 2
    assert not pair.link.of(control.SessionClosed)


async def test_an_orphan_is_kept_for_a_while_and_can_be_attached(pair: QuietNode) -> None:
    connect(pair)
    pair.node.link_lost(pair.link)
    pair.wait(ORPHAN_TIMEOUT_S - 1)
    other = Inbox()
    assert isinstance(pair.ask(control.AttachSession(room_id="r", participant_id="ann"), other), control.SessionOpened)
    pair.wait(2)
    assert set(pair.core.sessions) == {"ann"}
    assert other.of(control.TransportChanged) == []


async def test_an_attach_restarts_ice_where_the_subscribe_transport_is_cut_off(pair: QuietNode) -> None:
    bob = pair.core.sessions["bob"]
    pair.dtls.opened[-1].callbacks.on_state("connected")
    pair.raise_event(IceChanged(bob.subscribe.transport_id, "disconnected"))
    other = Inbox()
    pair.ask(control.AttachSession(room_id="r", participant_id="bob"), other)
    (offer,) = other.of(control.Offer)
    assert f"a=ice-ufrag:{pair.engine.of(RestartIce)[-1].ice_ufrag}" in offer.sdp


async def test_how_a_video_is_shown_is_told_to_the_engine(pair: QuietNode) -> None:
    show(pair, visible=False)
    show(pair, width=160, pinned=True)
    sender = next(c.sender_id for c in pair.engine.of(SetSender) if c.track_id == "r/ann-cam")
    assert pair.engine.of(WantTrack) == [
        WantTrack(sender, 0, 0, False, False),
        WantTrack(sender, 160, 0, True, True),
    ]


async def test_a_wish_that_comes_before_the_answer_is_not_lost(world: QuietNode) -> None:
    ann = world.open("ann")
    world.open("bob")
    world.publish("ann", ann["publish"])
    show(world, width=320)
    assert not world.engine.of(WantTrack)
    world.accept("bob")
    assert [w.width for w in world.engine.of(WantTrack)] == [320]


async def test_layers_that_nobody_wants_are_told_to_their_publisher(pair: QuietNode) -> None:
    pair.raise_event(LayersWanted("r/ann-cam", (("q", True), ("h", True), ("f", True))))
    assert not pair.link.of(control.ChangeSend), "everything is what a publisher sends unasked"
    pair.raise_event(LayersWanted("r/ann-cam", (("q", True), ("h", False), ("f", False))))
    pair.raise_event(LayersWanted("r/nobody", (("q", False),)))
    (change,) = pair.link.of(control.ChangeSend)
    assert (change.participant_id, change.layers) == ("ann", {"q": True, "h": False, "f": False})


def paused(pair: QuietNode, *reasons: str) -> list[list[tuple[str, str]]]:
    """What bob is told when the engine says so of ann's camera."""
    sender = next(c.sender_id for c in pair.engine.of(SetSender) if c.track_id == "r/ann-cam")
    pair.raise_event(*(SenderChanged(sender, reason, "", 0, 0) for reason in reasons))  # type: ignore[arg-type]
    told = pair.link.of(control.ReceiveChanged, participant_id="bob")
    return [[(track.track_id, track.paused) for track in message.tracks] for message in told]


async def test_what_does_not_reach_a_subscriber_is_told_when_it_changes(pair: QuietNode) -> None:
    assert paused(pair, "none") == []
    assert paused(pair, "bandwidth") == [[("ann-cam", "bandwidth")]]
    assert len(paused(pair, "bandwidth")) == 1
    assert paused(pair, "hidden", "none")[1:] == [[("ann-cam", "none")]], "one message for what changes at once"


async def test_what_does_not_reach_a_subscriber_is_told_again_after_an_attach(pair: QuietNode) -> None:
    paused(pair, "bandwidth")
    other = Inbox()
    pair.ask(control.AttachSession(room_id="r", participant_id="bob"), other)
    (again,) = other.of(control.ReceiveChanged)
    assert [track.paused for track in again.tracks] == ["bandwidth"]


async def test_a_track_that_a_subscriber_refuses_is_reported_and_not_sent(world: QuietNode) -> None:
    ann = world.open("ann")
    world.open("bob")
    world.publish("ann", ann["publish"])
    offer = world.link.of(control.Offer, participant_id="bob")[-1]
    refusal = browser_answer(offer.sdp).replace("m=video 9", "m=video 0")
    world.ask(
        control.Answer(
            participant_id="bob", transport_id=offer.transport_id, negotiation_id=offer.negotiation_id, sdp=refusal
        )
    )
    assert [c.track_id for c in world.engine.of(SetSender)] == ["r/ann-mic"]
    (told,) = world.link.of(control.ReceiveChanged)
    assert [(t.track_id, t.paused) for t in told.tracks] == [("ann-cam", "unsupported")]
    assert world.core.counters.refused_tracks == 1


async def test_a_codec_is_used_while_everybody_decodes_it() -> None:
    world = QuietNode(options=Options(video_codecs=("AV1", "H264", "VP8")))
    offered = (DATA / "chromium-156-offer-all-codecs.sdp").read_text()

    def codec(name: str) -> str:
        world.publish(name, world.core.sessions[name].publish.transport_id, sdp=offered)
        return str(world.engine.of(SetTrack)[-1].codec.name)

    world.open("ann", capabilities=Capabilities(codecs=["av1", "VP8", "H264"]))
    world.open("bob", capabilities=Capabilities(codecs=["AV1", "VP8"]))
    assert codec("ann") == "AV1"
    world.open("eve")
    assert [t.paused for m in world.link.of(control.ReceiveChanged, participant_id="eve") for t in m.tracks] == [
        "unsupported"
    ]
    assert codec("bob") == "H264", "eve's browser is not known to decode AV1"
    world.accept("eve")
    offer = world.link.of(control.Offer, participant_id="eve")[-1]
    assert [track.track_id for track in offer.tracks] == ["ann-mic", "bob-mic", "bob-cam"]


async def test_who_spoke_last_ranks_first(pair: QuietNode) -> None:
    eve = pair.open("eve")
    pair.publish("eve", eve["publish"])
    for loud, silent in (("ann", "eve"), ("eve", "ann")):
        for _ in range(20):
            pair.now += 0.2
            pair.raise_event(AudioLevels(((f"r/{loud}-mic", 20), (f"r/{silent}-mic", 127))))
    assert pair.engine.of(RankTrack)[:1] == [RankTrack("r/ann-cam", 0)]
    assert set(pair.engine.of(RankTrack)[-2:]) == {RankTrack("r/eve-cam", 0), RankTrack("r/ann-cam", 1)}


async def test_the_last_n_of_the_settings_holds_for_each_subscriber() -> None:
    world = QuietNode(options=Options(last_n=9))
    ann = world.open("ann")
    assert world.engine.of(SetLastN) == [SetLastN(ann["subscribe"], 9)]


async def test_rooms_are_spread_over_packet_workers_and_stay_on_theirs() -> None:
    world = QuietNode(workers=2)
    world.open("ann", room="one")
    world.open("bob", room="two")
    world.open("eve", room="one")
    ann = world.core.sessions["ann"].publish.transport_id
    assert {t.worker for t in world.engine.of(AddTransport)[:2]} == {0}
    assert [t.worker for t in world.engine.of(AddTransport)] == [0, 0, 1, 1, 0, 0]
    reply = world.publish("bob", world.core.sessions["bob"].publish.transport_id)
    assert isinstance(reply, control.Answer)
    assert "192.0.2.1 8 typ host" in reply.sdp
    answer = world.publish("ann", ann)
    assert isinstance(answer, control.Answer)
    assert "192.0.2.1 7 typ host" in answer.sdp


async def test_a_screen_share_is_marked_for_the_engine(world: QuietNode) -> None:
    ann = world.open("ann")
    tracks = [TrackInfo(track_id="share", kind="video", source="screen", mid="1")]
    world.ask(
        control.Offer(participant_id="ann", transport_id=ann["publish"], negotiation_id=1, sdp=SIMULCAST, tracks=tracks)
    )
    assert [track.is_screen for track in world.engine.of(SetTrack)] == [True]


async def test_a_mute_holds_for_tracks_that_come_later(world: QuietNode) -> None:
    ann = world.open("ann")
    world.ask(control.MuteTracks(participant_id="ann", sources=["microphone"], muted=True))
    world.publish("ann", ann["publish"])
    assert world.engine.of(MuteTrack) == [MuteTrack("r/ann-mic", True)]


async def test_the_first_packet_is_told_once(pair: QuietNode) -> None:
    (audio, video) = pair.engine.of(SetSender)
    for command in (audio, video):
        pair.raise_event(FirstForwarded(command.sender_id, command.transport_id, command.track_id))
    assert [m.track_id for m in pair.link.of(control.FirstPacket)] == ["ann-mic"]


async def test_speakers_and_quality_are_told_to_each_link_of_the_room_once(pair: QuietNode) -> None:
    other = Inbox()
    pair.ask(control.AttachSession(room_id="r", participant_id="bob"), other)
    transport = pair.core.sessions["ann"].publish.transport_id
    for _ in range(5):
        pair.now += 0.2
        pair.raise_event(AudioLevels((("r/ann-mic", 25),)), LinkReport(transport, 0.0, 0.3, None, True))
    pair.wait(1)
    for inbox in (pair.link, other):
        assert inbox.of(control.SpeakersChanged)[0].speakers[0].participant_id == "ann"
        assert [m.quality for m in inbox.of(control.ConnectionQuality)] == ["poor"]


async def test_bad_data_channel_messages_are_ignored_and_counted(pair: QuietNode) -> None:
    callbacks = pair.dtls.opened[0].callbacks
    for text in ("nonsense", b"\xff", "[]", '{"ok": true}'):
        callbacks.on_data(text)
    assert [m.message for m in pair.link.of(control.DataReceived)] == [{"ok": True}]
    assert pair.core.counters.data_refused == 3


async def test_debug_hooks_are_refused_unless_allowed(world: QuietNode) -> None:
    with pytest.raises(Refused, match="hooks"):
        world.ask(control.Simulate(scenario="node-failure"))


async def test_debug_hooks_do_what_they_say() -> None:
    scenarios: list[str] = []
    world = QuietNode(hooks=scenarios.append)
    world.open("ann")
    world.ask(control.Simulate(scenario="drain"))
    world.ask(control.Simulate(scenario="bandwidth-cap", participant_id="ann", bitrate_bps=9))
    world.ask(control.Simulate(scenario="drop-transports", participant_id="ann"))
    assert scenarios == ["drain"]
    assert (len(world.engine.of(CapBandwidth)), len(world.engine.of(DropPairs))) == (2, 2)
    with pytest.raises(ProtocolError, match="participantId"):
        world.ask(control.Simulate(scenario="drop-transports"))


async def test_a_full_or_draining_node_takes_nobody() -> None:
    world = QuietNode(capacity=3)
    world.open("ann")
    with pytest.raises(Refused, match="full"):
        world.open("bob")
    world.core.is_draining = True
    with pytest.raises(Unavailable):
        world.open("ann")
    assert set(world.core.sessions) == {"ann"}


async def test_closing_a_room_ends_all_of_it(pair: QuietNode) -> None:
    pair.ask(control.CloseRoom(room_id="r"))
    await pair.core.finish()
    assert (pair.core.sessions, pair.core.rooms, pair.core.by_transport, pair.core.by_key) == ({}, {}, {}, {})
    assert pair.core.by_sender == {}
    assert len(pair.engine.of(RemoveTransport)) == 4
    assert pair.core.idle.is_set()
    await asyncio.wait_for(pair.core.idle.wait(), 0.1)


async def test_one_broken_event_does_not_cost_the_others(pair: QuietNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setitem(pair.node._events, AudioLevels, broken)
    command = pair.engine.of(SetSender)[0]
    pair.raise_event(AudioLevels(()), FirstForwarded(command.sender_id, command.transport_id, command.track_id))
    assert pair.link.of(control.FirstPacket)


@pytest.mark.parametrize("track_id", ["x\r\na=inactive", "two words", "a:b", "r/other"])
async def test_a_track_id_that_would_change_the_sdp_of_others_is_refused(world: QuietNode, track_id: str) -> None:
    ann = world.open("ann")
    track = TrackInfo(track_id=track_id, kind="video", source="camera", mid="1")
    offer = control.Offer(
        participant_id="ann", transport_id=ann["publish"], negotiation_id=1, sdp=SIMULCAST, tracks=[track]
    )
    with pytest.raises(ProtocolError, match="bad-track-id"):
        world.ask(offer)


async def test_a_bug_in_one_action_does_not_cost_the_others(world: QuietNode) -> None:
    done: list[int] = []
    world.core.later(lambda: done.append(1 // 0))
    world.core.later(lambda: done.append(2))
    world.core.settle()
    assert done == [2]


async def test_a_transport_goes_even_where_its_association_cannot_be_closed(
    pair: QuietNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise RuntimeError("OpenSSL is upset")

    for endpoint in pair.dtls.opened:
        monkeypatch.setattr(endpoint, "close", fail)
    pair.ask(control.CloseRoom(room_id="r"))
    await pair.core.finish()
    assert len(pair.engine.of(RemoveTransport)) == 4
