"""Commands of the reference engine: a table from command type to what it does to the state."""

from collections.abc import Callable
from typing import Any

from conference.adapters.media.sending import Sender
from conference.adapters.media.srtp import SrtpContext
from conference.adapters.media.state import EngineState
from conference.adapters.media.tracks import Track
from conference.adapters.media.transport import TokenBucket, Transport
from conference.ports.forwarding import (
    AddPlainTransport,
    AddTransport,
    CapBandwidth,
    Command,
    DropPairs,
    MuteTrack,
    PauseSender,
    RankTrack,
    RemoveSender,
    RemoveTrack,
    RemoveTransport,
    RestartIce,
    SelectLayer,
    SendDtls,
    SetKeys,
    SetLastN,
    SetSender,
    SetTrack,
    WantTrack,
)


class Commands:
    """Applies commands; those that name something that is gone do nothing."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._table: dict[type, Callable[[Any, float], None]] = {
            AddTransport: self._add_transport,
            AddPlainTransport: self._add_plain_transport,
            RestartIce: self._restart_ice,
            RemoveTransport: self._remove_transport,
            SendDtls: self._send_dtls,
            SetKeys: self._set_keys,
            SetTrack: self._set_track,
            RemoveTrack: self._remove_track,
            MuteTrack: self._mute_track,
            SetSender: self._set_sender,
            RemoveSender: self._remove_sender,
            PauseSender: self._pause_sender,
            SelectLayer: self._select_layer,
            WantTrack: self._want_track,
            RankTrack: self._rank_track,
            SetLastN: self._set_last_n,
            CapBandwidth: self._cap_bandwidth,
            DropPairs: self._drop_pairs,
        }

    def apply(self, command: Command, now: float) -> None:
        self._table[type(command)](command, now)

    def _add_transport(self, command: AddTransport, now: float) -> None:
        self._state.remove_transport(command.transport_id)
        transport = Transport(command, now)
        self._state.transports[command.transport_id] = transport
        self._state.by_ufrag[command.ice_ufrag] = transport

    def _add_plain_transport(self, command: AddPlainTransport, now: float) -> None:
        self._state.remove_transport(command.transport_id)
        transport = Transport(command, now)
        self._state.transports[command.transport_id] = transport
        self._state.take_address(transport, command.address, now)

    def _restart_ice(self, command: RestartIce, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None and transport.ice is not None:
            before = transport.ice.ufrags
            transport.ice.restart(command.ice_ufrag, command.ice_pwd)
            for ufrag in before:
                if ufrag not in transport.ice.ufrags:
                    self._state.by_ufrag.pop(ufrag, None)
            self._state.by_ufrag[command.ice_ufrag] = transport

    def _remove_transport(self, command: RemoveTransport, now: float) -> None:
        self._state.remove_transport(command.transport_id)

    def _send_dtls(self, command: SendDtls, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None and transport.destination is not None:
            for datagram in command.datagrams:
                self._state.send(datagram, transport.destination)

    def _set_keys(self, command: SetKeys, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None:
            transport.srtp = SrtpContext(command.profile, command.receive_key, command.send_key)
            for sender in transport.senders.values():
                self._connect(sender, now)

    def _connect(self, sender: Sender, now: float) -> None:
        """Forwarding begins when the subscriber can decrypt; a key frame sent before would be lost."""
        sender.is_connected = True
        track = self._state.tracks.get(sender.track_id)
        if track is not None:
            track.aim(sender, now)

    def _set_track(self, command: SetTrack, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is None:
            return
        track = self._state.tracks.get(command.track_id)
        if track is None or track.transport_id != command.transport_id:
            self._state.remove_track(command.track_id)
            track = self._state.tracks[command.track_id] = Track(command)
        else:
            track.update(command)
        transport.set_track(track, command)

    def _remove_track(self, command: RemoveTrack, now: float) -> None:
        self._state.remove_track(command.track_id)

    def _mute_track(self, command: MuteTrack, now: float) -> None:
        track = self._state.tracks.get(command.track_id)
        if track is not None:
            track.mute(command.muted, now)

    def _set_sender(self, command: SetSender, now: float) -> None:
        state = self._state
        transport, track = state.transports.get(command.transport_id), state.tracks.get(command.track_id)
        if transport is None or track is None:
            return
        known = state.senders.get(command.sender_id)
        if known is not None and known[1].ssrc == command.ssrc:
            return
        state.remove_sender(command.sender_id)
        sender = Sender(command, transport.next_wide_number, state.random32)
        transport.senders[sender.ssrc] = sender
        track.senders[sender.sender_id] = sender
        state.senders[sender.sender_id] = (transport, sender)
        if transport.srtp is not None:
            self._connect(sender, now)

    def _remove_sender(self, command: RemoveSender, now: float) -> None:
        self._state.remove_sender(command.sender_id)

    def _pause_sender(self, command: PauseSender, now: float) -> None:
        found = self._state.senders.get(command.sender_id)
        if found is not None:
            found[1].is_stopped = command.paused

    def _select_layer(self, command: SelectLayer, now: float) -> None:
        found = self._sender_and_track(command.sender_id)
        if found is not None:
            sender, track = found
            sender.rid, sender.is_strict = command.rid, command.strict
            sender.limit_temporal(command.temporal)
            track.aim(sender, now)

    def _want_track(self, command: WantTrack, now: float) -> None:
        found = self._sender_and_track(command.sender_id)
        if found is not None and found[0].is_video:
            found[0].want = command
            found[1].aim(found[0], now)

    def _rank_track(self, command: RankTrack, now: float) -> None:
        track = self._state.tracks.get(command.track_id)
        if track is not None:
            track.rank = command.rank

    def _set_last_n(self, command: SetLastN, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None:
            transport.last_n = command.count

    def _sender_and_track(self, sender_id: str) -> tuple[Sender, Track] | None:
        found = self._state.senders.get(sender_id)
        track = self._state.tracks.get(found[1].track_id) if found else None
        return (found[1], track) if found and track else None

    def _cap_bandwidth(self, command: CapBandwidth, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None:
            transport.cap = TokenBucket(command.bitrate_bps, now) if command.bitrate_bps else None

    def _drop_pairs(self, command: DropPairs, now: float) -> None:
        transport = self._state.transports.get(command.transport_id)
        if transport is not None and transport.ice is not None:
            transport.ice.forget()
            self._state.forget_addresses(transport)
