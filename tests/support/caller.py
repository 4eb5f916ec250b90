"""Somebody at the REST API of a running system, signed in at its local identity provider."""

from typing import Any

import aiohttp

from conference.adapters.system import SystemIds
from local.identity.client import IdentityClient
from tests.support.media import Person


class Caller:
    """Somebody at the REST API."""

    def __init__(self, http: aiohttp.ClientSession, origin: str, token: str, user_id: str) -> None:
        self._http, self._origin, self._token = http, origin, token
        self.user_id = user_id

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": SystemIds().new()}
        async with self._http.post(self._origin + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def make_meeting(self, settings: dict[str, Any], **fields: Any) -> str:
        status, meeting = await self.post("/v1/meetings", {"hostId": self.user_id, "settings": settings, **fields})
        assert status == 201, meeting
        return str(meeting["id"])


async def call_as(http: aiohttp.ClientSession, origin: str, person: Person) -> Caller:
    async with http.get(f"{origin}/config.json") as answer:
        issuer = (await answer.json())["issuer"]
    tokens = await IdentityClient(http, issuer, f"{origin}/").sign_in(person.login)
    headers = {"Authorization": f"Bearer {tokens.id_token}"}
    async with http.get(f"{origin}/v1/users/me/profile", headers=headers) as answer:
        return Caller(http, origin, tokens.id_token, (await answer.json())["id"])
