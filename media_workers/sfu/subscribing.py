"""What a participant receives: tracks of the room become sections of offers on the subscribe transport, answered
sections become senders, SetReceive becomes what the engine is to send of each.

Changes mark a session dirty; its next offer is made when the handlers are done, and only when no other is waiting for
its answer.
"""

from typing import Final

import msgspec

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import LayersWanted, RemoveSender, SenderChanged, SetSender, TrackCodec, WantTrack
from conference.protocol.control import Answer, ChangeSend, Offer, ReceiveChanged
from conference.protocol.messages import ReceivedTrack, ReceiveTrack
from conference.protocol.negotiation_subscribe import OfferedTrack, SubscribeOffer, Subscription
from media_workers.sfu.core import Core
from media_workers.sfu.engine_terms import engine_extensions
from media_workers.sfu.sessions import Pause, PublishedTrack, Publisher, Room, Session
from media_workers.sfu.transports import Transports

# RFC 7742 and RFC 7874: whoever refuses a section with these has another reason than the codec.
MANDATORY_CODECS: Final = frozenset({"opus", "VP8"})


class Subscribing:
    """Keeps each session's subscriptions in step with its room."""

    def __init__(self, core: Core, transports: Transports) -> None:
        self._core = core
        self._transports = transports

    # --- tracks of the room ------------------------------------------------------------------------------------------
    def track_added(self, publisher: Publisher, track: PublishedTrack) -> None:
        for session in publisher.room.sessions.values():
            if session is not publisher:
                self._want(session, track)

    def track_removed(self, room: Room, track: PublishedTrack) -> None:
        for session in room.sessions.values():
            self._unwant(session, track.info.track_id)

    def enter(self, session: Session) -> None:
        """A newcomer wants what the room already has."""
        for publisher, track in session.room.tracks():
            if publisher is not session and track.is_announced:
                self._want(session, track)

    def leave(self, session: Session) -> None:
        for track_id in list(session.senders):
            self._stop(session, track_id)
        self._core.dirty.pop(session.participant_id, None)

    def _want(self, session: Session, track: PublishedTrack) -> None:
        if not session.can_decode(track.publication.codec.name):
            self._tell(session, track.info.track_id, "unsupported")
            return
        stream = str(track.info.participant_id)
        session.offers.add(OfferedTrack(track.info.track_id, track.info.kind, track.publication.codec, stream))
        self._mark(session)

    def _unwant(self, session: Session, track_id: str) -> None:
        session.offers.remove(track_id)
        for known in (session.wishes, session.received, session.news):
            known.pop(track_id, None)
        self._stop(session, track_id)
        self._mark(session)

    def _stop(self, session: Session, track_id: str) -> None:
        sender_id = session.senders.pop(track_id, None)
        if sender_id is not None:
            self._core.by_sender.pop(sender_id, None)
            self._core.command(RemoveSender(sender_id))

    # --- offers and answers ------------------------------------------------------------------------------------------
    def _mark(self, session: Session) -> None:
        if session.participant_id not in self._core.dirty:
            self._core.dirty[session.participant_id] = session
            self._core.later(lambda: self._offer(session))

    def _offer(self, session: Session) -> None:
        self._core.dirty.pop(session.participant_id, None)
        if self._core.sessions.get(session.participant_id) is not session:
            return
        if session.subscribe.state in {"failed", "closed"}:
            return
        offer = session.offers.next_offer(self._core.local(session.subscribe))
        if offer is not None:
            self._send(session, offer)

    def _send(self, session: Session, offer: SubscribeOffer) -> None:
        tracks = []
        for mid, track_id in offer.mids.items():
            found = session.room.find(track_id)
            if found is not None:
                tracks.append(msgspec.structs.replace(found[1].info, mid=mid))
        session.tell(
            Offer(
                participant_id=session.participant_id,
                transport_id=session.subscribe.transport_id,
                negotiation_id=offer.negotiation_id,
                sdp=offer.sdp,
                tracks=tracks,
            )
        )

    def repeat_offer(self, session: Session) -> None:
        """After an attach: the offer whose answer may have been lost with the former link."""
        offer = session.offers.outstanding
        if offer is not None:
            self._send(session, offer)

    def answer(self, session: Session, message: Answer) -> None:
        """Takes an answer. Raises ProtocolError: unknown-transport, stale-answer, and what reading the SDP raises."""
        if message.transport_id != session.subscribe.transport_id:
            raise ProtocolError("unknown-transport", "answers are taken on the subscribe transport of this session")
        result = session.offers.read_answer(message.negotiation_id, message.sdp)
        self._transports.connect(session, session.subscribe, result.remote)
        for subscription in result.accepted:
            self._forward(session, subscription)
        for track_id in result.refused:
            self._refused(session, track_id)
        self._mark(session)

    def _refused(self, session: Session, track_id: str) -> None:
        """The subscriber cannot decode it: it is told so, and nothing is sent."""
        self._core.counters.refused_tracks += 1
        self._stop(session, track_id)
        found = session.room.find(track_id)
        if found is not None:
            session.undecodable |= {found[1].publication.codec.name} - MANDATORY_CODECS
            self._tell(session, track_id, "unsupported")

    def _forward(self, session: Session, subscription: Subscription) -> None:
        found = session.room.find(subscription.track_id)
        if found is None:
            return
        publisher, track = found
        sender_id = f"{session.subscribe.transport_id}/{subscription.ssrc}"
        if session.senders.get(subscription.track_id) == sender_id:
            return
        self._stop(session, subscription.track_id)
        session.senders[subscription.track_id] = sender_id
        self._core.by_sender[sender_id] = (session, subscription.track_id)
        self._core.command(self._command(session, sender_id, track, subscription, publisher.participant_id))
        self._tell(session, subscription.track_id, "none")
        wish = session.wishes.get(subscription.track_id)
        if wish is not None:
            self._want_as(sender_id, wish)

    @staticmethod
    def _command(
        session: Session, sender_id: str, track: PublishedTrack, subscription: Subscription, cname: str
    ) -> SetSender:
        codec = subscription.codec
        return SetSender(
            sender_id=sender_id,
            transport_id=session.subscribe.transport_id,
            track_id=track.key,
            mid=subscription.mid,
            codec=TrackCodec(codec.name, codec.payload_type, codec.clock_rate, codec.rtx_payload_type),
            extensions=engine_extensions(subscription.extensions),
            ssrc=subscription.ssrc,
            rtx_ssrc=subscription.rtx_ssrc,
            cname=cname,
        )

    def restart_ice(self, session: Session) -> None:
        """Offers new credentials on the subscribe transport."""
        if session.subscribe.is_alive:
            self._transports.restart_ice(session.subscribe)
            session.offers.restart()
            self._mark(session)

    # --- what is shown -----------------------------------------------------------------------------------------------
    def select(self, session: Session, tracks: list[ReceiveTrack]) -> None:
        """SetReceive. Unknown tracks are ignored."""
        for wish in tracks:
            found = session.room.find(wish.track_id)
            if found is None or found[0] is session or found[1].info.kind != "video":
                continue
            session.wishes[wish.track_id] = wish
            sender_id = session.senders.get(wish.track_id)
            if sender_id is not None:
                self._want_as(sender_id, wish)

    def _want_as(self, sender_id: str, wish: ReceiveTrack) -> None:
        self._core.command(WantTrack(sender_id, wish.width, wish.height, wish.visible, wish.pinned))

    def layers_wanted(self, event: LayersWanted) -> None:
        """Dynacast: asks the publisher for the layers that somebody is to receive."""
        found = self._core.by_key.get(event.track_id)
        if found is None or not isinstance(found[0], Session):
            return
        publisher, track = found[0], found[1]
        layers = dict(event.layers)
        if layers != (track.layers or dict.fromkeys(track.publication.rids, True)):
            track.layers = layers
            change = ChangeSend(participant_id=publisher.participant_id, track_id=track.info.track_id, layers=layers)
            self._core.later(lambda: publisher.tell(change))

    # --- what comes --------------------------------------------------------------------------------------------------
    def sender_changed(self, event: SenderChanged) -> None:
        """What the engine forwards to a subscriber now."""
        found = self._core.by_sender.get(event.sender_id)
        if found is not None:
            self._tell(*found, event.paused)

    def _tell(self, session: Session, track_id: str, paused: Pause) -> None:
        """With the next ReceiveChanged, where it is news."""
        if session.received.get(track_id, "none") == paused:
            session.news.pop(track_id, None)
            return
        if not session.news:
            self._core.later(lambda: self._tell_all(session))
        session.news[track_id] = paused

    @staticmethod
    def _tell_all(session: Session) -> None:
        if session.news:
            tracks = [ReceivedTrack(track_id=track_id, paused=paused) for track_id, paused in session.news.items()]
            session.received |= session.news
            session.news.clear()
            session.tell(ReceiveChanged(participant_id=session.participant_id, tracks=tracks))

    def repeat_received(self, session: Session) -> None:
        """After an attach: what does not come, since the message about it may have been lost."""
        held = {track_id: paused for track_id, paused in session.received.items() if paused != "none"}
        session.received.clear()
        for track_id, paused in held.items():
            self._tell(session, track_id, paused)
