"""A small world around signaling workers: real tokens, stores in memory, a real Redis, fake SFU nodes, people."""

import itertools
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.memory.audit import MemoryAuditLog
from conference.adapters.memory.meetings import MemoryMeetingStore
from conference.adapters.memory.outbox import MemoryOutbox
from conference.adapters.memory.users import MemoryUserStore
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.signing_keys import MemorySigningKeys
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.turn import TurnIceServers
from conference.domain.claims import JoinClaims
from conference.domain.ids import MeetingId, Secret, SessionId, TenantId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Role, User
from conference.ports.meetings import Joined, JoinRequest
from conference.protocol.session import Limits
from media_workers.signaling.metrics import Metrics
from media_workers.signaling.services import Options, Services
from media_workers.signaling.worker import SignalingWorker
from tests.support.fake_sfu import FakeSfu
from tests.support.redis import RedisServer
from tests.support.signaling_client import SignalingClient

ISSUER = "http://127.0.0.1:8080"
TUNNEL_URL = "http://127.0.0.1:8080/v1/tunnel/sessions"
QUICK = Options(
    tunnel_url=TUNNEL_URL,
    resume_s=1.0,
    tick_s=0.05,
    touch_s=0.5,
    sweep_s=0.2,
    drain_s=1.0,
    node_grace_s=0.2,
    origins=frozenset({"http://127.0.0.1:8080"}),
    debug_hooks=True,
    limits=Limits(messages_per_s=500, burst=1_000),
)


@dataclass
class Person:
    """Somebody with a place in the meeting, not yet connected."""

    user_id: UserId
    role: Role
    token: str
    claims: JoinClaims


@dataclass
class Process:
    """A running worker."""

    worker: SignalingWorker
    services: Services
    port: int
    redis: RedisClient

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/signal"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self.worker.stop()
        await self.redis.close()


@dataclass
class World:
    server: RedisServer
    http: aiohttp.ClientSession
    clock: SystemClock = field(default_factory=SystemClock)
    ids: SystemIds = field(default_factory=SystemIds)
    processes: list[Process] = field(default_factory=list)
    clients: list[SignalingClient] = field(default_factory=list)
    nodes_made: list[FakeSfu] = field(default_factory=list)

    def __post_init__(self) -> None:
        signing = MemorySigningKeys(self.ids)
        self.tokens = JwtTokens(issuer=ISSUER, keys=OwnPublicKeys(signing), signing=signing)
        self.audit = MemoryAuditLog()
        self.meetings = MemoryMeetingStore(self.ids, self.audit, MemoryOutbox())
        self.users = MemoryUserStore()
        self.tenant = TenantId(str(uuid.uuid4()))
        self.host = UserId(str(uuid.uuid4()))
        self.room = MeetingId(str(uuid.uuid4()))
        self._numbers = itertools.count(1)
        self.redis = RedisClient(connect(self.server.url))
        self.presence = RedisPresence(self.redis, process_id="test")
        self.media_nodes = RedisMediaNodes(self.redis)

    async def make_meeting(self, room: MeetingId | None = None, settings: MeetingSettings | None = None) -> None:
        meeting = Meeting(room or self.room, self.host, self.tenant, "local", self.clock.now())
        if settings is not None:
            meeting = replace(meeting, settings=settings)
        assert isinstance(await self.meetings.create(meeting), Meeting)

    async def process(self, options: Options = QUICK, **ports: Any) -> Process:
        """A started worker on a port of its own."""
        name = f"process-{next(self._numbers)}"
        metrics = Metrics()
        redis = RedisClient(connect(self.server.url), observe=metrics.observe_redis)
        made: dict[str, Any] = {
            "process_id": name,
            "clock": self.clock,
            "ids": self.ids,
            "tokens": self.tokens,
            "presence": RedisPresence(redis, process_id=name),
            "nodes": RedisMediaNodes(redis),
            "meetings": self.meetings,
            "users": self.users,
            "ice_servers": TurnIceServers([], None),
            "metrics": metrics,
            "options": options,
        }
        services = Services(**{**made, **ports})
        worker = SignalingWorker(services)
        port = await worker.start("127.0.0.1", 0)
        process = Process(worker, services, port, redis)
        self.processes.append(process)
        return process

    async def sfu(self, name: str = "node-a", *, load: float = 0.0) -> FakeSfu:
        node = FakeSfu(name, self.media_nodes, self.tokens, self.clock, load=load)
        await node.start()
        self.nodes_made.append(node)
        return node

    async def person(
        self, role: Role = Role.ATTENDEE, *, user_id: UserId | None = None, name: str = "", **claims: Any
    ) -> Person:
        """A place in the meeting, as POST join reserves it."""
        user = self.host if role is Role.HOST else user_id or UserId(str(uuid.uuid4()))
        now = self.clock.now()
        if name:
            await self.users.upsert(User(user, self.tenant, "someone@example.org", name, now))
        place = await self.meetings.join(
            JoinRequest(
                self.room,
                user,
                role,
                now,
                now + timedelta(seconds=300),
                SessionId(self.ids.new()),
                require_consent=False,
            )
        )
        assert isinstance(place, Joined)
        made: dict[str, Any] = {
            "participant_id": place.participant.id,
            "room_id": self.room,
            "user_id": user,
            "role": role,
            "grants": frozenset(),
            "consent_version": None,
            "consent_pending": False,
            "region": "local",
            "epoch": 1,
            "jti": self.ids.new(),
            "not_before": _whole(now),
            "expires_at": _whole(now + timedelta(seconds=300)),
        }
        full = JoinClaims(**{**made, **claims})
        return Person(user, role, await self.tokens.mint_join(full), full)

    async def connect(self, process: Process, **options: Any) -> SignalingClient:
        client = await SignalingClient.connect(self.http, process.url, **options)
        self.clients.append(client)
        return client

    async def join(self, process: Process, person: Person, **payload: Any) -> SignalingClient:
        """Connected and joined."""
        client = await self.connect(process)
        await client.send("JoinRoom", {"roomId": self.room, "token": person.token, **payload})
        client.joined = await client.payload("RoomJoined")
        return client

    async def enter(
        self, process: Process, role: Role = Role.ATTENDEE, **payload: Any
    ) -> tuple[Person, SignalingClient]:
        person = await self.person(role)
        return person, await self.join(process, person, **payload)

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for process in self.processes:
            await process.stop()
        for node in self.nodes_made:
            await node.stop()
        await self.redis.close()


def turn() -> TurnIceServers:
    return TurnIceServers(["turn:127.0.0.1:3478"], Secret("shared"))


def _whole(moment: datetime) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()), UTC)
