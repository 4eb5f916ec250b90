"""What the provider can be told to do wrong, for tests and for debugging a client: only there with debug hooks.

A PUT to `{tenant}/admin/faults` by the command-line client replaces all of them; `{}` ends them. They change what is
answered and what tokens say, never what the provider accepts. Rotation is not here: two calls of `admin/rotate` in a
row sign with a key that no cache has seen.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Middleware

MAX_SLOW_S: Final = 60.0
MAX_SHIFT_S: Final = 7 * 24 * 3600.0
FORMS: Final = ("v2", "v1", "b2c")
DOWN: Final = ("", "503", "reset")
_TIMES: Final = ("iat", "nbf", "exp")


@dataclass(frozen=True)
class Faults:
    """The faults at work.

    Attributes:
        down: "503" for every request, or "reset": the connection is cut without an answer.
        slow_s: seconds before every answer.
        shift_s: how far the clock that stamps tokens is ahead; negative: behind.
        form: which of Microsoft's issuers tokens imitate: Entra ID ("v2"), its version 1.0, or B2C.
        claims: claims of every token that are replaced, or left out where the value is null.
        discovery_issuer: what the discovery document says instead of the issuer.
    """

    down: str = ""
    slow_s: float = 0.0
    shift_s: float = 0.0
    form: str = "v2"
    claims: dict[str, Any] = field(default_factory=dict)
    discovery_issuer: str = ""


def read_faults(body: bytes) -> Faults:
    """The faults of a JSON object with some of their names. Raises ValueError that says what is wrong."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("The body is not JSON.") from None
    if not isinstance(asked, dict):
        raise ValueError("The body is not an object.")
    unknown = asked.keys() - {each.name for each in fields(Faults)}
    if unknown:
        raise ValueError("A name is not known.")
    faults = Faults(**asked)
    if faults.down not in DOWN or faults.form not in FORMS:
        raise ValueError(f"down is one of {DOWN}, form one of {FORMS}.")
    if not _is_within(faults.slow_s, 0, MAX_SLOW_S) or not _is_within(faults.shift_s, -MAX_SHIFT_S, MAX_SHIFT_S):
        raise ValueError("A number of seconds is out of its range.")
    claims, issuer = asked.get("claims", {}), asked.get("discovery_issuer", "")
    if not isinstance(claims, dict) or not isinstance(issuer, str):
        raise ValueError("claims is an object, discovery_issuer a text.")
    return faults


class Switches:
    """Holds the faults. `root` is the tenant's address."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.faults = Faults()

    def issuer(self, path: str, root: str) -> str:
        """What the discovery document at this path, under the tenant's, calls its issuer."""
        if self.faults.discovery_issuer:
            return self.faults.discovery_issuer
        if path.startswith("/b2c_1_signin/"):
            return f"{root}/v2.0/"
        return f"{root}/v2.0" if path.startswith("/v2.0/") else f"{root}/"

    def shape(self, claims: dict[str, Any]) -> dict[str, Any]:
        """A token's claims as the faults have them."""
        shaped = claims | {name: claims[name] + int(self.faults.shift_s) for name in _TIMES}
        shaped = _FORMS[self.faults.form](shaped, self._root) | self.faults.claims
        return {name: value for name, value in shaped.items() if value is not None}


def faulty(switches: Switches, spared: str) -> Middleware:
    """Slows requests down and fails them. Paths that begin with `spared` go on, so that the faults can be ended."""

    @web.middleware
    async def apply(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.startswith(spared):
            return await handler(request)
        faults = switches.faults
        await asyncio.sleep(faults.slow_s)
        if faults.down == "reset" and request.transport is not None:
            request.transport.abort()
        if faults.down:
            return web.Response(status=503, headers={"Retry-After": "1"})
        return await handler(request)

    return apply


def _v1(claims: dict[str, Any], root: str) -> dict[str, Any]:
    """Version 1.0, as `https://sts.windows.net/{tid}/` writes it."""
    renamed = {"azp": "appid", "azpacr": "appidacr", "preferred_username": "unique_name"}
    shaped = {renamed.get(name, name): value for name, value in claims.items()}
    return shaped | {"iss": f"{root}/", "ver": "1.0"}


def _b2c(claims: dict[str, Any], root: str) -> dict[str, Any]:
    """B2C: the subject is the object id, the policy is named, and neither tenant nor user name is there."""
    kept = {name: value for name, value in claims.items() if name not in ("tid", "oid", "preferred_username", "email")}
    emails = {"emails": [claims["email"]]} if "email" in claims else {}
    return kept | emails | {"iss": f"{root}/v2.0/", "ver": "1.0", "sub": claims["oid"], "tfp": "B2C_1_signin"}


_FORMS: Final[dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]] = {
    "v2": lambda claims, _root: claims,
    "v1": _v1,
    "b2c": _b2c,
}


def _is_within(value: object, least: float, most: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return False
    return least <= value <= most
