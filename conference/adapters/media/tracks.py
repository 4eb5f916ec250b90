"""A published track in the engine: its streams (layers), its senders, and which layer each sender takes."""

from typing import Final

from conference.adapters.media.receiving import Stream
from conference.adapters.media.sending import Sender
from conference.ports.forwarding import SetTrack
from conference.protocol.rtcp import SenderReport

LAYER_ALIVE_S: Final = 1.5  # a layer that was silent for so long is not received any more


class Track:
    """One track and who receives it."""

    def __init__(self, command: SetTrack) -> None:
        self.track_id = command.track_id
        self.transport_id = command.transport_id
        self.is_muted = False
        self.level = 127  # loudest since the last event
        self.streams: dict[str, Stream] = {}  # rid -> the stream that carries it now
        self.senders: dict[str, Sender] = {}
        self.update(command)

    def update(self, command: SetTrack) -> None:
        self.mid = command.mid
        self.codec = command.codec
        self.rids = command.rids
        self.is_video = command.codec.name != "opus"
        self.streams = {rid: stream for rid, stream in self.streams.items() if rid in (self.rids or ("",))}

    def place(self, rid: str) -> int:
        """The rank of a layer, 0 lowest."""
        return self.rids.index(rid) if rid in self.rids else 0

    def open_stream(self, ssrc: int, rid: str) -> Stream:
        """A new SSRC takes over its layer."""
        stream = self.streams[rid] = Stream(ssrc, rid, self.place(rid), self.codec)
        return stream

    def best(self, rid: str | None, now: float) -> Stream | None:
        """The stream to forward: the layer asked for, else the highest that is being received."""
        alive = [s for s in self.streams.values() if now - s.last_arrival < LAYER_ALIVE_S]
        if rid is not None:
            wanted = next((s for s in alive if s.rid == rid), None)
            if wanted is not None:
                return wanted
        return max(alive, key=lambda s: s.place, default=None)

    def aim(self, sender: Sender, now: float) -> None:
        """Chooses the sender's target; asks for the key frame that a switch needs."""
        if sender.is_paused or self.is_muted or not sender.is_connected:
            return
        target = self.best(sender.rid, now)
        if target is None or (target is sender.target and target is sender.current):
            return
        is_new = target is not sender.target
        sender.target = target
        if is_new and sender.wants_key_frame:
            target.key_frames.request(now, urgent=sender.current is None)

    def aim_all(self, now: float) -> None:
        for sender in self.senders.values():
            self.aim(sender, now)

    def ask_key_frame(self, sender: Sender, now: float, *, urgent: bool = False) -> None:
        """A subscriber needs a key frame (PLI, resume)."""
        stream = sender.target or sender.current
        if stream is not None and self.is_video:
            stream.key_frames.request(now, urgent=urgent)

    def pause(self, sender: Sender, paused: bool, now: float) -> None:
        if sender.is_paused == paused:
            return
        sender.pause(paused)
        if not paused:
            self.aim(sender, now)
            self.ask_key_frame(sender, now, urgent=True)

    def mute(self, muted: bool, now: float) -> None:
        """Muted, nothing is forwarded; a resumed video begins with a key frame."""
        if self.is_muted == muted:
            return
        self.is_muted = muted
        for sender in self.senders.values():
            was_paused = sender.is_paused
            sender.pause(True)
            sender.is_paused = was_paused
            if not muted:
                self.aim(sender, now)
                self.ask_key_frame(sender, now, urgent=True)

    def note_report(self, report: SenderReport, now: float) -> None:
        for stream in self.streams.values():
            if stream.ssrc == report.ssrc:
                stream.sr, stream.sr_arrival = report, now
