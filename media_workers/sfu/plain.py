"""What taps and pipes have in common: a plain transport of a packet worker, with SSRCs of its own."""

import base64
import binascii
import ipaddress
from dataclasses import dataclass, field
from typing import Final

from msgspec import UNSET

from conference.domain.errors import ProtocolError
from conference.ports.forwarding import (
    AddPlainTransport,
    ExtensionIds,
    RemoveSender,
    SelectLayer,
    SetSender,
)
from conference.protocol.control_plain import MediaAddress, MediaKeys, PlainCodec, PlainStream
from conference.protocol.negotiation import Codec
from media_workers.sfu.core import Core
from media_workers.sfu.engine_terms import engine_codec
from media_workers.sfu.sessions import Owner, PublishedTrack, Publisher

# Header extensions on taps and pipes: fixed, since nothing is negotiated there.
PLAIN_IDS: Final = ExtensionIds(audio_level=1, abs_send_time=2, orientation=5, dependency_descriptor=6)
KEY_BYTES: Final = {"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44, "AES128_CM_SHA1_80": 30}


def _key(text: str, keys: MediaKeys) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("bad-keys", "a key is base64 of the SRTP master key and salt") from error
    if len(key) != KEY_BYTES[keys.profile]:
        raise ProtocolError("bad-keys", f"keys of {keys.profile} have {KEY_BYTES[keys.profile]} bytes with their salt")
    return key


def _target(address: MediaAddress) -> tuple[str, int]:
    try:
        ip = ipaddress.ip_address(address.ip)
    except ValueError as error:
        raise ProtocolError("bad-address", "an address is an IP address, not a name") from error
    if ip.is_multicast or ip.is_unspecified:
        raise ProtocolError("bad-address", "media goes to one address only")
    return str(ip), address.port


@dataclass(slots=True)
class PlainLink:
    """One plain transport and what it carries: senders by track."""

    core: Core = field(repr=False)
    transport_id: str
    address: MediaAddress
    keys: MediaKeys = field(repr=False)
    worker: int
    owner: Owner | None = field(repr=False)
    orphaned_at: float | None = None
    senders: dict[str, list[str]] = field(default_factory=dict)  # the track's id in the engine -> sender ids
    _ssrcs: set[int] = field(default_factory=set)

    def open(self) -> None:
        """Raises ProtocolError bad-keys or bad-address."""
        keys = self.keys
        self.core.command(
            AddPlainTransport(
                self.transport_id,
                _target(self.address),
                keys.profile,
                _key(keys.receive_key, keys),
                _key(keys.send_key, keys),
                self.worker,
            )
        )

    @property
    def own_address(self) -> MediaAddress:
        ip, port = self.core.candidates(self.worker)[0]
        return MediaAddress(ip=ip, port=port)

    def send(self, publisher: Publisher, track: PublishedTrack, rids: tuple[str, ...] = ()) -> list[PlainStream]:
        """Forwards a track: each of `rids` under an SSRC of its own and nothing else on it, else the best layer."""
        streams = []
        for rid in rids or ("",):
            codec = engine_codec(track.publication.codec)
            ssrc = self._new_ssrc()
            rtx_ssrc = self._new_ssrc() if codec.rtx_payload_type is not None else None
            sender_id = f"{self.transport_id}/{ssrc}"
            cname = publisher.participant_id
            self.core.command(
                SetSender(sender_id, self.transport_id, track.key, "", codec, PLAIN_IDS, ssrc, rtx_ssrc, cname)
            )
            if rid:
                self.core.command(SelectLayer(sender_id, rid, strict=True))
            self.senders.setdefault(track.key, []).append(sender_id)
            streams.append(PlainStream(ssrc=ssrc, rtx_ssrc=UNSET if rtx_ssrc is None else rtx_ssrc, rid=rid))
        return streams

    def stop(self, key: str) -> None:
        """Ends what is sent of a track."""
        self.core.command(*(RemoveSender(sender_id) for sender_id in self.senders.pop(key, ())))

    def _new_ssrc(self) -> int:
        """Never used before on this transport: an (ssrc, index) is sealed once."""
        ssrc = self.core.chance.number() & 0xFFFFFFFF
        while ssrc == 0 or ssrc in self._ssrcs:
            ssrc = (ssrc + 1) & 0xFFFFFFFF
        self._ssrcs.add(ssrc)
        return ssrc

    def lost(self, owner: Owner, now: float) -> None:
        """A control link ended; what it owned waits for another one."""
        if self.owner is owner:
            self.owner, self.orphaned_at = None, now

    def is_orphaned(self, now: float, timeout_s: float) -> bool:
        return self.orphaned_at is not None and now - self.orphaned_at >= timeout_s

    def is_same(self, address: MediaAddress, keys: MediaKeys) -> bool:
        return (address, keys) == (self.address, self.keys)


def plain_codec(codec: Codec) -> PlainCodec:
    """A negotiated codec for the far end of a tap or pipe."""
    return PlainCodec(
        name=codec.name,
        payload_type=codec.payload_type,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        parameters=dict(codec.fmtp),
        rtx_payload_type=UNSET if codec.rtx_payload_type is None else codec.rtx_payload_type,
    )


def negotiated_codec(codec: PlainCodec) -> Codec:
    """The other way round."""
    rtx = codec.rtx_payload_type
    return Codec(
        codec.name,
        codec.payload_type,
        codec.clock_rate,
        codec.channels,
        tuple(sorted(codec.parameters.items())),
        frozenset({"nack", "nack pli"}) if isinstance(rtx, int) else frozenset(),
        rtx if isinstance(rtx, int) else None,
    )
