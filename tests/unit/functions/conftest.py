"""The REST API over the shipped memory adapters: real routes, real tokens, a clock that stands still.

Only the sign-in and the password hash are stand-ins: `person("ada")` carries the bearer token `ada`, which `People`
knows. tests/unit/adapters tests the real ones, tests/interop the whole.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from conference.adapters.memory.clock import ManualClock
from conference.adapters.memory.presence import MemoryPresence
from conference.domain.claims import Caller
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, ParticipantId, TenantId, UserId
from conference.domain.policies import user_id_of
from conference.domain.records import AuditAction, AuditEvent
from conference.ports.presence import RoomEvent
from functions.app import create_app
from functions.services import Services
from tests.support.api import memory_services

TENANT = TenantId("5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60")
OTHER_TENANT = TenantId("0d0f7c3e-0f0e-4a9c-8f3e-2f5c0e6b7d11")


class People:
    """Port CallerVerifier: the bearer token is a person's name; `stranger-...` belongs to another tenant."""

    async def verify(self, token: str, now: datetime) -> Caller:
        if not token.isalpha() and not token.replace("-", "").isalnum():
            raise Refused("token-refused", extra={"cause": "signature"})
        if token == "expired":
            raise Refused("token-refused", extra={"cause": "expired"})
        name = token.partition("-again")[0]
        tenant = OTHER_TENANT if name.startswith("stranger") else TENANT
        user_id = user_id_of(tenant, name)
        return Caller(user_id, tenant, name == "admin", name.title(), f"{name}@example.com", token_id=f"id-{token}")


class SwitchedPresence(MemoryPresence):
    """A directory that can be away; it remembers what was published and denied."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.away = False
        self.events: list[RoomEvent] = []
        self.revoked: list[ParticipantId] = []

    async def publish(self, room_id: MeetingId, type: str, payload: str, **more: Any) -> RoomEvent | None:
        self._check()
        event = await super().publish(room_id, type, payload, **more)
        if event is not None:
            self.events.append(event)
        return event

    async def deny(self, room_id: MeetingId, participant_id: ParticipantId, *, ttl_s: int) -> None:
        self._check()
        self.revoked.append(participant_id)
        await super().deny(room_id, participant_id, ttl_s=ttl_s)

    async def view(self, room_id: MeetingId) -> Any:
        self._check()
        return await super().view(room_id)

    async def ping(self) -> None:
        self._check()

    def _check(self) -> None:
        if self.away:
            raise Unavailable("presence")


@dataclass
class Person:
    """Calls the API with a bearer token."""

    client: httpx.AsyncClient
    token: str
    id: UserId
    headers: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        """`headers` in Python's form: if_match becomes If-Match."""
        sent = {"Authorization": f"Bearer {self.token}", **self.headers}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return (
            await self.client.request(method, path, json=body, headers=sent)
            if body is not None
            else (await self.client.request(method, path, headers=sent))
        )

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: object = None, **headers: str) -> httpx.Response:
        return await self.call("POST", path, body, **headers)

    async def creates_meeting(self, **members: Any) -> dict[str, Any]:
        response = await self.post("/v1/meetings", {"hostId": self.id, **members})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    async def joins(self, meeting_id: str, **members: Any) -> httpx.Response:
        return await self.post(f"/v1/meetings/{meeting_id}/join", {"userId": self.id, **members})

    async def decides(self, meeting_id: str, status: str, kind: str = "recording_ai") -> httpx.Response:
        body = {"meetingId": meeting_id, "consentType": kind, "status": status}
        return await self.post("/v1/users/consent", body)


@dataclass
class Stage:
    """The API and everything behind it."""

    services: Services
    clock: ManualClock
    presence: SwitchedPresence
    client: httpx.AsyncClient
    failure: Exception | None = None

    async def provide(self) -> Services:
        if self.failure is not None:
            raise self.failure
        return self.services

    def person(self, name: str) -> Person:
        tenant = OTHER_TENANT if name.startswith("stranger") else TENANT
        return Person(self.client, name, user_id_of(tenant, name.partition("-again")[0]))

    def afresh(self) -> None:
        """Empty stores, for one more example of a property. The API still knows the tokens that it has seen."""
        self.services = memory_services(self.clock, self.presence, People())

    def change(self, **ports: Any) -> None:
        self.services = replace(self.services, **ports)

    async def audited(self, action: AuditAction) -> list[AuditEvent]:
        return list(await self.services.audit.find(action=action))

    def orders(self, type_: str) -> list[dict[str, Any]]:
        return [json.loads(event.payload) for event in self.presence.events if event.type == type_]


class _Provider:
    def __init__(self) -> None:
        self.stage: Stage | None = None

    async def services(self) -> Services:
        assert self.stage is not None
        return await self.stage.provide()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def stage(clock: ManualClock) -> AsyncIterator[Stage]:
    presence = SwitchedPresence()
    provider = _Provider()
    transport = httpx.ASGITransport(create_app(provider))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        provider.stage = Stage(memory_services(clock, presence, People()), clock, presence, client)
        yield provider.stage


@pytest.fixture
def ada(stage: Stage) -> Person:
    """The host of most tests."""
    return stage.person("ada")


@pytest.fixture
def ben(stage: Stage) -> Person:
    """A colleague."""
    return stage.person("ben")


@pytest.fixture
def admin(stage: Stage) -> Person:
    """An admin of their tenant."""
    return stage.person("admin")


@pytest.fixture
def stranger(stage: Stage) -> Person:
    """Somebody of another tenant."""
    return stage.person("stranger")
