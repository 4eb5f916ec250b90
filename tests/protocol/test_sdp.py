"""SDP as text: limits, total parsing, and a round trip of real offers."""

import string
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import sdp

pytestmark = pytest.mark.protocol

DATA = Path(__file__).resolve().parents[1] / "data"
CHROMIUM = [
    (DATA / name).read_text() for name in ("chromium-156-offer-all-codecs.sdp", "chromium-156-offer-simulcast.sdp")
]
LINE = st.text(alphabet=string.printable, max_size=60)


def code_of(text: str) -> str:
    with pytest.raises(ProtocolError) as caught:
        sdp.parse(text)
    return caught.value.code


@pytest.mark.parametrize("text", CHROMIUM)
def test_a_browsers_offer_survives_a_round_trip(text: str) -> None:
    parsed = sdp.parse(text)
    again = sdp.parse(sdp.serialize(parsed, session_id=1, version=2))
    assert [s.mid for s in again.sections] == ["0", "1", "2"]
    assert again == parsed


def test_ten_thousand_sections_are_refused_at_once() -> None:
    started = perf_counter()
    assert code_of("v=0\r\n" + "m=audio 9 RTP 0\r\n" * 10_000) == "sdp-too-large"
    assert perf_counter() - started < 0.1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad-sdp"),
        ("hello", "bad-sdp"),
        ("v=0\r\nnonsense\r\n", "bad-sdp"),
        ("v=0\r\nm=audio\r\n", "bad-sdp"),
        ("v=0\r\nm=audio 99999 RTP 0\r\n", "bad-sdp"),
        ("v=0\r\nm=audio ١ RTP 0\r\n", "bad-sdp"),
        ("v=0\r\nm=audio 9 RTP " + "0 " * 200 + "\r\n", "bad-sdp"),
        ("v=0\r\na=" + "x" * 5_000, "sdp-too-large"),
        ("v=0\r\n" + "a=x\r\n" * 1_025, "sdp-too-large"),
        ("v=0\r\n" + "a=candidate:x\r\n" * 129, "sdp-too-large"),
        ("v=0" + " " * 200_000, "sdp-too-large"),
    ],
)
def test_what_breaks_a_limit_is_refused(text: str, code: str) -> None:
    assert code_of(text) == code


@given(st.lists(LINE, max_size=30))
def test_parsing_raises_protocol_errors_only(lines: list[str]) -> None:
    with suppress(ProtocolError):
        sdp.parse("v=0\n" + "\n".join(lines))


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(ProtocolError):
        sdp.parse(text)
