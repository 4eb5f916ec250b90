"""The tunnel of `parley_client` as tests want it: also in frames, and a participant that uses it and no other way."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import aiohttp
from parley_client.link import Link
from parley_client.media import Media
from parley_client.proxies import Proxies
from parley_client.signaling import Signaling
from parley_client.token_link import TokenLink
from parley_client.tunnel import SignalingOverTunnel, TunnelClient
from parley_client.wires import SUBPROTOCOL, Kind

from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame
from tests.support.native_client import NativeParticipant

__all__ = [
    "SUBPROTOCOL",
    "FrameTunnelClient",
    "Kind",
    "SignalingOverTunnel",
    "TokenParticipant",
    "TunnelClient",
    "TunnelledParticipant",
]


class FrameTunnelClient(TunnelClient):
    """A session in frames, as a browser has it: `seen` is called with sound and pictures, `told` with controls."""

    MODE: ClassVar[str] = "frames"

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        super().__init__(http, url)
        self.seen: Callable[[Frame], None] = lambda frame: None
        self.told: Callable[[c.ControlMessage], None] = lambda message: None

    def _media(self, frame: Frame) -> None:
        self.seen(frame)

    def _control(self, message: c.ControlMessage) -> None:
        if isinstance(message, c.TrackOpened):
            self.session.open(message.stream)
        elif isinstance(message, c.TrackClosed):
            self.session.close(message.stream)
        self.told(message)

    def frame(self, frame: Frame) -> None:
        """Sound or a picture; what is given up before it leaves is told as a wish for a key frame."""
        self.session.media(frame, asyncio.get_running_loop().time())
        for stream in self.session.key_frames_wanted():
            self.told(c.KeyFrame(stream=stream))
        self._wake.set()


class TunnelledParticipant(NativeParticipant):
    """Signaling and media through the tunnel."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        token: str,
        room_id: str,
        kind: Kind,
        *,
        shade: int,
        text: bool = False,
    ) -> None:
        self.tunnel = TunnelClient(http, url, text=text)
        self.proxies = Proxies(self.tunnel)
        self._kind: Kind = kind
        super().__init__(http, {"token": token}, room_id, shade=shade)

    def _make_link(self) -> Link:
        return Link(self._connect, self._media, tunnel=self.tunnel, proxies=self.proxies)

    def _media(self, link: Link, **options: Any) -> Media:
        return super()._media(link, rewrite=self.proxies.rewrite, **options)

    async def _connect(self, url: str | None = None) -> Signaling:
        await self.tunnel.open(self._kind)
        return SignalingOverTunnel(self.tunnel)


class TokenParticipant(NativeParticipant):
    """Signaling by a WebSocket of its own, media through the tunnel by a token."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, grant: dict[str, Any], room_id: str, kind: Kind, *, shade: int
    ) -> None:
        self.tunnel = TunnelClient(http, url)
        self.proxies = Proxies(self.tunnel)
        self._kind: Kind = kind
        super().__init__(http, grant, room_id, shade=shade)

    def _make_link(self) -> Link:
        return TokenLink(self._connect, self._media, tunnel=self.tunnel, proxies=self.proxies, kind=self._kind)

    def _media(self, link: Link, **options: Any) -> Media:
        return super()._media(link, rewrite=self.proxies.rewrite, **options)
