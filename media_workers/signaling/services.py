"""What the signaling worker is made of: ports and options, handed in by `wiring.py`."""

from dataclasses import dataclass, field

from conference.ports.clock import Clock, Ids
from conference.ports.meetings import MeetingStore
from conference.ports.presence import MediaNodes, Presence
from conference.ports.records import UserStore
from conference.ports.tokens import IceServers, Tokens
from conference.protocol.session import Limits
from conference.protocol.topology import Rules
from media_workers.signaling.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Options:
    """Behaviour that settings decide. Times are seconds."""

    region: str = "local"
    lease_s: int = 90
    resume_s: float = 45.0
    room_ttl_s: int = 120
    tunnel_url: str = ""  # where sessions of the HTTP tunnel are made; empty: none is told
    origins: frozenset[str] = frozenset()  # allowed browser origins; "*" allows all
    debug_hooks: bool = False
    drain_s: float = 5.0
    strangers_of_one: int = 200  # connections of one address that have not joined
    strangers: int = 5_000  # the same in all
    send_buffer_bytes: int = 1_048_576  # what a slow reader may leave unread in this process
    ice_push_s: float = 240.0  # TURN credentials live five minutes
    tick_s: float = 1.0
    touch_s: float = 10.0
    sweep_s: float = 15.0
    node_grace_s: float = 1.0  # a lost control link may come back before rooms are moved
    topology: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Services:
    """The ports. `process_id` is this process among those that serve the same rooms."""

    process_id: str
    clock: Clock
    ids: Ids
    tokens: Tokens
    presence: Presence
    nodes: MediaNodes
    meetings: MeetingStore
    users: UserStore
    ice_servers: IceServers
    metrics: Metrics
    options: Options
