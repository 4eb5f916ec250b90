"""What a participant publishes: offers on the publish transport, tracks that come, change and go."""

from typing import Protocol

from conference.domain.errors import ProtocolError, Refused
from conference.ports.forwarding import MuteTrack, RemoveTrack, SetTrack
from conference.protocol.control import Answer, Offer, TrackAdded, TrackRemoved
from conference.protocol.messages import MAX_TRACKS, TrackInfo
from conference.protocol.negotiation import Publication, is_token
from conference.protocol.negotiation_publish import PublishOffer, make_answer, read_offer
from media_workers.sfu.core import Core
from media_workers.sfu.engine_terms import engine_codec, engine_extensions
from media_workers.sfu.ranking import Ranking
from media_workers.sfu.sessions import Guest, PublishedTrack, Publisher, Session
from media_workers.sfu.subscribing import Subscribing
from media_workers.sfu.transports import Transports


class Audience(Protocol):
    """Who besides the room's sessions takes what is published (taps, pipes)."""

    def track_added(self, session: Session, track: PublishedTrack) -> None: ...

    def track_removed(self, session: Session, track: PublishedTrack) -> None: ...

    def moved_here(self, guest: Publisher, track: PublishedTrack) -> None:
        """A guest's track is published by a session here now."""


class Publishing:
    """Handles offers. All methods leave the session as it was when they raise."""

    def __init__(
        self, core: Core, transports: Transports, subscribing: Subscribing, ranking: Ranking, audience: Audience
    ) -> None:
        self._core = core
        self._transports = transports
        self._subscribing = subscribing
        self._ranking = ranking
        self._audience = audience

    def offer(self, session: Session, message: Offer) -> Answer:
        """Answers an offer. Raises ProtocolError (unknown-transport, stale-negotiation, duplicate-track, unknown-mid,
        bad-track-id, too-many-tracks, unsupported-codec and those of `read_offer`) or Refused role-not-allowed."""
        if message.transport_id != session.publish.transport_id:
            raise ProtocolError("unknown-transport", "offers are taken on the publish transport of this session")
        if session.last_offer is not None:
            last, sdp, answer = session.last_offer
            if message.negotiation_id == last and message.sdp == sdp:
                return answer  # a repetition after a lost link
            if message.negotiation_id <= last:
                raise ProtocolError("stale-negotiation", "a newer offer was answered already")
        offer = read_offer(message.sdp, self._preference(session))
        wanted = self._wanted(session, offer, message.tracks)
        self._connect(session, offer)
        self._change(session, wanted)
        session.answers += 1
        text = make_answer(
            offer,
            self._core.local(session.publish),
            [track.publication.mid for track in wanted],
            session_id=session.sdp_session,
            version=session.answers,
        )
        answer = Answer(
            participant_id=session.participant_id,
            transport_id=session.publish.transport_id,
            negotiation_id=message.negotiation_id,
            sdp=text,
            tracks=[track.info for track in wanted],
        )
        session.last_offer = (message.negotiation_id, message.sdp, answer)
        return answer

    def _preference(self, session: Session) -> list[str]:
        """Codecs, best first: those that everybody else in the room decodes, of these what is in use already, else by
        the settings. The rest comes last: a track that some cannot decode is better than none."""
        options = self._core.identity.options
        names = [*options.video_codecs, *(("red",) if options.has_red else ())]
        others = [other for other in session.room.sessions.values() if other is not session]
        used = {track.publication.codec.name for track in session.tracks.values()}
        shared = [name for name in names if all(other.can_decode(name) for other in others)]
        shared.sort(key=lambda name: name not in used)
        if "opus" in used and "red" in shared:
            shared.remove("red")  # nobody's sound is interrupted to gain it
        return shared + [name for name in names if name not in shared and name != "red"]

    # --- checks ------------------------------------------------------------------------------------------------------
    def _wanted(self, session: Session, offer: PublishOffer, tracks: list[TrackInfo]) -> list[PublishedTrack]:
        """The tracks to receive after this offer."""
        if session.role == "viewer" and (tracks or offer.publications):
            raise Refused("role-not-allowed", "A viewer cannot publish audio or video.")
        if len(tracks) > MAX_TRACKS:
            raise ProtocolError("too-many-tracks", f"a participant publishes at most {MAX_TRACKS} tracks")
        self._check_unique(session, tracks)
        publications = {publication.mid: publication for publication in offer.publications}
        sending = {s.mid for s in offer.description.sections if s.port and s.direction in {"sendrecv", "sendonly"}}
        known = {section.mid for section in offer.description.sections}
        wanted = []
        for info in tracks:
            mid = info.mid if isinstance(info.mid, str) else ""
            if mid not in known:
                raise ProtocolError("unknown-mid", "each track names the mid of its m-section")
            if mid in sending and mid not in publications:
                raise ProtocolError("unsupported-codec", "none of the codecs offered for a track is supported")
            publication = publications.get(mid)
            if publication is not None:
                wanted.append(self._track(session, info, publication))
        return wanted

    def _check_unique(self, session: Session, tracks: list[TrackInfo]) -> None:
        if len({t.track_id for t in tracks}) != len(tracks) or len({t.mid for t in tracks}) != len(tracks):
            raise ProtocolError("duplicate-track", "two tracks of the offer have the same trackId or mid")
        for info in tracks:
            if not is_token(info.track_id):  # it is written into the SDP of everyone else
                raise ProtocolError("bad-track-id", "a trackId consists of the characters of an SDP token")
            found = session.room.find(info.track_id)
            if found is None or found[0] is session:
                continue
            moved_here = isinstance(found[0], Guest) and found[0].participant_id == session.participant_id
            if not moved_here:
                raise ProtocolError("duplicate-track", "this trackId is in use in the room")

    def _track(self, session: Session, info: TrackInfo, publication: Publication) -> PublishedTrack:
        if info.kind != publication.kind:
            raise ProtocolError("wrong-kind", "a track and its m-section are of the same kind")
        full = TrackInfo(
            track_id=info.track_id,
            kind=info.kind,
            source=info.source,
            mid=publication.mid,
            participant_id=session.participant_id,
            user_id=session.user_id,
        )
        return PublishedTrack(full, publication, f"{session.room.room_id}/{info.track_id}")

    def _connect(self, session: Session, offer: PublishOffer) -> None:
        former = session.publish.remote
        data_port = offer.data_port if offer.data_mid is not None else None
        self._transports.connect(session, session.publish, offer.remote, data_port)
        if former is not None and former.ice_ufrag != offer.remote.ice_ufrag:
            self._transports.restart_ice(session.publish)
            if session.subscribe.state == "disconnected":  # the client's network changed: help the other one, too
                self._subscribing.restart_ice(session)

    # --- changes -----------------------------------------------------------------------------------------------------
    def _change(self, session: Session, wanted: list[PublishedTrack]) -> None:
        kept = {track.info.track_id: track for track in wanted}
        for track_id, present in list(session.tracks.items()):
            follower = kept.get(track_id)
            if follower is None or follower.publication.codec != present.publication.codec:
                self.remove(session, track_id)
        for track in wanted:
            present_track = session.tracks.get(track.info.track_id)
            if present_track is None:
                self._add(session, track)
            elif present_track.publication != track.publication:
                present_track.publication, present_track.info = track.publication, track.info
                self._core.command(self._command(session, present_track))

    def _add(self, session: Session, track: PublishedTrack) -> None:
        former = session.room.find(track.info.track_id)
        if former is not None:  # the same person's, from another node that they have left
            self._audience.moved_here(*former)
        session.tracks[track.info.track_id] = track
        self._core.by_key[track.key] = (session, track)
        self._core.command(self._command(session, track))
        self._ranking.track_added(session, track)
        if track.info.source in session.muted_sources:
            self._core.command(MuteTrack(track.key, True))
        self._core.later(lambda: self._announce(session, track))

    def _announce(self, session: Session, track: PublishedTrack) -> None:
        if session.tracks.get(track.info.track_id) is not track:
            return
        track.is_announced = True
        session.tell(
            TrackAdded(
                room_id=session.room.room_id,
                participant_id=session.participant_id,
                user_id=session.user_id,
                track=track.info,
            )
        )
        self._subscribing.track_added(session, track)
        self._audience.track_added(session, track)

    @staticmethod
    def _command(session: Session, track: PublishedTrack) -> SetTrack:
        publication = track.publication
        repairs = dict(publication.rtx_ssrcs)
        return SetTrack(
            transport_id=session.publish.transport_id,
            track_id=track.key,
            mid=publication.mid,
            codec=engine_codec(publication.codec),
            extensions=engine_extensions(publication.extensions),
            ssrcs=tuple((ssrc, repairs.get(ssrc)) for ssrc in publication.ssrcs),
            rids=publication.rids,
            is_screen=track.info.source == "screen",
        )

    def remove(self, session: Session, track_id: str) -> None:
        """Ends a track for everyone."""
        track = session.tracks.pop(track_id, None)
        if track is None:
            return
        self._core.by_key.pop(track.key, None)
        session.room.speakers.forget(session.participant_id)
        self._subscribing.track_removed(session.room, track)
        self._audience.track_removed(session, track)
        self._core.command(RemoveTrack(track.key))
        if track.is_announced:
            removed = TrackRemoved(
                room_id=session.room.room_id,
                participant_id=session.participant_id,
                user_id=session.user_id,
                track_id=track_id,
                kind=track.info.kind,
            )
            self._core.later(lambda: session.tell(removed))

    def remove_all(self, session: Session) -> None:
        for track_id in list(session.tracks):
            self.remove(session, track_id)

    def mute(self, session: Session, track: PublishedTrack, muted: bool) -> None:
        self._core.command(MuteTrack(track.key, muted))
