"""A node's sessions: opening, attaching, closing, and what the control link may ask of them.

`handle` is the one door for control messages (a table from type to method), `engine_event` the one for events of the
data plane. Both change state synchronously; the caller sends the reply and then calls `settle`.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from conference import telemetry
from conference.domain.errors import ProtocolError, Refused, Unavailable
from conference.ports.forwarding import (
    AudioLevels,
    CapBandwidth,
    DropPairs,
    DtlsReceived,
    Event,
    FirstForwarded,
    LayersWanted,
    LinkReport,
    SenderChanged,
)
from conference.ports.forwarding import IceChanged as IceEvent
from conference.protocol.control import (
    AddCandidate,
    Answer,
    AttachSession,
    CloseRoom,
    CloseSession,
    ConnectionQuality,
    Endpoint,
    FirstPacket,
    Hello,
    Level,
    MuteTracks,
    Offer,
    Ok,
    OpenSession,
    SelectTracks,
    SessionClosed,
    SessionOpened,
    SessionRef,
    Simulate,
    SpeakersChanged,
    UpdateSession,
)
from conference.protocol.control_plain import MediaAddress
from conference.protocol.messages import Payload
from conference.protocol.negotiation_subscribe import SubscribeOffers
from media_workers.sfu.core import Core
from media_workers.sfu.engine_terms import decoded_codecs
from media_workers.sfu.pipes import Pipes
from media_workers.sfu.publishing import Publishing
from media_workers.sfu.quality import QualityMeter
from media_workers.sfu.ranking import Ranking
from media_workers.sfu.sessions import Direction, MediaTransport, Owner, PublishedTrack, Publisher, Room, Session
from media_workers.sfu.subscribing import Subscribing
from media_workers.sfu.taps import Taps
from media_workers.sfu.transports import Transports

ORPHAN_TIMEOUT_S: Final = 90.0
DIRECTIONS: Final[tuple[Direction, ...]] = ("publish", "subscribe")
MAX_EVENTS: Final = 256
_logger: Final = logging.getLogger(__name__)


def _acknowledged(action: Callable[[Any], None]) -> Callable[[Owner, Any, str | None], Payload]:
    """A handler whose reply says no more than that it was done."""

    def handle(link: Owner, message: Any, traceparent: str | None) -> Payload:
        action(message)
        return Ok()

    return handle


class Node:
    """One SFU node. `simulate` handles debug scenarios of the whole process; None where hooks are off."""

    def __init__(self, core: Core, simulate: Callable[[str], None] | None = None) -> None:
        self.core = core
        self.transports = Transports(core, self._transport_ended)
        self.subscribing = Subscribing(core, self.transports)
        self._ranking = Ranking(core)
        self.taps = Taps(core)
        self.pipes = Pipes(core, self.subscribing, self._ranking)
        self.publishing = Publishing(core, self.transports, self.subscribing, self._ranking, self)
        self._simulate_process = simulate
        self._handlers: dict[str, Callable[[Owner, Any, str | None], Payload]] = {
            "OpenSession": self._open,
            "AttachSession": self._attach,
            "UpdateSession": self._update,
            "CloseSession": self._close,
            "CloseRoom": self._close_room,
            "Offer": self._offer,
            "Answer": self._answer,
            "AddCandidate": self._candidate,
            "SelectTracks": self._select,
            "MuteTracks": self._mute,
            "Simulate": self._simulate,
            "OpenTap": lambda link, message, _: self.taps.open(link, message),
            "CloseTap": _acknowledged(self.taps.close),
            "OpenPipe": lambda link, message, _: self.pipes.open(link, message),
            "ClosePipe": _acknowledged(self.pipes.close),
            "PipeRoom": _acknowledged(self.pipes.set_room),
            "PipeTrack": _acknowledged(self.pipes.add),
            "PipeTrackEnded": _acknowledged(self.pipes.remove),
        }
        self._events: dict[type, Callable[[Any], None]] = {
            IceEvent: self._ice_changed,
            DtlsReceived: lambda e: self.transports.receive_dtls(e.transport_id, e.datagram),
            FirstForwarded: self._first_forwarded,
            AudioLevels: self._audio_levels,
            LinkReport: self._link_report,
            SenderChanged: self.subscribing.sender_changed,
            LayersWanted: self.subscribing.layers_wanted,
        }

    # --- doors -------------------------------------------------------------------------------------------------------
    def hello(self) -> Hello:
        sessions = [
            SessionRef(room_id=s.room.room_id, participant_id=s.participant_id, user_id=s.user_id)
            for s in self.core.sessions.values()
        ]
        identity = self.core.identity
        places = [self.core.candidates(worker)[0] for worker in range(len(self.core.engine.ports))]
        return Hello(
            node_id=identity.node_id,
            region=identity.region,
            sessions=sessions,
            draining=self.core.is_draining,
            media=[MediaAddress(ip=ip, port=port) for ip, port in places],
            taps=self.taps.ids,
            pipes=self.pipes.ids,
        )

    def handle(self, link: Owner, kind: str, payload: Payload, traceparent: str | None = None) -> Payload:
        """The reply to a control message. Raises ProtocolError, Refused or Unavailable; call `settle` in any case."""
        return self._handlers[kind](link, payload, traceparent)

    def settle(self) -> None:
        self.core.settle()

    def drain_events(self) -> bool:
        """Handles a batch of the engine's events; True where more may wait."""
        events: list[Event] = self.core.engine.poll_events(MAX_EVENTS)
        for event in events:
            try:
                self._events[type(event)](event)
            except Exception:  # a bug in the handling of one event must not cost the others
                _logger.exception("an engine event failed", extra={"type": type(event).__name__})
        self.settle()
        return len(events) == MAX_EVENTS

    def link_lost(self, link: Owner) -> None:
        """The sessions of a link wait for another one to attach."""
        now = self.core.now()
        for session in self.core.sessions.values():
            if session.owner is link:
                session.owner, session.orphaned_at = None, now
        self.taps.link_lost(link, now)
        self.pipes.link_lost(link, now)

    def tick(self) -> None:
        """What is due by time. Call it about once a second."""
        now = self.core.now()
        self.transports.admit()
        self.transports.expire()
        self.taps.expire(now, ORPHAN_TIMEOUT_S)
        self.pipes.expire(now, ORPHAN_TIMEOUT_S)
        for session in list(self.core.sessions.values()):
            if session.orphaned_at is not None and now - session.orphaned_at >= ORPHAN_TIMEOUT_S:
                self.end(session, "orphaned")
                continue
            quality = session.quality.change(now)
            if quality is not None:
                session.room.tell(
                    ConnectionQuality(
                        room_id=session.room.room_id,
                        participant_id=session.participant_id,
                        user_id=session.user_id,
                        quality=quality,
                    )
                )
        self.settle()

    # --- sessions ----------------------------------------------------------------------------------------------------
    def _open(self, link: Owner, message: OpenSession, traceparent: str | None) -> Payload:
        core = self.core
        if core.is_draining:
            raise Unavailable("the draining media node", after_s=None)
        former = core.sessions.get(message.participant_id)
        if former is not None:
            self.end(former, None)
        if core.transport_count + 2 > core.identity.capacity:
            raise Refused("sfu-unavailable", "This media server is full.")
        room = core.room(message.room_id)
        publish, subscribe = (self.transports.create(way, room.worker) for way in DIRECTIONS)
        session = Session(
            room=room,
            participant_id=message.participant_id,
            user_id=message.user_id,
            role=message.role,
            publish=publish,
            subscribe=subscribe,
            offers=SubscribeOffers(core.chance.number, core.chance.number()),
            quality=QualityMeter(core.now()),
            owner=link,
            sdp_session=core.chance.number(),
            grants=frozenset(message.grants),
            decodes=decoded_codecs(message.capabilities.codecs),
            traceparent=traceparent,
        )
        core.sessions[message.participant_id] = room.sessions[message.participant_id] = session
        for transport in session.transports:
            core.by_transport[transport.transport_id] = (session, transport)
        core.idle.clear()
        core.later(lambda: self.subscribing.enter(session))
        return self._opened(session)

    def _opened(self, session: Session) -> SessionOpened:
        endpoints = [
            Endpoint(ip=ip, port=port, transport_id=transport.transport_id, direction=transport.direction)
            for transport in session.transports
            for ip, port in self.core.candidates(transport.worker)[:1]
        ]
        tracks = [track.info for _, track in session.room.tracks() if track.is_announced]
        return SessionOpened(
            participant_id=session.participant_id,
            node_id=self.core.identity.node_id,
            endpoints=endpoints,
            tracks=tracks,
        )

    def _attach(self, link: Owner, message: AttachSession, traceparent: str | None) -> Payload:
        session = self.core.session(message.participant_id)
        if session.room.room_id != message.room_id:
            raise ProtocolError("unknown-session", "that participant is in another room")
        session.owner, session.orphaned_at = link, None
        self.core.later(lambda: self.subscribing.repeat_offer(session))
        self.core.later(lambda: self.subscribing.repeat_received(session))
        if session.subscribe.state == "disconnected":
            self.subscribing.restart_ice(session)
        return self._opened(session)

    def _update(self, link: Owner, message: UpdateSession, traceparent: str | None) -> Payload:
        session = self.core.session(message.participant_id)
        session.role, session.grants = message.role, frozenset(message.grants)
        if message.role == "viewer":
            self.publishing.remove_all(session)
        self.taps.granted(session)
        return Ok()

    def _close(self, link: Owner, message: CloseSession, traceparent: str | None) -> Payload:
        session = self.core.sessions.get(message.participant_id)
        if session is not None:
            self.end(session, None)
        return Ok()

    def _close_room(self, link: Owner, message: CloseRoom, traceparent: str | None) -> Payload:
        room = self.core.rooms.get(message.room_id)
        for session in list(room.sessions.values()) if room else []:
            self.end(session, None)
        return Ok()

    def end(self, session: Session, reason: Any) -> None:
        """Ends a session. With a reason (of SessionClosed) its owner is told."""
        core = self.core
        if core.sessions.get(session.participant_id) is not session:
            return
        self.publishing.remove_all(session)
        self.subscribing.leave(session)
        del core.sessions[session.participant_id]
        del session.room.sessions[session.participant_id]
        session.room.speakers.forget(session.participant_id)
        self._ranking.forget(session.room, session.participant_id)
        self.taps.left(session.room)
        core.close_if_empty(session.room)
        for transport in session.transports:
            core.by_transport.pop(transport.transport_id, None)
            if transport.state not in {"failed", "closed"}:
                self.transports.release(transport)
        if not core.sessions:
            core.idle.set()
        if reason is not None:
            closed = SessionClosed(room_id=session.room.room_id, participant_id=session.participant_id, reason=reason)
            core.later(lambda: session.tell(closed))

    def end_all(self) -> None:
        """Shutdown."""
        for session in list(self.core.sessions.values()):
            self.end(session, "shutdown")
        self.pipes.close_all()
        self.settle()

    def _transport_ended(self, session: Session, transport: MediaTransport) -> None:
        if transport is session.publish:
            self.publishing.remove_all(session)
        else:
            self.subscribing.leave(session)
        if not any(other.is_alive for other in session.transports):
            reason = "consent-expired" if transport.was_connected else "failed"
            self.core.later(lambda: self.end(session, reason))

    # --- negotiation and choices -------------------------------------------------------------------------------------
    def _offer(self, link: Owner, message: Offer, traceparent: str | None) -> Payload:
        session = self.core.session(message.participant_id)
        with telemetry.span("sfu.offer", traceparent=traceparent or session.traceparent):
            return self.publishing.offer(session, message)

    def _answer(self, link: Owner, message: Answer, traceparent: str | None) -> Payload:
        session = self.core.session(message.participant_id)
        with telemetry.span("sfu.answer", traceparent=traceparent or session.traceparent):
            self.subscribing.answer(session, message)
        return Ok()

    def _candidate(self, link: Owner, message: AddCandidate, traceparent: str | None) -> Payload:
        """Checked and ignored: a lite agent learns the peer's addresses from its checks (RFC 8445 2.5)."""
        if self.core.session(message.participant_id).transport(message.transport_id) is None:
            raise ProtocolError("unknown-transport", "this session has no such transport")
        return Ok()

    def _select(self, link: Owner, message: SelectTracks, traceparent: str | None) -> Payload:
        self.subscribing.select(self.core.session(message.participant_id), message.tracks)
        return Ok()

    def _mute(self, link: Owner, message: MuteTracks, traceparent: str | None) -> Payload:
        session = self.core.session(message.participant_id)
        sources = set(message.sources)
        session.muted_sources = session.muted_sources | sources if message.muted else session.muted_sources - sources
        for track in session.tracks.values():
            if track.info.source in sources:
                self.publishing.mute(session, track, message.muted)
        return Ok()

    def _simulate(self, link: Owner, message: Simulate, traceparent: str | None) -> Payload:
        if self._simulate_process is None:
            raise Refused("not-available", "Debug hooks are off.")
        if message.scenario in {"node-failure", "drain"}:
            scenario, run = message.scenario, self._simulate_process
            self.core.later(lambda: run(scenario))
            return Ok()
        if not isinstance(message.participant_id, str):
            raise ProtocolError("invalid-message", "this scenario needs a participantId")
        session = self.core.session(message.participant_id)
        for transport in session.transports:
            if message.scenario == "bandwidth-cap":
                rate = message.bitrate_bps if isinstance(message.bitrate_bps, int) else None
                self.core.command(CapBandwidth(transport.transport_id, rate))
            else:
                self.core.command(DropPairs(transport.transport_id))
        return Ok()

    # --- who else takes what is published ---------------------------------------------------------------------------
    def track_added(self, session: Session, track: PublishedTrack) -> None:
        self.taps.track_added(session, track)
        self.pipes.track_added(session, track)

    def track_removed(self, session: Session, track: PublishedTrack) -> None:
        self.taps.track_removed(session, track)
        self.pipes.track_removed(session, track)

    def moved_here(self, guest: Publisher, track: PublishedTrack) -> None:
        self.pipes.remove_guest_track(guest, track)

    # --- events of the engine ----------------------------------------------------------------------------------------
    def _ice_changed(self, event: IceEvent) -> None:
        identifier, state = event.transport_id, event.state
        if not self.taps.ice_changed(identifier, state) and not self.pipes.ice_changed(identifier, state):
            self.transports.ice_changed(identifier, state)

    def _first_forwarded(self, event: FirstForwarded) -> None:
        found = self.core.by_sender.get(event.sender_id)
        if found is None or found[0].has_media:
            return
        session, track_id = found
        session.has_media = True
        with telemetry.span("sfu.first_packet", traceparent=session.traceparent):
            session.tell(
                FirstPacket(participant_id=session.participant_id, track_id=track_id), traceparent=session.traceparent
            )

    def _audio_levels(self, event: AudioLevels) -> None:
        """Levels of the engine's tracks become speakers of rooms; only microphones speak."""
        by_room: dict[str, dict[str, int]] = {}
        for key, level in event.levels:
            found = self.core.by_key.get(key)
            if found is not None and found[1].info.source == "microphone":
                by_room.setdefault(found[0].room.room_id, {})[found[0].participant_id] = level
        for room_id, levels in by_room.items():
            room = self.core.rooms[room_id]
            speakers = room.speakers.update(levels, self.core.now())
            if speakers is not None:
                self._ranking.spoke(room, [participant_id for participant_id, _ in speakers])
                self._tell_speakers(room, speakers)

    @staticmethod
    def _tell_speakers(room: Room, speakers: list[tuple[str, float]]) -> None:
        people = {publisher.participant_id: publisher for publisher in room.publishers()}
        known = [(people[key], level) for key, level in speakers if key in people]
        room.tell(
            SpeakersChanged(
                room_id=room.room_id,
                speakers=[Level(participant_id=s.participant_id, user_id=s.user_id, level=v) for s, v in known],
            )
        )

    def _link_report(self, event: LinkReport) -> None:
        found = self.core.by_transport.get(event.transport_id)
        if found is None:
            return
        session, transport = found
        if transport.state == "disconnected":
            session.quality.disconnected()
        elif event.is_active:
            loss = max(event.received_loss, event.sent_loss)
            session.quality.report(loss, event.round_trip_s, self.core.now(), event.layers_missed)
