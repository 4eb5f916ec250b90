"""Media providers under test, each with a look into the service behind it."""

import base64
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web
from azure.core.credentials import AzureKeyCredential

from conference.adapters.acs.rooms import AcsRooms
from conference.adapters.livekit import LiveKitRooms
from conference.adapters.memory.media_provider import MemoryMediaProvider
from conference.adapters.retries import Retries
from conference.domain.ids import Secret
from conference.domain.meetings import Role
from conference.ports.media_provider import MediaProvider, ProviderAccess
from local.acs.faults import Faults
from local.acs.server import AcsServer
from tests.support.livekit_server import KEY, SECRET, LiveKitServer

ACS_KEY: Final = base64.b64encode(b"a key of thirty-two bytes, tested").decode()
QUICK: Final = Retries(attempt_s=0.4, total_s=3.0, base_s=0.01, wait_s=0.5)
_ACS_ROLES: Final = {"Presenter": Role.HOST, "Attendee": Role.ATTENDEE, "Consumer": Role.VIEWER}


@asynccontextmanager
async def served(application: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The origin of the application on a free loopback port."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Behind(ABC):
    """The provider and what stands behind it."""

    provider: MediaProvider
    faults: Faults

    @abstractmethod
    def rooms(self) -> int:
        """How many rooms there are."""

    @abstractmethod
    def calls(self, what: str) -> int:
        """How many requests to make or take away were made; `what` is room or identity."""

    @abstractmethod
    def role_of(self, access: ProviderAccess) -> Role | None:
        """As whom the holder of the access is let in now; None where they are not."""


class BehindAcs(Behind):
    def __init__(self, server: AcsServer, provider: AcsRooms) -> None:
        self.server, self.provider, self.faults = server, provider, server.faults

    def rooms(self) -> int:
        return len(self.server.resource.rooms)

    def calls(self, what: str) -> int:
        return self.server.requests.count(("POST", "/rooms" if what == "room" else "/identities"))

    def role_of(self, access: ProviderAccess) -> Role | None:
        role = self.server.resource.may_enter(access.room_id, access.token.reveal(), datetime.now(UTC))
        return _ACS_ROLES[role] if role else None


class BehindLiveKit(Behind):
    """LiveKit knows no host: who may speak is one."""

    def __init__(self, server: LiveKitServer, provider: LiveKitRooms) -> None:
        self.server, self.provider, self.faults = server, provider, server.faults

    def rooms(self) -> int:
        return len(self.server.rooms)

    def calls(self, what: str) -> int:
        return self.server.requests.count("CreateRoom") if what == "room" else 0

    def role_of(self, access: ProviderAccess) -> Role | None:
        may = self.server.connect(access.token.reveal())
        if may is None or not may["canSubscribe"]:
            return None
        return Role.ATTENDEE if may["canPublish"] and may["canPublishData"] else Role.VIEWER


class BehindMemory(Behind):
    def __init__(self, provider: MemoryMediaProvider) -> None:
        self.provider: MemoryMediaProvider = provider
        self.faults = Faults()

    def rooms(self) -> int:
        return len(self.provider.rooms)

    def calls(self, what: str) -> int:
        return 0

    def role_of(self, access: ProviderAccess) -> Role | None:
        room = self.provider.rooms.get(access.room_id)
        identity = self.provider.tokens.get(access.token.reveal())
        return room.roster.get(identity) if room and identity else None


@asynccontextmanager
async def behind_acs(retries: Retries = QUICK) -> AsyncIterator[BehindAcs]:
    server = AcsServer(ACS_KEY, time.time)
    async with served(server.application()) as origin:
        provider = AcsRooms(origin, AzureKeyCredential(ACS_KEY), retries=retries)
        yield BehindAcs(server, provider)
        await provider.close()


@asynccontextmanager
async def behind_livekit(retries: Retries = QUICK) -> AsyncIterator[BehindLiveKit]:
    server = LiveKitServer()
    async with served(server.application()) as origin:
        provider = LiveKitRooms(origin, KEY, Secret(SECRET), retries=retries)
        yield BehindLiveKit(server, provider)
        await provider.close()


@asynccontextmanager
async def behind_memory() -> AsyncIterator[BehindMemory]:
    yield BehindMemory(MemoryMediaProvider(timedelta(hours=1)))
