"""Our offers on a client's subscribe transport, and its answers: a sans-IO state machine.

At most one offer is outstanding; what changes meanwhile goes into the next one. A section keeps its mid for ever. When
its track goes, it is offered inactive, and only after the answer to that it serves another track of the same kind (so
that the browser fires `track` again), under new SSRCs. The list of sections stays within twice the most tracks that
were there at once, and within a fixed limit.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from conference.protocol import sdp
from conference.protocol.negotiation import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    DEPENDENCY_DESCRIPTOR,
    EXTENSIONS,
    MID,
    OPUS_SENT,
    ORIENTATION,
    RED_OPUS_TYPE,
    TRANSPORT_CC,
    Codec,
    LocalTransport,
    RemoteTransport,
    codec_attributes,
    codec_formats,
    fitting_extensions,
    problem,
    read_codecs,
    read_extensions,
    read_transport,
    session_attributes,
    transport_attributes,
)
from conference.protocol.negotiation_publish import RTP_PROTOCOL
from conference.protocol.sdp import Attribute, Description, Section

MAX_SUBSCRIBE_SECTIONS: Final = 128
# The ids of our offers, the same in every section of a bundle.
EXTENSION_IDS: Final = {
    AUDIO_LEVEL: 1,
    ABS_SEND_TIME: 2,
    TRANSPORT_CC: 3,
    MID: 4,
    ORIENTATION: 5,
    DEPENDENCY_DESCRIPTOR: 6,
}
_PREFERRED_TYPES: Final = {
    "opus": (RED_OPUS_TYPE, None),
    "red": (63, None),
    "VP8": (96, 97),
    "VP9": (98, 99),
    "H264": (102, 103),
    "AV1": (45, 46),
}
_OTHER_TYPES: Final = (*range(104, 111), *range(112, 128), *range(35, 45), *range(47, 63), 100, 101)
_INSIDE: Final = {"red": ("opus",)}
_OFFERED_FEEDBACK: Final = {
    "audio": frozenset({"transport-cc"}),
    "video": frozenset({"transport-cc", "goog-remb", "nack", "nack pli", "ccm fir"}),  # REMB where there is no other
}


@dataclass(frozen=True, slots=True)
class OfferedTrack:
    """A track that the subscriber is to receive; `codec` is the publisher's, `stream` groups a person's tracks."""

    track_id: str
    kind: str
    codec: Codec
    stream: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """An accepted section: what the engine needs to send the track."""

    track_id: str
    mid: str
    codec: Codec  # payload types as in our offer
    ssrc: int
    rtx_ssrc: int | None
    extensions: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class SubscribeOffer:
    negotiation_id: int
    sdp: str
    mids: dict[str, str]  # mid -> track id, of the active sections


@dataclass(frozen=True, slots=True)
class SubscribeAnswer:
    remote: RemoteTransport
    accepted: tuple[Subscription, ...]
    refused: tuple[str, ...]  # track ids that the subscriber cannot receive


@dataclass(slots=True)
class _Slot:
    mid: str
    kind: str
    codec: Codec
    track: OfferedTrack | None = None
    ssrc: int = 0
    rtx_ssrc: int | None = None
    is_free: bool = False  # was offered inactive and answered: may serve another track
    is_dead: bool = False  # the peer answered with port 0


@dataclass(slots=True)
class PayloadTypes:
    """Payload types of a bundle: one per codec and format, since a bundle shares their meaning (RFC 8843 9.1).

    A format keeps its type while a section names it. There are only so many: one publisher's odd formats must not use
    up what the tracks of others need, so a format that finds none is refused.
    """

    used: dict[tuple[str, tuple[Attribute, ...]], tuple[int, int | None]] = field(default_factory=dict)

    def of(self, codec: Codec, named: Collection[Codec]) -> tuple[int, int | None] | None:
        """(payload type, RTX payload type), None where none is left. `named` are the codecs of the sections."""
        key = (codec.name, codec.fmtp)
        if codec.name == "red":
            inner = self.of(replace(codec, name="opus"), named)
            if inner is None or inner[0] != RED_OPUS_TYPE:
                return None
        if key not in self.used:
            kept = {(name, one.fmtp) for one in (*named, codec) for name in (one.name, *_INSIDE.get(one.name, ()))}
            self.used = {known: types for known, types in self.used.items() if known in kept}
            found = self._free(codec)
            if found is None:
                return None
            self.used[key] = found
        return self.used[key]

    def _free(self, codec: Codec) -> tuple[int, int | None] | None:
        taken = {pt for pair in self.used.values() for pt in pair if pt is not None}
        main, rtx = _PREFERRED_TYPES[codec.name]
        if main not in taken:
            return main, rtx
        free = [pt for pt in _OTHER_TYPES if pt not in taken]
        if len(free) < 2:
            return None
        return free[0], None if rtx is None else free[1]


def _offered(codec: Codec) -> Codec:
    """The publisher's codec as it is offered on. What it wants to receive itself says nothing about what it sends."""
    if codec.name not in {"opus", "red"}:
        return codec
    return replace(codec, fmtp=tuple(pair for pair in codec.fmtp if pair[0] in OPUS_SENT))


class SubscribeOffers:
    """The offers of one subscribe transport. `new_ssrc` gives random 32-bit numbers."""

    def __init__(self, new_ssrc: Callable[[], int], session_id: int) -> None:
        self._new_ssrc = new_ssrc
        self._session_id = session_id
        self._slots: list[_Slot] = []
        self._wanted: dict[str, OfferedTrack] = {}
        self._types = PayloadTypes()
        self._ssrcs: set[int] = set()
        self._count = 0
        self._is_dirty = False
        self._outstanding: tuple[SubscribeOffer, list[OfferedTrack | None]] | None = None

    @property
    def outstanding(self) -> SubscribeOffer | None:
        return self._outstanding[0] if self._outstanding else None

    def add(self, track: OfferedTrack) -> None:
        """The track is wanted from now on."""
        if track.track_id not in self._wanted:
            self._wanted[track.track_id] = track
            self._is_dirty = True

    def remove(self, track_id: str) -> None:
        """The track is gone; its section becomes inactive with the next offer."""
        if self._wanted.pop(track_id, None) is None:
            return
        for slot in self._slots:
            if slot.track is not None and slot.track.track_id == track_id:
                slot.track = None
        self._is_dirty = True

    def restart(self) -> None:
        """The next offer is due for the transport's sake (ICE restart)."""
        self._is_dirty = bool(self._slots or self._wanted)

    def next_offer(self, local: LocalTransport) -> SubscribeOffer | None:
        """The offer that is due; None while one is outstanding or nothing has changed."""
        if self._outstanding is not None or not self._is_dirty:
            return None
        self._is_dirty = False
        self._place()
        if not self._slots:
            return None
        self._count += 1
        text = sdp.serialize(self._describe(local), session_id=self._session_id, version=self._count)
        mids = {slot.mid: slot.track.track_id for slot in self._slots if slot.track is not None}
        offer = SubscribeOffer(self._count, text, mids)
        self._outstanding = (offer, [slot.track for slot in self._slots])
        return offer

    def _place(self) -> None:
        """Gives each wanted track a section: a free one of its kind, else a new one."""
        placed = {slot.track.track_id for slot in self._slots if slot.track is not None}
        for track in self._wanted.values():
            if track.track_id in placed:
                continue
            codec, types = _offered(track.codec), self._room_for(track)
            if types is None:
                continue
            slot = self._free_slot(track)
            if slot is None:
                slot = _Slot(f"s{len(self._slots)}", track.kind, codec)
                self._slots.append(slot)
            self._fill(slot, track, codec, types)

    def _free_slot(self, track: OfferedTrack) -> _Slot | None:
        return next((s for s in self._slots if s.is_free and s.kind == track.kind), None)

    def _room_for(self, track: OfferedTrack) -> tuple[int, int | None] | None:
        """The payload types of a track that can be offered now; None for one that waits for a section or a type."""
        place = self._free_slot(track)
        if place is None and len(self._slots) >= MAX_SUBSCRIBE_SECTIONS:
            return None
        return self._types.of(_offered(track.codec), [slot.codec for slot in self._slots if slot is not place])

    def _fill(self, slot: _Slot, track: OfferedTrack, codec: Codec, types: tuple[int, int | None]) -> None:
        main, rtx = types
        feedback = _OFFERED_FEEDBACK[track.kind]
        slot.codec = replace(codec, payload_type=main, feedback=feedback, rtx_payload_type=rtx)
        slot.track, slot.is_free = track, False
        slot.ssrc = self._unique_ssrc()
        slot.rtx_ssrc = None if rtx is None else self._unique_ssrc()

    def _unique_ssrc(self) -> int:
        """Never used before on this transport: an (ssrc, index) is sealed once."""
        ssrc = self._new_ssrc() & 0xFFFFFFFF
        while ssrc == 0 or ssrc in self._ssrcs:
            ssrc = (ssrc + 1) & 0xFFFFFFFF
        self._ssrcs.add(ssrc)
        return ssrc

    def _describe(self, local: LocalTransport) -> Description:
        sections = [self._section(slot, local) for slot in self._slots]
        mids = [slot.mid for slot in self._slots if not slot.is_dead]
        return Description(Section(attributes=session_attributes(mids)), sections)

    def _section(self, slot: _Slot, local: LocalTransport) -> Section:
        formats = codec_formats(slot.codec)
        if slot.is_dead:
            return Section(slot.kind, 0, RTP_PROTOCOL, formats, [("inactive", ""), ("mid", slot.mid)])
        attributes = transport_attributes(local, "actpass")
        attributes.append(("mid", slot.mid))
        usual = [pair for pair in EXTENSION_IDS.items() if pair[0] in EXTENSIONS[slot.kind]]
        attributes += [("extmap", f"{identifier} {uri}") for uri, identifier in fitting_extensions(slot.codec, usual)]
        attributes += [("sendonly" if slot.track else "inactive", ""), ("rtcp-mux", ""), ("rtcp-rsize", "")]
        attributes += codec_attributes(slot.codec)
        if slot.track is not None:
            attributes += _source_attributes(slot, slot.track)
        return Section(slot.kind, 9, RTP_PROTOCOL, formats, attributes)

    def read_answer(self, negotiation_id: int, text: str) -> SubscribeAnswer:
        """Takes the answer to the outstanding offer. Raises ProtocolError: stale-answer, answer-mismatch, bad-setup,
        bad-sdp, sdp-too-large, no-fingerprint or no-ice; the offer stays outstanding then."""
        if self._outstanding is None or self._outstanding[0].negotiation_id != negotiation_id:
            raise problem("stale-answer", "no offer with this negotiationId is waiting for an answer")
        offered = self._outstanding[1]
        description = sdp.parse(text, MAX_SUBSCRIBE_SECTIONS)
        sections = description.sections
        if [s.mid for s in sections] != [slot.mid for slot in self._slots[: len(offered)]]:
            raise problem("answer-mismatch", "an answer has the sections of its offer, in the same order")
        live = [section for section in sections if section.port]
        if not live:
            raise problem("answer-mismatch", "the answer refuses every section")
        if description.get(live[0], "setup") != "active":
            raise problem("bad-setup", "the answer has a=setup:active; the SFU is always the DTLS server")
        remote = read_transport(description, live[0])
        results = [self._outcome(*parts) for parts in zip(self._slots, sections, offered, strict=False)]
        self._settle(sections, offered)
        accepted = tuple(result for result in results if isinstance(result, Subscription))
        refused = tuple(result for result in results if isinstance(result, str))
        for track_id in refused:
            self.remove(track_id)
        return SubscribeAnswer(remote, accepted, refused)

    def _outcome(self, slot: _Slot, section: Section, offered: OfferedTrack | None) -> Subscription | str | None:
        """The subscription, or the id of a track that was refused; None where the section carries nothing now."""
        if offered is None or slot.track != offered:
            return None
        accepts = section.port != 0 and section.direction in {"recvonly", "sendrecv"}
        codecs = {(c.name, c.payload_type): c for c in read_codecs(section)} if accepts else {}
        answered = codecs.get((slot.codec.name, slot.codec.payload_type))
        if answered is None:
            return offered.track_id
        has_rtx = answered.rtx_payload_type is not None and answered.rtx_payload_type == slot.codec.rtx_payload_type
        ours = {(uri, identifier) for uri, identifier in EXTENSION_IDS.items()}
        extensions = tuple(pair for pair in read_extensions(section) if pair in ours)
        rtx_ssrc = slot.rtx_ssrc if has_rtx else None
        return Subscription(offered.track_id, slot.mid, slot.codec, slot.ssrc, rtx_ssrc, extensions)

    def _settle(self, sections: list[Section], offered: list[OfferedTrack | None]) -> None:
        self._outstanding = None
        for slot, section, was in zip(self._slots, sections, offered, strict=False):
            slot.is_dead = slot.is_dead or section.port == 0
            slot.is_free = was is None and not slot.is_dead
        # A section that became free may serve a track that had to wait.
        placed = {slot.track.track_id for slot in self._slots if slot.track is not None}
        waiting = [track for track in self._wanted.values() if track.track_id not in placed]
        self._is_dirty = self._is_dirty or any(self._room_for(track) is not None for track in waiting)


def _source_attributes(slot: _Slot, track: OfferedTrack) -> list[Attribute]:
    attributes = [("msid", f"{track.stream} {track.track_id}")]
    if slot.rtx_ssrc is not None:
        attributes.append(("ssrc-group", f"FID {slot.ssrc} {slot.rtx_ssrc}"))
    attributes.append(("ssrc", f"{slot.ssrc} cname:{track.stream}"))
    if slot.rtx_ssrc is not None:
        attributes.append(("ssrc", f"{slot.rtx_ssrc} cname:{track.stream}"))
    return attributes
