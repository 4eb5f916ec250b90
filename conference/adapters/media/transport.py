"""One transport in the engine: its ICE agent, SRTP keys, incoming streams by SSRC and outgoing senders by SSRC.

What an SSRC belongs to is learned from the SDP, else from the mid and rid header extensions, else from a payload type
that only one track has (RFC 8843 9.2). An SSRC may first be seen on an RTX packet without payload.
"""

from dataclasses import dataclass
from typing import Final

from conference.adapters.media.headers import NOTHING, Passed
from conference.adapters.media.ice import Address, IceAgent
from conference.adapters.media.plain import PlainPath
from conference.adapters.media.receiving import RateMeter, Stream
from conference.adapters.media.sending import Sender
from conference.adapters.media.srtp import SrtpContext
from conference.adapters.media.tracks import Track
from conference.ports.forwarding import AddPlainTransport, AddTransport, ExtensionIds, SetTrack
from conference.protocol.feedback import ArrivalLog
from conference.protocol.rtp import RtpPacket

MAX_STREAMS: Final = 64
MAX_PLAIN_STREAMS: Final = 1_024  # a pipe carries the streams of many rooms
MAX_SSRCS: Final = 1_024  # libsrtp keeps a quarter of a kilobyte for each, as long as the keys live
REPAIR_SHARE: Final = 0.5  # of what is forwarded may be sent again
REPAIR_BURST: Final = 400_000  # bytes
DISCONNECTED_S: Final = 8.0


@dataclass(slots=True)
class Repair:
    """An RTX SSRC and the track and layer that it repairs."""

    track: Track
    rid: str
    primary_ssrc: int | None = None

    def stream(self) -> Stream | None:
        if self.primary_ssrc is not None:
            return next((s for s in self.track.streams.values() if s.ssrc == self.primary_ssrc), None)
        return self.track.streams.get(self.rid)


def _is_kept(track: Track, entry: Stream | Repair) -> bool:
    """Whether a changed track still has the layer that an SSRC belongs to."""
    if isinstance(entry, Repair):
        return entry.rid in (track.rids or ("",))
    return track.streams.get(entry.rid) is entry


class TokenBucket:
    """The bandwidth cap of the debug hook: bytes within the rate pass, with 200 ms of burst."""

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, bitrate_bps: int, now: float) -> None:
        self._rate = bitrate_bps / 8
        self._level = self._rate * 0.2
        self._at = now

    def take(self, size: int, now: float) -> bool:
        self._level = min(self._level + (now - self._at) * self._rate, self._rate * 0.2)
        self._at = now
        if size > self._level:
            return False
        self._level -= size
        return True


class RepairBudget:
    """What a peer may have sent again, in bytes: a share of what was sent to it. NACKs in a storm cost nothing more."""

    __slots__ = ("_level",)

    def __init__(self) -> None:
        self._level = float(REPAIR_BURST)

    def earn(self, size: int) -> None:
        self._level = min(self._level + size * REPAIR_SHARE, REPAIR_BURST)

    def spend(self, size: int) -> bool:
        if size > self._level:
            return False
        self._level -= size
        return True


class Transport:
    """State of one transport; the engine moves the packets."""

    def __init__(self, command: AddTransport | AddPlainTransport, now: float) -> None:
        self.transport_id = command.transport_id
        self.ice: IceAgent | None = None
        self.plain: PlainPath | None = None
        self.srtp: SrtpContext | None = None
        if isinstance(command, AddTransport):
            self.ice = IceAgent(command.ice_ufrag, command.ice_pwd)
        else:
            self.plain = PlainPath(command.address, now)
            self.srtp = SrtpContext(command.profile, command.receive_key, command.send_key)
        self.state = "new"
        self.cap: TokenBucket | None = None
        self.tracks: dict[str, Track] = {}  # by track id
        self.senders: dict[int, Sender] = {}  # by SSRC
        self.addresses: set[Address] = set()  # under which the engine knows it
        self.arrivals = ArrivalLog()
        self.repairs = RepairBudget()
        self.rates = RateMeter()  # of what is sent
        self.retransmitted = 0
        self.last_n: int | None = None
        self.media_at = 0.0
        self._inbound: dict[int, Stream | Repair] = {}
        self._track_of: dict[int, Track] = {}
        self._named: dict[int, tuple[Track, str, int | None]] = {}  # SSRC -> (track, rid, primary where it is RTX)
        self._ids = ExtensionIds()
        self._ssrcs: set[int] = set()
        self._wide_number = 0

    def next_wide_number(self) -> int:
        self._wide_number += 1
        return self._wide_number

    def admits_ssrc(self, ssrc: int) -> bool:
        """False for an SSRC beyond the most that one peer may use."""
        return ssrc in self._ssrcs or len(self._ssrcs) < MAX_SSRCS

    def note_ssrc(self, ssrc: int) -> None:
        """The SSRC of a packet that was authentic: a forged one must not use up the peer's number of them."""
        self._ssrcs.add(ssrc)

    @property
    def destination(self) -> Address | None:
        """Where to send; None before the first good check and without consent (RFC 7675)."""
        if self.plain is not None:
            return self.plain.address
        return self.ice.destination if self.ice is not None else None

    # --- tracks ------------------------------------------------------------------------------------------------------
    def set_track(self, track: Track, command: SetTrack) -> None:
        """The track as the command has it; streams that it keeps stay known by their SSRCs."""
        kept = {s: entry for s, entry in self._inbound.items() if self._track_of[s] is track and _is_kept(track, entry)}
        self.drop_track(track.track_id)
        self.tracks[track.track_id] = track
        self._inbound.update(kept)
        self._track_of.update(dict.fromkeys(kept, track))
        rids = command.rids if len(command.rids) == len(command.ssrcs) else ("",) * len(command.ssrcs)
        for rid, (primary, rtx) in zip(rids, command.ssrcs, strict=True):
            self._named[primary] = (track, rid, None)
            if rtx is not None:
                self._named[rtx] = (track, rid, primary)
        theirs = command.extensions
        mine = self._ids
        self._ids = ExtensionIds(  # a bundle uses one id per extension in all its sections
            mid=theirs.mid or mine.mid,
            rid=theirs.rid or mine.rid,
            repaired_rid=theirs.repaired_rid or mine.repaired_rid,
            audio_level=theirs.audio_level or mine.audio_level,
            transport_cc=theirs.transport_cc or mine.transport_cc,
            dependency_descriptor=theirs.dependency_descriptor or mine.dependency_descriptor,
            orientation=theirs.orientation or mine.orientation,
        )

    def drop_track(self, track_id: str) -> None:
        self.tracks.pop(track_id, None)
        for ssrc in [s for s, (track, _, _) in self._named.items() if track.track_id == track_id]:
            del self._named[ssrc]
        for ssrc in [s for s, track in self._track_of.items() if track.track_id == track_id]:
            del self._track_of[ssrc]
            del self._inbound[ssrc]

    # --- incoming streams --------------------------------------------------------------------------------------------
    def lookup(self, packet: RtpPacket) -> tuple[Track, Stream | Repair] | None:
        """The track and stream of a packet, learned where it is new; None where it belongs to nothing."""
        entry = self._inbound.get(packet.ssrc)
        if entry is not None:
            return self._track_of[packet.ssrc], entry
        if len(self._inbound) >= (MAX_PLAIN_STREAMS if self.plain is not None else MAX_STREAMS):
            return None
        found = self._identify(packet)
        if found is None:
            return None
        track, created = found
        self._inbound[packet.ssrc] = created
        self._track_of[packet.ssrc] = track
        return found

    def _identify(self, packet: RtpPacket) -> tuple[Track, Stream | Repair] | None:
        named = self._named.get(packet.ssrc)
        if named is not None:
            track, rid, primary = named
            return track, track.open_stream(packet.ssrc, rid) if primary is None else Repair(track, rid, primary)
        if self.plain is not None:
            return None  # nothing is guessed where the control layer has named all there is
        found = self._track_for(packet)
        if found is None:
            return None
        is_repair = packet.payload_type == found.codec.rtx_payload_type
        rid = self._text(packet, self._ids.repaired_rid if is_repair else self._ids.rid)
        if found.rids and rid not in found.rids:
            return None  # wait for a packet that says which layer this is
        layer = rid if found.rids else ""
        return found, Repair(found, layer) if is_repair else found.open_stream(packet.ssrc, layer)

    def _track_for(self, packet: RtpPacket) -> Track | None:
        fitting = [
            track
            for track in self.tracks.values()
            if packet.payload_type in (track.codec.payload_type, track.codec.rtx_payload_type)
        ]
        mid = self._text(packet, self._ids.mid)
        if mid:
            return next((track for track in fitting if track.mid == mid), None)
        return fitting[0] if len(fitting) == 1 else None

    @staticmethod
    def _text(packet: RtpPacket, identifier: int | None) -> str:
        value = packet.extensions.get(identifier, b"") if identifier is not None else b""
        return value.decode("ascii", "replace")

    def wide_number(self, packet: RtpPacket) -> int | None:
        """The transport-wide number of an incoming packet."""
        value = packet.extensions.get(self._ids.transport_cc) if self._ids.transport_cc else None
        return int.from_bytes(value[:2], "big") if value and len(value) >= 2 else None

    def passed(self, packet: RtpPacket) -> Passed:
        """What an incoming packet's extensions give to subscribers."""
        ids, found = self._ids, packet.extensions
        if not found:
            return NOTHING
        level = found.get(ids.audio_level) if ids.audio_level else None
        return Passed(
            level[0] if level else None,
            (found.get(ids.orientation, b"")[:1] or None) if ids.orientation else None,  # 3GPP TS 26.114: one byte
            (found.get(ids.dependency_descriptor) or None) if ids.dependency_descriptor else None,
        )

    def streams(self) -> list[Stream]:
        return [entry for entry in self._inbound.values() if isinstance(entry, Stream)]

    def track_of(self, ssrc: int) -> Track | None:
        return self._track_of.get(ssrc)
