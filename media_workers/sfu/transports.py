"""Transports of sessions: credentials, DTLS associations, and the one state that is told to signaling.

A transport is made with its session, begins with its first negotiation, and ends for good when DTLS or consent ends;
its keys outlive an ICE restart.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from conference.domain.errors import ProtocolError
from conference.ports.dtls import DtlsCallbacks, DtlsState
from conference.ports.forwarding import (
    AddTransport,
    RemoveTransport,
    RestartIce,
    SendDtls,
    SetKeys,
    SetLastN,
    SrtpProfile,
)
from conference.protocol.control import DataReceived, TransportChanged
from conference.protocol.negotiation import RemoteTransport
from conference.protocol.negotiation_publish import MAX_DATA_MESSAGE
from media_workers.sfu.admission import HandshakeQueue
from media_workers.sfu.core import Core
from media_workers.sfu.sessions import Direction, MediaTransport, Session, TransportState

CONNECT_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 2.0
MAX_EARLY: Final = 8
DATA_RATE_PER_S: Final = 20.0
DATA_BURST: Final = 60.0
_logger: Final = logging.getLogger(__name__)


class DataGate:
    """Bounds what a participant's data channel may deliver: size, form and rate."""

    def __init__(self, now: float) -> None:
        self._tokens = DATA_BURST
        self._at = now

    def admit(self, text: str | bytes, now: float) -> dict[str, object] | None:
        """The JSON object in `text`; None for anything else, or too much of it."""
        self._tokens = min(DATA_BURST, self._tokens + (now - self._at) * DATA_RATE_PER_S)
        self._at = now
        if self._tokens < 1 or len(text) > MAX_DATA_MESSAGE:
            return None
        self._tokens -= 1
        try:
            return msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None


class Transports:
    """Operations on transports. `on_end` is told when one has ended, after its state was announced."""

    def __init__(self, core: Core, on_end: Callable[[Session, MediaTransport], None]) -> None:
        self._core = core
        self._on_end = on_end
        self._handshakes = HandshakeQueue(core.now())

    def create(self, direction: Direction, worker: int) -> MediaTransport:
        token = self._core.chance.token
        transport = MediaTransport(token(24), direction, token(12), token(24), worker)
        self._core.command(AddTransport(transport.transport_id, transport.ice_ufrag, transport.ice_pwd, worker))
        last_n = self._core.identity.options.last_n
        if direction == "subscribe" and last_n is not None:
            self._core.command(SetLastN(transport.transport_id, last_n))
        return transport

    def connect(
        self, session: Session, transport: MediaTransport, remote: RemoteTransport, data_port: int | None = None
    ) -> None:
        """Takes the peer's side of a negotiation. Raises ProtocolError `fingerprint-changed`, `transport-ended`."""
        if transport.state in {"failed", "closed"}:
            raise ProtocolError("transport-ended", "this transport has ended: open the session again")
        if transport.remote is not None and transport.remote.fingerprints != remote.fingerprints:
            raise ProtocolError("fingerprint-changed", "the certificate of a connection cannot change")
        transport.remote = remote
        if transport.dtls is None:
            callbacks = self._callbacks(session, transport)
            transport.dtls = self._core.dtls.open(
                remote.fingerprints, callbacks, with_data=data_port is not None, data_port=data_port or 5_000
            )
            self._refresh(session, transport)
            early, transport.early = transport.early, []
            for datagram in early:
                self.receive_dtls(transport.transport_id, datagram)

    def restart_ice(self, transport: MediaTransport) -> None:
        """Fresh credentials for the next description of ours."""
        token = self._core.chance.token
        transport.ice_ufrag, transport.ice_pwd = token(12), token(24)
        self._core.command(RestartIce(transport.transport_id, transport.ice_ufrag, transport.ice_pwd))

    def _callbacks(self, session: Session, transport: MediaTransport) -> DtlsCallbacks:
        core, identifier = self._core, transport.transport_id
        gate = DataGate(core.now())

        def send(datagram: bytes) -> None:
            core.engine.apply([SendDtls(identifier, (datagram,))])

        def keys(profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> None:
            core.engine.apply([SetKeys(identifier, profile, receive_key, send_key)])

        def state(value: DtlsState) -> None:
            transport.dtls_state = value
            self._refresh(session, transport)
            core.settle()

        def data(text: str | bytes) -> None:
            message = gate.admit(text, core.now())
            if message is None:
                core.counters.data_refused += 1
                return
            core.counters.data_messages += 1
            session.tell(DataReceived(participant_id=session.participant_id, message=message))

        return DtlsCallbacks(send, keys, state, data)

    # --- datagrams and handshakes ------------------------------------------------------------------------------------
    def receive_dtls(self, transport_id: str, datagram: bytes) -> None:
        """A DTLS datagram of a validated peer. Media outruns signaling: a ClientHello may come before the answer that
        names its certificate, and waits for it."""
        found = self._core.by_transport.get(transport_id)
        if found is None:
            return
        transport = found[1]
        if transport.dtls is None:
            if transport.state is None and len(transport.early) < MAX_EARLY:
                transport.early.append(datagram)
            return
        transport.dtls.receive(datagram)
        if not transport.is_started:
            self._handshakes.ask(transport_id)
            self.admit()

    def admit(self) -> None:
        """Begins the handshakes whose turn it is."""
        for transport_id in self._handshakes.admit(self._core.now()):
            found = self._core.by_transport.get(transport_id)
            if found is not None and found[1].dtls is not None:
                found[1].is_started = True
                found[1].dtls.start()

    # --- state -------------------------------------------------------------------------------------------------------
    def ice_changed(self, transport_id: str, state: str) -> None:
        found = self._core.by_transport.get(transport_id)
        if found is not None:
            found[1].ice_state = state
            self._refresh(*found)

    def expire(self) -> None:
        """Fails the transports that were negotiated but never connected."""
        now = self._core.now()
        for session, transport in list(self._core.by_transport.values()):
            if transport.state == "connecting" and now - transport.since >= CONNECT_TIMEOUT_S:
                transport.ice_state = "failed"
                self._refresh(session, transport)

    def _refresh(self, session: Session, transport: MediaTransport) -> None:
        state = _combined(transport)
        if state is None or state == transport.state or transport.state in {"failed", "closed"}:
            return
        transport.state, transport.since = state, self._core.now()
        transport.was_connected = transport.was_connected or state == "connected"
        change = TransportChanged(
            participant_id=session.participant_id,
            transport_id=transport.transport_id,
            direction=transport.direction,
            state=state,
        )
        self._core.later(lambda: session.tell(change))
        if state in {"failed", "closed"}:
            self.release(transport)
            self._on_end(session, transport)

    def release(self, transport: MediaTransport) -> None:
        """Ends a transport in the engine and its DTLS association."""
        self._handshakes.forget(transport.transport_id)
        endpoint, transport.dtls = transport.dtls, None
        identifier = transport.transport_id
        if endpoint is None:
            self._core.command(RemoveTransport(identifier))
            return

        async def close() -> None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await endpoint.close()  # its last datagrams still need the transport
            except Exception:  # whatever state a peer has brought OpenSSL into, the transport goes
                _logger.exception("a DTLS association did not close")
            finally:
                self._core.command(RemoveTransport(identifier))
                self._core.settle()

        self._core.spawn(close())


def _combined(transport: MediaTransport) -> TransportState | None:
    """One state out of negotiation, ICE and DTLS."""
    if "failed" in (transport.ice_state, transport.dtls_state):
        return "failed"
    if transport.dtls_state == "closed":
        return "closed"
    if transport.dtls is None:
        return transport.state
    if transport.dtls_state == "connected":
        return "disconnected" if transport.ice_state == "disconnected" else "connected"
    return "connecting"
