"""A participant without a browser: a link of `parley_client`, with what tests look at and interfere with.

It publishes a grey picture of one shade and silence. With `part_a` it speaks the specification's snake_case vocabulary,
and understands no other.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiortc.mediastreams import AudioStreamTrack
from parley_client.link import CANONICAL, Link, Names
from parley_client.media import Ice, Media, Publication, ReceivedTrack
from parley_client.signaling import Signaling

from conference.protocol.dialect import Dialect, snake_table, wire_name
from conference.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES
from tests.support.sfu import Colour, Received
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

_SENT = dict(zip(CLIENT_MESSAGES, snake_table(CLIENT_MESSAGES), strict=True))
_HEARD = {wire_name(Dialect.SNAKE, name): name for name in SERVER_MESSAGES}
PART_A: Final = Names(say=_SENT.__getitem__, hear=lambda name: _HEARD.get(name, f"not of part A: {name}"))


class NativeParticipant:
    """Joins with a join token, publishes, and receives everybody's tracks: `received` by trackId."""

    def __init__(
        self, http: aiohttp.ClientSession, grant: dict[str, Any], room_id: str, *, shade: int, part_a: bool = False
    ) -> None:
        self._http, self._grant, self._room_id = http, grant, room_id
        self._names = PART_A if part_a else CANONICAL
        self._dialect = Dialect.SNAKE if part_a else Dialect.CANONICAL
        self._publications = (
            Publication(AudioStreamTrack(), "microphone", f"native-{shade}-audio"),
            Publication(Colour(shade, width=320, height=180), "camera", f"native-{shade}-video"),
        )
        self.received: dict[str, Received] = {}
        self.tracks: dict[str, ReceivedTrack] = {}
        self.user_id = ""
        self.link = self._make_link()
        self.link.own_state = {"isMuted": False, "isVideoOn": True}

    def _make_link(self) -> Link:
        return Link(self._connect, self._media, names=self._names)

    def _media(self, link: Link, **options: Any) -> Media:
        ice = Ice()
        return Media(link.send, self._publications, ice, on_track=self._arrived, lost=link.media_lost, **options)

    async def _connect(self, url: str | None = None) -> Signaling:
        return await SignalingClient.connect(self._http, url or self._grant["signalingUrl"])

    @property
    def signaling(self) -> Any:
        return self.link.signaling

    @property
    def joined(self) -> dict[str, Any]:
        return self.link.joined

    async def __aenter__(self) -> Self:
        self.user_id = (await self.link.enter(self._room_id, self._grant["token"]))["userId"]
        async with asyncio.timeout(15):
            await self.link.connected()
        return self

    async def send(self, type_: str, payload: dict[str, Any] | None = None) -> None:
        """By the canonical name, in the client's own vocabulary."""
        await self.link.send(type_, payload)

    async def payload(
        self, type_: str, where: Callable[[dict[str, Any]], bool] = lambda payload: True
    ) -> dict[str, Any]:
        """The next message of that canonical type."""
        found: dict[str, Any] = await self.signaling.payload(wire_name(self._dialect, type_), where)
        return found

    async def stop_answering(self) -> None:
        """Offers of the SFU stay unanswered from now on, until `resume`."""
        await self.link.pause()

    async def resume(self, url: str) -> dict[str, Any]:
        """The signaling socket breaks and is taken up at `url`; media is left alone. Gives Resumed."""
        await self.stop_answering()
        self.signaling.cut()
        return await self.link.resume(lambda: self._connect(url))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for received in self.received.values():
            await received.stop()
        await self.link.close()

    def _arrived(self, track: ReceivedTrack) -> None:
        self.tracks[track.track_id] = track
        self.received[track.track_id] = Received(track.track)

    async def receives(self, user_id: str, source: str, *, frames: int = 20, within_s: float = 25.0) -> Received:
        """Waits until so many frames of a person's track were decoded."""

        def found() -> Received | None:
            for track_id, info in self.tracks.items():
                if info.user_id == user_id and info.source == source:
                    return self.received[track_id]
            return None

        def enough() -> bool:
            received = found()
            return received is not None and received.frames >= frames

        await eventually(enough, within_s=within_s)
        received = found()
        assert received
        return received
