"""The two requests of the REST API that a call needs (docs/api.md): who am I, and a place in a room.

Refusals are problem documents; their slug becomes `JoinRefused.code`. The bearer token is asked for before each
request where it is given as a function, so that a bot outlives its first token.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from parley_client.errors import JoinRefused, Unreachable

Token = str | Callable[[], Awaitable[str]]
REQUEST_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class IceServer:
    """RTCIceServer. The credential stays out of `repr`."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, server: dict[str, Any]) -> "IceServer":
        return cls(tuple(server["urls"]), server.get("username"), server.get("credential"))


@dataclass(frozen=True, slots=True)
class Grant:
    """A place in a room: `token` is good for one JoinRoom, until `expiresAt` (some minutes)."""

    participant_id: str
    token: str = field(repr=False)
    signaling_url: str
    ice_servers: tuple[IceServer, ...]


class Api:
    def __init__(self, http: aiohttp.ClientSession, origin: str, token: Token) -> None:
        self._http = http
        self._origin = origin.rstrip("/")
        self._token = token
        self._user_id = ""

    async def user_id(self) -> str:
        """The caller's id. Raises JoinRefused, Unreachable."""
        if not self._user_id:
            self._user_id = str((await self._ask("GET", "/v1/users/me/profile"))["id"])
        return self._user_id

    async def join(self, room_id: str, *, password: str | None = None, consent_token: str | None = None) -> Grant:
        """POST /v1/rooms/{id}/join. Raises JoinRefused (`room-full`, `consent-required`, ...), Unreachable."""
        wish = {"userId": await self.user_id(), "password": password, "consentToken": consent_token}
        body = {name: value for name, value in wish.items() if value is not None}
        made = await self._ask("POST", f"/v1/rooms/{room_id}/join", body)
        try:
            servers = tuple(IceServer.of(server) for server in made.get("iceServers", ()))
            return Grant(str(made.get("participantId", "")), made["token"], made["signalingUrl"], servers)
        except (KeyError, TypeError) as error:
            raise Unreachable(f"the answer to the join cannot be read: {error!r}") from None

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        token = self._token if isinstance(self._token, str) else await self._token()
        headers = {"Authorization": f"Bearer {token}"}
        limit = aiohttp.ClientTimeout(total=REQUEST_S)
        try:
            async with self._http.request(
                method, self._origin + path, json=body, headers=headers, timeout=limit
            ) as answer:
                document = await answer.json(content_type=None)
                status = answer.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{self._origin} does not answer: {type(error).__name__}") from None
        if not isinstance(document, dict):
            raise Unreachable(f"{self._origin} gives no JSON object at {path} ({status})")
        if status >= 500:
            raise Unreachable(f"{self._origin} is not able to answer {path} ({status})")
        if status >= 400:
            slug = str(document.get("type", "")).rpartition("/")[2] or "refused"
            raise JoinRefused(slug, str(document.get("detail") or document.get("title") or ""), status)
        return document
