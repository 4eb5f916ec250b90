"""Taps: the tracks of those who granted a purpose go to a recorder or an AI worker, each under an SSRC of its own.

A grant that is withdrawn removes the sender in the same batch of commands; one that comes later adds it. A tap ends
with its room, or when its owner is gone for long and nobody has opened it again.
"""

from dataclasses import dataclass, field
from typing import Literal

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import RemoveTransport
from conference.protocol.control_plain import (
    CloseTap,
    OpenTap,
    PlainStream,
    TapChanged,
    TapOpened,
    TapTrack,
    TapTrackEnded,
)
from conference.protocol.messages import Grant, Kind
from media_workers.sfu.core import Core
from media_workers.sfu.plain import PlainLink, plain_codec
from media_workers.sfu.sessions import Owner, PublishedTrack, Room, Session


@dataclass(slots=True)
class Tap:
    """One open tap. `sent` has what it carries, by the track's id in the engine."""

    tap_id: str
    room: Room = field(repr=False)
    purpose: Grant
    kinds: frozenset[Kind]
    link: PlainLink
    sent: dict[str, tuple[TapTrack, PlainStream]] = field(default_factory=dict)

    def matches(self, session: Session, track: PublishedTrack) -> bool:
        return self.purpose in session.grants and track.info.kind in self.kinds


class Taps:
    """The taps of a node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._taps: dict[str, Tap] = {}
        self._by_transport: dict[str, Tap] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._taps)

    # --- from the control link ---------------------------------------------------------------------------------------
    def open(self, owner: Owner, message: OpenTap) -> TapOpened:
        """Raises ProtocolError unknown-room, bad-keys or bad-address."""
        room = self._core.rooms.get(message.room_id)
        if room is None or not room.sessions:
            raise ProtocolError("unknown-room", "a room is tapped while it has sessions here")
        tap = self._taps.get(message.tap_id)
        if tap is not None and not self._is_same(tap, room, message):
            self._close(tap)
            tap = None
        if tap is None:
            tap = self._open(owner, room, message)
        else:
            tap.link.owner, tap.link.orphaned_at = owner, None
            for told, _ in tap.sent.values():
                self._tell(tap, told)
        return TapOpened(tap_id=tap.tap_id, address=tap.link.own_address)

    @staticmethod
    def _is_same(tap: Tap, room: Room, message: OpenTap) -> bool:
        wanted = (room, message.purpose, frozenset(message.kinds))
        return (tap.room, tap.purpose, tap.kinds) == wanted and tap.link.is_same(message.address, message.keys)

    def _open(self, owner: Owner, room: Room, message: OpenTap) -> Tap:
        transport_id = f"tap/{message.tap_id}/{self._core.chance.token(8)}"
        link = PlainLink(self._core, transport_id, message.address, message.keys, room.worker, owner)
        link.open()
        tap = Tap(message.tap_id, room, message.purpose, frozenset(message.kinds), link)
        self._taps[tap.tap_id] = self._by_transport[transport_id] = tap
        self._core.later(lambda: self._fill(tap))
        return tap

    def close(self, message: CloseTap) -> None:
        tap = self._taps.get(message.tap_id)
        if tap is not None:
            self._close(tap)

    def _close(self, tap: Tap) -> None:
        self._taps.pop(tap.tap_id, None)
        self._by_transport.pop(tap.link.transport_id, None)
        self._core.command(RemoveTransport(tap.link.transport_id))

    # --- what the room does ------------------------------------------------------------------------------------------
    def _of(self, room: Room) -> list[Tap]:
        return [tap for tap in self._taps.values() if tap.room is room]

    def _fill(self, tap: Tap) -> None:
        for session in tap.room.sessions.values():
            self._adjust(tap, session)

    def _adjust(self, tap: Tap, session: Session) -> None:
        """Sends what is granted and announced, and nothing else."""
        for track in session.tracks.values():
            if not tap.matches(session, track):
                self._stop(tap, track, "withdrawn")
            elif track.is_announced and track.key not in tap.sent and tap.tap_id in self._taps:
                self._start(tap, session, track)

    def _start(self, tap: Tap, session: Session, track: PublishedTrack) -> None:
        (stream,) = tap.link.send(session, track)
        told = TapTrack(
            tap_id=tap.tap_id,
            track_id=track.info.track_id,
            participant_id=session.participant_id,
            user_id=session.user_id,
            kind=track.info.kind,
            source=track.info.source,
            codec=plain_codec(track.publication.codec),
            stream=stream,
        )
        tap.sent[track.key] = (told, stream)
        self._tell(tap, told)

    def _stop(self, tap: Tap, track: PublishedTrack, reason: Literal["ended", "withdrawn"]) -> None:
        told, stream = tap.sent.pop(track.key, (None, None))
        if told is None or stream is None:
            return
        tap.link.stop(track.key)
        self._tell(tap, TapTrackEnded(tap_id=tap.tap_id, track_id=told.track_id, ssrc=stream.ssrc, reason=reason))

    def track_added(self, session: Session, track: PublishedTrack) -> None:
        for tap in self._of(session.room):
            self._adjust(tap, session)

    def track_removed(self, session: Session, track: PublishedTrack) -> None:
        for tap in self._of(session.room):
            self._stop(tap, track, "ended")

    def granted(self, session: Session) -> None:
        """The grants of a session changed."""
        for tap in self._of(session.room):
            self._adjust(tap, session)

    def left(self, room: Room) -> None:
        """Somebody left; without sessions the room is over for its taps."""
        if not room.sessions:
            for tap in self._of(room):
                self._tell(tap, TapChanged(tap_id=tap.tap_id, state="closed"))
                self._close(tap)

    # --- what the engine tells, owners and time ----------------------------------------------------------------------
    def ice_changed(self, transport_id: str, state: str) -> bool:
        """True where the transport is a tap's."""
        tap = self._by_transport.get(transport_id)
        if tap is not None and (state == "connected" or state == "disconnected"):
            self._tell(tap, TapChanged(tap_id=tap.tap_id, state=state))  # type: ignore[arg-type]
        return tap is not None

    def _tell(self, tap: Tap, message: TapTrack | TapTrackEnded | TapChanged) -> None:
        def tell() -> None:
            if tap.link.owner is not None:
                tap.link.owner.send(message)

        self._core.later(tell)

    def link_lost(self, owner: Owner, now: float) -> None:
        for tap in self._taps.values():
            tap.link.lost(owner, now)

    def expire(self, now: float, timeout_s: float) -> None:
        """Closes the taps that nobody owns for so long."""
        for tap in [t for t in self._taps.values() if t.link.is_orphaned(now, timeout_s)]:
            self._close(tap)
