"""Port `MediaProvider` on a LiveKit server or LiveKit Cloud.

A room is named after its meeting, so that making it again finds it; LiveKit drops a room that stands empty, and each
admission makes it anew. An access is a JWT signed here with the API's secret: only its holder's connection is checked,
and LiveKit renews it while they are connected. Identities are our user ids.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
from livekit import api

from conference.adapters import tls
from conference.adapters.retries import Failure, Retries
from conference.domain.addresses import is_loopback
from conference.domain.ids import Secret, UserId
from conference.domain.meetings import Role
from conference.ports.media_provider import ProviderAccess, RoomPlan

T = TypeVar("T")
log = logging.getLogger(__name__)
SERVICE: Final = "LiveKit"
EMPTY_S: Final = 600  # how long a room may wait for its first guest
_BUSY: Final = frozenset({429, 503})
_NOT_FOUND: Final = "not_found"


class LiveKitRooms:
    """Over the server at `url` (ws, wss, http or https), which is also the clients' address."""

    def __init__(
        self,
        url: str,
        key: str,
        secret: Secret,
        *,
        token_life: timedelta = timedelta(minutes=10),
        ca_file: Path | None = None,
        retries: Retries | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ValueError("PARLEY_LIVEKIT_URL is no wss or https address.")
        if parts.scheme in ("ws", "http") and not is_loopback(parts.hostname):
            raise ValueError("PARLEY_LIVEKIT_URL has to be a wss or https address: others are for this machine only.")
        self.clients_url = parts._replace(scheme=parts.scheme.replace("http", "ws")).geturl()
        self._url, self._key, self._secret = url, key, secret
        self._token_life = token_life
        self._retries = retries or Retries()
        self._tls = tls.context(ca_file)
        self._session: aiohttp.ClientSession | None = None

    @property
    def token_life(self) -> timedelta:
        return self._token_life

    async def new_identity(self, user_id: UserId) -> str:
        return user_id

    async def drop_identity(self, identity: str) -> None:
        return None

    async def open_room(self, plan: RoomPlan, roster: Mapping[str, Role]) -> str | None:
        request = api.CreateRoomRequest(
            name=plan.meeting_id, empty_timeout=EMPTY_S, max_participants=plan.max_participants
        )
        room = await self._run(lambda service: service.create_room(request))
        return str(room.name)

    async def admit(self, plan: RoomPlan, room_id: str, identity: str, role: Role, *, now: datetime) -> ProviderAccess:
        await self.open_room(plan, {})
        token = api.AccessToken(self._key, self._secret.reveal()).with_identity(identity).with_ttl(self._token_life)
        jwt = token.with_grants(_grants(room_id, role)).to_jwt()
        return ProviderAccess(room_id, identity, self.clients_url, Secret(jwt), now + self._token_life)

    async def change_role(self, room_id: str, identity: str, role: Role) -> None:
        may_publish = role is not Role.VIEWER
        permission = api.ParticipantPermission(
            can_subscribe=True, can_publish=may_publish, can_publish_data=may_publish
        )
        request = api.UpdateParticipantRequest(room=room_id, identity=identity, permission=permission)
        await self._run_until_gone(lambda service: service.update_participant(request))

    async def revoke(self, room_id: str, identity: str, *, now: datetime) -> None:
        # Tokens of before this second are void, also those of somebody who is not connected yet.
        request = api.RoomParticipantIdentity(room=room_id, identity=identity, revoke_token_ts=int(now.timestamp()) + 1)
        await self._run_until_gone(lambda service: service.remove_participant(request))

    async def close_room(self, room_id: str) -> None:
        await self._run_until_gone(lambda service: service.delete_room(api.DeleteRoomRequest(room=room_id)))

    async def close(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _run(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """Every call of the room service may be repeated: it sets a state. Raises Unavailable."""
        if self._session is None:  # made here, since it belongs to the loop that is running
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        # The SDK's own repetition has no jitter; ours takes its place.
        client = api.LiveKitAPI(self._url, self._key, self._secret.reveal(), session=self._session, failover=False)
        return await self._retries.run(SERVICE, lambda: call(client.room), _judge)

    async def _run_until_gone(self, call: Callable[[Any], Awaitable[object]]) -> None:
        async def tolerant(service: Any) -> None:
            try:
                await call(service)
            except api.TwirpError as error:
                if error.code != _NOT_FOUND:
                    raise

        await self._run(tolerant)


def _grants(room_id: str, role: Role) -> api.VideoGrants:
    """What a role may do. Nobody moderates at LiveKit itself: that goes through our own API, which tells LiveKit."""
    may_publish = role is not Role.VIEWER
    return api.VideoGrants(
        room_join=True,
        room=room_id,
        can_subscribe=True,
        can_publish=may_publish,
        can_publish_data=may_publish,
        can_update_own_metadata=False,
    )


def _judge(error: Exception) -> Failure | None:
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure(untouched=True)
    if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError):
        return Failure()
    if not isinstance(error, api.TwirpError):
        return None
    if error.status in _BUSY:
        return Failure(untouched=True)
    if error.status >= 500:
        return Failure()
    log.error("request refused", extra={"service": SERVICE, "status": error.status})
    return Failure(retryable=False)
