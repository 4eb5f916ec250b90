"""A native participant through the HTTP tunnel and by no other way, with the tunnel of `parley_client`."""

from typing import Any

import aiohttp
from parley_client.link import Link
from parley_client.media import Media
from parley_client.proxies import Proxies
from parley_client.signaling import Signaling
from parley_client.tunnel import SignalingOverTunnel, TunnelClient
from parley_client.wires import SUBPROTOCOL, Kind

from tests.support.native_client import NativeParticipant

__all__ = ["SUBPROTOCOL", "Kind", "SignalingOverTunnel", "TunnelClient", "TunnelledParticipant"]


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
