"""Who is calling: the bearer token of a request becomes a verified Caller, within their rate limit.

The first sight of a token stores the user and audits the login, once per token and instance (the audit's id is derived
from the token's, so that instances write one entry). Refused tokens are audited too, at a bounded rate: a flood of
garbage must not fill the audit log.
"""

import hashlib
from collections import OrderedDict
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.ids import EventId
from conference.domain.meetings import User
from conference.domain.policies import created_id
from conference.domain.records import AuditAction, AuditEvent
from conference.ports.limits import Bucket
from functions.services import Services, ServicesProvider

MAX_TOKEN_BYTES: Final = 16 * 1024
_MINUTE_S: Final = 60.0
_REFUSALS_AUDITED: Final = Bucket(60, _MINUTE_S)
_KNOWN_TOKENS: Final = 10_000

bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", scheme_name="oidc", description="ID or access token of the OIDC issuer."
)


class Gatekeeper:
    """Verifies callers. One a process: it remembers which tokens it has seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    async def admit(self, services: Services, token: str | None) -> Caller:
        """The caller. Raises Refused: unauthenticated, token-refused, rate-limited."""
        if not token:
            raise Refused("unauthenticated")
        try:
            caller = await self._verified(services, token)
        except Refused as refused:
            await _audit_refusal(services, str(refused.extra.get("cause", "malformed")))
            raise
        await self._limit(services, caller)
        await self._remember(services, caller, token)
        return caller

    async def _verified(self, services: Services, token: str) -> Caller:
        if len(token) > MAX_TOKEN_BYTES:
            raise Refused("token-refused", extra={"cause": "oversize"})
        if not token.isascii():
            raise Refused("token-refused", extra={"cause": "claims"})
        return await services.callers.verify(token, services.clock.now())

    async def _limit(self, services: Services, caller: Caller) -> None:
        bucket = Bucket(services.config.requests_per_minute, _MINUTE_S)
        wait_s = await services.limiter.take(f"api:{caller.user_id}", bucket, services.clock.now())
        if wait_s > 0:
            raise Refused("rate-limited", extra={"retryAfterS": wait_s})

    async def _remember(self, services: Services, caller: Caller, token: str) -> None:
        token_id = caller.token_id or hashlib.sha256(token.encode()).hexdigest()
        seen = (caller.user_id, token_id, caller.display_name, caller.email)
        if seen in self._seen:
            self._seen.move_to_end(seen)
            return
        now = services.clock.now()
        await services.users.upsert(User(caller.user_id, caller.tenant_id, caller.email, caller.display_name, now))
        login = EventId(created_id(caller.user_id, "login", token_id))
        await services.audit.write(AuditEvent(login, AuditAction.LOGIN, now, "ok", caller.tenant_id, caller.user_id))
        self._seen[seen] = None
        if len(self._seen) > _KNOWN_TOKENS:
            self._seen.popitem(last=False)


async def _audit_refusal(services: Services, cause: str) -> None:
    """A refused caller's token is a failed login and a token refusal: both lists of the audit name it."""
    now = services.clock.now()
    if await services.limiter.take("audit:refused-callers", _REFUSALS_AUDITED, now) > 0:
        return
    detail = {"token": "caller", "cause": cause}
    for action in (AuditAction.LOGIN, AuditAction.TOKEN_REFUSED):
        await services.audit.write(AuditEvent(EventId(services.ids.new()), action, now, "token-refused", detail=detail))


async def _services(request: Request) -> Services:
    provider: ServicesProvider = request.app.state.provider
    return await provider.services()


ServicesOf = Annotated[Services, Depends(_services)]


async def _caller(
    request: Request,
    services: ServicesOf,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    gatekeeper: Gatekeeper = request.app.state.gatekeeper
    return await gatekeeper.admit(services, credentials.credentials if credentials else None)


CallerOf = Annotated[Caller, Depends(_caller)]
