"""Our offers on the subscribe transport: stable mids, reuse, one outstanding at a time."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from conference.domain.errors import ProtocolError
from conference.protocol import sdp
from conference.protocol.negotiation import (
    ABS_SEND_TIME,
    DEPENDENCY_DESCRIPTOR,
    MID,
    ORIENTATION,
    TRANSPORT_CC,
    Codec,
    LocalTransport,
)
from conference.protocol.negotiation_subscribe import (
    MAX_SUBSCRIBE_SECTIONS,
    OfferedTrack,
    SubscribeOffer,
    SubscribeOffers,
)
from conference.protocol.sdp import Section

pytestmark = pytest.mark.protocol

FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalTransport("ufragufrag", "p" * 24, FINGERPRINT, (("127.0.0.1", 7882),))
OPUS = Codec("opus", 111, 48_000, 2, (("minptime", "10"), ("useinbandfec", "1")))
VP8 = Codec("VP8", 96, 90_000, rtx_payload_type=97)
AV1 = Codec("AV1", 45, 90_000, fmtp=(("profile", "0"),), rtx_payload_type=46)
RED = Codec("red", 63, 48_000, 2, OPUS.fmtp)
H264 = Codec("H264", 102, 90_000, fmtp=(("packetization-mode", "1"), ("profile-level-id", "42e01f")))


def offers() -> SubscribeOffers:
    numbers = count(1_000)
    return SubscribeOffers(lambda: next(numbers), 1)


def track(name: str, kind: str = "video", codec: Codec | None = None) -> OfferedTrack:
    return OfferedTrack(name, kind, codec or (VP8 if kind == "video" else OPUS), "person")


def answer_to(
    offer: SubscribeOffer, *, refuse: frozenset[str] = frozenset(), drop: str = "", setup: str = "active"
) -> str:
    """What a browser would say: the same sections, receiving, with its own credentials."""
    description = sdp.parse(offer.sdp, MAX_SUBSCRIBE_SECTIONS)
    sections = []
    for section in description.sections:
        attributes = [
            (name, value)
            for name, value in section.attributes
            if name in {"mid", "rtpmap", "fmtp", "rtcp-fb", "extmap", "rtcp-mux"} and drop not in (name, value)
        ]
        attributes.append(("inactive" if section.direction == "inactive" else "recvonly", ""))
        attributes += [("ice-ufrag", "peer"), ("ice-pwd", "q" * 24), ("setup", "active")]
        attributes.append(("fingerprint", f"sha-256 {FINGERPRINT}"))
        port = 0 if section.mid in refuse else section.port
        sections.append(Section(section.kind, port, section.protocol, section.formats, attributes))
    return sdp.serialize(sdp.Description(Section(), sections), session_id=1, version=1)


def settle(machine: SubscribeOffers) -> SubscribeOffer | None:
    """Offers and answers until nothing is due; the last offer."""
    last = None
    while (offer := machine.next_offer(LOCAL)) is not None:
        machine.read_answer(offer.negotiation_id, answer_to(offer))
        last = offer
    return last


def test_a_first_offer_carries_the_tracks_of_the_room() -> None:
    machine = offers()
    machine.add(track("a", "audio"))
    machine.add(track("v"))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert offer.mids == {"s0": "a", "s1": "v"}
    audio, video = sdp.parse(offer.sdp).sections
    assert (audio.direction, audio.get("setup"), audio.get("msid")) == ("sendonly", "actpass", "person a")
    assert video.formats == ("96", "97")
    assert video.get("ssrc-group") == "FID 1001 1002"
    result = machine.read_answer(1, answer_to(offer))
    assert [(s.track_id, s.mid, s.ssrc, s.rtx_ssrc) for s in result.accepted] == [
        ("a", "s0", 1000, None),
        ("v", "s1", 1001, 1002),
    ]
    assert set(dict(result.accepted[1].extensions)) == {MID, TRANSPORT_CC, ABS_SEND_TIME, ORIENTATION}
    assert "96 goog-remb" in video.all("rtcp-fb"), "for who has no transport-wide feedback"


def test_changes_wait_for_the_answer_and_go_together() -> None:
    machine = offers()
    machine.add(track("a"))
    first = machine.next_offer(LOCAL)
    machine.add(track("b"))
    machine.add(track("c"))
    machine.remove("a")
    assert first is not None
    assert machine.next_offer(LOCAL) is None
    result = machine.read_answer(first.negotiation_id, answer_to(first))
    assert result.accepted == (), "the track went while its offer was under way"
    second = machine.next_offer(LOCAL)
    assert second is not None
    assert set(second.mids.values()) == {"b", "c"}
    assert machine.next_offer(LOCAL) is None


def test_a_freed_section_serves_the_next_track_of_its_kind_under_new_ssrcs() -> None:
    machine = offers()
    machine.add(track("a", "audio"))
    machine.add(track("v"))
    settle(machine)
    machine.remove("v")
    gone = settle(machine)
    assert gone is not None
    assert gone.mids == {"s0": "a"}
    machine.add(track("w"))
    machine.add(track("x", "audio"))
    offer = settle(machine)
    assert offer is not None
    assert offer.mids == {"s0": "a", "s1": "w", "s2": "x"}
    assert sdp.parse(offer.sdp).sections[1].get("ssrc-group") != "FID 1001 1002"


def test_a_codec_that_is_not_answered_is_reported_and_not_sent() -> None:
    machine = offers()
    machine.add(track("v"))
    machine.add(track("h", codec=H264))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    result = machine.read_answer(1, answer_to(offer, drop="102 H264/90000"))
    assert [s.track_id for s in result.accepted] == ["v"]
    assert result.refused == ("h",)


def test_an_answer_without_rtx_gets_none() -> None:
    machine = offers()
    machine.add(track("v"))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert machine.read_answer(1, answer_to(offer, drop="97 rtx/90000")).accepted[0].rtx_ssrc is None


def test_a_refused_section_is_never_used_again() -> None:
    machine = offers()
    machine.add(track("v"))
    machine.add(track("w"))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert machine.read_answer(1, answer_to(offer, refuse=frozenset({"s0"}))).refused == ("v",)
    machine.add(track("x"))
    later = settle(machine)
    assert later is not None
    assert later.mids == {"s1": "w", "s2": "x"}
    assert sdp.parse(later.sdp).sections[0].port == 0


def test_the_same_codec_has_one_payload_type_and_another_format_another() -> None:
    machine = offers()
    for name, fmtp in (("a", H264.fmtp), ("b", H264.fmtp), ("c", (("profile-level-id", "640032"),))):
        machine.add(track(name, codec=Codec("H264", 120, 90_000, fmtp=fmtp)))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    formats = [s.formats for s in sdp.parse(offer.sdp).sections]
    assert formats[0] == formats[1] == ("102", "103")
    assert not set(formats[2]) & set(formats[0])


def odd_h264(profile: int) -> Codec:
    return Codec("H264", 120, 90_000, fmtp=(("packetization-mode", "1"), ("profile-level-id", f"{profile:06x}")))


def test_odd_formats_of_one_publisher_leave_payload_types_for_the_others() -> None:
    machine = offers()
    for number in range(60):
        machine.add(track(f"odd{number}", codec=odd_h264(number)))
    machine.add(track("usual"))
    offer = settle(machine)
    assert offer is not None
    assert "usual" in offer.mids.values()
    assert 10 < len(offer.mids) < 60
    for number in range(60):
        machine.remove(f"odd{number}")
    settle(machine)
    for number in range(8):
        machine.add(track(f"later{number}", codec=odd_h264(1_000 + number)))
    later = settle(machine)
    assert later is not None
    assert {"later0", "later7"} <= set(later.mids.values()), "the types of what is gone are free again"


def test_what_an_opus_sender_wants_to_receive_takes_no_payload_type() -> None:
    machine = offers()
    for number in range(60):
        codec = Codec("opus", 111, 48_000, 2, (("maxaveragebitrate", str(number)), ("stereo", "1")))
        machine.add(track(f"mic{number}", "audio", codec))
    offer = settle(machine)
    assert offer is not None
    assert {s.formats for s in sdp.parse(offer.sdp, MAX_SUBSCRIBE_SECTIONS).sections} == {("111",)}


def test_tracks_beyond_the_most_sections_are_not_offered_in_a_loop() -> None:
    machine = offers()
    for number in range(MAX_SUBSCRIBE_SECTIONS + 2):
        machine.add(track(f"t{number}"))
    for _ in range(3):
        offer = machine.next_offer(LOCAL)
        if offer is None:
            return
        machine.read_answer(offer.negotiation_id, answer_to(offer))
    pytest.fail("the same offer again and again")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace("a=mid:s0", "a=mid:other"), "answer-mismatch"),
        (lambda text: text[: text.index("m=")], "answer-mismatch"),
        (lambda text: text.replace("a=setup:active", "a=setup:passive"), "bad-setup"),
        (lambda text: text.replace("a=fingerprint", "a=other"), "no-fingerprint"),
        (lambda text: "nonsense", "bad-sdp"),
    ],
)
def test_a_wrong_answer_is_refused_and_the_offer_still_waits(change: object, code: str) -> None:
    machine = offers()
    machine.add(track("v"))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert callable(change)
    with pytest.raises(ProtocolError) as caught:
        machine.read_answer(1, change(answer_to(offer)))
    assert caught.value.code == code
    assert machine.outstanding == offer


def test_a_stale_answer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="stale-answer"):
        offers().read_answer(3, "v=0")


def test_more_tracks_than_sections_wait_for_a_free_one() -> None:
    machine = offers()
    for number in range(MAX_SUBSCRIBE_SECTIONS + 1):
        machine.add(track(f"t{number}", "audio"))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert len(offer.mids) == MAX_SUBSCRIBE_SECTIONS
    machine.read_answer(1, answer_to(offer))
    machine.remove("t0")
    last = settle(machine)
    assert last is not None
    assert f"t{MAX_SUBSCRIBE_SECTIONS}" in last.mids.values()


class Subscriber(RuleBasedStateMachine):
    """Any order of joins, leaves, offers and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = offers()
        self.present: dict[str, str] = {}
        self.most = 0
        self.waiting: SubscribeOffer | None = None
        self.mids: list[str] = []
        self.names = count()
        self.ssrcs: dict[int, str] = {}

    @rule(kind=st.sampled_from(["audio", "video"]))
    def join(self, kind: str) -> None:
        name = f"t{next(self.names)}"
        self.present[name] = kind
        self.machine.add(track(name, kind))
        self.most = max(self.most, len(self.present))

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.present)))
        del self.present[name]
        self.machine.remove(name)

    @rule()
    def offer(self) -> None:
        offer = self.machine.next_offer(LOCAL)
        assert offer is None or self.waiting is None, "one outstanding offer"
        if offer is not None:
            mids = [s.mid for s in sdp.parse(offer.sdp, MAX_SUBSCRIBE_SECTIONS).sections]
            assert mids[: len(self.mids)] == self.mids, "sections keep their place"
            assert set(offer.mids.values()) == set(self.present)
            self.mids, self.waiting = mids, offer

    @precondition(lambda self: self.waiting is not None)
    @rule()
    def answer(self) -> None:
        assert self.waiting is not None
        result = self.machine.read_answer(self.waiting.negotiation_id, answer_to(self.waiting))
        assert {s.track_id for s in result.accepted} <= set(self.present)
        for accepted in result.accepted:
            assert self.ssrcs.setdefault(accepted.ssrc, accepted.track_id) == accepted.track_id, "an SSRC serves once"
        self.waiting = None

    @invariant()
    def sections_are_bounded(self) -> None:
        assert len(self.mids) <= 4 * max(self.most, 1)


TestSubscriber = Subscriber.TestCase


@given(st.text(max_size=200))
def test_any_text_as_an_answer_is_refused(text: str) -> None:
    machine = offers()
    machine.add(track("v"))
    assert machine.next_offer(LOCAL) is not None
    with pytest.raises(ProtocolError):
        machine.read_answer(1, text)


def test_a_dependency_descriptor_goes_with_av1_only() -> None:
    machine = offers()
    machine.add(track("v"))
    machine.add(track("a", codec=AV1))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    result = machine.read_answer(1, answer_to(offer))
    assert [DEPENDENCY_DESCRIPTOR in dict(s.extensions) for s in result.accepted] == [False, True]
    assert [s.codec.payload_type for s in result.accepted] == [96, 45]


def test_red_is_offered_with_the_opus_that_stands_inside_its_packets() -> None:
    machine = offers()
    machine.add(track("r", "audio", RED))
    machine.add(track("o", "audio", OPUS))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    red, opus = sdp.parse(offer.sdp).sections
    assert (red.formats, opus.formats) == (("63", "111"), ("111",))
    assert "63 111/111" in red.all("fmtp")
    result = machine.read_answer(1, answer_to(offer))
    assert [(s.codec.name, s.codec.payload_type) for s in result.accepted] == [("red", 63), ("opus", 111)]


def test_red_is_refused_by_who_leaves_it_out_of_the_answer() -> None:
    machine = offers()
    machine.add(track("r", "audio", RED))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    answer = answer_to(offer).replace("SAVPF 63 111", "SAVPF 111").replace("a=rtpmap:63 red/48000/2\r\n", "")
    assert machine.read_answer(1, answer).refused == ("r",)


def test_red_is_not_offered_where_its_opus_would_mean_something_else() -> None:
    machine = offers()
    machine.add(track("o", "audio", Codec("opus", 111, 48_000, 2, (("usedtx", "1"),))))
    machine.add(track("r", "audio", RED))
    offer = machine.next_offer(LOCAL)
    assert offer is not None
    assert offer.mids == {"s0": "o"}


def test_ice_over_tcp_is_offered_below_udp_where_the_engine_has_it() -> None:
    local = LocalTransport("ufragufrag", "p" * 24, FINGERPRINT, (("192.0.2.7", 7_883), ("127.0.0.1", 7_883)), True)
    machine = offers()
    machine.add(track("v"))
    offer = machine.next_offer(local)
    assert offer is not None
    (section,) = sdp.parse(offer.sdp).sections
    lines = [value.split(" ") for value in section.all("candidate")]
    assert [line[2] for line in lines] == ["udp", "udp", "tcp", "tcp"]
    assert [" ".join(line[4:]) for line in lines[2:]] == [
        "192.0.2.7 7883 typ host tcptype passive",
        "127.0.0.1 7883 typ host tcptype passive",
    ]
    priorities = [int(line[3]) for line in lines]
    assert priorities == sorted(set(priorities), reverse=True)
    assert len({line[0] for line in lines}) == 4, "foundations differ"
