"""What a node knows of rooms and sessions. Data and small questions; `node.py` and its siblings change it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from conference.ports.dtls import DtlsEndpoint
from conference.protocol.control import Answer
from conference.protocol.messages import Payload, Source, TrackInfo
from conference.protocol.negotiation import Publication, RemoteTransport
from conference.protocol.negotiation_subscribe import SubscribeOffers
from media_workers.sfu.quality import QualityMeter
from media_workers.sfu.speakers import SpeakerDetector

Direction = Literal["publish", "subscribe"]
TransportState = Literal["connecting", "connected", "disconnected", "failed", "closed"]


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
    traceparent: str | None = None
    orphaned_at: float | None = None
    tracks: dict[str, PublishedTrack] = field(default_factory=dict)  # by track id
    senders: dict[str, str] = field(default_factory=dict)  # track id -> sender id
    hidden: set[str] = field(default_factory=set)  # track ids that are not shown
    small: set[str] = field(default_factory=set)  # track ids that are shown as a thumbnail
    muted_sources: set[Source] = field(default_factory=set)
    last_offer: tuple[int, str, Answer] | None = None  # negotiation id, SDP and our answer
    answers: int = 0
    has_media: bool = False

    def transport(self, transport_id: str) -> MediaTransport | None:
        return next((t for t in self.transports if t.transport_id == transport_id), None)

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
    sessions: dict[str, Session] = field(default_factory=dict)  # by participant id
    speakers: SpeakerDetector = field(default_factory=SpeakerDetector)

    def tracks(self) -> Iterator[tuple[Session, PublishedTrack]]:
        for session in self.sessions.values():
            for track in session.tracks.values():
                yield session, track

    def find(self, track_id: str) -> tuple[Session, PublishedTrack] | None:
        return next((pair for pair in self.tracks() if pair[1].info.track_id == track_id), None)

    def tell(self, payload: Payload) -> None:
        """To every link with a session here, once each."""
        owners = {id(s.owner): s.owner for s in self.sessions.values() if s.owner is not None}
        for owner in owners.values():
            owner.send(payload)
