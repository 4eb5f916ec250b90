"""A participant without a browser: aiortc on the public signaling protocol, as any other program would join.

With `part_a` it speaks the specification's snake_case vocabulary, and understands no other.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from conference.protocol.dialect import Dialect, snake_table, wire_name
from conference.protocol.messages import CLIENT_MESSAGES
from tests.support.sfu import Colour, Received
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

_SENT = dict(zip(CLIENT_MESSAGES, snake_table(CLIENT_MESSAGES), strict=True))


class NativeParticipant:
    """Joins with a join token, publishes a grey picture of `shade` and silence, and receives everybody's tracks.

    `received` maps the trackId to what arrives; `tracks` to the TrackInfo of the SFU's offers."""

    def __init__(
        self, http: aiohttp.ClientSession, grant: dict[str, Any], room_id: str, *, shade: int, part_a: bool = False
    ) -> None:
        self._http, self._grant, self._room_id, self._shade = http, grant, room_id, shade
        self.publish = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        # With another policy aiortc loses the fourth section and those after it.
        bundled = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self.subscribe = RTCPeerConnection(bundled)
        self.received: dict[str, Received] = {}
        self.tracks: dict[str, dict[str, Any]] = {}
        self._dialect = Dialect.SNAKE if part_a else Dialect.CANONICAL
        self.user_id = ""
        self.joined: dict[str, Any] = {}
        self._answering: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.signaling = await SignalingClient.connect(self._http, self._grant["signalingUrl"])
        await self.send("JoinRoom", {"roomId": self._room_id, "token": self._grant["token"]})
        self.joined = await self.payload("RoomJoined")
        self.user_id = self.joined["userId"]
        endpoint = await self.payload("SfuEndpoint", lambda p: p["direction"] == "publish")
        await self._publish(endpoint["transportId"])
        self._answering = asyncio.create_task(self._answer())
        return self

    async def send(self, type_: str, payload: dict[str, Any] | None = None) -> None:
        """By the canonical name, in the client's own vocabulary."""
        await self.signaling.send(_SENT[type_] if self._dialect is Dialect.SNAKE else type_, payload)

    async def payload(
        self, type_: str, where: Callable[[dict[str, Any]], bool] = lambda payload: True
    ) -> dict[str, Any]:
        """The next message of that canonical type."""
        return await self.signaling.payload(wire_name(self._dialect, type_), where)

    async def stop_answering(self) -> None:
        """Offers of the SFU stay unanswered from now on, until `resume`."""
        if self._answering:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)

    async def resume(self, url: str) -> dict[str, Any]:
        """The signaling socket breaks and is taken up at `url`; media is left alone. Gives Resumed."""
        await self.stop_answering()
        former = self.signaling
        former.cut()
        last = max([self.joined["seq"], *former.numbered()])
        self.signaling = await SignalingClient.connect(self._http, url)
        await former.close()
        wanted = {key: self.joined[key] for key in ("participantId", "resumeSecret", "generation")}
        await self.send("Resume", {**wanted, "lastSeq": last})
        resumed = await self.payload("Resumed")
        self.joined |= resumed
        self._answering = asyncio.create_task(self._answer())
        return resumed

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_answering()
        for received in self.received.values():
            await received.stop()
        await self.publish.close()
        await self.subscribe.close()
        with suppress(ConnectionError):
            await self.send("Leave")
        await self.signaling.close()

    async def _publish(self, transport_id: str) -> None:
        self.publish.createDataChannel("parley", negotiated=True, id=0)
        self.publish.addTransceiver(AudioStreamTrack(), direction="sendonly")
        self.publish.addTransceiver(Colour(self._shade, width=320, height=180), direction="sendonly")
        await self.publish.setLocalDescription(await self.publish.createOffer())
        tracks = [
            {
                "mid": str(transceiver.mid),
                "trackId": f"native-{self._shade}-{transceiver.kind}",
                "kind": transceiver.kind,
                "source": "camera" if transceiver.kind == "video" else "microphone",
            }
            for transceiver in self.publish.getTransceivers()
        ]
        offer = {"targetUserId": "sfu", "transportId": transport_id, "negotiationId": 1, "tracks": tracks}
        await self.send("SendOffer", {**offer, "sdp": self.publish.localDescription.sdp})
        answer = await self.payload("ReceiveAnswer", lambda p: p["transportId"] == transport_id)
        await self.publish.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
        await self.send("UpdateState", {"isMuted": False, "isVideoOn": True})

    async def _answer(self) -> None:
        # Its own place in the messages: `expect` passes over those of other types.
        async for message in self.signaling.stream():
            if message["type"] == wire_name(self._dialect, "ReceiveOffer"):
                await self._answer_one(message["payload"])

    async def _answer_one(self, offer: dict[str, Any]) -> None:
        await self.subscribe.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
        await self.subscribe.setLocalDescription(await self.subscribe.createAnswer())
        answer = {key: offer[key] for key in ("transportId", "negotiationId")}
        sdp = self.subscribe.localDescription.sdp
        await self.send("SendAnswer", {"targetUserId": "sfu", "sdp": sdp, **answer})
        by_mid = {str(transceiver.mid): transceiver for transceiver in self.subscribe.getTransceivers()}
        for info in offer["tracks"]:
            self.tracks[info["trackId"]] = info
            if info["trackId"] not in self.received:
                self.received[info["trackId"]] = Received(by_mid[info["mid"]].receiver.track)

    async def receives(self, user_id: str, source: str, *, frames: int = 20, within_s: float = 25.0) -> Received:
        """Waits until so many frames of a person's track were decoded."""

        def found() -> Received | None:
            for track_id, info in self.tracks.items():
                if info["userId"] == user_id and info["source"] == source:
                    return self.received[track_id]
            return None

        def enough() -> bool:
            received = found()
            return received is not None and received.frames >= frames

        await eventually(enough, within_s=within_s)
        received = found()
        assert received
        return received
