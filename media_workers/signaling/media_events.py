"""What SFU nodes say by themselves, one handler a type: for the member it concerns, or the room's connections here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from conference.domain.ids import MeetingId
from conference.ports.presence import Present
from conference.protocol import control as c
from conference.protocol import messages as m
from conference.protocol.envelope import Message
from conference.tasks import Tasks
from media_workers.signaling.media import Media, first_packet_span
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import Member, Rooms
from media_workers.signaling.services import Services
from media_workers.signaling.views import stored_track, track_unpublished

_log = logging.getLogger(__name__)


class MediaEvents:
    def __init__(self, services: Services, rooms: Rooms, publisher: Publisher, media: Media, tasks: Tasks) -> None:
        self._services = services
        self._rooms = rooms
        self._publisher = publisher
        self._media = media
        self._tasks = tasks

    def handle(self, message: Message) -> None:
        handler = _HANDLERS.get(type(message.payload))
        if handler is not None:
            handler(self, message.payload)

    def _offer(self, offer: c.Offer) -> None:
        member = self._rooms.participant(offer.participant_id)
        if member is None:
            return
        payload = m.ReceiveOffer(
            source_user_id=m.SFU,
            transport_id=offer.transport_id,
            negotiation_id=offer.negotiation_id,
            sdp=offer.sdp,
            tracks=offer.tracks,
            epoch=member.room.epoch,
        )
        member.media.offer = payload
        if member.connection is not None:
            member.connection.session.offered(offer.transport_id)
            member.connection.tell(payload)

    def _track_added(self, added: c.TrackAdded) -> None:
        member = self._rooms.participant(added.participant_id)
        if member is not None:
            self._tasks.spawn(self._publish(member, added.track))

    async def _publish(self, member: Member, track: m.TrackInfo) -> None:
        info = m.TrackInfo(
            track_id=track.track_id,
            kind=track.kind,
            source=track.source,
            participant_id=member.participant_id,
            user_id=member.user_id,
        )

        def add(present: Present) -> Present:
            return replace(present, tracks=(*_without(present, track.track_id), stored_track(info)))

        await self._publisher.change(member, m.TrackPublished(track=info), add)

    def _track_removed(self, removed: c.TrackRemoved) -> None:
        member = self._rooms.participant(removed.participant_id)
        if member is not None:
            self._tasks.spawn(self._unpublish(member, removed.track_id))

    async def _unpublish(self, member: Member, track_id: str) -> None:
        def take(present: Present) -> Present | None:
            others = _without(present, track_id)
            if len(others) == len(present.tracks):
                return None  # told already, when the session was found gone
            return replace(present, tracks=others)

        await self._publisher.change(member, track_unpublished(member.present, track_id), take)

    def _speakers(self, changed: c.SpeakersChanged) -> None:
        room = self._rooms.get(MeetingId(changed.room_id))
        if room is not None:
            speakers = [m.Speaker(user_id=level.user_id, level=level.level) for level in changed.speakers]
            self._publisher.tell_here(room, m.ActiveSpeakers(speakers=speakers))

    def _quality(self, changed: c.ConnectionQuality) -> None:
        room = self._rooms.get(MeetingId(changed.room_id))
        if room is not None:
            self._publisher.tell_here(room, m.QualityChanged(user_id=changed.user_id, quality=changed.quality))

    def _change_send(self, change: c.ChangeSend) -> None:
        member = self._rooms.participant(change.participant_id)
        if member is not None and member.connection is not None:
            payload = m.SetSend(track_id=change.track_id, layers=change.layers)
            member.connection.tell(payload)

    def _receive(self, change: c.ReceiveChanged) -> None:
        member = self._rooms.participant(change.participant_id)
        if member is not None and member.connection is not None:
            member.connection.tell(m.ReceiveChanged(tracks=change.tracks))

    def _first_packet(self, first: c.FirstPacket) -> None:
        member = self._rooms.participant(first.participant_id)
        if member is not None:
            first_packet_span(member)

    def _data(self, received: c.DataReceived) -> None:
        self._services.metrics.stats_reports.inc()

    def _transport(self, changed: c.TransportChanged) -> None:
        extra = {"participant": changed.participant_id[:8], "direction": changed.direction, "state": changed.state}
        _log.debug("transport", extra=extra)

    def _session_closed(self, closed: c.SessionClosed) -> None:
        member = self._rooms.participant(closed.participant_id)
        if member is not None:
            _log.info("media session closed", extra={"reason": closed.reason})
            self._media.reopen(member)


def _without(present: Present, track_id: str) -> tuple[Mapping[str, str], ...]:
    return tuple(track for track in present.tracks if track["trackId"] != track_id)


_HANDLERS: Final[dict[type[m.Payload], Callable[[MediaEvents, Any], None]]] = {
    c.Offer: MediaEvents._offer,
    c.TrackAdded: MediaEvents._track_added,
    c.TrackRemoved: MediaEvents._track_removed,
    c.SpeakersChanged: MediaEvents._speakers,
    c.ConnectionQuality: MediaEvents._quality,
    c.ChangeSend: MediaEvents._change_send,
    c.ReceiveChanged: MediaEvents._receive,
    c.FirstPacket: MediaEvents._first_packet,
    c.DataReceived: MediaEvents._data,
    c.TransportChanged: MediaEvents._transport,
    c.SessionClosed: MediaEvents._session_closed,
}
