"""Which videos a subscriber receives at all, and which layers of a track anybody receives (Dynacast).

The reference engine has no bandwidth estimate: a video is held back because it is hidden or beyond the last N, never
for lack of bandwidth. What is paused or resumed by a batch of commands is settled once, after the batch.
"""

from typing import Final

from conference.adapters.media.sending import Sender
from conference.adapters.media.state import EngineState
from conference.adapters.media.tracks import Track
from conference.adapters.media.transport import Transport
from conference.ports.forwarding import LayersWanted

LAYER_DOWN_S: Final = 5.0  # a layer that nobody wants any more is told after so long


class Choosing:
    """Settles pauses, and tells what has changed."""

    def __init__(self, state: EngineState) -> None:
        self._state = state

    def settle(self, now: float) -> None:
        """After commands: pauses by the last N, resumes what is wanted again, tells changes."""
        for transport in self._state.transports.values():
            self._choose(transport)
        for _, sender in self._state.senders.values():
            track = self._state.tracks.get(sender.track_id)
            if track is not None:
                self._pause_or_resume(sender, track, now)
        self.tell_layers(now)

    def _choose(self, transport: Transport) -> None:
        videos = [s for s in transport.senders.values() if s.is_video]
        for sender in videos:
            sender.is_beyond = False
        if transport.last_n is not None:
            shown = sorted((s for s in videos if not s.is_paused and not self._is_muted(s)), key=self._rank)
            for sender in shown[transport.last_n :]:
                sender.is_beyond = True

    def _is_muted(self, sender: Sender) -> bool:
        """What is muted is not received, and takes no place of another's."""
        return self._state.tracks[sender.track_id].is_muted

    def _rank(self, sender: Sender) -> tuple[bool, bool, int]:
        """Screen shares, what is pinned, then who spoke last; the order of subscribing decides between equals."""
        track = self._state.tracks[sender.track_id]
        is_pinned = sender.want is not None and sender.want.pinned
        return (not track.is_screen, not is_pinned, track.rank)

    def _pause_or_resume(self, sender: Sender, track: Track, now: float) -> None:
        if sender.is_paused != sender.was_paused:
            sender.was_paused = sender.is_paused
            if sender.is_paused:
                sender.wait()
            else:
                track.resume(sender, now)
        self.tell_sender(sender)

    def tell_sender(self, sender: Sender) -> None:
        change = sender.news()
        if change is not None:
            self._state.emit(change)

    def tell_layers(self, now: float) -> None:
        """A layer that is wanted again is told at once, one that is not after some seconds."""
        for track in self._state.tracks.values():
            if len(track.rids) > 1 and track.senders and track.note_wanted(self._wanted(track), now, LAYER_DOWN_S):
                self._state.emit(LayersWanted(track.track_id, tuple((rid, track.wanted[rid]) for rid in track.rids)))

    @staticmethod
    def _wanted(track: Track) -> set[str]:
        wanted: set[str] = set()
        for sender in track.senders.values():
            if not sender.is_paused:
                rid = track.layer_for(sender)
                wanted.update(track.rids if rid is None else (rid,))
        return wanted
