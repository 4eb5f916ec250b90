"""The DTLS seam over aiortc: its handshake and SCTP without its ICE, RTP or SDP.

aiortc's transport touches only `_recv`, `_send` and `role` of its ICE transport, so a small object stands in for it
(`DatagramPipe`). Of the transport itself one private method is replaced: `_setup_srtp` hands the keys out instead of
keeping them. The version of aiortc is pinned, and tests/contract/test_dtls_seam.py guards every name used here.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from aiortc import RTCCertificate, RTCDataChannel, RTCDataChannelParameters, RTCSctpTransport
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    State,
)
from aiortc.rtcsctptransport import RTCSctpCapabilities

from conference.ports.dtls import DtlsCallbacks, DtlsRole, DtlsState, Fingerprint
from conference.ports.forwarding import SrtpProfile

CHANNEL_LABEL: Final = "parley"
CHANNEL_ID: Final = 0
MAX_QUEUE: Final = 64
MAX_SCTP_STREAMS: Final = 8
MAX_SCTP_CHUNKS: Final = 512  # received and not yet a message
MAX_REPLAYS: Final = 32
MAX_HANDSHAKE_DATAGRAMS: Final = 256
HANDSHAKE_TIMEOUT_S: Final = 30.0
# GCM first: as DTLS server we choose, and Chromium then takes AES-128-GCM.
PROFILES: Final = [SRTP_AEAD_AES_128_GCM, SRTP_AEAD_AES_256_GCM, SRTP_AES128_CM_SHA1_80]
_PROFILE_NAMES: Final[dict[bytes, SrtpProfile]] = {
    b"SRTP_AEAD_AES_128_GCM": "AEAD_AES_128_GCM",
    b"SRTP_AEAD_AES_256_GCM": "AEAD_AES_256_GCM",
    b"SRTP_AES128_CM_SHA1_80": "AES128_CM_SHA1_80",
}
_HANDSHAKE: Final = 22
_logger: Final = logging.getLogger(__name__)

# aiortc logs a peer's failures with tracebacks; they are counted and told as states here.
logging.getLogger("aiortc.rtcdtlstransport").setLevel(logging.ERROR)


def is_plain_handshake(datagram: bytes) -> bool:
    """True for an unencrypted handshake record (content type 22, epoch 0)."""
    return len(datagram) > 25 and datagram[0] == _HANDSHAKE and datagram[3:5] == b"\0\0"


class DatagramPipe:
    """Stands in for aiortc's ICE transport. Repeated handshake datagrams are answered with our last flight.

    OpenSSL ignores a repeated ClientHello and waits a second before it resends; the peer repeats after 55 ms.
    """

    role = "controlled"

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send_datagram = send
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUE)
        self._seen: set[bytes] = set()
        self._flight: list[bytes] = []
        self._is_flight_open = False
        self._replays = 0
        self.is_established = False
        self.is_closed = False

    def feed(self, datagram: bytes) -> None:
        """A datagram from the peer; dropped when the queue is full."""
        if self.is_closed:
            return
        if is_plain_handshake(datagram):
            # The record number differs in a repetition; what the handshake message says does not.
            body = datagram[13:]
            if body in self._seen:
                self._replay()
                return
            if self.is_established or len(self._seen) >= MAX_HANDSHAKE_DATAGRAMS:
                return  # a new ClientHello inside a live association is no reason to end it
            self._seen.add(body)
        if not self._queue.full():
            self._queue.put_nowait(datagram)

    def _replay(self) -> None:
        if self._replays < MAX_REPLAYS and self._flight:
            self._replays += 1
            for datagram in self._flight:
                self._send_datagram(datagram)

    def end(self) -> None:
        """Lets `_recv` raise ConnectionError, after which aiortc's pump stops."""
        self.is_closed = True
        while self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def _recv(self) -> bytes:
        datagram = await self._queue.get()
        if datagram is None:
            self._queue.put_nowait(None)
            raise ConnectionError("closed")
        self._is_flight_open = False
        return datagram

    async def _send(self, datagram: bytes) -> None:
        if not self.is_established:
            if not self._is_flight_open:
                self._flight, self._is_flight_open = [], True
            self._flight.append(datagram)
        self._send_datagram(datagram)


class GuardedReceiver:
    """Hands SCTP packets on. aiortc asserts on some of a peer's input: that must not end the association. Nor does it
    bound what a peer may have it keep, so SCTP ends here for a peer that uses more than the one channel needs."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.refused = 0
        self.is_ended = False

    async def _handle_data(self, data: bytes) -> None:
        if self.is_ended:
            return
        try:
            await self.inner._handle_data(data)
        except ConnectionError:
            raise
        except Exception:
            self.refused += 1
            _logger.debug("an SCTP packet was refused")
        if self._is_greedy():
            self.is_ended = True
            _logger.warning("a peer's data channel kept too much; it is closed")
            await self.inner.stop()

    def _is_greedy(self) -> bool:
        streams = self.inner._inbound_streams
        return (
            len(streams) > MAX_SCTP_STREAMS
            or len(self.inner._data_channels) > MAX_SCTP_STREAMS
            or len(self.inner._sack_misordered) > MAX_SCTP_CHUNKS
            or sum(len(stream.reassembly) for stream in streams.values()) > MAX_SCTP_CHUNKS
        )


class KeyedDtlsTransport(RTCDtlsTransport):
    """aiortc's transport that gives its SRTP keys away: as DTLS server, or as the client of one."""

    def __init__(
        self,
        pipe: DatagramPipe,
        certificate: RTCCertificate,
        on_keys: Callable[[SrtpProfile, bytes, bytes], None],
        role: DtlsRole,
    ) -> None:
        super().__init__(cast(Any, pipe), [certificate])
        self._on_keys = on_keys
        self._srtp_profiles = PROFILES
        self._set_role(role)

    def _setup_srtp(self) -> None:
        """Exports the keys: client key, server key, client salt, server salt (RFC 5764 4.2)."""
        assert self._ssl is not None  # aiortc calls this at the end of the handshake
        selected = self._ssl.get_selected_srtp_profile()
        profile = next((p for p in self._srtp_profiles if p.openssl_profile == selected), None)
        if profile is None:
            self._set_state(State.FAILED)
            return
        size = 2 * (profile.key_length + profile.salt_length)
        view = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", size)
        theirs, ours = (0, 1) if self._role == "server" else (1, 0)
        receive, send = profile.get_key_and_salt(view, theirs), profile.get_key_and_salt(view, ours)
        self._on_keys(_PROFILE_NAMES[selected], receive, send)

    def _register_data_receiver(self, receiver: Any) -> None:
        super()._register_data_receiver(GuardedReceiver(receiver))

    def _unregister_data_receiver(self, receiver: Any) -> None:
        guard = self._data_receiver
        if isinstance(guard, GuardedReceiver) and guard.inner is receiver:
            self._data_receiver = None


class AiortcEndpoint:
    """One association: a pipe, a transport, and where wanted SCTP with the `parley` channel."""

    def __init__(
        self,
        certificate: RTCCertificate,
        fingerprints: Sequence[Fingerprint],
        callbacks: DtlsCallbacks,
        data_port: int | None,
        role: DtlsRole = "server",
    ) -> None:
        self._callbacks = callbacks
        self._remote = RTCDtlsParameters([RTCDtlsFingerprint(algorithm, value) for algorithm, value in fingerprints])
        self._pipe = DatagramPipe(callbacks.send)
        self._dtls = KeyedDtlsTransport(self._pipe, certificate, callbacks.on_keys, role)
        self._sctp: RTCSctpTransport | None = None
        self._data_port = data_port
        self._task: asyncio.Task[None] | None = None
        self._state: DtlsState | None = None
        self._dtls.on("statechange", self._changed)

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def receive(self, datagram: bytes) -> None:
        self._pipe.feed(datagram)

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._dtls.start(self._remote)
        except Exception as error:  # whatever a peer's handshake provokes in OpenSSL ends this association only
            _logger.info("a DTLS handshake failed: %s", type(error).__name__)
            self._tell("failed")
            return
        if self._dtls.state == "connected" and self._data_port is not None:
            await self._open_channel(self._data_port)

    async def _open_channel(self, port: int) -> None:
        self._sctp = RTCSctpTransport(self._dtls)
        parameters = RTCDataChannelParameters(label=CHANNEL_LABEL, negotiated=True, id=CHANNEL_ID)
        channel = RTCDataChannel(self._sctp, parameters)
        channel.on("message", self._callbacks.on_data)
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=65_536), port)

    def _changed(self) -> None:
        state = self._dtls.state
        if state == "connected":
            self._pipe.is_established = True
        if state != "new":
            self._tell(cast(DtlsState, state))

    def _tell(self, state: DtlsState) -> None:
        if state != self._state:
            self._state = state
            self._callbacks.on_state(state)

    async def close(self) -> None:
        if self._sctp is not None:
            await self._sctp.stop()
        await self._dtls.stop()
        self._pipe.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class AiortcEndpoints:
    """Endpoints with one ECDSA certificate a process. (An RSA flight would not fit a datagram.)"""

    def __init__(self) -> None:
        self._certificate = RTCCertificate.generateCertificate()

    @property
    def fingerprint(self) -> str:
        found = next(f for f in self._certificate.getFingerprints() if f.algorithm == "sha-256")
        return str(found.value)

    def open(
        self,
        fingerprints: Sequence[Fingerprint],
        callbacks: DtlsCallbacks,
        *,
        with_data: bool,
        data_port: int = 5000,
        role: DtlsRole = "server",
    ) -> AiortcEndpoint:
        port = data_port if with_data else None
        return AiortcEndpoint(self._certificate, fingerprints, callbacks, port, role)
