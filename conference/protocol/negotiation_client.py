"""A WebRTC client's side of negotiation with our SFU: the offer of its publish transport, the answer on the other.

For the gateway that publishes and subscribes on a browser's behalf. Only codecs are offered and accepted that travel in
frames: Opus, VP8, H264. Candidates of our own are not named: the SFU learns them from checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from conference.domain.errors import ProtocolError
from conference.protocol import sdp
from conference.protocol.negotiation import (
    AUDIO_LEVEL,
    MID,
    REPAIRED_RID,
    RID,
    TRANSPORT_CC,
    Codec,
    RemoteTransport,
    bundled_mids,
    codec_attributes,
    codec_formats,
    problem,
    read_codecs,
    read_extensions,
    read_ssrcs,
    read_transport,
)
from conference.protocol.negotiation_publish import RTP_PROTOCOL
from conference.protocol.sdp import Attribute, Description, Section

MAX_CANDIDATES: Final = 8
CODECS: Final = {
    "opus": Codec("opus", 111, 48_000, 2, (("minptime", "10"), ("useinbandfec", "1"))),
    "vp8": Codec("VP8", 96, 90_000, 1, (), frozenset({"nack", "nack pli", "ccm fir"}), 97),
    "h264": Codec(
        "H264",
        102,
        90_000,
        1,
        (("level-asymmetry-allowed", "1"), ("packetization-mode", "1"), ("profile-level-id", "42e01f")),
        frozenset({"nack", "nack pli", "ccm fir"}),
        103,
    ),
}
FRAME_CODECS: Final = {"opus": "opus", "VP8": "vp8", "H264": "h264"}  # name in SDP -> name in control messages
PUBLISH_IDS: Final = {AUDIO_LEVEL: 1, MID: 4, RID: 10, REPAIRED_RID: 11}
_IDS_OF: Final = {"audio": (AUDIO_LEVEL, MID), "video": (MID, RID, REPAIRED_RID)}
_ANSWERED: Final = {"audio": frozenset({AUDIO_LEVEL, MID, TRANSPORT_CC}), "video": frozenset({MID, TRANSPORT_CC})}


@dataclass(frozen=True, slots=True)
class ClientTransport:
    """Our side of one transport."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: str  # sha-256, colon-separated hex

    def attributes(self, setup: str) -> list[Attribute]:
        return [
            ("ice-ufrag", self.ice_ufrag),
            ("ice-pwd", self.ice_pwd),
            ("ice-options", "trickle"),
            ("fingerprint", f"sha-256 {self.fingerprint}"),
            ("setup", setup),
        ]


@dataclass(frozen=True, slots=True)
class PublishSection:
    """One section of our offer. `layers` are (rid, ssrc, RTX ssrc), lowest first; none where it sends nothing now."""

    mid: str
    codec: str  # opus, vp8 or h264
    layers: tuple[tuple[str, int, int | None], ...]


@dataclass(frozen=True, slots=True)
class AnsweredSection:
    """What the SFU took of one section: None for `codec` where it takes nothing."""

    codec: Codec | None
    extensions: dict[str, int]


@dataclass(frozen=True, slots=True)
class Answered:
    """An SFU's answer. `candidates` are its UDP host candidates, at most 8."""

    remote: RemoteTransport
    candidates: tuple[tuple[str, int], ...]
    sections: dict[str, AnsweredSection]


@dataclass(frozen=True, slots=True)
class OfferedSection:
    """One section of an SFU's offer; `codec` is None where nothing comes on it or nothing that travels in frames."""

    mid: str
    kind: str
    codec: Codec | None
    ssrc: int = 0
    rtx_ssrc: int | None = None
    extensions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ReadOffer:
    description: Description
    remote: RemoteTransport
    candidates: tuple[tuple[str, int], ...]
    sections: tuple[OfferedSection, ...]


def candidate_address(value: str) -> tuple[str, int] | None:
    """(ip, port) of a candidate attribute, with or without its `candidate:`; None unless it is UDP and an address."""
    parts = value.removeprefix("candidate:").split()
    if len(parts) < 8 or parts[2].lower() != "udp" or not parts[5].isascii() or not parts[5].isdigit():
        return None
    try:
        address = str(ip_address(parts[4]))
    except ValueError:
        return None
    return (address, int(parts[5])) if 0 < int(parts[5][:6]) < 65_536 else None


def _candidates(description: Description) -> tuple[tuple[str, int], ...]:
    values = [value for section in description.sections for value in section.all("candidate")]
    found = dict.fromkeys(a for a in map(candidate_address, values) if a is not None)
    return tuple(found)[:MAX_CANDIDATES]


def _serialize(sections: list[Section], session_id: int, version: int) -> str:
    mids = [section.mid for section in sections if section.port]
    session = Section(attributes=[("group", " ".join(["BUNDLE", *mids])), ("extmap-allow-mixed", "")])
    return sdp.serialize(Description(session, sections), session_id=session_id, version=version)


# --- publishing ------------------------------------------------------------------------------------------------------
def publish_offer(local: ClientTransport, sections: Sequence[PublishSection], *, session_id: int, version: int) -> str:
    """The offer of all sections, in their order."""
    return _serialize([_offered(section, local) for section in sections], session_id, version)


def _offered(section: PublishSection, local: ClientTransport) -> Section:
    codec = CODECS[section.codec]
    kind = codec.kind
    attributes = [*local.attributes("actpass"), ("mid", section.mid)]
    attributes += [("extmap", f"{PUBLISH_IDS[uri]} {uri}") for uri in _IDS_OF[kind]]
    attributes += [("sendonly" if section.layers else "inactive", ""), ("rtcp-mux", ""), ("rtcp-rsize", "")]
    attributes += codec_attributes(codec)
    if any(rid for rid, _, _ in section.layers):
        attributes += [("rid", f"{rid} send") for rid, _, _ in section.layers]
        attributes.append(("simulcast", "send " + ";".join(rid for rid, _, _ in section.layers)))
    else:
        for _, ssrc, rtx in section.layers:
            if rtx is not None:
                attributes.append(("ssrc-group", f"FID {ssrc} {rtx}"))
            attributes += [("ssrc", f"{one} cname:tunnel") for one in (ssrc, rtx) if one is not None]
    return Section(kind, 9, RTP_PROTOCOL, codec_formats(codec), attributes)


def read_answer(text: str) -> Answered:
    """Raises ProtocolError: bad-sdp, sdp-too-large, no-fingerprint, no-ice or answer-mismatch."""
    description = sdp.parse(text)
    live = [section for section in description.sections if section.port]
    if not live:
        raise problem("answer-mismatch", "the answer refuses every section")
    sections = {section.mid: _answered(section) for section in description.sections}
    return Answered(read_transport(description, live[0]), _candidates(description), sections)


def _answered(section: Section) -> AnsweredSection:
    if section.kind not in _IDS_OF or not section.port or section.direction not in {"recvonly", "sendrecv"}:
        return AnsweredSection(None, {})
    codecs = [codec for codec in read_codecs(section) if codec.name in FRAME_CODECS]
    return AnsweredSection(codecs[0] if codecs else None, dict(read_extensions(section)))


# --- subscribing -----------------------------------------------------------------------------------------------------
def read_offer(text: str, max_sections: int = 128) -> ReadOffer:
    """An offer on the subscribe transport. Raises ProtocolError: bad-sdp, sdp-too-large, no-fingerprint or no-ice."""
    description = sdp.parse(text, max_sections)
    live = [section for section in description.sections if section.port]
    if not live:
        raise problem("bad-sdp", "the offer has no m-section in use")
    sections = tuple(_incoming(section) for section in description.sections)
    return ReadOffer(description, read_transport(description, live[0]), _candidates(description), sections)


def _incoming(section: Section) -> OfferedSection:
    nothing = OfferedSection(section.mid, section.kind, None)
    if section.kind not in _ANSWERED or not section.port or section.direction not in {"sendonly", "sendrecv"}:
        return nothing
    codecs = read_codecs(section)
    ssrcs, repairs = read_ssrcs(section)
    if not codecs or codecs[0].name not in FRAME_CODECS or not ssrcs:
        return nothing
    extensions = tuple(pair for pair in read_extensions(section) if pair[0] in _ANSWERED[section.kind])
    codec, rtx = codecs[0], dict(repairs).get(ssrcs[0])
    return OfferedSection(section.mid, section.kind, codec, ssrcs[0], rtx, extensions)


def subscribe_answer(offer: ReadOffer, local: ClientTransport, *, session_id: int, version: int) -> str:
    """Takes what travels in frames; other sections stay in the bundle and receive nothing."""
    known = {section.mid: section for section in offer.sections}
    bundled = set(bundled_mids(offer.description))
    sections = []
    for section in offer.description.sections:
        if not section.port or (bundled and section.mid not in bundled):
            rejected: list[Attribute] = [("inactive", ""), ("mid", section.mid)]
            sections.append(Section(section.kind, 0, section.protocol, section.formats, rejected))
        else:
            sections.append(_taken(section, known[section.mid], local))
    return _serialize(sections, session_id, version)


def _taken(section: Section, known: OfferedSection, local: ClientTransport) -> Section:
    codec = known.codec or next(iter(_codecs(section)), None)
    attributes = [*local.attributes("active"), ("mid", section.mid)]
    attributes += [("extmap", f"{identifier} {uri}") for uri, identifier in known.extensions]
    attributes += [("recvonly" if known.codec else "inactive", ""), ("rtcp-mux", ""), ("rtcp-rsize", "")]
    if codec is None:
        return Section(section.kind, 9, section.protocol, section.formats, attributes)
    attributes += codec_attributes(codec)
    return Section(section.kind, 9, section.protocol, codec_formats(codec), attributes)


def _codecs(section: Section) -> list[Codec]:
    try:
        return read_codecs(section)
    except ProtocolError:
        return []
