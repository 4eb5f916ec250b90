"""The client's side of negotiation, against the SFU's own: what one writes the other reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import negotiation_publish, stun
from conference.protocol.ice_client import SILENCE_S, ControllingAgent
from conference.protocol.negotiation import LocalTransport
from conference.protocol.negotiation_client import (
    CODECS,
    ClientTransport,
    PublishSection,
    candidate_address,
    publish_offer,
    read_answer,
    read_offer,
    subscribe_answer,
)
from conference.protocol.negotiation_subscribe import OfferedTrack, SubscribeOffers

pytestmark = [pytest.mark.protocol]

PRINT = ":".join(["AB"] * 32)
CLIENT = ClientTransport("abcd", "p" * 24, PRINT)
SFU = LocalTransport("wxyz", "q" * 24, PRINT, (("127.0.0.1", 4_000),))
SECTIONS = [
    PublishSection("0", "opus", (("", 1, None),)),
    PublishSection("1", "vp8", (("q", 2, 3), ("h", 4, 5))),
    PublishSection("2", "h264", (("", 6, 7),)),
    PublishSection("3", "vp8", ()),
]


def test_the_sfu_takes_every_section_that_we_offer() -> None:
    offer = negotiation_publish.read_offer(publish_offer(CLIENT, SECTIONS, session_id=1, version=1))
    found = {p.mid: (p.codec.name, p.rids, p.ssrcs, p.rtx_ssrcs) for p in offer.publications}
    assert found == {
        "0": ("opus", (), (1,), ()),
        "1": ("VP8", ("q", "h"), (), ()),
        "2": ("H264", (), (6,), ((6, 7),)),
    }
    answer = read_answer(negotiation_publish.make_answer(offer, SFU, ["0", "1", "2"], session_id=1, version=1))
    assert (answer.remote.ice_ufrag, answer.candidates) == ("wxyz", (("127.0.0.1", 4_000),))
    codecs = {mid: section.codec and section.codec.name for mid, section in answer.sections.items()}
    assert codecs == {"0": "opus", "1": "VP8", "2": "H264", "3": None}


def test_we_take_what_travels_in_frames_and_leave_the_rest_in_the_bundle() -> None:
    offers = SubscribeOffers(iter(range(10, 99)).__next__, 1)
    vp9 = CODECS["vp8"].__class__("VP9", 98, 90_000, rtx_payload_type=99)
    for name, kind, codec in (("a", "audio", CODECS["opus"]), ("b", "video", CODECS["vp8"]), ("c", "video", vp9)):
        offers.add(OfferedTrack(name, kind, codec, "someone"))
    sent = offers.next_offer(SFU)
    assert sent
    read = read_offer(sent.sdp)
    assert [(s.codec and s.codec.name, s.ssrc > 0) for s in read.sections] == [
        ("opus", True),
        ("VP8", True),
        (None, False),
    ]
    answer = offers.read_answer(sent.negotiation_id, subscribe_answer(read, CLIENT, session_id=2, version=1))
    assert [s.track_id for s in answer.accepted] == ["a", "b"]
    assert answer.refused == ("c",)
    assert [s.ssrc for s in answer.accepted] == [s.ssrc for s in read.sections[:2]]


@given(st.text(max_size=80))
def test_a_candidate_is_an_address_or_nothing(text: str) -> None:
    found = candidate_address(text)
    assert found is None or 0 < found[1] < 65_536


@given(st.text(alphabet="v=0ma:\r\n 19audio", max_size=200))
def test_reading_any_text_gives_a_description_or_a_documented_error(text: str) -> None:
    for read in (read_answer, read_offer):
        with pytest.raises(ProtocolError):
            read("v=0\r\n" + text)


def agent() -> ControllingAgent:
    numbers = iter(range(1_000))
    made = ControllingAgent("abcd", 7, lambda: next(numbers).to_bytes(12, "big"))
    made.connect("wxyz", "q" * 24, [("127.0.0.1", 1), ("127.0.0.1", 2)], 0.0)
    return made


def reply(check: bytes, port: int, pwd: str = "q" * 24) -> bytes:
    return stun.binding_success(stun.parse(check), "127.0.0.1", port, pwd)


def test_the_first_candidate_that_answers_is_used() -> None:
    made = agent()
    checks = {address: data for data, address in made.tick(0.0)}
    assert set(checks) == {("127.0.0.1", 1), ("127.0.0.1", 2)}
    assert stun.parse(checks["127.0.0.1", 2]).use_candidate
    assert made.receive(reply(checks["127.0.0.1", 2], 9), ("127.0.0.1", 2), 0.1)
    assert (made.state, made.selected) == ("connected", ("127.0.0.1", 2))


def test_an_answer_counts_only_from_where_it_was_asked_and_with_the_password() -> None:
    made = agent()
    check, address = made.tick(0.0)[0]
    assert not made.receive(reply(check, 9), ("127.0.0.1", 77), 0.1)
    assert not made.receive(reply(check, 9, "z" * 24), address, 0.1)
    assert made.state == "checking"
    assert made.receive(reply(check, 9), address, 0.1)
    assert not made.receive(reply(check, 9), address, 0.1), "once"


def test_silence_ends_it_and_other_credentials_begin_anew() -> None:
    made = agent()
    check, address = made.tick(0.0)[0]
    made.receive(reply(check, 9), address, 0.0)
    assert made.tick(1.0) == []
    assert len(made.tick(2.6)) == 1, "consent"
    assert made.tick(SILENCE_S + 0.1) == []
    assert made.state == "failed"
    made.connect("wxy2", "r" * 24, [("127.0.0.1", 3)], 20.0)
    assert [address for _, address in made.tick(20.0)] == [("127.0.0.1", 3)]


def connected() -> tuple[ControllingAgent, tuple[str, int]]:
    made = agent()
    check, address = made.tick(0.0)[0]
    assert made.receive(reply(check, 9), address, 0.0)
    return made, address


def test_a_consent_check_without_an_answer_is_repeated_soon_and_one_with_it_is_not() -> None:
    made, address = connected()
    sent = [now / 10 for now in range(1, 60) if made.tick(now / 10)]
    assert sent == [2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5]
    assert made.silence(5.5) == 5.5
    check, _ = made.tick(6.0)[0]
    assert made.receive(reply(check, 9), address, 6.1)
    assert made.silence(6.1) == 0.0
    assert made.tick(8.5) == []
    assert len(made.tick(8.6)) == 1


def test_a_restart_keeps_the_pair_until_the_peers_new_credentials_answer() -> None:
    made, address = connected()
    made.restart("efgh")
    check, to = made.tick(5.0)[0]
    assert (stun.parse(check).username, to) == ("wxyz:efgh", address)  # the path may come back before signaling answers
    made.connect("wxy2", "r" * 24, [("127.0.0.1", 3)], 6.0)
    assert (made.state, made.selected) == ("connected", address)
    assert made.silence(6.0) == 6.0  # the peer's consent is as old as it was
    check, to = made.tick(6.0)[0]
    assert (stun.parse(check).username, to) == ("wxy2:efgh", ("127.0.0.1", 3))
    assert not made.receive(reply(check, 9), to, 6.1), "the former password"
    assert made.receive(reply(check, 9, "r" * 24), to, 6.1)
    assert made.selected == ("127.0.0.1", 3)


def test_consent_that_does_not_come_back_is_the_end_whatever_is_restarted() -> None:
    made, _ = connected()
    states: list[str] = []
    for now in range(1, 32):
        made.connect(f"wx{now}", "r" * 24, [("127.0.0.1", 3)], float(now))
        made.tick(float(now))
        states.append(made.state)
    assert states == [*["connected"] * int(SILENCE_S), "failed"]


@given(st.binary(max_size=200))
def test_no_datagram_breaks_the_agent(data: bytes) -> None:
    assert not agent().receive(data, ("127.0.0.1", 1), 0.0)
