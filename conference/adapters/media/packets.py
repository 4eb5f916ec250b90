"""Media through the reference engine: opening, routing, forwarding, and all feedback in both directions.

The path of a packet is flat on purpose: open, parse, find the stream, then per sender rewrite, seal and send.
"""

from typing import Final

from conference.adapters.media.choosing import Choosing
from conference.adapters.media.headers import Passed
from conference.adapters.media.receiving import Stream
from conference.adapters.media.sending import Sender
from conference.adapters.media.srtp import MAX_SEAL_BYTES
from conference.adapters.media.state import EngineState
from conference.adapters.media.tracks import Track
from conference.adapters.media.transport import Repair, Transport
from conference.domain.errors import ProtocolError
from conference.ports.forwarding import AudioLevels, FirstForwarded, LinkReport
from conference.protocol import rtcp, rtp
from conference.protocol.payload import begins_key_frame, vp8_frame_size
from conference.protocol.rtp import RtpPacket

FEEDBACK_S: Final = 0.06
LEVELS_S: Final = 0.2
REPORT_S: Final = 1.0
AIM_S: Final = 0.2
MAX_BLOCKS: Final = 31
MEDIA_ACTIVE_S: Final = 3.0
REPORTED_S: Final = 6.0  # what a peer reported longer ago says nothing about its link now


class PacketMover:
    """Moves packets between the transports of one engine."""

    def __init__(self, state: EngineState, choosing: Choosing) -> None:
        self._state = state
        self._choosing = choosing
        self._due = {"feedback": 0.0, "levels": 0.0, "report": 0.0, "aim": 0.0}

    # --- in ----------------------------------------------------------------------------------------------------------
    def receive(self, transport: Transport, data: bytes, now: float) -> None:
        """An SRTP or SRTCP datagram of a validated peer."""
        if transport.srtp is None or len(data) < 12:
            self._state.dropped["no-keys"] += 1
            return
        if 192 <= data[1] <= 223:  # RFC 5761 4
            self._receive_rtcp(transport, data, now)
            return
        ssrc = int.from_bytes(data[8:12], "big")
        if not transport.admits_ssrc(ssrc):
            self._state.dropped["too-many-ssrcs"] += 1
            return
        plain = transport.srtp.open_rtp(data)
        if plain is None:
            self._state.dropped["srtp-refused"] += 1
            return
        transport.note_ssrc(ssrc)
        self._heard(transport, now)
        self._state.received_packets += 1
        self._state.received_bytes += len(data)
        try:
            packet = rtp.parse(plain)
        except ProtocolError:
            self._state.dropped["bad-rtp"] += 1
            return
        wide = transport.wide_number(packet)
        if wide is not None:
            transport.arrivals.add(wide, now)
            transport.arrivals.media_ssrc = packet.ssrc
        found = transport.lookup(packet)
        if found is None:
            self._state.dropped["unknown-stream"] += 1
            return
        self._route(transport, packet, found[0], found[1], now)

    def _heard(self, transport: Transport, now: float) -> None:
        """An authentic packet came: the peer of a plain transport is there."""
        if transport.plain is not None:
            transport.plain.heard_at = now
            self._state.change(transport, "connected")

    def _route(self, transport: Transport, packet: RtpPacket, track: Track, entry: Stream | Repair, now: float) -> None:
        if isinstance(entry, Repair):
            stream = entry.stream()
            if stream is None or len(packet.payload) < 2:
                return  # padding, or a repair of what was never seen
            packet.sequence = int.from_bytes(packet.payload[:2], "big")
            packet.payload = packet.payload[2:]
            packet.ssrc = stream.ssrc
        else:
            stream = entry
            if packet.payload_type != track.codec.payload_type:
                self._state.dropped["unknown-payload-type"] += 1
                return
        number = stream.receive(packet.sequence, packet.timestamp, now, has_nack=track.codec.has_nack)
        if number is None:
            self._state.dropped["duplicate"] += 1
            return
        transport.media_at = now
        stream.rates.add(len(packet.payload))
        if stream.is_beginning:
            track.aim_all(now)  # a layer begins, or goes on
        passed = transport.passed(packet)
        if passed.level is not None and passed.level & 0x7F < track.level:
            track.level = passed.level & 0x7F
        if track.senders and not track.is_muted:
            self._forward(track, stream, packet, number, passed, now)
        elif stream.key_frames.is_pending and begins_key_frame(track.codec.name, packet.payload):
            stream.key_frames.fulfilled()  # it came, though nobody is to see it

    def _forward(
        self, track: Track, stream: Stream, packet: RtpPacket, number: int, passed: Passed, now: float
    ) -> None:
        is_key: bool | None = None if track.is_video else False
        for sender in list(track.senders.values()):
            if sender.target is None:
                track.aim(sender, now)
            if is_key is None and (sender.wants_key_frame or sender.is_ask_deferred or stream.key_frames.is_pending):
                is_key = begins_key_frame(track.codec.name, packet.payload)
            if not sender.accepts(stream, bool(is_key)):
                continue
            sender.is_ask_deferred = sender.is_ask_deferred and not is_key
            data = sender.rewrite(packet, number, stream, now, passed)
            if data is not None:
                self._send_media(sender, data, now)
            self._choosing.tell_sender(sender)
        if is_key:
            stream.key_frames.fulfilled()
            stream.size = (track.codec.name == "VP8" and vp8_frame_size(packet.payload)) or stream.size

    def _send_media(self, sender: Sender, data: bytes, now: float) -> None:
        transport = self._state.senders[sender.sender_id][0]
        if self._seal_and_send(transport, data, now):
            self._state.forwarded_packets += 1
            self._state.forwarded_bytes += len(data)
            transport.repairs.earn(len(data))
            transport.rates.add(len(data))
            transport.media_at = now
            if not sender.is_first_told:
                sender.is_first_told = True
                self._state.emit(FirstForwarded(sender.sender_id, transport.transport_id, sender.track_id))

    # --- out ---------------------------------------------------------------------------------------------------------
    def _seal_and_send(self, transport: Transport, data: bytes, now: float) -> bool:
        destination = transport.destination
        if destination is None or transport.srtp is None:
            self._state.dropped["not-connected"] += 1
            return False
        if len(data) > MAX_SEAL_BYTES:
            self._state.dropped["oversize"] += 1
            return False
        if transport.cap is not None and not transport.cap.take(len(data), now):
            self._state.dropped["bandwidth-cap"] += 1
            return False
        sealed = transport.srtp.seal_rtp(data)
        if sealed is None:
            self._state.dropped["seal-refused"] += 1
            return False
        self._state.send(sealed, destination)
        return True

    def _send_rtcp(self, transport: Transport, data: bytes) -> None:
        if transport.srtp is None or transport.destination is None:
            return
        sealed = transport.srtp.seal_rtcp(data)
        if sealed is not None:
            self._state.send(sealed, transport.destination)

    # --- feedback that came in ---------------------------------------------------------------------------------------
    def _receive_rtcp(self, transport: Transport, data: bytes, now: float) -> None:
        ssrc = int.from_bytes(data[4:8], "big")
        if not transport.admits_ssrc(ssrc):
            self._state.dropped["too-many-ssrcs"] += 1
            return
        plain = transport.srtp.open_rtcp(data) if transport.srtp is not None else None
        if plain is None:
            self._state.dropped["srtcp-refused"] += 1
            return
        transport.note_ssrc(ssrc)
        self._heard(transport, now)
        try:
            packets = rtcp.parse(plain)
        except ProtocolError:
            self._state.dropped["bad-rtcp"] += 1
            return
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport):
                track = transport.track_of(packet.ssrc)
                if track is not None:
                    track.note_report(packet, now)
                self._reported(transport, packet.blocks, now)
            elif isinstance(packet, rtcp.ReceiverReport):
                self._reported(transport, packet.blocks, now)
            elif isinstance(packet, rtcp.Nack):
                self._resend(transport, packet, now)
            elif isinstance(packet, rtcp.KeyFrameRequest):
                self._key_frame_asked(transport, packet.media_ssrc, now)

    def _reported(self, transport: Transport, blocks: tuple[rtcp.ReportBlock, ...], now: float) -> None:
        for block in blocks:
            sender = transport.senders.get(block.ssrc)
            if sender is not None:
                sender.reported(block, now)

    def _resend(self, transport: Transport, request: rtcp.Nack, now: float) -> None:
        sender = transport.senders.get(request.media_ssrc)
        if sender is None:
            return
        for sequence in request.lost:
            data = sender.resend(sequence, now)
            if data is None:
                continue
            if not transport.repairs.spend(len(data)):
                self._state.dropped["repair-budget"] += 1
                return
            if self._seal_and_send(transport, data, now):
                self._state.retransmitted_packets += 1
                transport.retransmitted += 1
                transport.rates.add(len(data))

    def _key_frame_asked(self, transport: Transport, ssrc: int, now: float) -> None:
        sender = transport.senders.get(ssrc)
        track = self._state.tracks.get(sender.track_id) if sender else None
        if sender is not None and track is not None and sender.may_ask_key_frame(now):
            track.ask_key_frame(sender, now)

    def request_key_frames(self, now: float) -> None:
        """Sends the requests that are due without waiting for the next tick: somebody may be waiting for a picture."""
        for transport in self._state.transports.values():
            for stream in transport.streams():
                if stream.key_frames.take(now):
                    track = transport.track_of(stream.ssrc)
                    if track is not None:
                        track.key_frame_requests += 1
                    self._send_rtcp(transport, rtcp.picture_loss(self._state.ssrc, stream.ssrc))

    # --- what is periodic --------------------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        due = {name for name, at in self._due.items() if now >= at}
        for name, interval in (("feedback", FEEDBACK_S), ("levels", LEVELS_S), ("report", REPORT_S), ("aim", AIM_S)):
            if name in due:
                self._due[name] = now + interval
        for transport in self._state.transports.values():
            if transport.srtp is None:
                continue
            self._request_repairs(transport, now)
            if "feedback" in due:
                for packet in transport.arrivals.feedback(self._state.ssrc):
                    self._send_rtcp(transport, packet)
            self._send_sender_reports(transport, now)
            if "report" in due:
                self._report(transport, now)
        if "aim" in due:
            self._aim(now)
            self._choosing.tell_layers(now)
        self.request_key_frames(now)
        if "levels" in due:
            self._emit_levels()

    def _request_repairs(self, transport: Transport, now: float) -> None:
        """NACKs and PLIs to a publisher."""
        for stream in transport.streams():
            lost = stream.losses.due(now)
            if lost:
                numbers = [number & 0xFFFF for number in lost]
                self._send_rtcp(transport, rtcp.nack(self._state.ssrc, stream.ssrc, numbers))
            if stream.losses.gave_up:
                stream.losses.gave_up = False
                if stream.is_video:
                    stream.key_frames.request(now)

    def _send_sender_reports(self, transport: Transport, now: float) -> None:
        for sender in transport.senders.values():
            report = sender.report(now)
            if report is not None:
                self._send_rtcp(transport, report)

    def _report(self, transport: Transport, now: float) -> None:
        """Receiver reports to the peer, and a link report to the control layer."""
        blocks, losses = [], []
        transport.rates.close(now)
        for stream in transport.streams():
            stream.rates.close(now)
            if stream.received and now - stream.last_arrival < MEDIA_ACTIVE_S:
                block, loss = stream.report(now)
                blocks.append(block)
                losses.append(loss)
        least = 1 if transport.plain is not None else 0  # an empty report says that this end is there
        for at in range(0, max(len(blocks), least), MAX_BLOCKS):
            report = rtcp.ReceiverReport(self._state.ssrc, tuple(blocks[at : at + MAX_BLOCKS]))
            self._send_rtcp(transport, rtcp.receiver_report(report) + rtcp.cname(self._state.ssrc, "parley"))
        sent = [s for s in transport.senders.values() if now - s.reported_at < REPORTED_S]
        trips = [s.round_trip_s for s in sent if s.round_trip_s is not None]
        self._state.emit(
            LinkReport(
                transport.transport_id,
                max(losses, default=0.0),
                max((s.fraction_lost for s in sent), default=0.0),
                min(trips, default=None),
                now - transport.media_at < MEDIA_ACTIVE_S,
            )
        )

    def _aim(self, now: float) -> None:
        """Layers come and go; a key frame that did not come is asked for again."""
        for track in self._state.tracks.values():
            track.aim_all(now)
            for sender in track.senders.values():
                is_waiting = sender.wants_key_frame and not sender.is_paused and not track.is_muted
                if is_waiting or sender.is_ask_due(now):
                    track.ask_key_frame(sender, now)

    def _emit_levels(self) -> None:
        levels = []
        for track in self._state.tracks.values():
            if not track.is_video:
                levels.append((track.track_id, 127 if track.is_muted else track.level))
                track.level = 127
        if levels:
            self._state.emit(AudioLevels(tuple(levels)))
