"""The session descriptions that a peer would exchange with Janus: its own are written, those of Janus are read."""

from typing import Any, Final

from conference.protocol import sdp
from conference.protocol.sdp import Attribute, Description, Section
from tests.bench.dataplane_generator import LoadError, LoadPeer
from tests.bench.dataplane_scenario import EXTENSIONS, MIDS, PAYLOAD_TYPES, RTX_PAYLOAD_TYPE, Kind

Words = dict[str, Any]
URIS: Final = {
    "mid": "urn:ietf:params:rtp-hdrext:sdes:mid",
    "transport_cc": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "audio_level": "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
}
_FEEDBACK: Final[dict[Kind, tuple[str, ...]]] = {
    "video": ("transport-cc", "ccm fir", "nack", "nack pli"),
    "audio": ("transport-cc",),
}
_PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
# What an answer repeats of an offered section.
_MIRRORED: Final = frozenset({"mid", "rtcp-mux", "rtpmap", "fmtp", "rtcp-fb", "extmap", "rtcp-rsize"})


def _transport(peer: LoadPeer) -> list[Attribute]:
    return [
        ("ice-ufrag", peer.ufrag),
        ("ice-pwd", peer.pwd),
        ("fingerprint", f"sha-256 {peer.fingerprint}"),
        ("setup", "active"),
        ("candidate", f"1 1 udp 2113937151 {peer.ip} {peer.port} typ host"),
        ("end-of-candidates", ""),
    ]


def _codec(kind: Kind) -> list[Attribute]:
    payload_type = PAYLOAD_TYPES[kind]
    found: list[Attribute] = [("rtcp-fb", f"{payload_type} {feedback}") for feedback in _FEEDBACK[kind]]
    if kind == "audio":
        return [("rtpmap", f"{payload_type} opus/48000/2"), ("fmtp", f"{payload_type} useinbandfec=1"), *found]
    rtx = [("rtpmap", f"{RTX_PAYLOAD_TYPE} rtx/90000"), ("fmtp", f"{RTX_PAYLOAD_TYPE} apt={payload_type}")]
    return [("rtpmap", f"{payload_type} VP8/90000"), *found, *rtx]


def offer(peer: LoadPeer, kind: Kind, ssrc: int) -> str:
    """A publisher's offer of one track."""
    formats = (str(PAYLOAD_TYPES[kind]), *((str(RTX_PAYLOAD_TYPE),) if kind == "video" else ()))
    section = Section(kind, 9, _PROTOCOL, formats)
    section.attributes = [
        ("mid", MIDS[kind]),
        ("sendonly", ""),
        ("rtcp-mux", ""),
        *_transport(peer),
        *(("extmap", f"{number} {URIS[name]}") for name, number in EXTENSIONS[kind].items()),
        *_codec(kind),
        ("ssrc", f"{ssrc} cname:{peer.id}"),
    ]
    session = Section(attributes=[("group", f"BUNDLE {MIDS[kind]}"), ("msid-semantic", "WMS *")])
    return sdp.serialize(Description(session, [section]), session_id=1, version=1)


def answer(text: str, peer: LoadPeer) -> str:
    """A subscriber's answer to an offer of Janus's: everything is received."""
    offered = sdp.parse(text)
    sections = []
    for theirs in offered.sections:
        mine = Section(theirs.kind, 9, theirs.protocol, theirs.formats)
        kept = [(name, value) for name, value in theirs.attributes if name in _MIRRORED]
        mine.attributes = [*kept, ("recvonly", ""), *_transport(peer)]
        sections.append(mine)
    mids = " ".join(section.mid for section in sections)
    session = Section(attributes=[("group", f"BUNDLE {mids}"), ("msid-semantic", "WMS *")])
    return sdp.serialize(Description(session, sections), session_id=1, version=1)


def connection(name: str, text: str, profile: str) -> Words:
    """The generator's words for where Janus is. Raises LoadError where its description lacks something."""
    description = sdp.parse(text)
    first = description.sections[0]
    ufrag, pwd = description.get(first, "ice-ufrag"), description.get(first, "ice-pwd")
    fingerprint = (description.get(first, "fingerprint") or "").partition(" ")[2]
    candidates = [value.split() for value in first.all("candidate")]
    host = next((words for words in candidates if words[2].lower() == "udp" and words[7] == "host"), None)
    if not ufrag or not pwd or not fingerprint or host is None:
        raise LoadError("Janus's description has no credentials, no fingerprint or no candidate")
    remote = {"ip": host[4], "port": int(host[5]), "ufrag": ufrag, "pwd": pwd, "fingerprint": fingerprint}
    return {"id": name, "remote": remote, "profiles": [profile]}


def transport_cc(text: str) -> int | None:
    """The id of the transport-wide number in a description; None where there is none."""
    for section in sdp.parse(text).sections:
        for value in section.all("extmap"):
            number, _, uri = value.partition(" ")
            if uri.split()[0] == URIS["transport_cc"]:
                return int(number.partition("/")[0])
    return None
