"""Negotiated codecs and extensions in the forwarding engine's words, and what a client says that it decodes."""

from collections.abc import Iterable

from conference.ports.forwarding import ExtensionIds, TrackCodec
from conference.protocol.negotiation import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    DEPENDENCY_DESCRIPTOR,
    KINDS,
    MID,
    ORIENTATION,
    REPAIRED_RID,
    RID,
    TRANSPORT_CC,
    Codec,
)
from media_workers.sfu.sessions import BROWSER_CODECS


def engine_codec(codec: Codec) -> TrackCodec:
    return TrackCodec(
        codec.name,
        codec.payload_type,
        codec.clock_rate,
        codec.rtx_payload_type,
        has_nack="nack" in codec.feedback,
    )


def engine_extensions(extensions: tuple[tuple[str, int], ...]) -> ExtensionIds:
    ids = dict(extensions)
    return ExtensionIds(
        mid=ids.get(MID),
        rid=ids.get(RID),
        repaired_rid=ids.get(REPAIRED_RID),
        audio_level=ids.get(AUDIO_LEVEL),
        transport_cc=ids.get(TRANSPORT_CC),
        dependency_descriptor=ids.get(DEPENDENCY_DESCRIPTOR),
        orientation=ids.get(ORIENTATION),
        abs_send_time=ids.get(ABS_SEND_TIME),
    )


def decoded_codecs(names: Iterable[str]) -> frozenset[str]:
    """The codecs of a client's capabilities, in any case; what browsers decode where it names no video codec."""
    by_name = {name.lower(): name for name in KINDS}
    known = {by_name[name.lower()] for name in names if name.lower() in by_name}
    if not any(KINDS[name] == "video" for name in known):
        return BROWSER_CODECS | known
    return frozenset({"opus", *known})
