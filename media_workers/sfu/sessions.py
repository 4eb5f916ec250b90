"""What a node knows of rooms, sessions and guests. Data and small questions; `node.py` and its siblings change it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from conference.ports.dtls import DtlsEndpoint
from conference.protocol.control import Answer
from conference.protocol.messages import Grant, Payload, ReceiveTrack, Source, TrackInfo
from conference.protocol.negotiation import Publication, RemoteTransport
from conference.protocol.negotiation_subscribe import SubscribeOffers
from media_workers.sfu.quality import QualityMeter
from media_workers.sfu.speakers import SpeakerDetector

Direction = Literal["publish", "subscribe"]
TransportState = Literal["connecting", "connected", "disconnected", "failed", "closed"]
# What every current browser decodes, in hardware or not: assumed of a client that does not say.
BROWSER_CODECS: Final = frozenset({"opus", "VP8", "VP9", "H264"})
Pause = Literal["none", "hidden", "last-n", "bandwidth", "unsupported"]


class Owner(Protocol):
    """A control link, as far as a session needs it."""

    def send(self, payload: Payload, *, traceparent: str | None = None) -> None:
        """Queues a message; never blocks."""


@dataclass(slots=True)
class MediaTransport:
    """One of a session's two transports. `state` is None before the first negotiation."""

    transport_id: str
    direction: Direction
    ice_ufrag: str
    ice_pwd: str = field(repr=False)
    worker: int = 0  # the packet worker that serves it
    remote: RemoteTransport | None = None
    dtls: DtlsEndpoint | None = None
    early: list[bytes] = field(default_factory=list, repr=False)  # DTLS datagrams that came before the peer's SDP
    is_started: bool = False
    ice_state: str = "new"
    dtls_state: str = "new"
    state: TransportState | None = None
    since: float = 0.0  # of the state
    was_connected: bool = False

    @property
    def is_alive(self) -> bool:
        return self.state in {"connecting", "connected", "disconnected"}


@dataclass(slots=True)
class PublishedTrack:
    """A track that is negotiated on its publisher's transport. `key` is its id in the engine."""

    info: TrackInfo
    publication: Publication
    key: str
    is_announced: bool = False
    layers: dict[str, bool] = field(default_factory=dict)  # what was last asked of the publisher; empty: everything


class Publisher(Protocol):
    """Whose tracks these are: somebody with a session here, or on another node."""

    room: "Room"
    participant_id: str
    user_id: str
    tracks: dict[str, PublishedTrack]


@dataclass(slots=True)
class Guest:
    """A participant of another node, whose tracks come over a pipe."""

    room: "Room" = field(repr=False)
    participant_id: str
    user_id: str
    pipe_id: str
    tracks: dict[str, PublishedTrack] = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """One participant on this node."""

    room: "Room" = field(repr=False)
    participant_id: str
    user_id: str
    role: str
    publish: MediaTransport
    subscribe: MediaTransport
    offers: SubscribeOffers
    quality: QualityMeter
    owner: Owner | None
    sdp_session: int  # the session id of our answers
    grants: frozenset[Grant] = frozenset()
    decodes: frozenset[str] = BROWSER_CODECS  # as its client says
    traceparent: str | None = None
    orphaned_at: float | None = None
    tracks: dict[str, PublishedTrack] = field(default_factory=dict)  # by track id
    senders: dict[str, str] = field(default_factory=dict)  # track id -> sender id
    wishes: dict[str, ReceiveTrack] = field(default_factory=dict)  # track id -> how it is shown
    received: dict[str, Pause] = field(default_factory=dict)  # track id -> why it does not come, as told last
    news: dict[str, Pause] = field(default_factory=dict)  # of these, what is to be told
    undecodable: set[str] = field(default_factory=set)  # codecs that its answers refused
    muted_sources: set[Source] = field(default_factory=set)
    last_offer: tuple[int, str, Answer] | None = None  # negotiation id, SDP and our answer
    answers: int = 0
    has_media: bool = False

    def transport(self, transport_id: str) -> MediaTransport | None:
        return next((t for t in self.transports if t.transport_id == transport_id), None)

    def can_decode(self, codec: str) -> bool:
        return codec in self.decodes and codec not in self.undecodable

    @property
    def transports(self) -> tuple[MediaTransport, MediaTransport]:
        return (self.publish, self.subscribe)

    def tell(self, payload: Payload, *, traceparent: str | None = None) -> None:
        """To the owner; lost while there is none (an attached link is told the state afresh)."""
        if self.owner is not None:
            self.owner.send(payload, traceparent=traceparent)


@dataclass(slots=True)
class Room:
    """The sessions of one room on this node."""

    room_id: str
    worker: int = 0  # the packet worker of its transports
    sessions: dict[str, Session] = field(default_factory=dict)  # by participant id
    guests: dict[str, Guest] = field(default_factory=dict)  # by participant id
    uses: set[str] = field(default_factory=set)  # pipes that are to carry its tracks
    speakers: SpeakerDetector = field(default_factory=SpeakerDetector)
    spoken: list[str] = field(default_factory=list)  # participant ids, who spoke last first

    def publishers(self) -> Iterator[Publisher]:
        yield from self.sessions.values()
        yield from self.guests.values()

    def tracks(self) -> Iterator[tuple[Publisher, PublishedTrack]]:
        for publisher in self.publishers():
            for track in publisher.tracks.values():
                yield publisher, track

    def find(self, track_id: str) -> tuple[Publisher, PublishedTrack] | None:
        return next((pair for pair in self.tracks() if pair[1].info.track_id == track_id), None)

    def tell(self, payload: Payload) -> None:
        """To every link with a session here, once each."""
        owners = {id(s.owner): s.owner for s in self.sessions.values() if s.owner is not None}
        for owner in owners.values():
            owner.send(payload)
