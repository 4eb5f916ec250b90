"""Answers to offers on the publish transport: real browsers' offers, and those that nobody should accept."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import sdp
from conference.protocol.negotiation import (
    AUDIO_LEVEL,
    DEPENDENCY_DESCRIPTOR,
    MID,
    ORIENTATION,
    RID,
    TRANSPORT_CC,
    LocalTransport,
)
from conference.protocol.negotiation_publish import make_answer, read_offer
from conference.protocol.sdp import Section

pytestmark = pytest.mark.protocol

DATA = Path(__file__).resolve().parents[1] / "data"
ALL_CODECS = (DATA / "chromium-156-offer-all-codecs.sdp").read_text()
SIMULCAST = (DATA / "chromium-156-offer-simulcast.sdp").read_text()
ATTRIBUTES = ("rid", "simulcast", "ssrc", "ssrc-group", "extmap", "fmtp", "rtcp-fb", "sctp-port")
FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalTransport("ufragufrag", "p" * 24, FINGERPRINT, (("192.0.2.7", 7882), ("127.0.0.1", 7882)))


def answer_to(text: str, accepted: tuple[str, ...] = ("0", "1")) -> sdp.Description:
    return sdp.parse(make_answer(read_offer(text), LOCAL, accepted, session_id=7, version=1))


def code_of(text: str) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_offer(text)
    return caught.value.code


def section(description: sdp.Description, mid: str) -> Section:
    return next(s for s in description.sections if s.mid == mid)


@pytest.mark.parametrize("text", [ALL_CODECS, SIMULCAST])
def test_a_browser_is_answered_with_opus_vp8_three_layers_and_data(text: str) -> None:
    answer = answer_to(text)
    audio, video, data = answer.sections
    assert (audio.formats, video.formats, data.formats) == (("111",), ("96", "97"), ("webrtc-datachannel",))
    assert {s.direction for s in (audio, video)} == {"recvonly"}
    assert video.get("simulcast") == "recv q;h;f"
    assert list(video.all("rid")) == ["q recv", "h recv", "f recv"]
    assert audio.get("fmtp") == "111 minptime=10;useinbandfec=1"
    assert answer.session.has("ice-lite")
    assert all(
        s.get("setup") == "passive" and s.get("fingerprint") == f"sha-256 {FINGERPRINT}" for s in answer.sections
    )
    assert data.get("max-message-size") == "16384"


def test_only_what_the_engine_serves_is_answered() -> None:
    _, video, _ = answer_to(ALL_CODECS).sections
    offered = {value.split(" ")[1] for value in section(sdp.parse(ALL_CODECS), "1").all("extmap")}
    answered = {value.split(" ")[1] for value in video.all("extmap")}
    assert answered < offered
    assert {MID, RID, TRANSPORT_CC} <= answered
    assert not any("AV1" in value or "red" in value or "ulpfec" in value for value in video.all("rtpmap"))
    assert {value.split(" ", 1)[1] for value in video.all("rtcp-fb")} == {
        "ccm fir",
        "nack",
        "nack pli",
        "transport-cc",
    }
    assert not video.has("rtcp-xr")


def test_a_publication_tells_the_engine_what_to_expect() -> None:
    audio, video = read_offer(SIMULCAST).publications
    assert (audio.codec.name, audio.codec.channels, audio.ssrcs) == ("opus", 2, (3221956040,))
    assert dict(audio.extensions)[AUDIO_LEVEL] == 1
    assert (video.codec.rtx_payload_type, video.rids, video.ssrcs) == (97, ("q", "h", "f"), ())


def test_an_offer_that_prefers_h264_alone_gets_packetization_mode_1() -> None:
    lines = [line for line in ALL_CODECS.splitlines() if "VP8/90000" not in line]
    _, video, _ = answer_to("\r\n".join(lines)).sections
    assert video.get("rtpmap") == "102 H264/90000"
    assert "packetization-mode=1" in str(video.get("fmtp"))


def test_a_section_that_is_not_wanted_is_inactive_but_stays_in_the_bundle() -> None:
    answer = answer_to(SIMULCAST, accepted=("0",))
    video = section(answer, "1")
    assert (video.port, video.direction, video.has("simulcast")) == (9, "inactive", False)
    assert answer.session.get("group") == "BUNDLE 0 1 2"


def test_a_section_that_nobody_can_serve_is_rejected() -> None:
    answer = answer_to(SIMULCAST.replace("VP8/90000", "H265/90000"), accepted=("0",))
    assert section(answer, "1").port == 0
    assert answer.session.get("group") == "BUNDLE 0 2"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("a=fingerprint:", "a=x-fingerprint:", "no-fingerprint"),
        ("a=fingerprint:sha-256", "a=fingerprint:md5", "no-fingerprint"),
        ("a=fingerprint:sha-256 52:", "a=fingerprint:sha-256 zz:", "bad-sdp"),
        ("a=ice-ufrag:", "a=x-ice:", "no-ice"),
        ("a=ice-pwd:BeOvVUQsZ8EOIzysKVcolzSP", "a=ice-pwd:short", "no-ice"),
        ("a=setup:actpass", "a=setup:passive", "bad-setup"),
        ("a=rtcp-mux\r\n", "", "no-rtcp-mux"),
        ("a=group:BUNDLE 0 1 2", "a=group:LS 0 1 2", "no-bundle"),
        ("a=mid:1", "a=mid:0", "duplicate-mid"),
        ("a=mid:1\r\n", "", "bad-sdp"),
        ("a=mid:1", "a=mid:" + "x" * 17, "bad-sdp"),
        ("a=extmap:4 ", "a=extmap:999 ", "bad-sdp"),
        ("a=rtpmap:96 ", "a=rtpmap:xx ", "bad-sdp"),
        ("a=simulcast:send q;h;f", "a=simulcast:send q;q;q", "bad-sdp"),
        ("a=simulcast:send q;h;f", "a=simulcast:send " + ";".join("abcdefghi"), "bad-sdp"),
    ],
)
def test_what_no_peer_should_send_is_refused_by_name(old: str, new: str, code: str) -> None:
    text = SIMULCAST.replace("\r\n", "\n").replace("\n", "\r\n")
    assert old in text
    assert code_of(text.replace(old, new)) == code


@settings(max_examples=150)
@given(st.data())
def test_mutilated_offers_are_answered_or_refused(data: st.DataObject) -> None:
    lines = SIMULCAST.splitlines()
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(1, len(lines) - 1))
        lines[place] = data.draw(
            st.one_of(
                st.just(lines[place][: data.draw(st.integers(0, 20))]),
                st.sampled_from(lines),
                st.text(max_size=20).map(lambda text: "a=" + text),
                st.builds(
                    "a={}:{}".format,
                    st.sampled_from(
                        ["rid", "simulcast", "ssrc", "ssrc-group", "extmap", "fmtp", "rtcp-fb", "sctp-port"]
                    ),
                    st.text(alphabet="0123456789 sendrcvFID;=/qh:", max_size=20),
                ),
            )
        )
    try:
        offer = read_offer("\n".join(lines))
    except ProtocolError:
        return
    mids = [p.mid for p in offer.publications]
    answer = sdp.parse(make_answer(offer, LOCAL, mids, session_id=1, version=1))
    assert [s.mid for s in answer.sections] == [s.mid for s in offer.description.sections]
    assert not any("\n" in value or "\r" in value for s in answer.sections for _, value in s.attributes)


def test_codecs_are_chosen_in_the_order_that_is_asked_for() -> None:
    for preference, names in (
        (("VP8", "AV1"), ["opus", "VP8"]),
        (("AV1", "VP8"), ["opus", "AV1"]),
        (("VP9", "red"), ["red", "VP9"]),
        (("AV9",), ["opus"]),
    ):
        offer = read_offer(ALL_CODECS, preference)
        assert [publication.codec.name for publication in offer.publications] == names


def test_av1_is_answered_with_its_parameters_and_the_dependency_descriptor() -> None:
    answer = sdp.parse(make_answer(read_offer(ALL_CODECS, ["AV1"]), LOCAL, ["1"], session_id=7, version=1))
    video = section(answer, "1")
    assert video.formats == ("45", "46")
    assert "45 level-idx=5;profile=0;tier=0" in video.all("fmtp")
    uris = {value.split(" ")[1] for value in video.all("extmap")}
    assert {DEPENDENCY_DESCRIPTOR, ORIENTATION} <= uris
    uris = {value.split(" ")[1] for value in section(answer_to(ALL_CODECS), "1").all("extmap")}
    assert DEPENDENCY_DESCRIPTOR not in uris, "what VP8 needs is in its payload"


def test_another_profile_of_av1_is_not_taken() -> None:
    text = ALL_CODECS.replace("fmtp:45 level-idx=5;profile=0", "fmtp:45 level-idx=5;profile=1")
    assert [p.codec.name for p in read_offer(text, ["AV1", "VP8"]).publications] == ["opus", "VP8"]


def test_red_is_answered_with_the_opus_inside_it() -> None:
    answer = sdp.parse(make_answer(read_offer(ALL_CODECS, ["VP8", "red"]), LOCAL, ["0"], session_id=7, version=1))
    audio = section(answer, "0")
    assert audio.formats == ("63", "111")
    assert "111 minptime=10;useinbandfec=1" in audio.all("fmtp")


@pytest.mark.parametrize("inside", ["111/9", "9/9", "", "x"])
def test_red_around_something_else_is_not_taken(inside: str) -> None:
    text = ALL_CODECS.replace("a=fmtp:63 111/111", f"a=fmtp:63 {inside}")
    assert read_offer(text, ["VP8", "red"]).publications[0].codec.name == "opus"
