"""What a browser sends: its frames as RTP to the SFU, and the offers that announce its tracks.

Offers are serialised, one outstanding at most. A section keeps its mid; a track that is closed leaves its section to
the next one of its codec. A new publish transport takes over once it is connected: a moved room keeps its sound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from conference.domain.errors import ProtocolError
from conference.protocol import rtcp
from conference.protocol.feedback import KeyFrameThrottle
from conference.protocol.messages import MAX_TRACKS, SFU
from conference.protocol.negotiation import AUDIO_LEVEL, MID, REPAIRED_RID, RID
from conference.protocol.negotiation_client import (
    PUBLISH_IDS,
    PublishSection,
    candidate_address,
    publish_offer,
    read_answer,
)
from conference.protocol.packetizing import h264, opus, vp8
from conference.protocol.packetizing.h264 import H264Packetizer
from conference.protocol.packetizing.sending import MAX_PAYLOAD, OutgoingStream
from conference.protocol.packetizing.vp8 import Vp8Packetizer
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import DISCARDABLE, Frame, FrameType
from media_workers.tunnel.frames.path import MediaPath, PathCallbacks, PathState, Services

KEY_FRAME_S: Final = 0.3
REPORT_S: Final = 1.0
AGAIN_S: Final = 1.0  # before the first repetition of an offer; each next pause is twice as long
MAX_AGAIN: Final = 5
Envelope = dict[str, Any]


@dataclass(slots=True)
class Layer:
    """One stream of a track."""

    stream: int
    rid: str
    out: OutgoingStream
    packetizer: Vp8Packetizer | H264Packetizer | None
    key_frames: KeyFrameThrottle
    is_broken: bool = True  # a picture was lost before it had a number: nobody would miss it, so a key frame is next
    is_muted: bool = False
    is_talking: bool = False
    report_at: float = 0.0


@dataclass(slots=True)
class UpTrack:
    opened: c.OpenTrack
    mid: str
    layers: tuple[Layer, ...]


@dataclass(slots=True)
class _Slot:
    mid: str
    codec: str
    track: UpTrack | None = None


class Uplink:
    """`send_signal` takes messages to signaling, `send_control` those to the browser; `on_state` hears of the path."""

    def __init__(
        self,
        services: Services,
        allows: Callable[[str, int], bool],
        send_signal: Callable[[Envelope], None],
        send_control: Callable[[c.ControlMessage], None],
        on_state: Callable[[PathState], None],
        retire: Callable[[MediaPath], None],
    ) -> None:
        self._services = services
        self._allows = allows
        self._send_signal = send_signal
        self._send_control = send_control
        self._on_state = on_state
        self._retire = retire
        self._slots: list[_Slot] = []
        self._tracks: dict[str, UpTrack] = {}
        self._layers: dict[int, Layer] = {}
        self._path: MediaPath | None = None
        self._former: MediaPath | None = None  # plays on until the new path is up
        self._transport_id = ""
        self._count = 0
        self._outstanding: Envelope | None = None
        self._is_dirty = False
        self._tries = 0  # of an offer that signaling or the SFU could not take
        self._again_at: float | None = None
        self._session = services.number()
        self.epoch = 0
        self.dropped = 0  # frames that had no stream or no way

    # --- transports and offers ---
    def endpoint(self, transport_id: str) -> None:
        """The publish transport that signaling names; a new id is a new path."""
        if transport_id == self._transport_id:
            return
        self._transport_id = transport_id
        if self._former is not None:
            self._retire(self._former)
        self._former = self._path
        self._path = self._make_path()
        self._outstanding = None
        self._tries, self._again_at = 0, None
        self._is_dirty = bool(self._slots)
        self._offer()

    def _make_path(self) -> MediaPath:
        def changed(state: PathState) -> None:
            self._changed(path, state)

        def silent() -> None:
            self._restart(path)

        path = MediaPath(
            self._services, self._allows, PathCallbacks(lambda data: None, self._feedback, changed, silent)
        )
        return path

    def _restart(self, path: MediaPath) -> None:
        """By an offer with other credentials. Where the SFU misses the subscribe transport too, it restarts that one by
        an offer of its own."""
        if path is self._path:
            path.restart()
            self._is_dirty = True
            self._offer()

    def _changed(self, path: MediaPath, state: PathState) -> None:
        if path is not self._path:
            return
        if state in {"connected", "failed"} and self._former is not None:
            self._retire(self._former)
            self._former = None
        if state == "connected":
            for layer in self._layers.values():
                layer.key_frames.request(self._services.clock())
        self._on_state(state)

    def _offer(self) -> None:
        path = self._path
        if not self._is_dirty or self._outstanding is not None or path is None or not self._slots:
            return
        self._is_dirty, self._again_at = False, None
        self._count += 1
        text = publish_offer(path.local, self._sections(), session_id=self._session, version=self._count)
        payload = {
            "targetUserId": SFU,
            "transportId": self._transport_id,
            "negotiationId": self._count,
            "sdp": text,
            "tracks": self._described(),
            "epoch": self.epoch,
        }
        self._outstanding = {"type": "SendOffer", "id": self._services.new_id(), "payload": payload}
        self._send_signal(self._outstanding)

    def _sections(self) -> list[PublishSection]:
        return [
            PublishSection(
                slot.mid,
                slot.codec,
                tuple((one.rid, one.out.ssrc, one.out.rtx_ssrc) for one in slot.track.layers) if slot.track else (),
            )
            for slot in self._slots
        ]

    def _described(self) -> list[dict[str, str]]:
        return [
            {
                "trackId": track.opened.track_id,
                "kind": track.opened.kind,
                "source": track.opened.source,
                "mid": track.mid,
            }
            for track in self._tracks.values()
        ]

    def resend(self) -> None:
        """After a resume: an offer that the lost connection may have swallowed goes again."""
        if self._outstanding is not None:
            self._send_signal(self._outstanding)

    def answered(self, payload: Envelope) -> None:
        """Raises ProtocolError where the answer cannot be read."""
        outstanding = self._outstanding
        if outstanding is None or payload.get("negotiationId") != outstanding["payload"]["negotiationId"]:
            return
        self._outstanding = None
        self._tries = 0
        answer = read_answer(str(payload.get("sdp", "")))
        for slot in self._slots:
            section = answer.sections.get(slot.mid)
            for layer in slot.track.layers if slot.track else ():
                codec = section.codec if section else None
                layer.out.payload_type = codec.payload_type if codec else 0
                layer.out.rtx_payload_type = codec.rtx_payload_type if codec else None
        if self._path is not None:
            self._path.connect(answer.remote, answer.candidates)
        self._offer()

    def refused(self, reply_to: object, *, retryable: bool = False) -> None:
        """Signaling answered a message of ours by Error. What it cannot serve just now is said again, a few times."""
        if self._outstanding is None or reply_to != self._outstanding["id"]:
            return
        self._outstanding = None
        if retryable and self._tries < MAX_AGAIN:
            jitter = 0.5 + self._services.number() / 2**33
            self._again_at = self._services.clock() + AGAIN_S * 2**self._tries * jitter
            self._tries += 1
        self._offer()

    def candidate(self, payload: Envelope) -> bool:
        """Whether a candidate was of this transport."""
        if payload.get("transportId") != self._transport_id:
            return False
        found = payload.get("candidate") or {}
        address = candidate_address(str(found.get("candidate", "")))
        if address is not None and self._path is not None:
            self._path.add_candidate(address)
        return True

    # --- tracks ---
    def open(self, message: c.OpenTrack) -> None:
        """Raises ProtocolError `bad-control`."""
        numbers = [layer.stream for layer in message.streams]
        if (message.kind == "audio") != (message.codec == "opus") or (message.kind == "audio" and len(numbers) > 1):
            raise ProtocolError("bad-control", "the codec is not one of this kind")
        rids = [layer.rid for layer in message.streams]
        if len(set(rids)) != len(rids) or (len(rids) > 1 and not all(rid.isalnum() for rid in rids)):
            raise ProtocolError("bad-control", "layers have different rids")
        taken = any(number in self._layers or number % 2 == 0 for number in numbers)
        if taken or len(set(numbers)) != len(numbers) or message.track_id in self._tracks:
            raise ProtocolError("bad-control", "choose odd streams and a track that are not open")
        if len(self._tracks) >= MAX_TRACKS:
            raise ProtocolError("bad-control", "there are too many tracks")
        slot = self._slot(message.codec)
        layers = tuple(self._layer(message, one, slot.mid) for one in message.streams)
        slot.track = self._tracks[message.track_id] = UpTrack(message, slot.mid, layers)
        self._layers.update({layer.stream: layer for layer in layers})
        self._is_dirty = True
        self._offer()

    def _slot(self, codec: str) -> _Slot:
        free = next((slot for slot in self._slots if slot.track is None and slot.codec == codec), None)
        if free is None:
            if len(self._slots) >= 2 * MAX_TRACKS:
                raise ProtocolError("bad-control", "there are too many sections")
            free = _Slot(str(len(self._slots)), codec)
            self._slots.append(free)
        return free

    def _layer(self, message: c.OpenTrack, wanted: c.LayerStream, mid: str) -> Layer:
        number = self._services.number
        rid = wanted.rid if len(message.streams) > 1 else ""
        is_video = message.kind == "video"
        own, repair = {PUBLISH_IDS[MID]: mid.encode()}, {PUBLISH_IDS[MID]: mid.encode()}
        if rid:
            own[PUBLISH_IDS[RID]] = repair[PUBLISH_IDS[REPAIRED_RID]] = rid.encode()
        out = OutgoingStream(self._ssrc(), self._ssrc() if is_video else None, number(), own, repair)
        out.clock_rate = 90_000 if is_video else 48_000
        packetizer = _packetizer(message.codec, number(), number())
        return Layer(wanted.stream, rid, out, packetizer, KeyFrameThrottle(KEY_FRAME_S))

    def _ssrc(self) -> int:
        """Never zero, and of no other stream here."""
        used = {ssrc for layer in self._layers.values() for ssrc in (layer.out.ssrc, layer.out.rtx_ssrc)}
        while (ssrc := self._services.number() & 0xFFFFFFFF) == 0 or ssrc in used:
            pass
        return ssrc

    def close_track(self, message: c.CloseTrack) -> tuple[int, ...]:
        """The streams that are closed by it."""
        track = self._tracks.pop(message.track_id, None)
        if track is None:
            return ()
        for slot in self._slots:
            if slot.track is track:
                slot.track = None
        for layer in track.layers:
            del self._layers[layer.stream]
        self._is_dirty = True
        self._offer()
        return tuple(layer.stream for layer in track.layers)

    def mute(self, message: c.Muted) -> None:
        layer = self._layers.get(message.stream)
        if layer is not None:
            layer.is_muted = message.muted
            layer.is_talking = False

    def clock(self, message: c.Clock) -> None:
        layer = self._layers.get(message.stream)
        if layer is not None:
            layer.out.tell_clock(message.timestamp, message.ntp_ms, self._services.clock())

    # --- media ---
    @property
    def _way(self) -> MediaPath | None:
        if self._path is not None and self._path.state == "connected":
            return self._path
        former = self._former
        return former if former is not None and former.state == "connected" else None

    def frame(self, frame: Frame, lost: int = 0) -> None:
        """`lost` frames of the stream did not come before it. Raises ProtocolError `bad-frame`."""
        layer, path = self._layers.get(frame.stream), self._way
        if layer is None or path is None or layer.is_muted or not layer.out.payload_type:
            self.drop(frame)
            return
        is_video = layer.packetizer is not None
        if is_video != (frame.type is FrameType.VIDEO):
            raise ProtocolError("bad-frame", "the stream is not one for this type")
        layer.is_broken = layer.is_broken or lost > 0
        if is_video and layer.is_broken and not _is_key_frame(layer, frame.payload):
            self.dropped += 1
            layer.key_frames.request(self._services.clock())
            return
        layer.is_broken = False
        for packet in self._video(layer, frame) if is_video else self._audio(layer, frame):
            path.send_rtp(packet)

    def drop(self, frame: Frame) -> None:
        """It does not go to the SFU. Packets are numbered after this, so that receivers see no gap."""
        self.dropped += 1
        layer = self._layers.get(frame.stream)
        if layer is not None and not frame.flags & DISCARDABLE:
            layer.is_broken = True

    def _video(self, layer: Layer, frame: Frame) -> list[Any]:
        assert layer.packetizer is not None
        discardable = bool(frame.flags & DISCARDABLE)
        payloads = layer.packetizer.split(frame.payload, MAX_PAYLOAD, is_discardable=discardable)
        return layer.out.packets(payloads, frame.timestamp)

    def _audio(self, layer: Layer, frame: Frame) -> list[Any]:
        found = opus.read(frame.payload)
        if found is None or len(found[1]) > MAX_PAYLOAD + 125:
            self.dropped += 1
            return []
        level, packet = found
        begins, layer.is_talking = not layer.is_talking, True  # RFC 3551 4.1: the marker begins a talk spurt
        return layer.out.packets(
            [packet], frame.timestamp, extensions={PUBLISH_IDS[AUDIO_LEVEL]: bytes((level,))}, marker=begins
        )

    def _feedback(self, data: bytes) -> None:
        try:
            packets = rtcp.parse(data)
        except ProtocolError:
            self.dropped += 1
            return
        by_ssrc = {layer.out.ssrc: layer for layer in self._layers.values()}
        for packet in packets:
            layer = by_ssrc.get(getattr(packet, "media_ssrc", -1))
            if layer is None:
                continue
            if isinstance(packet, rtcp.KeyFrameRequest):
                layer.key_frames.request(self._services.clock())
            elif isinstance(packet, rtcp.Nack) and self._way is not None:
                for repair in layer.out.repair(packet.lost):
                    self._way.send_rtp(repair)

    def tick(self, now: float) -> None:
        """Checks, offers, key frame requests and sender reports that are due."""
        if self._again_at is not None and now >= self._again_at:
            self._is_dirty = True
            self._offer()
        for path in (self._path, self._former):
            if path is not None:
                path.tick()
        way = self._way
        for layer in self._layers.values():
            if layer.packetizer is not None and layer.key_frames.take(now):
                self._send_control(c.KeyFrame(stream=layer.stream))
            if way is not None and now - layer.report_at >= REPORT_S:
                report = layer.out.report(now)
                if report is not None:
                    layer.report_at = now
                    way.send_rtcp(rtcp.sender_report(report) + rtcp.cname(layer.out.ssrc, "tunnel"))

    async def close(self) -> None:
        for path in (self._path, self._former):
            if path is not None:
                await path.close()


def _is_key_frame(layer: Layer, picture: bytes) -> bool:
    if isinstance(layer.packetizer, Vp8Packetizer):
        return vp8.is_key_frame(picture)
    return h264.is_key_frame(picture)


def _packetizer(codec: str, picture_id: int, tl0: int) -> Vp8Packetizer | H264Packetizer | None:
    if codec == "opus":
        return None
    return Vp8Packetizer(picture_id, tl0) if codec == "vp8" else H264Packetizer()
