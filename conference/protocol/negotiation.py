"""What offers and answers mean to an SFU: codecs, header extensions, transports and publications, read from SDP.

Pure functions from a parsed description to values; the shape is that of ORTC's parameters. Only what the forwarding
engine serves is known here; everything else in a peer's SDP is left out of the answer. The two directions build on it:
`negotiation_publish` answers a client's offer, `negotiation_subscribe` makes our offers.
All functions raise ProtocolError with the codes named in their docstrings.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from conference.domain.errors import ProtocolError
from conference.protocol.sdp import Attribute, Description, Section, number

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
DEPENDENCY_DESCRIPTOR: Final = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
ORIENTATION: Final = "urn:3gpp:video-orientation"
EXTENSIONS: Final[Mapping[str, frozenset[str]]] = {
    "audio": frozenset({MID, AUDIO_LEVEL, ABS_SEND_TIME, TRANSPORT_CC}),
    "video": frozenset(
        {MID, RID, REPAIRED_RID, ABS_SEND_TIME, TRANSPORT_CC, DEPENDENCY_DESCRIPTOR, ORIENTATION},
    ),
}
# The codecs whose receivers go by the dependency descriptor. Others have their own fields in the payload, which the
# engine rewrites, and a descriptor beside them would say otherwise.
DESCRIBED: Final = frozenset({"AV1"})
FEEDBACK: Final[Mapping[str, frozenset[str]]] = {
    "audio": frozenset({"transport-cc", "nack"}),
    "video": frozenset({"transport-cc", "nack", "nack pli", "ccm fir"}),
}
# Format parameters that both ends must agree on or that are passed on; anything else is left out.
FORMAT_PARAMETERS: Final[Mapping[str, frozenset[str]]] = {
    "opus": frozenset({"minptime", "useinbandfec", "usedtx", "stereo", "sprop-stereo", "maxaveragebitrate"}),
    "VP8": frozenset(),
    "VP9": frozenset({"profile-id"}),
    "H264": frozenset({"level-asymmetry-allowed", "packetization-mode", "profile-level-id"}),
    "AV1": frozenset({"profile", "level-idx", "tier"}),
    "red": frozenset(),
}
CLOCK_RATES: Final[Mapping[str, int]] = {
    "opus": 48_000,
    "red": 48_000,
    "VP8": 90_000,
    "VP9": 90_000,
    "H264": 90_000,
    "AV1": 90_000,
}
KINDS: Final[Mapping[str, str]] = {name: "video" if rate == 90_000 else "audio" for name, rate in CLOCK_RATES.items()}
VIDEO_PREFERENCE: Final = ("VP8", "H264", "VP9", "AV1")
# The type of Opus inside RED (RFC 2198). It stands in every packet, so that all who receive a track must use the same.
RED_OPUS_TYPE: Final = 111
SHA_DIGESTS: Final[Mapping[str, int]] = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
MAX_RIDS: Final = 8
# Opus parameters of a sender that a receiver has to know (RFC 7587 6.1); they alone make a payload type of their own.
OPUS_SENT: Final = frozenset({"sprop-stereo", "stereo", "usedtx", "useinbandfec"})
# RFC 6544 4.2: direction preference 4 (passive, of host candidates) above 13 bits of others; below every UDP candidate.
_TCP_PASSIVE: Final = 4 << 13 | 8_191
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_ICE: Final = re.compile(r"[A-Za-z0-9+/]{4,256}")
_RID: Final = re.compile(r"[A-Za-z0-9_-]{1,16}")


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec of an m-section. `fmtp` is sorted; `rtx_payload_type` is None where no RTX was offered. RED is a codec
    of its own here: its `fmtp` is that of the Opus inside it, which has the type RED_OPUS_TYPE."""

    name: str
    payload_type: int
    clock_rate: int
    channels: int = 1
    fmtp: tuple[Attribute, ...] = ()
    feedback: frozenset[str] = frozenset()
    rtx_payload_type: int | None = None

    @property
    def kind(self) -> str:
        return KINDS[self.name]

    @property
    def rtpmap(self) -> str:
        suffix = f"/{self.channels}" if self.channels > 1 else ""
        return f"{self.name}/{self.clock_rate}{suffix}"


@dataclass(frozen=True, slots=True)
class RemoteTransport:
    """The peer's side of a bundled transport."""

    ice_ufrag: str
    ice_pwd: str
    fingerprints: tuple[tuple[str, str], ...]  # (algorithm, colon-separated hex)


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our side: ICE-lite credentials, certificate fingerprint, and where we are reached."""

    ice_ufrag: str
    ice_pwd: str
    fingerprint: str  # sha-256, colon-separated hex
    candidates: tuple[tuple[str, int], ...]  # (address, UDP port), best first
    has_tcp: bool = False  # the same ports take ICE over TCP


@dataclass(frozen=True, slots=True)
class Publication:
    """A track that a peer sends: what the engine needs to receive it."""

    mid: str
    kind: str
    codec: Codec
    extensions: tuple[tuple[str, int], ...]
    ssrcs: tuple[int, ...] = ()  # primary streams that the SDP names, none with rids
    rtx_ssrcs: tuple[tuple[int, int], ...] = ()  # (primary, its RTX)
    rids: tuple[str, ...] = ()  # lowest layer first, as the peer lists them


def problem(code: str, detail: str) -> ProtocolError:
    return ProtocolError(code, detail)


# --- reading ---------------------------------------------------------------------------------------------------------
def read_codecs(section: Section) -> list[Codec]:
    """The codecs of an m-section that are supported, in the peer's order. Raises `bad-sdp`."""
    maps = dict(map(_numbered, section.all("rtpmap")))
    formats = {pt: _format(value) for pt, value in map(_numbered, section.all("fmtp"))}
    feedback: dict[int, set[str]] = {}
    for value in section.all("rtcp-fb"):
        head, _, what = value.partition(" ")
        for pt in maps if head == "*" else [number(head, 0, 127)]:
            feedback.setdefault(pt, set()).add(what)
    rtx = {
        number(formats.get(pt, {}).get("apt", "x"), 0, 127): pt
        for pt, value in maps.items()
        if value.lower() == "rtx/90000"
    }
    found = []
    for text in section.formats:
        pt = number(text, 0, 127)
        codec = _codec(section.kind, pt, maps.get(pt, ""), formats.get(pt, {}), feedback.get(pt, set()), rtx.get(pt))
        if codec is not None:
            found.append(codec)
    return [codec for codec in (_inside(codec, found, section) for codec in found) if codec is not None]


def _inside(codec: Codec, others: Sequence[Codec], section: Section) -> Codec | None:
    """RED with the parameters of the Opus inside it; None where that is of another type, or something else."""
    if codec.name != "red":
        return codec
    inner = next((o for o in others if o.name == "opus" and o.payload_type == RED_OPUS_TYPE), None)
    listed = dict(map(_numbered, section.all("fmtp"))).get(codec.payload_type, "")
    if inner is None or set(listed.split("/")) != {str(RED_OPUS_TYPE)}:
        return None
    return replace(codec, fmtp=inner.fmtp)


def _numbered(value: str) -> tuple[int, str]:
    head, _, rest = value.partition(" ")
    return number(head, 0, 127), rest.strip()


def _format(value: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in value.split(";"))
    return {key.lower(): text for key, _, text in pairs if key}


def _codec(
    kind: str, pt: int, rtpmap: str, fmtp: Mapping[str, str], feedback: set[str], rtx: int | None
) -> Codec | None:
    parts = rtpmap.split("/")
    name = next((known for known in CLOCK_RATES if known.lower() == parts[0].lower()), None)
    if name is None or KINDS[name] != kind or len(parts) < 2 or parts[1] != str(CLOCK_RATES[name]):
        return None
    if KINDS[name] == "audio" and parts[2:] != ["2"]:
        return None
    if name == "H264" and (fmtp.get("packetization-mode") != "1" or not _is_profile(fmtp.get("profile-level-id", ""))):
        return None
    if name == "VP9" and fmtp.get("profile-id", "0") != "0":
        return None
    if name == "AV1" and fmtp.get("profile", "0") != "0":
        return None
    allowed = FORMAT_PARAMETERS[name]
    kept = tuple(sorted((key, text) for key, text in fmtp.items() if key in allowed and _is_value(key, text)))
    channels = 2 if kind == "audio" else 1
    return Codec(name, pt, CLOCK_RATES[name], channels, kept, frozenset(feedback) & FEEDBACK[kind], rtx)


def _is_value(key: str, text: str) -> bool:
    return text in {"0", "1"} if key in OPUS_SENT else _TOKEN.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Whether a peer's text may stand in the SDP of others (RFC 8866 9, `token`; at most 64 characters)."""
    return _TOKEN.fullmatch(text) is not None


def _is_profile(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{6}", text) is not None


def choose_codec(codecs: Sequence[Codec], preference: Sequence[str] = VIDEO_PREFERENCE) -> Codec | None:
    """The codec to answer with, by `preference`, best first; Opus needs no mention, RED does. One only: the payload
    type then says for the whole call what the packets are, and the subscribers' offers need name no other."""
    ranked = [*preference, "opus"]
    usable = [codec for codec in codecs if codec.name in ranked]
    return min(usable, key=lambda codec: ranked.index(codec.name), default=None)


def read_extensions(section: Section) -> tuple[tuple[str, int], ...]:
    """The supported header extensions of an m-section, (URI, id). Raises `bad-sdp`."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for value in section.all("extmap"):
        head, _, rest = value.partition(" ")
        uri = rest.split(" ")[0]
        identifier = number(head.split("/")[0], 1, 255)
        if uri in EXTENSIONS[section.kind] and uri not in found and identifier not in taken:
            found[uri] = identifier
            taken.add(identifier)
    return tuple(found.items())


def fitting_extensions(codec: Codec, extensions: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Those that make sense beside a codec."""
    return tuple(pair for pair in extensions if pair[0] != DEPENDENCY_DESCRIPTOR or codec.name in DESCRIBED)


def read_rids(section: Section) -> tuple[str, ...]:
    """The rids that the peer wants to send, in the order of a=simulcast. Raises `bad-sdp`."""
    known = [value.split(" ")[0] for value in section.all("rid") if value.split(" ")[1:2] == ["send"]]
    simulcast = section.get("simulcast")
    if simulcast is None:
        return ()
    parts = simulcast.split()
    wanted = dict(zip(parts[::2], parts[1::2], strict=False)).get("send", "")
    rids = [alternatives.split(",")[0].lstrip("~") for alternatives in wanted.split(";") if alternatives]
    if len(rids) > MAX_RIDS or len(set(rids)) != len(rids) or any(not _RID.fullmatch(rid) for rid in rids):
        raise problem("bad-sdp", f"a=simulcast lists up to {MAX_RIDS} different rids")
    return tuple(rid for rid in rids if rid in known)


def read_ssrcs(section: Section) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """(primary SSRCs, (primary, RTX) pairs) that the section names. Raises `bad-sdp`."""
    named = dict.fromkeys(number(value.split(" ")[0], 0, 2**32 - 1) for value in section.all("ssrc"))
    pairs: list[tuple[int, int]] = []
    for value in section.all("ssrc-group"):
        parts = value.split()
        if parts[:1] == ["FID"] and len(parts) == 3:
            pairs.append((number(parts[1], 0, 2**32 - 1), number(parts[2], 0, 2**32 - 1)))
    repairs = {rtx for _, rtx in pairs}
    primaries = tuple(ssrc for ssrc in named if ssrc not in repairs)
    return primaries, tuple(pairs)


def read_transport(description: Description, section: Section) -> RemoteTransport:
    """The peer's ICE credentials and fingerprints. Raises `no-fingerprint`, `no-ice` or `bad-sdp`."""
    ufrag = description.get(section, "ice-ufrag") or ""
    pwd = description.get(section, "ice-pwd") or ""
    if not _ICE.fullmatch(ufrag) or not _ICE.fullmatch(pwd) or len(pwd) < 22:
        raise problem("no-ice", "the SDP has no usable a=ice-ufrag and a=ice-pwd")
    values = [*section.all("fingerprint"), *description.session.all("fingerprint")]
    if not values:
        raise problem("no-fingerprint", "the SDP has no a=fingerprint: media without DTLS is not possible")
    fingerprints = tuple(dict.fromkeys(f for f in map(_fingerprint, values) if f is not None))
    if not fingerprints:
        raise problem("no-fingerprint", "the SDP has no fingerprint made with SHA-256, SHA-384 or SHA-512")
    return RemoteTransport(ufrag, pwd, fingerprints)


def _fingerprint(value: str) -> tuple[str, str] | None:
    algorithm, _, digest = value.partition(" ")
    length = SHA_DIGESTS.get(algorithm.lower())
    if length is None:
        return None
    digest = digest.strip().upper()
    if not re.fullmatch(r"[0-9A-F]{2}(:[0-9A-F]{2})*", digest) or len(digest) != 3 * length - 1:
        raise problem("bad-sdp", "a fingerprint is not well formed")
    return algorithm.lower(), digest


def bundled_mids(description: Description) -> tuple[str, ...]:
    """The mids of the BUNDLE group, in its order; empty where there is none."""
    for value in description.session.all("group"):
        parts = value.split()
        if parts[:1] == ["BUNDLE"]:
            return tuple(parts[1:])
    return ()


# --- writing ---------------------------------------------------------------------------------------------------------
def transport_attributes(local: LocalTransport, setup: str) -> list[Attribute]:
    """ICE, DTLS and candidate lines of a section. In a bundle those candidates would do that its first section has, but
    aiortc takes those of the last."""
    attributes = [
        ("ice-ufrag", local.ice_ufrag),
        ("ice-pwd", local.ice_pwd),
        ("fingerprint", f"sha-256 {local.fingerprint}"),
        ("setup", setup),
    ]
    for place, (address, port) in enumerate(local.candidates):
        priority = 126 << 24 | (65_535 - place) << 8 | 255  # RFC 8445 5.1.2.1: type preference 126 is "host"
        attributes.append(("candidate", f"{place + 1} 1 udp {priority} {address} {port} typ host"))
    for place, (address, port) in enumerate(local.candidates if local.has_tcp else (), len(local.candidates)):
        priority = 90 << 24 | (_TCP_PASSIVE - place) << 8 | 255
        attributes.append(("candidate", f"{place + 1} 1 tcp {priority} {address} {port} typ host tcptype passive"))
    attributes.append(("end-of-candidates", ""))
    return attributes


def codec_attributes(codec: Codec) -> list[Attribute]:
    """rtpmap, fmtp and rtcp-fb of a codec and of its RTX."""
    pt = codec.payload_type
    attributes = [("rtpmap", f"{pt} {codec.rtpmap}")]
    if codec.name == "red":
        attributes.append(("fmtp", f"{pt} {RED_OPUS_TYPE}/{RED_OPUS_TYPE}"))
        return attributes + codec_attributes(replace(codec, name="opus", payload_type=RED_OPUS_TYPE))
    attributes.extend(("rtcp-fb", f"{pt} {what}") for what in sorted(codec.feedback))
    if codec.fmtp:
        attributes.append(("fmtp", f"{pt} " + ";".join(f"{key}={value}" for key, value in codec.fmtp)))
    if codec.rtx_payload_type is not None:
        attributes.append(("rtpmap", f"{codec.rtx_payload_type} rtx/{codec.clock_rate}"))
        attributes.append(("fmtp", f"{codec.rtx_payload_type} apt={pt}"))
    return attributes


def codec_formats(codec: Codec) -> tuple[str, ...]:
    if codec.name == "red":
        return (str(codec.payload_type), str(RED_OPUS_TYPE))
    rtx = () if codec.rtx_payload_type is None else (str(codec.rtx_payload_type),)
    return (str(codec.payload_type), *rtx)


def session_attributes(mids: Sequence[str]) -> list[Attribute]:
    return [
        ("group", " ".join(["BUNDLE", *mids])),
        ("ice-lite", ""),
        ("ice-options", "ice2"),
        ("extmap-allow-mixed", ""),
        ("msid-semantic", " WMS *"),
    ]
