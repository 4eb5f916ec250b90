"""What a joined person asks for, one handler a message type; the session machine has checked the rules of the wire.

A handler that meets a refusal or an absent dependency raises; the answer is an Error that names the request, and the
connection goes on.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import UNSET

from conference import telemetry
from conference.domain.claims import TUNNEL_LIFETIME, TUNNEL_NODES_MAX, TunnelClaims
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import UserId
from conference.domain.meetings import Role
from conference.ports.presence import Present
from conference.protocol import control as c
from conference.protocol import messages as m
from conference.protocol.envelope import Message
from conference.protocol.session import Effect, Serve, ToPeer, ToSfu, error_message
from media_workers.signaling.connection import Connection
from media_workers.signaling.leaving import Leaving
from media_workers.signaling.media import Media
from media_workers.signaling.publishing import Publisher
from media_workers.signaling.rooms import Member, rfc3339
from media_workers.signaling.services import Services
from media_workers.signaling.topologies import Topologies

_DENIED_S: Final = 3_600  # longer than any token or resume secret of the removed participant lives
_FLAGS: Final = {
    "is_muted": "isMuted",
    "is_video_on": "isVideoOn",
    "is_sharing": "isSharing",
    "is_hand_raised": "isHandRaised",
}
_PEER: Final[dict[type[m.Payload], type[m.Payload]]] = {
    m.SendOffer: m.ReceiveOffer,
    m.SendAnswer: m.ReceiveAnswer,
    m.SendIceCandidate: m.IceCandidate,
}
_log = logging.getLogger(__name__)


class Requests:
    def __init__(
        self, services: Services, publisher: Publisher, media: Media, leaving: Leaving, topologies: Topologies
    ) -> None:
        self._services = services
        self._publisher = publisher
        self._media = media
        self._leaving = leaving
        self._topologies = topologies

    async def perform(self, connection: Connection, member: Member | None, effect: Effect) -> None:
        """An effect of a joined session (or a KeepAlive before it)."""
        if isinstance(effect, Serve) and isinstance(effect.message.payload, m.KeepAlive):
            server_time = rfc3339(self._services.clock.now())
            ack = m.KeepAliveAck(server_time=server_time)
            connection.send(Message("KeepAliveAck", ack, reply_to=effect.message.id))
        elif member is None or not member.here:
            return
        elif isinstance(effect, ToSfu):
            self._media.relay(member, effect.message)
        elif isinstance(effect, ToPeer | Serve):
            await self._answer(connection, member, effect)

    async def _answer(self, connection: Connection, member: Member, effect: ToPeer | Serve) -> None:
        message = effect.message
        try:
            if isinstance(effect, ToPeer):
                await self._to_peer(member, message, effect.target)
            else:
                await _HANDLERS[type(message.payload)](self, member, message)
        except Refused as refused:
            connection.send(error_message(refused.reason, str(refused), message.id))
        except Unavailable as error:
            text = f"{error.what} does not answer at the moment. Try again."
            connection.send(error_message("unavailable", text, message.id, retryable=error.retryable))

    async def _to_peer(self, member: Member, message: Message, target: UserId) -> None:
        """Relayed at once where the person is on this process, else as an addressed event; never numbered."""
        room = member.room
        sent = message.payload
        assert isinstance(sent, m.SendOffer | m.SendAnswer | m.SendIceCandidate)
        fields = {name: getattr(sent, name) for name in sent.__struct_fields__ if name != "target_user_id"}
        payload: Any = _PEER[type(sent)]
        received: m.Payload = payload(source_user_id=member.user_id, **{**fields, "epoch": room.epoch})
        local = room.members.get(target)
        if local is not None and local.connection is not None:
            local.connection.send(Message(type(received).__name__, received, traceparent=message.traceparent))
            return
        view = await self._services.presence.view(room.id)
        if view is None or target not in view.participants:
            raise Refused("not-a-participant", "There is no such person in the room.")
        text = msgspec.json.encode(received).decode()
        await self._services.presence.publish(room.id, type(received).__name__, text, to=target, numbered=False)

    async def _update_state(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.UpdateState)
        wanted = {name: getattr(sent, name) for name in _FLAGS if getattr(sent, name) is not UNSET}
        await change_state(self._publisher, member, wanted)
        if "is_muted" in wanted:
            self._leaving.mute(member, bool(wanted["is_muted"]))

    async def _send_message(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.SendMessage)
        received = m.MessageReceived(
            message_id=sent.message_id,
            user_id=member.user_id,
            display_name=member.present.display_name,
            text=sent.text,
            sent_at=rfc3339(self._services.clock.now()),
        )
        await self._publisher.tell(member.room, received, once=f"{member.user_id}:{sent.message_id}")

    async def _set_receive(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.SetReceive)
        self._media.send(member, c.SelectTracks(participant_id=member.participant_id, tracks=sent.tracks))

    async def _topology_ready(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.TopologyReady)
        await self._topologies.ready(member, sent)

    async def _link_report(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.LinkReport)
        self._topologies.links(member, sent)

    async def _moderate(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.Moderate)
        if sent.action in ("admit", "deny"):
            raise Refused("not-available")
        target = await self._person(member, UserId(sent.target_user_id))
        order = {"userId": target.user_id, "participantId": target.participant_id, "byUserId": member.user_id}
        room = member.room
        if sent.action == "mute":
            await self._publisher.order(room, "user.muted", order, to=target.user_id)
            return
        if target.user_id == member.user_id:
            raise Refused("forbidden", "The host's own place and role stay.")
        meetings, now = self._services.meetings, self._services.clock.now()
        if sent.action == "remove":
            removed = await meetings.remove(room.id, target.participant_id, by=member.user_id, now=now)
            _raise_refusal(removed)
            try:
                await self._services.presence.deny(room.id, target.participant_id, ttl_s=_DENIED_S)
                await self._publisher.order(room, "user.removed", order, to=target.user_id)
            except Unavailable:  # elsewhere it is done when the store's event is delivered
                local = room.members.get(target.user_id)
                if local is None or local.participant_id != target.participant_id:
                    raise
                await self._leaving.removed(local, member.user_id)
            return
        if sent.role is UNSET:
            raise Refused("invalid-body", "Name the role.")
        changed = await meetings.set_role(room.id, target.participant_id, Role(sent.role), now=now)
        _raise_refusal(changed)
        await self._publisher.order(room, "user.role", {**order, "role": sent.role}, to=target.user_id)

    async def _person(self, member: Member, user_id: UserId) -> Present:
        local = member.room.members.get(user_id)
        if local is not None:
            return local.present
        view = await self._services.presence.view(member.room.id)
        present = view.participants.get(user_id) if view is not None else None
        if present is None:
            raise Refused("not-a-participant", "There is no such person in the room.")
        return present

    async def _recording(self, member: Member, message: Message) -> None:
        raise Refused("not-host" if member.present.role != "host" else "recorder-unavailable")

    async def _request_tunnel(self, member: Member, message: Message) -> None:
        """A token for the media nodes that the person is on now; whoever moves asks for another one."""
        services, connection = self._services, member.connection
        if not services.options.tunnel_url:
            raise Refused("not-available")
        nodes = tuple(dict.fromkeys((endpoint.ip, endpoint.port) for endpoint in member.media.endpoints))
        if connection is None:
            return
        if not nodes:
            text = "You are on no media server at the moment. Ask again after SfuEndpoint."
            connection.send(error_message("sfu-unavailable", text, message.id, retryable=True))
            return
        now = services.clock.now()
        expires_at = now + TUNNEL_LIFETIME
        claims = TunnelClaims(
            member.participant_id, member.room.id, nodes[:TUNNEL_NODES_MAX], services.ids.new(), expires_at
        )
        token = await services.tokens.mint_tunnel(claims, now)
        answer = m.TunnelToken(token=token, url=services.options.tunnel_url, expires_at=rfc3339(expires_at))
        connection.send(Message("TunnelToken", answer, reply_to=message.id))

    async def _not_available(self, member: Member, message: Message) -> None:
        raise Refused("not-available")

    async def _stats(self, member: Member, message: Message) -> None:
        """Counted; the report itself goes to the analytics pipeline, which is not part of this process."""
        self._services.metrics.stats_reports.inc()

    async def _report_trace(self, member: Member, message: Message) -> None:
        sent = message.payload
        assert isinstance(sent, m.ReportTrace)
        if member.spans_reported:
            return  # once a join
        member.spans_reported = True
        spans = [
            telemetry.ReportedSpan(
                span.name,
                span.span_id,
                span.start_ms,
                span.end_ms,
                span.parent_span_id if span.parent_span_id is not UNSET else None,
            )
            for span in sent.spans
        ]
        telemetry.export_reported(spans, message.traceparent or member.traceparent)


async def change_state(publisher: Publisher, member: Member, wanted: dict[str, bool]) -> None:
    """Flags of a person by their names in Python; the room is told of what is different now."""
    state = member.present.state
    changed = {name: flag for name, flag in wanted.items() if state.get(_FLAGS[name], False) != flag}
    if not changed:
        return

    def edit(present: Present) -> Present:
        return replace(present, state={**present.state, **{_FLAGS[name]: flag for name, flag in changed.items()}})

    fields: dict[str, Any] = dict(changed)
    await publisher.change(member, m.StateChanged(user_id=member.user_id, **fields), edit)


def _raise_refusal(result: object) -> None:
    if isinstance(result, Refused):
        raise result


_Handler = Callable[[Requests, Member, Message], Awaitable[None]]
_HANDLERS: Final[dict[type[m.Payload], _Handler]] = {
    m.UpdateState: Requests._update_state,
    m.SendMessage: Requests._send_message,
    m.SetReceive: Requests._set_receive,
    m.TopologyReady: Requests._topology_ready,
    m.LinkReport: Requests._link_report,
    m.Moderate: Requests._moderate,
    m.StartRecording: Requests._recording,
    m.StopRecording: Requests._recording,
    m.SetCaptionLanguage: Requests._not_available,
    m.RequestTunnel: Requests._request_tunnel,
    m.Stats: Requests._stats,
    m.ReportTrace: Requests._report_trace,
}
