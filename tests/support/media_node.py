"""SFU nodes on real engines and sockets, without DTLS: keys are set where a handshake would give them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conference.protocol import control, sdp
from conference.protocol.control_plain import MediaAddress, PipeTrack, PipeTrackEnded
from conference.protocol.messages import Grant, Payload
from tests.support.engine import EngineFactory, EnginePeer
from tests.support.quiet_node import NodeBench, QuietEndpoint

VIDEO_SSRCS = {"q": 60, "h": 61, "f": 62}
AUDIO_SSRC = 70


class MediaNode(NodeBench):
    """One node. People come by `publisher` and `subscriber`."""

    def __init__(self, factory: EngineFactory, name: str, first_number: int) -> None:
        self.engine = factory.make()
        self.name = name
        self.peers: list[EnginePeer] = []
        super().__init__(self.engine, lambda port: (("127.0.0.1", port),), name=name, first_number=first_number)
        self.engine.on_wakeup(self._drain)

    def _drain(self) -> None:
        while self.node.drain_events():
            pass

    @property
    def address(self) -> MediaAddress:
        """Of its first packet worker."""
        return self.node.hello().media[0]

    async def _connected(self, name: str, text: str, endpoint: QuietEndpoint) -> EnginePeer:
        """The far end of the transport that our SDP describes."""
        section = sdp.parse(text).sections[0]
        ip, port = str(section.get("candidate")).split(" ")[4:6]
        peer = EnginePeer(self.engine, (ip, int(port)), name)
        self.peers.append(peer)
        await peer.connect_as(str(section.get("ice-ufrag")), str(section.get("ice-pwd")))
        keys = peer.keys
        endpoint.callbacks.on_keys(keys.profile, keys.receive_key, keys.send_key)
        endpoint.callbacks.on_state("connected")
        return peer

    async def publisher(self, name: str, grants: list[Grant] | None = None) -> EnginePeer:
        """Somebody who publishes a microphone and a camera of three layers."""
        transport = self.open(name, grants=grants or [])["publish"]
        reply = self.publish(name, transport)
        assert isinstance(reply, control.Answer)
        return await self._connected(name, reply.sdp, self.dtls.opened[-1])

    async def subscriber(self, name: str) -> EnginePeer:
        """Somebody who receives what is there and publishes nothing."""
        self.open(name)
        offer = self.link.of(control.Offer, participant_id=name)[-1]
        self.accept(name)
        return await self._connected(name, offer.sdp, self.dtls.opened[-1])

    async def stop(self) -> None:
        for peer in self.peers:
            peer.close()
        self.node.end_all()
        await self.core.finish()
        await self.engine.stop()


@asynccontextmanager
async def media_node(factory: EngineFactory, name: str = "a", first_number: int = 50_000) -> AsyncIterator[MediaNode]:
    made = MediaNode(factory, name, first_number)
    await made.engine.start()
    try:
        yield made
    finally:
        await made.stop()


def relay(source: MediaNode, target: MediaNode, seen: list[Payload]) -> None:
    """What signaling does between two nodes: hands on what one tells of its pipes. `seen` has what was handed on."""
    for message in list(source.link.messages):
        is_piped = isinstance(message, PipeTrack | PipeTrackEnded)
        if is_piped and not any(message is known for known in seen):
            seen.append(message)
            target.ask(message)
