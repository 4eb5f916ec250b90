"""What a participant receives: everyone else's tracks, offered on the subscribe transport.

Changes mark a session dirty; its next offer is made when the handlers are done, and only when no other is waiting for
its answer.
"""

from typing import Final

import msgspec

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import ExtensionIds, PauseSender, RemoveSender, SelectLayer, SetSender, TrackCodec
from conference.protocol.control import Answer, ChangeSend, Offer
from conference.protocol.messages import ReceiveTrack
from conference.protocol.negotiation import AUDIO_LEVEL, MID, TRANSPORT_CC
from conference.protocol.negotiation_subscribe import OfferedTrack, SubscribeOffer, Subscription
from media_workers.sfu.core import Core
from media_workers.sfu.sessions import PublishedTrack, Room, Session
from media_workers.sfu.transports import Transports

THUMBNAIL_WIDTH: Final = 240  # device pixels up to which the lowest layer is enough


class Subscribing:
    """Keeps each session's subscriptions in step with its room."""

    def __init__(self, core: Core, transports: Transports) -> None:
        self._core = core
        self._transports = transports

    # --- tracks of the room ------------------------------------------------------------------------------------------
    def track_added(self, publisher: Session, track: PublishedTrack) -> None:
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
        stream = str(track.info.participant_id)
        session.offers.add(OfferedTrack(track.info.track_id, track.info.kind, track.publication.codec, stream))
        self._mark(session)

    def _unwant(self, session: Session, track_id: str) -> None:
        session.offers.remove(track_id)
        session.hidden.discard(track_id)
        session.small.discard(track_id)
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
            self._core.counters.errors["track-refused"] = self._core.counters.errors.get("track-refused", 0) + 1
            self._stop(session, track_id)
        self._mark(session)

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
        self._show(session, track, sender_id)
        self._adjust(publisher, track)

    @staticmethod
    def _command(
        session: Session, sender_id: str, track: PublishedTrack, subscription: Subscription, cname: str
    ) -> SetSender:
        codec = subscription.codec
        ids = dict(subscription.extensions)
        return SetSender(
            sender_id=sender_id,
            transport_id=session.subscribe.transport_id,
            track_id=track.key,
            mid=subscription.mid,
            codec=TrackCodec(codec.name, codec.payload_type, codec.clock_rate, codec.rtx_payload_type),
            extensions=ExtensionIds(
                mid=ids.get(MID), audio_level=ids.get(AUDIO_LEVEL), transport_cc=ids.get(TRANSPORT_CC)
            ),
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
        """SetReceive: hidden video is paused, a thumbnail gets the lowest layer. Unknown tracks are ignored."""
        for wish in tracks:
            found = session.room.find(wish.track_id)
            if found is None or found[0] is session or found[1].info.kind != "video":
                continue
            track = found[1]
            is_small = 0 < wish.width <= THUMBNAIL_WIDTH and not wish.pinned
            (session.hidden.discard if wish.visible else session.hidden.add)(wish.track_id)
            (session.small.add if is_small else session.small.discard)(wish.track_id)
            sender_id = session.senders.get(wish.track_id)
            if sender_id is not None:
                self._show(session, track, sender_id)
                self._adjust(found[0], track)

    def _show(self, session: Session, track: PublishedTrack, sender_id: str) -> None:
        is_small = track.info.track_id in session.small
        lowest = track.publication.rids[0] if is_small and track.publication.rids else None
        is_hidden = track.info.track_id in session.hidden
        self._core.command(SelectLayer(sender_id, lowest), PauseSender(sender_id, is_hidden))

    def _adjust(self, publisher: Session, track: PublishedTrack) -> None:
        """Asks the publisher for the layers that somebody receives (Dynacast), where that has changed."""
        rids, track_id = track.publication.rids, track.info.track_id
        receivers = [s for s in publisher.room.sessions.values() if track_id in s.senders]
        if len(rids) < 2 or not receivers:
            return
        seen = [s for s in receivers if track_id not in s.hidden]
        has_large = any(track_id not in s.small for s in seen)
        layers = {rid: bool(seen) if place == 0 else has_large for place, rid in enumerate(rids)}
        if layers != (track.layers or dict.fromkeys(rids, True)):
            track.layers = layers
            change = ChangeSend(participant_id=publisher.participant_id, track_id=track_id, layers=layers)
            self._core.later(lambda: publisher.tell(change))
