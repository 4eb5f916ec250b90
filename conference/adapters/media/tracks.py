"""A published track in the engine: its streams (layers), its senders, and which layer each sender takes."""

from typing import Final

from conference.adapters.media.receiving import LAYER_ALIVE_S, Stream
from conference.adapters.media.sending import Sender
from conference.ports.forwarding import SetTrack
from conference.protocol.payload import is_video
from conference.protocol.rtcp import SenderReport

UNRANKED: Final = 1 << 30


class Track:
    """One track and who receives it."""

    def __init__(self, command: SetTrack) -> None:
        self.track_id = command.track_id
        self.transport_id = command.transport_id
        self.is_muted = False
        self.level = 127  # loudest since the last event
        self.rank = UNRANKED  # 0 for the active speaker's
        self.key_frame_requests = 0
        self.streams: dict[str, Stream] = {}  # rid -> the stream that carries it now
        self.senders: dict[str, Sender] = {}
        self.wanted: dict[str, bool] = {}  # rid -> what was last told
        self._unwanted_since: dict[str, float] = {}
        self.update(command)

    def update(self, command: SetTrack) -> None:
        self.mid = command.mid
        self.codec = command.codec
        self.rids = command.rids
        self.is_video = is_video(command.codec.name)
        self.is_screen = command.is_screen
        self.streams = {rid: stream for rid, stream in self.streams.items() if rid in (self.rids or ("",))}
        for rid, stream in self.streams.items():
            stream.place = self.place(rid)
        self.wanted = {rid: self.wanted.get(rid, True) for rid in self.rids}

    def place(self, rid: str) -> int:
        """The rank of a layer, 0 lowest."""
        return self.rids.index(rid) if rid in self.rids else 0

    def open_stream(self, ssrc: int, rid: str) -> Stream:
        """A new SSRC takes over its layer."""
        stream = self.streams[rid] = Stream(ssrc, rid, self.place(rid), self.codec)
        return stream

    def layer_for(self, sender: Sender) -> str | None:
        """The layer that a sender is to take; None for the highest that is received."""
        if sender.rid is not None:
            return sender.rid
        return self.rids[0] if sender.is_thumbnail and self.rids else None

    def best(self, sender: Sender, now: float) -> Stream | None:
        """The stream to forward: the sender's layer, else the highest that is being received."""
        alive = [s for s in self.streams.values() if now - s.last_arrival < LAYER_ALIVE_S]
        rid = self.layer_for(sender)
        if rid is not None:
            wanted = next((s for s in alive if s.rid == rid), None)
            if wanted is not None or sender.is_strict:
                return wanted
        return max(alive, key=lambda s: s.place, default=None)

    def aim(self, sender: Sender, now: float) -> None:
        """Chooses the sender's target; asks for the key frame that a switch needs."""
        if sender.is_paused or self.is_muted or not sender.is_connected:
            return
        target = self.best(sender, now)
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

    def resume(self, sender: Sender, now: float) -> None:
        """What was paused or muted goes on, video with a key frame."""
        if self.is_muted:
            return  # it is asked for when the track is heard again
        self.aim(sender, now)
        self.ask_key_frame(sender, now, urgent=True)

    def mute(self, muted: bool, now: float) -> None:
        """Muted, nothing is forwarded."""
        if self.is_muted == muted:
            return
        self.is_muted = muted
        for sender in self.senders.values():
            sender.wait()
            if not muted and not sender.is_paused:
                self.resume(sender, now)

    def note_wanted(self, rids: set[str], now: float, down_s: float) -> bool:
        """Notes which layers somebody wants; True where that is news. One that is not wanted counts after `down_s`."""
        is_news = False
        for rid in self.rids:
            if rid in rids:
                self._unwanted_since.pop(rid, None)
                is_news = is_news or not self.wanted[rid]
                self.wanted[rid] = True
            elif self.wanted[rid] and now - self._unwanted_since.setdefault(rid, now) >= down_s:
                self.wanted[rid] = False
                is_news = True
        return is_news

    def note_report(self, report: SenderReport, now: float) -> None:
        for stream in self.streams.values():
            if stream.ssrc == report.ssrc:
                stream.sr, stream.sr_arrival = report, now
