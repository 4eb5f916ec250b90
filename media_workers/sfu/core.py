"""The shared heart of a node: its rooms, sessions and indexes, and the batch of commands for the engine.

Handlers change this state synchronously and leave commands and announcements behind; `settle` hands them out once a
handler is done. Thus a reply always precedes what it causes, and a burst of changes becomes one batch.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from conference.domain.errors import ProtocolError
from conference.ports.dtls import DtlsEndpoints
from conference.ports.forwarding import Command, ForwardingEngine
from conference.protocol.negotiation import VIDEO_PREFERENCE, LocalTransport
from media_workers.sfu.sessions import MediaTransport, PublishedTrack, Publisher, Room, Session

MAX_SETTLE_ROUNDS: Final = 100
_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings choose for all rooms: the most videos that one person receives (None: all), and the codecs to
    use, best first."""

    last_n: int | None = None
    video_codecs: tuple[str, ...] = VIDEO_PREFERENCE
    has_red: bool = False


DEFAULT_OPTIONS: Final = Options()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is, and where the media port of a packet worker is reached, best address first."""

    node_id: str
    region: str
    candidates: Callable[[int], tuple[tuple[str, int], ...]]  # of a worker's port
    capacity: int = 500  # transports
    options: Options = DEFAULT_OPTIONS


@dataclass(frozen=True, slots=True)
class Chance:
    """Sources of randomness: `token(n)` gives n characters of [A-Za-z0-9], `number()` 32 random bits."""

    token: Callable[[int], str]
    number: Callable[[], int]


@dataclass(slots=True)
class Counters:
    """What the metrics show beside the engine's statistics."""

    data_messages: int = 0
    data_refused: int = 0
    refused_tracks: int = 0


class Core:
    """State and outlets. `now` gives monotonic seconds."""

    def __init__(
        self,
        identity: Identity,
        engine: ForwardingEngine,
        dtls: DtlsEndpoints,
        now: Callable[[], float],
        chance: Chance,
    ) -> None:
        self.identity = identity
        self.engine = engine
        self.dtls = dtls
        self.now = now
        self.chance = chance
        self.counters = Counters()
        self.is_draining = False
        self.idle = asyncio.Event()  # set while there is no session
        self.idle.set()
        self.rooms: dict[str, Room] = {}
        self.sessions: dict[str, Session] = {}  # by participant id
        self.by_transport: dict[str, tuple[Session, MediaTransport]] = {}
        self.by_key: dict[str, tuple[Publisher, PublishedTrack]] = {}  # by the track's id in the engine
        self.by_sender: dict[str, tuple[Session, str]] = {}  # sender id -> subscriber, track id
        self.dirty: dict[str, Session] = {}  # by participant id: whose subscribe offers are due
        self._commands: list[Command] = []
        self._later: deque[Callable[[], None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- lookups -----------------------------------------------------------------------------------------------------
    def session(self, participant_id: str) -> Session:
        """Raises ProtocolError `unknown-session`."""
        session = self.sessions.get(participant_id)
        if session is None:
            raise ProtocolError("unknown-session", "this node has no session of that participant")
        return session

    def local(self, transport: MediaTransport) -> LocalTransport:
        """Our side of a transport for SDP."""
        candidates = self.candidates(transport.worker)
        fingerprint = self.dtls.fingerprint
        return LocalTransport(transport.ice_ufrag, transport.ice_pwd, fingerprint, candidates, self.engine.has_tcp)

    def candidates(self, worker: int) -> tuple[tuple[str, int], ...]:
        """Where a packet worker is reached, best address first."""
        ports = self.engine.ports
        return self.identity.candidates(ports[worker % len(ports)])

    def room(self, room_id: str) -> Room:
        """The room; a new one is pinned to the packet worker with the fewest transports."""
        room = self.rooms.get(room_id)
        if room is None:
            loads = Counter(dict.fromkeys(range(len(self.engine.ports)), 0))
            loads.update(transport.worker for _, transport in self.by_transport.values())
            worker = min(loads, key=lambda one: (loads[one], sum(r.worker == one for r in self.rooms.values())))
            room = self.rooms[room_id] = Room(room_id, worker)
        return room

    def close_if_empty(self, room: Room) -> bool:
        """Forgets a room that nobody uses any more."""
        if room.sessions or room.guests or room.uses:
            return False
        return self.rooms.pop(room.room_id, None) is not None

    @property
    def transport_count(self) -> int:
        return len(self.by_transport)

    # --- outlets -----------------------------------------------------------------------------------------------------
    def command(self, *commands: Command) -> None:
        """For the engine, with the next batch."""
        self._commands.extend(commands)

    def later(self, action: Callable[[], None]) -> None:
        """Runs when the present handler has replied."""
        self._later.append(action)

    def settle(self) -> None:
        """Hands out what the last handlers left: commands first, then announcements, which may cause more of both."""
        for _ in range(MAX_SETTLE_ROUNDS):
            if self._commands:
                batch, self._commands = self._commands, []
                self.engine.apply(batch)
            if not self._later:
                return
            for _ in range(len(self._later)):
                self._run(self._later.popleft())

    @staticmethod
    def _run(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:  # a bug that one session runs into must not cost the others what is due to them
            _logger.exception("an action of the node failed")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that takes time (closing a DTLS association) beside the handlers."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Waits for what was spawned."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
