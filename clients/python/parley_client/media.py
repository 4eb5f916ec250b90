"""The two peer connections of a call: `publish`, which we offer, and `subscribe`, which the SFU offers (aiortc).

An SfuEndpoint with a new transport id makes a new connection beside the old one; the old one goes when the new one is
connected. aiortc has neither ICE restart nor ICE over TCP: what needs the first gets new connections, what needs the
second goes by TURN over TCP or the tunnel.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaRelay
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from parley_client.errors import NotOffered
from parley_client.ladder import Way
from parley_client.rest import IceServer
from parley_client.signaling import Payload

Source = Literal["microphone", "camera", "screen", "screenAudio"]
Send = Callable[[str, Payload], Awaitable[None]]
Rewrite = Callable[[str, int], Awaitable[str]]
PUBLISH, SUBSCRIBE = 0, 1
CLOSE_S: Final = 3.0
FORMER: Final = 16
_relay: Final = MediaRelay()


@dataclass(frozen=True, slots=True)
class Publication:
    """A track to publish. It goes on when the client changes the way into the call, and is never stopped by it."""

    track: MediaStreamTrack
    source: Source
    track_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, track: "MediaStreamTrack | Publication") -> "Publication":
        if isinstance(track, Publication):
            return track
        return cls(track, "camera" if track.kind == "video" else "microphone")


@dataclass(frozen=True, slots=True)
class ReceivedTrack:
    """Somebody's track. `track.recv()` gives av.AudioFrame or av.VideoFrame; read it: aiortc queues what is not."""

    track_id: str
    user_id: str
    kind: str
    source: str
    track: MediaStreamTrack = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ice:
    """What the connections of a way are made with."""

    servers: tuple[RTCIceServer, ...] = ()
    policy: RTCIceTransportPolicy = RTCIceTransportPolicy.ALL

    def configuration(self, connection: int) -> RTCConfiguration:
        # aiortc connects no offer of its own with max-bundle, and loses the fourth section of another's without it.
        bundle = RTCBundlePolicy.BALANCED if connection == PUBLISH else RTCBundlePolicy.MAX_BUNDLE
        return RTCConfiguration(iceServers=list(self.servers), bundlePolicy=bundle, iceTransportPolicy=self.policy)


def ice_for(way: Way, servers: Sequence[IceServer]) -> Ice:
    """ICE for a way. aiortc uses one TURN address: each transport is a way of its own. Raises NotOffered."""
    if not way.startswith("turn-"):
        return Ice()
    for server in servers:
        for url in server.urls:
            if turn_way(url) == way:
                chosen = RTCIceServer(urls=url, username=server.username, credential=server.credential)
                return Ice((chosen,), RTCIceTransportPolicy.RELAY)
    raise NotOffered("the server offers no such TURN address")


def turn_way(url: str) -> Way | None:
    """Which way a TURN address is (RFC 7065); None for what is none or aiortc cannot use."""
    scheme, _, rest = url.partition(":")
    transport = rest.partition("?transport=")[2]
    if scheme == "turns":
        return "turn-tls" if transport in ("", "tcp") else None
    if scheme == "turn":
        return {"": "turn-udp", "udp": "turn-udp", "tcp": "turn-tcp"}.get(transport)  # type: ignore[return-value]
    return None


async def _as_it_is(sdp: str, connection: int) -> str:
    return sdp


class Media:
    """Both connections. `lost` is called with a sentence when one fails, `on_track`, `on_untrack` for the others'."""

    def __init__(
        self,
        send: Send,
        publications: Sequence[Publication],
        ice: Ice,
        *,
        rewrite: Rewrite = _as_it_is,
        on_track: Callable[[ReceivedTrack], None] = lambda track: None,
        on_untrack: Callable[[ReceivedTrack], None] = lambda track: None,
        lost: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._send, self._publications, self._ice, self._rewrite = send, publications, ice, rewrite
        self._on_track, self._on_untrack, self._lost = on_track, on_untrack, lost
        self.received: dict[str, ReceivedTrack] = {}
        self.connected = asyncio.Event()  # the publish connection, the first time
        self._current: dict[int, tuple[str, RTCPeerConnection]] = {}
        self._retiring: dict[int, list[RTCPeerConnection]] = {PUBLISH: [], SUBSCRIBE: []}
        self._former: deque[str] = deque(maxlen=FORMER)  # ids of transports that were given up
        self._tasks: set[asyncio.Task[None]] = set()
        self._negotiation = 0
        self._is_closed = False

    def state(self, connection: int) -> str:
        """RTCPeerConnectionState, `new` where there is none yet."""
        return self._current[connection][1].connectionState if connection in self._current else "new"

    # --- what signaling says ---
    async def endpoint(self, endpoint: Payload) -> None:
        """SfuEndpoint: one that is known changes nothing."""
        connection = PUBLISH if endpoint["direction"] == "publish" else SUBSCRIBE
        transport_id = endpoint["transportId"]
        if connection in self._current and self._current[connection][0] == transport_id:
            return
        made = self._open(connection, transport_id)
        if connection == PUBLISH:
            self._spawn(self._publish(transport_id, made))

    async def answered(self, answer: Payload) -> None:
        """ReceiveAnswer to our offer."""
        transport_id, made = self._current.get(PUBLISH, ("", None))
        if made is not None and answer["transportId"] == transport_id and made.signalingState == "have-local-offer":
            sdp = await self._rewrite(answer["sdp"], PUBLISH)
            await made.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def offered(self, offer: Payload) -> None:
        """ReceiveOffer: answered at once; new tracks are told, and those that went. What a former node still offers
        after a move is passed over."""
        transport_id = offer["transportId"]
        if transport_id in self._former:
            return
        known, made = self._current.get(SUBSCRIBE, ("", None))
        if made is None or known != transport_id:
            made = self._open(SUBSCRIBE, transport_id)
        sdp = await self._rewrite(offer["sdp"], SUBSCRIBE)
        await made.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await made.setLocalDescription(await made.createAnswer())
        named = {key: offer[key] for key in ("transportId", "negotiationId")}
        await self._send("SendAnswer", {"targetUserId": "sfu", "sdp": made.localDescription.sdp, **named})
        self._note_tracks(made, offer["tracks"])

    def _note_tracks(self, made: RTCPeerConnection, infos: Sequence[dict[str, Any]]) -> None:
        by_mid = {str(transceiver.mid): transceiver for transceiver in made.getTransceivers()}
        offered = {info["trackId"]: info for info in infos if info.get("mid") in by_mid}
        for track_id in [track_id for track_id in self.received if track_id not in offered]:
            self._on_untrack(self.received.pop(track_id))
        for track_id, info in offered.items():
            track = by_mid[info["mid"]].receiver.track
            former = self.received.get(track_id)
            if former is None or former.track is not track:
                received = ReceivedTrack(track_id, info.get("userId", ""), info["kind"], info["source"], track)
                self.received[track_id] = received
                self._on_track(received)

    # --- connections ---
    def _open(self, connection: int, transport_id: str) -> RTCPeerConnection:
        made = RTCPeerConnection(self._ice.configuration(connection))
        if connection in self._current:
            former_id, former = self._current[connection]
            self._former.append(former_id)
            self._retiring[connection].append(former)
        self._current[connection] = (transport_id, made)
        made.on("connectionstatechange", lambda: self._changed(connection, made))
        return made

    async def _publish(self, transport_id: str, made: RTCPeerConnection) -> None:
        made.createDataChannel("parley", negotiated=True, id=0)
        carried = [
            (made.addTransceiver(_relay.subscribe(publication.track), direction="sendonly"), publication)
            for publication in self._publications
        ]
        await made.setLocalDescription(await made.createOffer())
        tracks = [
            {
                "mid": str(transceiver.mid),
                "trackId": publication.track_id,
                "kind": publication.track.kind,
                "source": publication.source,
            }
            for transceiver, publication in carried
        ]
        self._negotiation += 1
        named = {"targetUserId": "sfu", "transportId": transport_id, "negotiationId": self._negotiation}
        await self._send("SendOffer", {**named, "sdp": made.localDescription.sdp, "tracks": tracks})

    def _changed(self, connection: int, made: RTCPeerConnection) -> None:
        if self._is_closed or made is not self._current[connection][1]:
            return
        if made.connectionState == "connected":
            for former in self._retiring[connection]:
                self._spawn(_closed(former))
            self._retiring[connection] = []
            if connection == PUBLISH:
                self.connected.set()
        elif made.connectionState in ("failed", "closed"):
            name = "publish" if connection == PUBLISH else "subscribe"
            self._lost(f"the {name} transport is {made.connectionState}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost(f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Ends both; the published tracks are left alone."""
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        connections = [made for _, made in self._current.values()]
        await asyncio.gather(*map(_closed, [*connections, *self._retiring[PUBLISH], *self._retiring[SUBSCRIBE]]))


async def _closed(made: RTCPeerConnection) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await made.close()
