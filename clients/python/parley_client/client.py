"""The client of one origin: joins rooms like the browser does, by whichever way the network allows.

    async with Client(http, "https://meet.example.com", token) as client:
        call = await client.join(room_id, publish=[microphone, camera])
        call.on_track(handle)
        await call.send_chat("hello")

One client may be in several rooms; it remembers the last good way for all of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import aiohttp
from aiortc import MediaStreamTrack

from parley_client.call import Call
from parley_client.ladder import LIMITS_S, WAYS, LastGood, Way
from parley_client.link import Link
from parley_client.media import Media, Publication, ice_for
from parley_client.proxies import Proxies
from parley_client.rest import Api, Grant, Token
from parley_client.signaling import Signaling, SignalingClient
from parley_client.token_link import TokenLink
from parley_client.tunnel import SignalingOverTunnel, TunnelClient
from parley_client.wires import KINDS, Kind

_TUNNELS: Final = frozenset(KINDS)


class Client:
    def __init__(
        self,
        http: aiohttp.ClientSession,
        origin: str,
        token: Token,
        *,
        tunnel_url: str | None = None,
        memory: LastGood | Path | None = None,
        base64: bool = False,
        media_tunnel: bool = False,
        limits_s: Mapping[Way, float] = LIMITS_S,
    ) -> None:
        """`http` stays the caller's, with its proxies, certificates and limits; the client never closes it.

        `origin`: of the system, for example `https://meet.example.com`. `token`: the bearer token of the identity
        provider, or a coroutine function that gives it. `tunnel_url`: where the tunnel gateway is, the origin by
        default. `memory`: where the last good way is kept, a file's path for one that outlives the process.
        `base64`: the tunnel's text form. `media_tunnel`: signaling keeps a WebSocket of its own on the tunnel's rungs,
        too, and the tunnel carries media alone, by a tunnel token. `limits_s`: seconds for each rung of the ladder."""
        self._http = http
        self._origin = origin.rstrip("/")
        self._api = Api(http, self._origin, token)
        self._tunnel_url = tunnel_url or self._origin
        self.memory = memory if isinstance(memory, LastGood) else LastGood(memory)
        self._base64 = base64
        self._media_tunnel = media_tunnel
        self._limits_s = {**LIMITS_S, **limits_s}
        self._calls: list[Call] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leaves all calls."""
        calls, self._calls = self._calls, []
        for call in calls:
            await call.leave()

    async def join(
        self,
        room_id: str,
        *,
        ways: Sequence[Way] = WAYS,
        publish: Sequence[MediaStreamTrack | Publication] = (),
        display_name: str | None = None,
        password: str | None = None,
        consent_token: str | None = None,
    ) -> Call:
        """Joins and returns once media is connected.

        `ways`: the rungs that may be used, in the order in which they are tried. `publish`: tracks; a video is taken
        for a camera and a sound for a microphone, unless a `Publication` says otherwise.
        Raises JoinRefused (`consent-required`, `room-full`, ...), Unreachable, NoWay."""
        call = Call(
            self._api,
            room_id,
            origin=self._origin,
            ways=ways,
            memory=self.memory,
            make_link=self._link,
            publish=publish,
            display_name=display_name,
            limits_s=self._limits_s,
            password=password,
            consent_token=consent_token,
        )
        await call.climb()
        self._calls = [known for known in self._calls if not known.ended.is_set()]
        self._calls.append(call)
        return call

    def _link(self, call: Call, way: Way, grant: Grant) -> Link:
        """A link for a rung. Raises NotOffered."""
        ice = ice_for(way, grant.ice_servers)
        tunnel: TunnelClient | None = None
        proxies: Proxies | None = None
        if way in _TUNNELS:
            kinds = [kind for kind in KINDS if kind in call.ways]
            tunnel = TunnelClient(self._http, self._tunnel_url, text=self._base64, kinds=kinds)
            proxies = Proxies(tunnel)

        async def connect() -> Signaling:
            if tunnel is None or self._media_tunnel:
                return await SignalingClient.connect(self._http, grant.signaling_url)
            await tunnel.open(cast(Kind, way))  # narrowed by _TUNNELS
            return SignalingOverTunnel(tunnel)

        def media(link: Link) -> Media:
            rewriting = {"rewrite": proxies.rewrite} if proxies is not None else {}
            return Media(
                link.send,
                call.publications,
                ice,
                on_track=call.arrived,
                on_untrack=call.went,
                lost=link.media_lost,
                **rewriting,
            )

        if tunnel is not None and proxies is not None and self._media_tunnel:
            kind = cast(Kind, way)
            link: Link = TokenLink(connect, media, tunnel=tunnel, proxies=proxies, kind=kind)
        else:
            link = Link(connect, media, tunnel=tunnel, proxies=proxies)
        if tunnel is not None:
            tunnel.changed = lambda kind: call.wire_changed(link, kind)
        return link
