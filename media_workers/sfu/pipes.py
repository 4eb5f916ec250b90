"""Pipes: two nodes joined, so that a room's tracks published on one are received on the other.

Tracks of sessions here go in, every simulcast layer under an SSRC of its own; what comes out belongs to guests and is
offered to the sessions here like any other track. What came out of one pipe never goes into another: nodes are joined
each with each. Signaling carries PipeTrack from one node to the other; key frames are asked for by RTCP.
"""

from dataclasses import dataclass, field

from msgspec import UNSET

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import RemoveTrack, RemoveTransport, SetTrack
from conference.protocol.control_plain import (
    ClosePipe,
    OpenPipe,
    PipeConnected,
    PipeLost,
    PipeOpened,
    PipeRoom,
    PipeTrack,
    PipeTrackEnded,
    PlainStream,
)
from conference.protocol.messages import Payload, TrackInfo
from conference.protocol.negotiation import KINDS, Publication, is_token
from media_workers.sfu.core import Core
from media_workers.sfu.engine_terms import engine_codec
from media_workers.sfu.plain import PLAIN_IDS, PlainLink, negotiated_codec, plain_codec
from media_workers.sfu.ranking import Ranking
from media_workers.sfu.sessions import Guest, Owner, PublishedTrack, Publisher, Room, Session
from media_workers.sfu.subscribing import Subscribing

CONNECT_TIMEOUT_S = 10.0
MAX_PIPE_TRACKS = 1_000  # that come out of one pipe


@dataclass(slots=True)
class Pipe:
    """One open pipe. `sent` has what goes in, by the track's id in the engine, `received` what comes out by it."""

    pipe_id: str
    link: PlainLink
    since: float
    is_connected: bool = False
    rooms: set[str] = field(default_factory=set)  # whose tracks go in
    sent: dict[str, PipeTrack] = field(default_factory=dict)
    received: dict[str, PipeTrack] = field(default_factory=dict)


class Pipes:
    """The pipes of a node."""

    def __init__(self, core: Core, subscribing: Subscribing, ranking: Ranking) -> None:
        self._core = core
        self._subscribing = subscribing
        self._ranking = ranking
        self._pipes: dict[str, Pipe] = {}
        self._by_transport: dict[str, Pipe] = {}

    @property
    def ids(self) -> list[str]:
        return list(self._pipes)

    def _pipe(self, pipe_id: str) -> Pipe:
        pipe = self._pipes.get(pipe_id)
        if pipe is None:
            raise ProtocolError("unknown-pipe", "this node has no such pipe")
        return pipe

    # --- opening and closing -----------------------------------------------------------------------------------------
    def open(self, owner: Owner, message: OpenPipe) -> PipeOpened:
        """Raises ProtocolError bad-keys or bad-address."""
        pipe = self._pipes.get(message.pipe_id)
        if pipe is not None and not pipe.link.is_same(message.address, message.keys):
            self._close(pipe)
            pipe = None
        if pipe is None:
            transport_id = f"pipe/{message.pipe_id}/{self._core.chance.token(8)}"
            worker = message.worker % len(self._core.engine.ports)
            link = PlainLink(self._core, transport_id, message.address, message.keys, worker, owner)
            link.open()
            pipe = Pipe(message.pipe_id, link, self._core.now())
            self._pipes[pipe.pipe_id] = self._by_transport[transport_id] = pipe
        else:
            pipe.link.owner, pipe.link.orphaned_at = owner, None
            for known in pipe.sent.values():
                self._tell(pipe, known)
        return PipeOpened(pipe_id=pipe.pipe_id, address=pipe.link.own_address)

    def close(self, message: ClosePipe) -> None:
        pipe = self._pipes.get(message.pipe_id)
        if pipe is not None:
            self._close(pipe)

    def _close(self, pipe: Pipe) -> None:
        del self._pipes[pipe.pipe_id]
        del self._by_transport[pipe.link.transport_id]
        for key in list(pipe.received):
            self._end(pipe, key)
        for room_id in pipe.rooms:
            self._leave(pipe, room_id)
        self._core.command(RemoveTransport(pipe.link.transport_id))

    def _leave(self, pipe: Pipe, room_id: str) -> None:
        room = self._core.rooms.get(room_id)
        if room is not None:
            room.uses.discard(pipe.pipe_id)
            self._core.close_if_empty(room)

    # --- what goes in ------------------------------------------------------------------------------------------------
    def set_room(self, message: PipeRoom) -> None:
        """Raises ProtocolError unknown-pipe."""
        pipe = self._pipe(message.pipe_id)
        if message.piped:
            room = self._core.room(message.room_id)
            room.uses.add(pipe.pipe_id)
            pipe.rooms.add(room.room_id)
            self._core.later(lambda: self._fill(pipe, room))
        elif message.room_id in pipe.rooms:
            pipe.rooms.discard(message.room_id)
            for key, told in list(pipe.sent.items()):
                if told.room_id == message.room_id:
                    self._stop(pipe, key)
            self._leave(pipe, message.room_id)

    def _fill(self, pipe: Pipe, room: Room) -> None:
        for session in room.sessions.values():
            for track in session.tracks.values():
                if track.is_announced:
                    self._start(pipe, session, track)

    def _start(self, pipe: Pipe, session: Session, track: PublishedTrack) -> None:
        if pipe.pipe_id not in self._pipes or track.key in pipe.sent or session.room.room_id not in pipe.rooms:
            return
        told = PipeTrack(
            pipe_id=pipe.pipe_id,
            room_id=session.room.room_id,
            track_id=track.info.track_id,
            participant_id=session.participant_id,
            user_id=session.user_id,
            kind=track.info.kind,
            source=track.info.source,
            codec=plain_codec(track.publication.codec),
            streams=pipe.link.send(session, track, track.publication.rids),
        )
        pipe.sent[track.key] = told
        self._tell(pipe, told)

    def _stop(self, pipe: Pipe, key: str) -> None:
        told = pipe.sent.pop(key, None)
        if told is not None:
            pipe.link.stop(key)
            self._tell(pipe, PipeTrackEnded(pipe_id=pipe.pipe_id, room_id=told.room_id, track_id=told.track_id))

    def track_added(self, session: Session, track: PublishedTrack) -> None:
        for pipe in list(self._pipes.values()):
            self._start(pipe, session, track)

    def track_removed(self, session: Session, track: PublishedTrack) -> None:
        for pipe in list(self._pipes.values()):
            self._stop(pipe, track.key)

    # --- what comes out ----------------------------------------------------------------------------------------------
    def add(self, message: PipeTrack) -> None:
        """Raises ProtocolError: unknown-pipe, bad-track-id, unsupported-codec, too-many-tracks or duplicate-track."""
        pipe = self._pipe(message.pipe_id)
        key = f"{message.room_id}/{message.track_id}"
        if pipe.received.get(key) == message:
            return  # told again after a lost link
        self._check(pipe, message)
        room = self._core.room(message.room_id)
        found = room.find(message.track_id)
        if found is not None:
            if isinstance(found[0], Session):
                self._core.close_if_empty(room)
                raise ProtocolError("duplicate-track", "this trackId is published on this node")
            self.remove_guest_track(found[0], found[1])
            room = self._core.room(message.room_id)
        guest = room.guests.get(message.participant_id)
        if guest is not None and guest.pipe_id != pipe.pipe_id:  # they are on this node now
            for track in list(guest.tracks.values()):
                self.remove_guest_track(guest, track)
            room, guest = self._core.room(message.room_id), None
        if guest is None:
            guest = Guest(room, message.participant_id, message.user_id, pipe.pipe_id)
            room.guests[message.participant_id] = guest
        track = self._track(message, key)
        guest.tracks[message.track_id] = track
        pipe.received[key] = message
        self._core.by_key[key] = (guest, track)
        self._core.command(self._command(pipe, track, message.streams))
        self._ranking.track_added(guest, track)
        self._subscribing.track_added(guest, track)

    @staticmethod
    def _check(pipe: Pipe, message: PipeTrack) -> None:
        if not is_token(message.track_id) or not is_token(message.participant_id):
            raise ProtocolError("bad-track-id", "ids consist of the characters of an SDP token")
        if KINDS.get(message.codec.name) != message.kind:
            raise ProtocolError("unsupported-codec", "this codec is not known here, or of another kind")
        if len(pipe.received) >= MAX_PIPE_TRACKS:
            raise ProtocolError("too-many-tracks", f"at most {MAX_PIPE_TRACKS} tracks come out of a pipe")
        if not all(is_token(text) for pair in message.codec.parameters.items() for text in pair):
            raise ProtocolError("unsupported-codec", "the codec's parameters consist of the characters of an SDP token")
        rids = [stream.rid for stream in message.streams]
        if len(rids) > 1 and (not all(rids) or len(set(rids)) < len(rids)):
            raise ProtocolError("bad-streams", "several streams of a track name a simulcast layer each")

    @staticmethod
    def _track(message: PipeTrack, key: str) -> PublishedTrack:
        info = TrackInfo(
            track_id=message.track_id,
            kind=message.kind,
            source=message.source,
            participant_id=message.participant_id,
            user_id=message.user_id,
        )
        rids = tuple(stream.rid for stream in message.streams if stream.rid)
        publication = Publication("", message.kind, negotiated_codec(message.codec), (), rids=rids)
        return PublishedTrack(info, publication, key, is_announced=True)

    @staticmethod
    def _command(pipe: Pipe, track: PublishedTrack, streams: list[PlainStream]) -> SetTrack:
        return SetTrack(
            transport_id=pipe.link.transport_id,
            track_id=track.key,
            mid="",
            codec=engine_codec(track.publication.codec),
            extensions=PLAIN_IDS,
            ssrcs=tuple((s.ssrc, None if s.rtx_ssrc is UNSET else int(s.rtx_ssrc)) for s in streams),
            rids=track.publication.rids,
            is_screen=track.info.source == "screen",
        )

    def remove(self, message: PipeTrackEnded) -> None:
        """What is not there is gone already."""
        pipe = self._pipes.get(message.pipe_id)
        key = f"{message.room_id}/{message.track_id}"
        if pipe is not None and key in pipe.received:
            self._end(pipe, key)

    def _end(self, pipe: Pipe, key: str) -> None:
        pipe.received.pop(key, None)
        found = self._core.by_key.get(key)
        if found is not None and isinstance(found[0], Guest) and found[0].pipe_id == pipe.pipe_id:
            self.remove_guest_track(*found)

    def remove_guest_track(self, guest: Publisher, track: PublishedTrack) -> None:
        """Ends a track of another node for the sessions here."""
        room = guest.room
        guest.tracks.pop(track.info.track_id, None)
        if isinstance(guest, Guest):
            pipe = self._pipes.get(guest.pipe_id)
            if pipe is not None:
                pipe.received.pop(track.key, None)
            if not guest.tracks:
                room.guests.pop(guest.participant_id, None)
                room.speakers.forget(guest.participant_id)
                if guest.participant_id not in room.sessions:
                    self._ranking.forget(room, guest.participant_id)
        self._core.by_key.pop(track.key, None)
        self._subscribing.track_removed(room, track)
        self._core.command(RemoveTrack(track.key))
        self._core.close_if_empty(room)

    # --- what the engine tells, owners and time ----------------------------------------------------------------------
    def ice_changed(self, transport_id: str, state: str) -> bool:
        """True where the transport is a pipe's."""
        pipe = self._by_transport.get(transport_id)
        if pipe is None:
            return False
        if state == "connected" and not pipe.is_connected:
            pipe.is_connected = True
            self._tell(pipe, PipeConnected(pipe_id=pipe.pipe_id))
        elif state in {"disconnected", "failed"} and pipe.is_connected:
            self._lose(pipe)
        return True

    def _lose(self, pipe: Pipe) -> None:
        rooms = sorted(pipe.rooms | {told.room_id for told in pipe.received.values()})
        self._tell(pipe, PipeLost(pipe_id=pipe.pipe_id, rooms=rooms))
        self._close(pipe)

    def _tell(self, pipe: Pipe, message: Payload) -> None:
        def tell() -> None:
            if pipe.link.owner is not None:
                pipe.link.owner.send(message)

        self._core.later(tell)

    def link_lost(self, owner: Owner, now: float) -> None:
        for pipe in self._pipes.values():
            pipe.link.lost(owner, now)

    def expire(self, now: float, timeout_s: float) -> None:
        """Loses the pipes that never connected; closes those that nobody owns for so long."""
        for pipe in list(self._pipes.values()):
            if not pipe.is_connected and now - pipe.since >= CONNECT_TIMEOUT_S:
                self._lose(pipe)
            elif pipe.link.is_orphaned(now, timeout_s):
                self._close(pipe)

    def close_all(self) -> None:
        """Shutdown."""
        for pipe in list(self._pipes.values()):
            self._close(pipe)
