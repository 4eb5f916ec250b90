"""One transport to an SFU: a UDP socket with ICE (controlling), DTLS (client) and SRTP on it.

Datagrams go to candidates that `allows` knows and to no others: an offer may have passed through a client. A path that
falls silent is tried by another socket and by an ICE restart, and has failed when consent is over.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from conference.domain.addresses import parse_address, unmapped
from conference.ports.dtls import DtlsCallbacks, DtlsEndpoint, DtlsEndpoints, DtlsState
from conference.ports.forwarding import SrtpProfile
from conference.ports.srtp import SrtpTransform, SrtpTransforms
from conference.protocol import rtp
from conference.protocol.ice_client import Address, ControllingAgent
from conference.protocol.negotiation import RemoteTransport
from conference.protocol.negotiation_client import ClientTransport
from conference.protocol.rtp import RtpPacket

MAX_READS: Final = 64  # datagrams a turn of the loop
BUFFER: Final = 1_048_576  # bytes that wait in the socket
CLOSE_S: Final = 2.0
SILENT_S: Final = 5.0  # without an answer to consent checks
RENEW_S: Final = (SILENT_S, 10.0, 20.0)  # of silence: each time the path is begun anew
DRAINS: Final = 16  # turns of reading before a path is called silent
PathState = Literal["new", "connecting", "connected", "failed", "closed"]


@dataclass(frozen=True, slots=True)
class Services:
    """What a peer needs of the world. `clock` gives seconds (monotonic), `token(n)` n characters of [A-Za-z0-9],
    `number()` 32 random bits, `new_id` an id for a message."""

    dtls: DtlsEndpoints
    srtp: SrtpTransforms
    clock: Callable[[], float]
    token: Callable[[int], str]
    number: Callable[[], int]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True)
class PathCallbacks:
    """Plain RTP and RTCP that came, and the path's state. `silent` is called when the path is begun anew: whoever
    offers on it does so by `MediaPath.restart`."""

    rtp: Callable[[bytes], None]
    rtcp: Callable[[bytes], None]
    state: Callable[[PathState], None]
    silent: Callable[[], None] = lambda: None


class MediaPath:
    """`dropped` counts datagrams that could not be read or sent."""

    def __init__(self, services: Services, allows: Callable[[str, int], bool], callbacks: PathCallbacks) -> None:
        self._services = services
        self._allows = allows
        self._callbacks = callbacks
        self._pwd = services.token(24)
        high, low = services.number(), services.number()
        self._agent = ControllingAgent(services.token(8), high << 32 | low, self._transaction)
        self._socket: socket.socket | None = None
        self._dtls: DtlsEndpoint | None = None
        self._srtp: SrtpTransform | None = None
        self._is_started = False
        self._is_secure = False
        self._renewals = 0  # of the silence that there is
        self.state: PathState = "new"
        self.dropped = 0

    def _transaction(self) -> bytes:
        return b"".join(self._services.number().to_bytes(4, "big") for _ in range(3))

    @property
    def local(self) -> ClientTransport:
        return ClientTransport(self._agent.ufrag, self._pwd, self._services.dtls.fingerprint)

    # --- connecting ---
    def connect(self, remote: RemoteTransport, candidates: Iterable[Address]) -> None:
        """Takes the SFU's side of a negotiation; the first begins the path."""
        if self.state in {"failed", "closed"}:
            return
        if self._dtls is None:
            callbacks = DtlsCallbacks(self._send, self._keys, self._dtls_changed, lambda message: None)
            self._dtls = self._services.dtls.open(remote.fingerprints, callbacks, with_data=False, role="client")
            self._set("connecting")
        self._agent.connect(remote.ice_ufrag, remote.ice_pwd, self._known(candidates), self._services.clock())
        self._check()

    def add_candidate(self, address: Address) -> None:
        for known in self._known([address]):
            self._agent.add(known)

    def _known(self, candidates: Iterable[Address]) -> list[Address]:
        """Those that may be reached, of the one family that the socket is of."""
        found: list[Address] = []
        for host, port in candidates:
            address = unmapped(parse_address(host))
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            if not self._allows(host, port) or not self._open(family):
                self.dropped += 1
                continue
            found.append((str(address), port))
        return found

    def _open(self, family: socket.AddressFamily) -> bool:
        if self._socket is None:
            self._use(socket.socket(family, socket.SOCK_DGRAM))
        return self._socket is not None and self._socket.family == family

    def _use(self, made: socket.socket) -> None:
        made.setblocking(False)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self._socket = made
        asyncio.get_running_loop().add_reader(made.fileno(), self._read)

    def _give_back(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    # --- beginning anew ---
    def restart(self) -> None:
        """Other credentials of ours for the next description (RFC 8445 9). DTLS and SRTP go on."""
        self._pwd = self._services.token(24)
        self._agent.restart(self._services.token(8))

    def _renew(self) -> None:
        """Another socket: what has forgotten or blocks the way of the former one may let this one through."""
        if self._socket is None:
            return
        try:
            made = socket.socket(self._socket.family, socket.SOCK_DGRAM)
        except OSError:  # none to be had: the former one goes on
            return
        self._give_back()
        self._use(made)

    def _check(self) -> None:
        for data, address in self._agent.tick(self._services.clock()):
            self._send_to(data, address)

    def tick(self) -> None:
        """Call it every 20 ms or so."""
        if self.state in {"new", "failed", "closed"}:
            return
        if self._silence >= SILENT_S:  # unless it is we who were late
            for _ in range(DRAINS):
                self._read()
        self._check()
        if self._agent.state == "failed":
            self._set("failed")
        elif self._silence < SILENT_S:
            self._renewals = 0
            if self._is_secure:
                self._set("connected")
        elif self._renewals < len(RENEW_S) and self._silence >= RENEW_S[self._renewals]:
            self._renewals += 1
            self._set("connecting")
            self._renew()
            self._callbacks.silent()

    @property
    def _silence(self) -> float:
        return self._agent.silence(self._services.clock())

    # --- datagrams ---
    def _read(self) -> None:
        made = self._socket
        for _ in range(MAX_READS):
            if made is None or self._socket is not made:
                return  # what came closed the path
            try:
                data, source = made.recvfrom(2_048)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an earlier datagram found nobody: ICE notices
                self.dropped += 1
                continue
            if data:
                self._sort(data, (source[0], source[1]))

    def _sort(self, data: bytes, source: Address) -> None:
        if data[0] < 4:
            self._stun(data, source)
        elif source != self._agent.selected:
            self.dropped += 1
        elif 20 <= data[0] < 64:
            if self._dtls is not None:
                self._dtls.receive(data)
        elif 128 <= data[0] < 192 and self._srtp is not None and len(data) > 1:
            is_rtcp = 192 <= data[1] <= 223  # RFC 5761 4
            plain = self._srtp.open_rtcp(data) if is_rtcp else self._srtp.open_rtp(data)
            if plain is None:
                self.dropped += 1
                return
            (self._callbacks.rtcp if is_rtcp else self._callbacks.rtp)(plain)

    def _stun(self, data: bytes, source: Address) -> None:
        if not self._agent.receive(data, source, self._services.clock()):
            self.dropped += 1
        elif not self._is_started and self._dtls is not None:
            self._is_started = True
            self._dtls.start()

    def _send(self, datagram: bytes) -> None:
        if self._agent.selected is not None:
            self._send_to(datagram, self._agent.selected)

    def _send_to(self, datagram: bytes, address: Address) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, address)
        except OSError:  # the buffer is full, or there is no way: as lost as on the way
            self.dropped += 1

    # --- media ---
    def send_rtp(self, packet: RtpPacket) -> None:
        sealed = self._srtp.seal_rtp(rtp.build(packet)) if self._srtp is not None else None
        if sealed is None:
            self.dropped += 1
        else:
            self._send(sealed)

    def send_rtcp(self, data: bytes) -> None:
        sealed = self._srtp.seal_rtcp(data) if self._srtp is not None else None
        if sealed is not None:
            self._send(sealed)

    # --- state ---
    def _keys(self, profile: SrtpProfile, receive_key: bytes, send_key: bytes) -> None:
        self._srtp = self._services.srtp(profile, receive_key, send_key)

    def _dtls_changed(self, state: DtlsState) -> None:
        if state == "connected":
            self._is_secure = True
            self._set("connected")
        elif state in {"failed", "closed"}:
            self._set("failed")

    def _set(self, state: PathState) -> None:
        if state != self.state and self.state != "closed":
            self.state = state
            self._callbacks.state(state)

    async def close(self) -> None:
        """Tells the SFU and gives the socket back."""
        self._set("closed")
        if self._dtls is not None:
            with contextlib.suppress(Exception):  # whatever state OpenSSL is in, the socket goes
                async with asyncio.timeout(CLOSE_S):
                    await self._dtls.close()
        self._give_back()
