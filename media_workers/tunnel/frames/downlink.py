"""What a browser receives: the tracks of an SFU's offers as frames, and the reports that keep the SFU's rate up.

One object a subscribe transport. Losses are asked for again and waited for within a deadline; what is given down is
whole, in order and decodable, so that a gap on a wire means the wire.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from conference.domain.errors import ProtocolError
from conference.protocol import rtcp, rtp
from conference.protocol.feedback import ArrivalLog
from conference.protocol.messages import SFU
from conference.protocol.negotiation import AUDIO_LEVEL, TRANSPORT_CC
from conference.protocol.negotiation_client import (
    FRAME_CODECS,
    OfferedSection,
    candidate_address,
    read_offer,
    subscribe_answer,
)
from conference.protocol.packetizing import opus
from conference.protocol.packetizing.assembly import WholeFrame
from conference.protocol.packetizing.receiving import IncomingStream
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import DISCARDABLE, KEY, Frame, FrameType
from media_workers.tunnel.frames.path import MediaPath, PathCallbacks, PathState, Services

FEEDBACK_S: Final = 0.06
REPORT_S: Final = 1.0
MAX_BLOCKS: Final = 31
Envelope = dict[str, Any]


@dataclass(slots=True)
class DownTrack:
    """One track that arrives, on an even stream of the tunnel."""

    stream: int
    track_id: str
    kind: str
    incoming: IncomingStream


class Downlink:
    """`new_stream` gives a free even number; `send_frame` takes frames to the browser."""

    def __init__(
        self,
        transport_id: str,
        services: Services,
        allows: Callable[[str, int], bool],
        send_signal: Callable[[Envelope], None],
        send_control: Callable[[c.ControlMessage], None],
        send_frame: Callable[[Frame], None],
        on_state: Callable[["Downlink", PathState], None],
        new_stream: Callable[[], int],
    ) -> None:
        self.transport_id = transport_id
        self._services = services
        self._send_signal = send_signal
        self._send_control = send_control
        self._send_frame = send_frame
        self._new_stream = new_stream
        self._path = MediaPath(
            services, allows, PathCallbacks(self._rtp, self._rtcp, lambda state: on_state(self, state))
        )
        self._ssrc = services.number() or 1
        self._session = services.number()
        self._tracks: dict[tuple[str, int], DownTrack] = {}  # by trackId and SSRC
        self._by_ssrc: dict[int, DownTrack] = {}
        self._wide_id: int | None = None
        self._level_id: int | None = None
        self._arrivals = ArrivalLog()
        self._feedback_at = self._report_at = 0.0
        self.dropped = 0

    @property
    def video_tracks(self) -> list[str]:
        return [track.track_id for track in self._tracks.values() if track.kind == "video"]

    @property
    def streams(self) -> set[int]:
        return {track.stream for track in self._tracks.values()}

    # --- negotiation ---
    def offered(self, payload: Envelope) -> None:
        """Answers an offer. Raises ProtocolError where it cannot be read."""
        offer = read_offer(str(payload.get("sdp", "")))
        infos = {str(info.get("mid")): info for info in payload.get("tracks", []) if isinstance(info, dict)}
        self._settle([section for section in offer.sections if section.codec is not None], infos)
        for section in offer.sections:
            for uri, identifier in section.extensions:
                self._wide_id = identifier if uri == TRANSPORT_CC else self._wide_id
                self._level_id = identifier if uri == AUDIO_LEVEL else self._level_id
        self._path.connect(offer.remote, offer.candidates)
        number = int(payload.get("negotiationId", 0))
        answer = {
            "targetUserId": SFU,
            "transportId": self.transport_id,
            "negotiationId": number,
            "sdp": subscribe_answer(offer, self._path.local, session_id=self._session, version=number),
            "tracks": [],
            "epoch": payload.get("epoch", 0),
        }
        self._send_signal({"type": "SendAnswer", "payload": answer})

    def _settle(self, sections: list[OfferedSection], infos: dict[str, Envelope]) -> None:
        """Closes what is no longer offered and opens what is new."""
        wanted = {(str(infos[s.mid].get("trackId")), s.ssrc): s for s in sections if s.mid in infos}
        for key in [key for key in self._tracks if key not in wanted]:
            self._close_track(key)
        for key, section in wanted.items():
            if key not in self._tracks:
                self._open_track(key, section, infos[section.mid])

    def _open_track(self, key: tuple[str, int], section: OfferedSection, info: Envelope) -> None:
        assert section.codec is not None
        codec = section.codec
        incoming = IncomingStream(section.ssrc, section.rtx_ssrc, codec.name, codec.payload_type, codec.clock_rate)
        track = DownTrack(self._new_stream(), key[0], section.kind, incoming)
        opened = c.TrackOpened(
            stream=track.stream,
            track_id=key[0],
            user_id=str(info.get("userId", "")),
            kind="video" if section.kind == "video" else "audio",
            source=info.get("source", "camera" if section.kind == "video" else "microphone"),
            codec=FRAME_CODECS[codec.name],  # type: ignore[arg-type]
        )
        self._tracks[key] = track
        self._by_ssrc[section.ssrc] = track
        if section.rtx_ssrc is not None:
            self._by_ssrc[section.rtx_ssrc] = track
        self._send_control(opened)

    def _close_track(self, key: tuple[str, int]) -> None:
        track = self._tracks.pop(key)
        self._by_ssrc = {ssrc: one for ssrc, one in self._by_ssrc.items() if one is not track}
        self._send_control(c.TrackClosed(stream=track.stream))

    def candidate(self, payload: Envelope) -> bool:
        """Whether a candidate was of this transport."""
        if payload.get("transportId") != self.transport_id:
            return False
        found = payload.get("candidate") or {}
        address = candidate_address(str(found.get("candidate", "")))
        if address is not None:
            self._path.add_candidate(address)
        return True

    def key_frame(self, stream: int) -> None:
        """The browser asks for one."""
        for track in self._tracks.values():
            if track.stream == stream and track.kind == "video":
                track.incoming.want_key_frame(self._services.clock())

    # --- media ---
    def _rtp(self, data: bytes) -> None:
        now = self._services.clock()
        try:
            packet = rtp.parse(data)
        except ProtocolError:
            self.dropped += 1
            return
        wide = packet.extensions.get(self._wide_id) if self._wide_id is not None else None
        if wide is not None and len(wide) >= 2:
            self._arrivals.media_ssrc = packet.ssrc
            self._arrivals.add(int.from_bytes(wide[:2], "big"), now)
        track = self._by_ssrc.get(packet.ssrc)
        if track is None:
            self.dropped += 1
            return
        self._give(track, track.incoming.receive(packet, now))

    def _give(self, track: DownTrack, frames: list[WholeFrame]) -> None:
        for whole in frames:
            if track.kind == "audio":
                level = whole.extensions.get(self._level_id, b"") if self._level_id is not None else b""
                data = opus.write(level[0] if level else None, whole.data)
                self._send_frame(Frame(FrameType.AUDIO, track.stream, data, 0, whole.timestamp))
            else:
                flags = (KEY if whole.is_key else 0) | (DISCARDABLE if whole.is_discardable else 0)
                self._send_frame(Frame(FrameType.VIDEO, track.stream, whole.data, 0, whole.timestamp, flags))

    def _rtcp(self, data: bytes) -> None:
        now = self._services.clock()
        try:
            packets = rtcp.parse(data)
        except ProtocolError:
            self.dropped += 1
            return
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport) and (track := self._by_ssrc.get(packet.ssrc)) is not None:
                told = track.incoming.sender_report(packet, now)
                if told is not None:
                    self._send_control(c.Clock(stream=track.stream, timestamp=told[0], ntp_ms=told[1]))

    def tick(self, now: float) -> None:
        """What is due: checks, requests, feedback, reports, and frames whose missing packets are given up."""
        self._path.tick()
        for track in tuple(self._tracks.values()):
            self._give(track, track.incoming.expire(now))
            for request in track.incoming.feedback(self._ssrc, now):
                self._path.send_rtcp(request)
        if now - self._feedback_at >= FEEDBACK_S:
            self._feedback_at = now
            for packet in self._arrivals.feedback(self._ssrc):
                self._path.send_rtcp(packet)
        if now - self._report_at >= REPORT_S:
            self._report_at = now
            blocks = [b for track in self._tracks.values() if (b := track.incoming.report(now)) is not None]
            for at in range(0, len(blocks), MAX_BLOCKS):
                report = rtcp.ReceiverReport(self._ssrc, tuple(blocks[at : at + MAX_BLOCKS]))
                self._path.send_rtcp(rtcp.receiver_report(report) + rtcp.cname(self._ssrc, "tunnel"))

    async def close(self) -> None:
        for key in tuple(self._tracks):
            self._close_track(key)
        await asyncio.shield(self._path.close())
