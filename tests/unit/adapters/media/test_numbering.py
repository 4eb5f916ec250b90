"""Outgoing numbers: what is left out closes up, what is missing keeps its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.media.numbering import MAX_STEPS, Renumbering
from conference.adapters.media.pictures import Vp8Pictures
from conference.protocol.payload import vp8_descriptor
from tests.support.engine import vp8

pytestmark = pytest.mark.unit


def begun(number: int = 100, out: int = 7) -> Renumbering:
    numbers = Renumbering(0)
    numbers.begin(number, out)
    return numbers


def forward(numbers: Renumbering, number: int) -> int | None:
    out = numbers.map(number)
    if out is not None:
        numbers.forwarded(number, out)
    return out


def test_what_was_dropped_when_it_was_the_newest_closes_up() -> None:
    numbers = begun()
    assert forward(numbers, 100) == 7
    assert numbers.drop(101)
    assert numbers.drop(102)
    assert forward(numbers, 103) == 8


def test_what_is_missing_keeps_its_place_also_where_it_would_be_dropped() -> None:
    numbers = begun()
    forward(numbers, 100)
    assert forward(numbers, 102) == 9
    assert not numbers.drop(101)
    assert forward(numbers, 101) == 8


def test_what_came_before_the_beginning_is_gone() -> None:
    assert begun().map(99) is None


def test_drops_without_end_are_not_remembered_without_end() -> None:
    numbers = begun(0)
    for number in range(0, 4 * MAX_STEPS, 2):
        forward(numbers, number)
        numbers.drop(number + 1)
    assert len(numbers._steps) <= MAX_STEPS
    assert numbers.map(1) is None
    assert forward(numbers, 4 * MAX_STEPS) == 7 + 2 * MAX_STEPS


@given(st.permutations(range(100, 130)), st.sets(st.integers(100, 129)))
def test_in_any_order_each_number_goes_out_once_and_keeps_its_rank(order: list[int], dropped: set[int]) -> None:
    numbers = begun()
    sent: dict[int, int] = {}
    for number in order:
        if number in dropped and numbers.drop(number):
            continue
        out = forward(numbers, number)
        if out is not None:
            sent[number] = out
    outs = [sent[number] for number in sorted(sent)]
    assert outs == sorted(set(outs))
    assert set(range(7, 7 + len(outs))) == set(outs), "no hole once everything has come"


def test_picture_ids_wrap_and_close_up() -> None:
    pictures = Vp8Pictures()
    first = vp8_descriptor(vp8(0x7FFE, is_key=True))
    assert first is not None
    pictures.switch(first, is_other=False)
    pictures.limit = 0
    outs = []
    for place in range(6):
        payload = vp8((0x7FFE + place) & 0x7FFF, temporal=place % 2)
        descriptor = vp8_descriptor(payload)
        assert descriptor is not None
        if pictures.admits(descriptor, place * 3_000):
            again = vp8_descriptor(pictures.rewrite(payload, descriptor))
            assert again is not None
            outs.append(again.picture_id)
        else:
            pictures.drop(descriptor)
    assert outs == [0x7FFE, 0x7FFF, 0]


def test_a_picture_goes_out_as_a_whole_also_where_fewer_layers_are_wanted_in_its_middle() -> None:
    pictures = Vp8Pictures()
    descriptor = vp8_descriptor(vp8(5, temporal=2))
    assert descriptor is not None
    pictures.switch(descriptor, is_other=False)
    assert pictures.admits(descriptor, 3_000)
    pictures.limit = 0
    assert pictures.admits(descriptor, 3_000)
    assert not pictures.admits(descriptor, 6_000)
