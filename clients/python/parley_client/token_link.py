"""A way into a room where a WebSocket passes and media does not: signaling goes directly, media by the HTTP tunnel.

Signaling gives a tunnel token for the media nodes of now. What it says about media waits until the tunnel's session is
there, or, after a move to another node, until the session may reach that one.
"""

from typing import Any, Final

from parley_client.errors import WayFailed
from parley_client.link import Connect, Link, MakeMedia
from parley_client.proxies import Proxies
from parley_client.signaling import Payload
from parley_client.tunnel import TunnelClient
from parley_client.wires import Kind

MAX_HELD: Final = 1_000
_OF_MEDIA: Final = frozenset({"SfuEndpoint", "ReceiveOffer", "ReceiveAnswer"})


class TokenLink(Link):
    """`kind` is the wire that the tunnel begins with."""

    def __init__(
        self,
        connect: Connect,
        make_media: MakeMedia,
        *,
        tunnel: TunnelClient,
        proxies: Proxies,
        kind: Kind,
        **more: Any,
    ) -> None:
        super().__init__(connect, make_media, tunnel=tunnel, proxies=proxies, **more)
        self._tunnel, self._kind = tunnel, kind
        self._nodes: set[tuple[str, int]] = set()
        self._held: list[tuple[str, Payload]] | None = None  # while a token is awaited
        tunnel.over = lambda why: self.media_lost(f"the tunnel has ended: {why}")

    async def _take(self, type_: str, payload: Payload) -> None:
        if type_ == "SfuEndpoint" and (payload["ip"], payload["port"]) not in self._nodes:
            self._nodes.add((payload["ip"], payload["port"]))
            if self._held is None:
                await self._ask()
        if type_ == "TunnelToken" and self._held is not None:
            await self._authorised(str(payload["token"]))
        elif type_ == "Error" and self._held is not None:
            raise WayFailed(f"signaling gives no tunnel token: {payload.get('code', '')}")
        elif type_ in _OF_MEDIA and self._held is not None:
            if len(self._held) >= MAX_HELD:
                raise WayFailed("signaling gives no tunnel token")
            self._held.append((type_, payload))
        else:
            await super()._take(type_, payload)

    async def _ask(self) -> None:
        self.stage = "waiting for a tunnel token"
        self._held = []
        await self.send("RequestTunnel")

    async def _authorised(self, token: str) -> None:
        self.stage = "opening the tunnel"
        if self._tunnel.id:
            await self._tunnel.authorise(token)
        else:
            await self._tunnel.open(self._kind, token)
        held, self._held = self._held or [], None
        for type_, payload in held:
            await super()._take(type_, payload)

    @property
    def can_resume(self) -> bool:
        """Signaling alone is gone."""
        return not self._tunnel.closed.is_set() and self._can_resume

    async def resume(self, connect: Connect | None = None) -> Payload:
        resumed = await super().resume(connect)
        if self._held is not None:  # the token, or the wish for it, was lost with the connection
            await self.send("RequestTunnel")
        return resumed
