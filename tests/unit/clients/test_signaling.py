"""What the client keeps of signaling's messages, what it passes over, and how readers and the end meet."""

import asyncio
import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_client.errors import SignalingEnded
from parley_client.signaling import Signaling, _message

pytestmark = pytest.mark.unit


class Scripted(Signaling):
    """A carrier that gives what a test puts into it; None ends it."""

    KEEP: ClassVar[int] = 5

    def __init__(self) -> None:
        self.texts: asyncio.Queue[str | None] = asyncio.Queue()
        super().__init__()

    @property
    def close_code(self) -> int | None:
        return 4410 if self.closed.is_set() else None

    async def send_text(self, text: str) -> None:
        raise ConnectionError

    async def _next(self) -> str | None:
        return await self.texts.get()

    async def _close_carrier(self) -> None:
        self.texts.put_nowait(None)

    def say(self, type_: str, **payload: object) -> None:
        self.texts.put_nowait(json.dumps({"type": type_, "payload": payload}))


async def test_the_oldest_messages_go_and_a_slow_reader_skips_them() -> None:
    signaling = Scripted()
    for number in range(12):
        signaling.say("Message", number=number)
    signaling.texts.put_nowait(None)
    await signaling.ends()
    assert signaling.dropped == 7
    assert [message["payload"]["number"] async for message in signaling.stream()] == [7, 8, 9, 10, 11]
    await signaling.close()


async def test_what_is_waited_for_comes_or_the_end_is_told() -> None:
    signaling = Scripted()
    signaling.say("RoomJoined", seq=3)
    signaling.say("Other")
    assert await signaling.payload("RoomJoined") == {"seq": 3}
    waiting = asyncio.create_task(signaling.expect("Never"))
    signaling.texts.put_nowait(None)
    with pytest.raises(SignalingEnded, match="4410 before Never") as ended:
        await waiting
    assert ended.value.code == 4410


async def test_a_stream_has_its_own_place_and_ends_with_the_connection() -> None:
    signaling = Scripted()
    signaling.say("A")
    await signaling.expect("A")
    signaling.say("B")
    signaling.texts.put_nowait(None)
    assert [message["type"] async for message in signaling.stream()] == ["A", "B"]


@given(
    st.text(max_size=200) | st.from_regex(r'\{"type": ("a"|1|null)(, "payload": (\{\}|\[\]|"x"))?\}', fullmatch=True)
)
def test_what_is_no_message_is_passed_over(text: str) -> None:
    message = _message(text)
    assert message is None or (isinstance(message["type"], str) and isinstance(message["payload"], dict))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": 1}', '{"type": "a", "payload": []}', "[" * 100_000])
def test_these_are_none(text: str) -> None:
    assert _message(text) is None


def test_a_member_that_is_new_is_no_reason_to_pass_over_a_message() -> None:
    assert _message('{"type": "RoomJoined", "payload": {"seq": 1, "new": 2}, "newer": 3}')
