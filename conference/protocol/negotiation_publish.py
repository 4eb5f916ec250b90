"""The answer to a client's offer on its publish transport.

The client sends, we receive: every accepted audio or video section is answered `recvonly` with one codec, a data
channel section is accepted once, everything else is answered with port 0. Deterministic: the same offer and the same
`LocalTransport` give the same answer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from conference.protocol import sdp
from conference.protocol.negotiation import (
    REPAIRED_RID,
    RID,
    VIDEO_PREFERENCE,
    LocalTransport,
    Publication,
    RemoteTransport,
    bundled_mids,
    choose_codec,
    codec_attributes,
    codec_formats,
    fitting_extensions,
    problem,
    read_codecs,
    read_extensions,
    read_rids,
    read_ssrcs,
    read_transport,
    session_attributes,
    transport_attributes,
)
from conference.protocol.sdp import Description, Section

RTP_PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
SCTP_PROTOCOLS: Final = frozenset({"UDP/DTLS/SCTP", "TCP/DTLS/SCTP"})
MAX_DATA_MESSAGE: Final = 16_384
SCTP_PORT: Final = 5_000


@dataclass(frozen=True, slots=True)
class PublishOffer:
    """A client's offer, read and checked."""

    description: Description
    remote: RemoteTransport
    publications: tuple[Publication, ...]  # sections that send, with a codec that is supported
    data_mid: str | None
    data_port: int
    preference: tuple[str, ...] = VIDEO_PREFERENCE


def read_offer(text: str, preference: Sequence[str] = VIDEO_PREFERENCE) -> PublishOffer:
    """Reads an offer. `preference` are the codecs to choose from, best first (see `choose_codec`). Raises
    ProtocolError: bad-sdp, sdp-too-large, no-fingerprint, no-ice, bad-setup, no-bundle, no-rtcp-mux or
    duplicate-mid."""
    description = sdp.parse(text)
    if not description.sections:
        raise problem("bad-sdp", "the offer has no m-section")
    _check_mids(description)
    bundle = _bundle(description)
    first = next((s for s in description.sections if s.mid in bundle and _is_live(s)), None)
    if first is None:
        raise problem("no-bundle", "no m-section of the BUNDLE group is in use")
    remote = read_transport(description, first)
    setup = description.get(first, "setup")
    if setup not in {"actpass", "active"}:
        raise problem("bad-setup", "an offer has a=setup:actpass; the SFU is always the DTLS server")
    data = next((s for s in description.sections if s.mid in bundle and _is_data(s)), None)
    publications = [p for s in description.sections if s.mid in bundle and (p := _publication(s, preference))]
    data_port = sdp.number(data.get("sctp-port") or str(SCTP_PORT), 1, 65_535) if data else 0
    data_mid = data.mid if data else None
    return PublishOffer(description, remote, tuple(publications), data_mid, data_port, tuple(preference))


def _check_mids(description: Description) -> None:
    mids = [section.mid for section in description.sections]
    if any(not mid or len(mid) > 16 or not mid.isascii() or not mid.isprintable() or " " in mid for mid in mids):
        raise problem("bad-sdp", "each m-section has an a=mid of 1 to 16 characters")
    if len(set(mids)) != len(mids):
        raise problem("duplicate-mid", "two m-sections have the same a=mid")


def _bundle(description: Description) -> frozenset[str]:
    mids = frozenset(bundled_mids(description))
    if not mids and len(description.sections) > 1:
        raise problem("no-bundle", "all m-sections go over one transport: a=group:BUNDLE is required")
    return mids or frozenset({description.sections[0].mid})


def _is_live(section: Section) -> bool:
    return section.port != 0 or section.has("bundle-only")


def _is_data(section: Section) -> bool:
    is_sctp = section.kind == "application" and section.protocol in SCTP_PROTOCOLS
    return is_sctp and _is_live(section) and section.formats == ("webrtc-datachannel",)


def _is_media(section: Section) -> bool:
    return section.kind in {"audio", "video"} and section.protocol == RTP_PROTOCOL and _is_live(section)


def _publication(section: Section, preference: Sequence[str]) -> Publication | None:
    if not _is_media(section) or section.direction not in {"sendrecv", "sendonly"}:
        return None
    codec = choose_codec(read_codecs(section), preference)
    if codec is None:
        return None
    if not section.has("rtcp-mux"):
        raise problem("no-rtcp-mux", "RTP and RTCP share one port: a=rtcp-mux is required")
    extensions = fitting_extensions(codec, read_extensions(section))
    rids = read_rids(section) if section.kind == "video" and RID in dict(extensions) else ()
    ssrcs, rtx = ((), ()) if rids else read_ssrcs(section)
    return Publication(section.mid, section.kind, codec, extensions, ssrcs, rtx, rids)


def make_answer(
    offer: PublishOffer, local: LocalTransport, accepted: Collection[str], *, session_id: int, version: int
) -> str:
    """The answer. `accepted` are mids of publications to receive; the other sending sections become inactive."""
    publications = {p.mid: p for p in offer.publications}
    sections: list[Section] = []
    for section in offer.description.sections:
        publication = publications.get(section.mid)
        if section.mid == offer.data_mid:
            sections.append(_answer_data(section, local))
        elif publication is not None:
            sections.append(_answer_media(publication, local, active=section.mid in accepted))
        elif _is_media(section) and (idle := _idle(section, local, offer.preference)) is not None:
            sections.append(idle)
        else:
            sections.append(_reject(section))
    mids = [section.mid for section in sections if section.port]
    description = Description(Section(attributes=session_attributes(mids)), sections)
    return sdp.serialize(description, session_id=session_id, version=version)


def _reject(section: Section) -> Section:
    return Section(section.kind, 0, section.protocol, section.formats, [("inactive", ""), ("mid", section.mid)])


def _idle(section: Section, local: LocalTransport, preference: Sequence[str]) -> Section | None:
    """A section that does not send now stays in the bundle, so that it can send later."""
    codec = choose_codec(read_codecs(section), preference)
    if codec is None or not section.has("rtcp-mux"):
        return None
    extensions = fitting_extensions(codec, read_extensions(section))
    publication = Publication(section.mid, section.kind, codec, extensions)
    return _answer_media(publication, local, active=False)


def _answer_data(section: Section, local: LocalTransport) -> Section:
    attributes = transport_attributes(local, "passive")
    attributes += [("mid", section.mid), ("sctp-port", str(SCTP_PORT)), ("max-message-size", str(MAX_DATA_MESSAGE))]
    return Section("application", 9, section.protocol, section.formats, attributes)


def _answer_media(publication: Publication, local: LocalTransport, *, active: bool) -> Section:
    attributes = transport_attributes(local, "passive")
    attributes.append(("mid", publication.mid))
    layered = {RID, REPAIRED_RID}
    for uri, identifier in publication.extensions:
        if publication.rids or uri not in layered:
            attributes.append(("extmap", f"{identifier} {uri}"))
    attributes += [("recvonly" if active else "inactive", ""), ("rtcp-mux", ""), ("rtcp-rsize", "")]
    attributes += codec_attributes(publication.codec)
    if publication.rids and active:
        attributes += [("rid", f"{rid} recv") for rid in publication.rids]
        attributes.append(("simulcast", "recv " + ";".join(publication.rids)))
    return Section(publication.kind, 9, RTP_PROTOCOL, codec_formats(publication.codec), attributes)
