"""What is sent to whom, without saying by which server: rooms of publishers and subscribers, and their streams."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

Words = dict[str, Any]
Kind = Literal["video", "audio"]

# As Chromium and our offers number them.
PAYLOAD_TYPES: Final[dict[Kind, int]] = {"video": 96, "audio": 111}
RTX_PAYLOAD_TYPE: Final = 97
EXTENSIONS: Final[dict[Kind, dict[str, int]]] = {
    "video": {"mid": 4, "transport_cc": 3},
    "audio": {"mid": 4, "transport_cc": 3, "audio_level": 1},
}
RID_EXTENSION: Final = 10
PACKET_BYTES: Final[dict[Kind, int]] = {"video": 1_200, "audio": 160}
FRAME_PACKETS: Final[dict[Kind, int]] = {"video": 4, "audio": 1}
MIDS: Final[dict[Kind, str]] = {"video": "0", "audio": "1"}
VIDEO_FPS: Final = 39.0  # of four packets of 1,200 bytes: 1.5 Mb/s
AUDIO_FPS: Final = 50.0
# Simulcast: packets of a frame by layer, some 0.15, 0.6 and 1.5 Mb/s at 30 frames a second.
LAYERS: Final = (("q", 1, 600), ("h", 2, 1_200), ("f", 5, 1_200))
_FIRST_SSRC: Final = 10_000


@dataclass(frozen=True, slots=True)
class Track:
    """A track of a publisher's. `layers` are (rid, packets of a frame, bytes of a packet), one without rid where there
    is no simulcast."""

    id: str
    publisher: str
    kind: Kind
    ssrc: int
    layers: tuple[tuple[str, int, int], ...]

    @property
    def ssrcs(self) -> tuple[int, ...]:
        return tuple(range(self.ssrc, self.ssrc + len(self.layers)))

    @property
    def rids(self) -> tuple[str, ...]:
        return tuple(rid for rid, _, _ in self.layers if rid)

    def streams(self, fps: float, phase: float) -> Iterator[Words]:
        """The generator's words for its streams."""
        for ssrc, (rid, packets, size) in zip(self.ssrcs, self.layers, strict=True):
            extensions = EXTENSIONS[self.kind] | ({"rid": RID_EXTENSION} if rid else {})
            yield {
                "id": self.publisher,
                "ssrc": ssrc,
                "payload_type": PAYLOAD_TYPES[self.kind],
                "kind": self.kind,
                "mid": MIDS[self.kind],
                "rid": rid or None,
                "extensions": extensions,
                "frames_per_s": fps,
                "frame_packets": packets,
                "packet_bytes": size,
                "phase": phase,
            }


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rooms` of so many publishers each and so many subscribers each, who receive all of their room. In a meeting the
    subscribers are the publishers, and nobody receives what is his own."""

    name: str
    publishers: int
    subscribers: int
    kinds: tuple[Kind, ...]
    rooms: int = 1
    has_simulcast: bool = False
    is_meeting: bool = False

    def publisher_names(self) -> list[str]:
        return [f"p{room}-{place}" for room in range(self.rooms) for place in range(self.publishers)]

    def subscriber_names(self) -> list[str]:
        return [f"s{room}-{place}" for room in range(self.rooms) for place in range(self.subscribers)]

    def tracks(self) -> list[Track]:
        made, ssrc = [], _FIRST_SSRC
        for publisher in self.publisher_names():
            for kind in self.kinds:
                simulcast = self.has_simulcast and kind == "video"
                layers = LAYERS if simulcast else (("", FRAME_PACKETS[kind], PACKET_BYTES[kind]),)
                made.append(Track(f"{publisher}-{kind}", publisher, kind, ssrc, layers))
                ssrc += len(layers)
        return made

    def receives(self, subscriber: str, publisher: str) -> bool:
        """Whether a subscriber receives what a publisher sends."""
        is_same_room = subscriber.partition("-")[0][1:] == publisher.partition("-")[0][1:]
        is_own = self.is_meeting and subscriber[1:] == publisher[1:]
        return is_same_room and not is_own

    def send(self, scale: float) -> list[Words]:
        """The generator's words for what is sent, at `scale` times the usual frames each second. Publishers take turns
        within a frame's time."""
        names = {name: place for place, name in enumerate(self.publisher_names())}
        fps = {"video": VIDEO_FPS * scale, "audio": AUDIO_FPS * scale}
        return [
            stream
            for track in self.tracks()
            for stream in track.streams(fps[track.kind], names[track.publisher] / len(names))
        ]

    def receive(
        self, *, rtcp: bool = True, transport_cc: int | None = EXTENSIONS["video"]["transport_cc"]
    ) -> list[Words]:
        """The generator's words for what is received. Without `rtcp` there are no reports and no feedback."""
        return [
            {"id": name, "transport_cc": transport_cc, "rtx_payload_types": [RTX_PAYLOAD_TYPE], "rtcp": rtcp}
            for name in self.subscriber_names()
        ]

    @property
    def fan_out(self) -> int:
        """How many receive what one sends."""
        return self.subscribers - (1 if self.is_meeting else 0)

    def scale_for(self, forwarded_per_s: float) -> float:
        """The scale at which so many packets arrive each second, without simulcast and loss."""
        fps = {"video": VIDEO_FPS, "audio": AUDIO_FPS}
        sent = sum(fps[kind] * FRAME_PACKETS[kind] for kind in self.kinds) * self.publishers * self.rooms
        return forwarded_per_s / (sent * self.fan_out)
