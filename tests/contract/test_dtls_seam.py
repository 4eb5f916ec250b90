"""The private names of aiortc that the DTLS seam uses, and what they must do.

The client is pyOpenSSL itself, fed over a pair of in-memory pipes: each datagram can be counted, lost or repeated.
"""

import importlib.metadata
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiortc import RTCCertificate, RTCSctpTransport
from aiortc.rtcsctptransport import DataChunk, serialize_packet
from cryptography.hazmat.primitives.serialization import Encoding
from google_crc32c import value as crc32c
from OpenSSL import SSL

from conference.adapters.media.dtls import (
    MAX_SCTP_CHUNKS,
    MAX_SCTP_STREAMS,
    PROFILES,
    AiortcEndpoint,
    AiortcEndpoints,
    GuardedReceiver,
    is_plain_handshake,
)
from conference.ports.dtls import DtlsCallbacks
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

EXPORTER = b"EXTRACTOR-dtls_srtp"


class Client:
    """A DTLS client with a certificate, as a browser has."""

    def __init__(self, profiles: bytes) -> None:
        self.certificate = RTCCertificate.generateCertificate()
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_PEER, lambda *args: True)
        context.use_certificate(self.certificate._cert)
        context.use_privatekey(self.certificate._key)
        if profiles:
            context.set_tlsext_use_srtp(profiles)
        self.ssl = SSL.Connection(context)
        self.ssl.set_connect_state()

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        return [(f.algorithm, f.value) for f in self.certificate.getFingerprints()]

    def step(self) -> list[bytes]:
        """Goes on with the handshake; the datagrams to send."""
        with suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        return self.flush()

    def flush(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.ssl.bio_read(1_500))
            except SSL.Error:
                return found


class Seam:
    """An endpoint and its client."""

    def __init__(self, profiles: bytes = b"SRTP_AEAD_AES_128_GCM", fingerprints: list[tuple[str, str]] | None = None):
        self.client = Client(profiles)
        self.sent: list[bytes] = []
        self.keys: list[tuple[str, bytes, bytes]] = []
        self.states: list[str] = []
        self.lose: Callable[[bytes], bool] = lambda datagram: False
        callbacks = DtlsCallbacks(
            self._send, lambda *keys: self.keys.append(keys), self.states.append, lambda message: None
        )
        self.endpoint = AiortcEndpoints().open(fingerprints or self.client.fingerprints, callbacks, with_data=False)
        assert isinstance(self.endpoint, AiortcEndpoint)

    def _send(self, datagram: bytes) -> None:
        self.sent.append(datagram)
        if not self.lose(datagram):
            self.client.ssl.bio_write(datagram)

    async def handshake(self) -> None:
        """Runs until the server has an answer of its own."""
        self.endpoint.start()

        def advance() -> bool:
            for datagram in self.client.step():
                self.endpoint.receive(datagram)
            return self.states[-1:] in (["connected"], ["failed"])

        await eventually(advance)


@asynccontextmanager
async def seam(
    profiles: bytes = b"SRTP_AEAD_AES_128_GCM", fingerprints: list[tuple[str, str]] | None = None
) -> AsyncIterator[Seam]:
    made = Seam(profiles, fingerprints)
    try:
        yield made
    finally:
        await made.endpoint.close()


def test_the_version_of_aiortc_is_the_one_the_seam_was_written_for() -> None:
    assert importlib.metadata.version("aiortc") == "1.16.0"


@pytest.mark.parametrize(
    ("offered", "chosen", "size"),
    [
        (b"SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM", "AEAD_AES_128_GCM", 28),
        (b"SRTP_AEAD_AES_256_GCM", "AEAD_AES_256_GCM", 44),
        (b"SRTP_AES128_CM_SHA1_80", "AES128_CM_SHA1_80", 30),
    ],
)
async def test_our_order_of_profiles_wins_and_the_keys_are_those_of_the_client(
    offered: bytes, chosen: str, size: int
) -> None:
    async with seam(offered) as both:
        await both.handshake()
        ((profile, receive_key, send_key),) = both.keys
        assert (profile, len(receive_key), len(send_key)) == (chosen, size, size)
        key = next(p for p in PROFILES if p.openssl_profile.decode().endswith(chosen))
        exported = both.client.ssl.export_keying_material(EXPORTER, 2 * size)
        assert receive_key == key.get_key_and_salt(exported, 0)
        assert send_key == key.get_key_and_salt(exported, 1)


async def test_a_peer_without_srtp_fails() -> None:
    async with seam(b"") as both:
        await both.handshake()
        assert both.states[-1] == "failed"
        assert not both.keys


async def test_another_certificate_than_the_announced_one_fails() -> None:
    async with seam(fingerprints=[("sha-256", ":".join(["00"] * 32))]) as both:
        await both.handshake()
        assert both.states[-1] == "failed"
        assert not both.keys


async def test_a_repeated_client_hello_gets_the_last_flight_again_at_once() -> None:
    async with seam() as both:
        both.lose = lambda datagram: True
        both.endpoint.start()
        hello = both.client.step()
        for datagram in hello:
            both.endpoint.receive(datagram)
        await eventually(lambda: bool(both.sent))
        flight = list(both.sent)
        both.lose = lambda datagram: False
        both.endpoint.receive(hello[0][:11] + bytes([hello[0][11], hello[0][12]]) + hello[0][13:])
        assert both.sent == flight * 2, "without waiting for OpenSSL's timer of a second"
        await both.handshake()
        assert both.states[-1] == "connected"


async def test_a_second_client_hello_does_not_end_a_live_association() -> None:
    async with seam() as both:
        await both.handshake()
        stranger = Client(b"SRTP_AEAD_AES_128_GCM")
        for datagram in stranger.step():
            assert is_plain_handshake(datagram)
            both.endpoint.receive(datagram)
        assert both.states == ["connecting", "connected"]
        both.client.ssl.shutdown()
        for datagram in both.client.flush():
            both.endpoint.receive(datagram)
        await eventually(lambda: both.states == ["connecting", "connected", "closed"])


async def test_garbage_in_a_handshake_does_not_end_it() -> None:
    async with seam() as both:
        both.endpoint.start()
        for garbage in (b"\x16", b"\x16\xfe\xff" + bytes(40), b"\x14" + bytes(20), b"\x17" * 1_400):
            both.endpoint.receive(garbage)
        await both.handshake()
        assert both.states[-1] == "connected"


async def test_a_close_of_the_peer_is_told() -> None:
    async with seam() as both:
        await both.handshake()
        both.client.ssl.shutdown()
        for datagram in both.client.flush():
            both.endpoint.receive(datagram)
        await eventually(lambda: both.states[-1] == "closed")


async def test_a_flood_before_the_start_is_bounded() -> None:
    async with seam() as both:
        for number in range(10_000):
            both.endpoint.receive(b"\x17" + number.to_bytes(4, "big"))
        assert both.endpoint._pipe._queue.qsize() <= 64


def test_the_flight_of_our_certificate_fits_a_datagram() -> None:
    endpoints = AiortcEndpoints()
    assert len(endpoints._certificate._cert.public_bytes(Encoding.DER)) < 600
    assert len(endpoints.fingerprint) == 95


class QuietDtls:
    """As much of a DTLS transport as SCTP touches."""

    state, _role = "connected", "server"

    async def _send_data(self, data: bytes) -> None:
        """Nobody listens."""

    def _unregister_data_receiver(self, receiver: RTCSctpTransport) -> None:
        """Nothing was registered."""


def sctp_data(sctp: RTCSctpTransport, tsn: int, *, stream: int = 0, flags: int = 2, size: int = 1) -> bytes:
    """A DATA chunk; flags 2 begin a message and 1 end it."""
    chunk = DataChunk(flags=flags)
    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = tsn, stream, 0, 51, bytes(size)
    return bytes(serialize_packet(5_000, 5_000, sctp._local_verification_tag, chunk))


def open_sctp() -> tuple[RTCSctpTransport, GuardedReceiver]:
    sctp = RTCSctpTransport(QuietDtls())  # type: ignore[arg-type]
    sctp._last_received_tsn, sctp._remote_port = 0, 5_000
    return sctp, GuardedReceiver(sctp)


@pytest.mark.parametrize("flood", ["unfinished", "gaps", "streams"])
async def test_what_a_peer_can_make_sctp_keep_is_bounded(flood: str) -> None:
    sctp, guard = open_sctp()
    for number in range(1, 3 * MAX_SCTP_CHUNKS):
        tsn = 2 * number + 1 if flood == "gaps" else number
        stream = number if flood == "streams" else 0
        await guard._handle_data(
            sctp_data(sctp, tsn, stream=stream, flags=2 if number == 1 or flood == "streams" else 0)
        )
    assert guard.is_ended
    assert sum(len(stream.reassembly) for stream in sctp._inbound_streams.values()) <= MAX_SCTP_CHUNKS + 1
    assert len(sctp._inbound_streams) <= MAX_SCTP_STREAMS + 1
    assert len(sctp._sack_misordered) <= MAX_SCTP_CHUNKS + 1


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(11),
        bytes(12),
        bytes(12) + b"\0\3\0\0",
        bytes(12) + b"\0\3\0\3",
        bytes(12) + b"\0\3\0\x0f" + bytes(11),
        bytes(12) + b"\0\3\xff\xff" + bytes(20),
    ],
)
async def test_sctp_lengths_that_underflow_are_refused_and_the_next_packet_is_taken(packet: bytes) -> None:
    sctp, guard = open_sctp()
    checksummed = packet
    if len(packet) >= 12:  # a right checksum, so that the lengths are looked at
        head = packet[:4] + sctp._local_verification_tag.to_bytes(4, "big")
        checksummed = head + crc32c(head + bytes(4) + packet[12:]).to_bytes(4, "little") + packet[12:]
    await guard._handle_data(checksummed)
    assert not guard.is_ended
    assert not sctp._inbound_streams
    await guard._handle_data(sctp_data(sctp, 1, flags=3))
    assert sctp._last_received_tsn == 1
