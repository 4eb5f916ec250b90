"""Display names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_workers.signaling.names import shown_name

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("  Ann \t B. ", "Ann B."),
        ("a\u202eb\x00c\u200bd", "abcd"),
        ("\n", ""),
        ("Zoë 山田 عمر 🙂", "Zoë 山田 عمر 🙂"),
        ("x" * 70, "x" * 64),
    ],
)
def test_a_name_is_shown_without_what_could_deceive(given_name: str, shown: str) -> None:
    assert shown_name(given_name) == shown


@given(st.text())
def test_a_shown_name_is_one_short_line_and_stays_as_it_is(text: str) -> None:
    name = shown_name(text)
    assert len(name) <= 64
    assert name == name.strip()
    assert name.isprintable()
    assert shown_name(name) == name
