"""A small Key Vault: keys with versions, wrapKey and unwrapKey, over https as Azure's REST API has them (2025-07-01).

A request without a token is answered by the challenge that the SDK expects; a token has to be for the vault and in its
time, and nobody's signature is checked: this server is for one machine. What it leaves out answers 404 or 400.
"""

import base64
import binascii
import json
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from local.keyvault.keys import Keys, Version

RESOURCE: Final = "https://vault.azure.net"
ALGORITHM: Final = "RSA-OAEP-256"
HEALTH: Final = "/health"
_AUTHORITY: Final = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000"
_CHALLENGE: Final = f'Bearer authorization="{_AUTHORITY}", resource="{RESOURCE}"'
_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview\.\d+)?|7\.\d(-preview\.\d+)?")
_OPERATIONS: Final = ["wrapKey", "unwrapKey"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class VaultError(Exception):
    """Becomes `{"error": {"code", "message"}}` under its status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Vault:
    """The server. `clock` gives seconds since 1970."""

    def __init__(self, keys: Keys | None = None, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys or Keys()
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._checked], client_max_size=64 * 1024)
        app.router.add_get(HEALTH, _health)
        app.router.add_get("/keys", self._list)
        app.router.add_post("/keys/{name}/create", self._create)
        app.router.add_post("/keys/{name}/rotate", self._rotate)
        app.router.add_get("/keys/{name}/versions", self._versions)
        app.router.add_get("/keys/{name}", self._get)
        app.router.add_get("/keys/{name}/{version:[0-9a-f]*}", self._get)
        app.router.add_post("/keys/{name}/{version}/wrapkey", self._wrap)
        app.router.add_post("/keys/{name}/{version}/unwrapkey", self._unwrap)
        return app

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> str:
        """Listens and gives its address. Raises OSError where the port is taken."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        self.url = f"https://{host}:{self._runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path != HEALTH:
                self._check_token(request.headers.get("Authorization", ""))
                if not _VERSION.fullmatch(request.query.get("api-version", "")):
                    raise VaultError(400, "BadParameter", "api-version is missing or unknown")
            return await handler(request)
        except VaultError as error:
            document = {"error": {"code": error.code, "message": str(error)}}
            headers = {"WWW-Authenticate": _CHALLENGE} if error.status == 401 else {}
            return web.json_response(document, status=error.status, headers=headers)

    def _check_token(self, header: str) -> None:
        scheme, _, token = header.partition(" ")
        if scheme != "Bearer":
            raise VaultError(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
        facts = token_facts(token)
        now = self._clock()
        times = [facts.get("nbf"), facts.get("exp")]
        if facts.get("aud") != RESOURCE or not all(isinstance(moment, int) for moment in times):
            raise VaultError(401, "Unauthorized", "AKV10022: Invalid audience.")
        if not facts["nbf"] <= now < facts["exp"]:
            raise VaultError(401, "Unauthorized", "AKV10035: The token is not valid at this time.")

    async def _list(self, request: web.Request) -> web.Response:
        found = [{"kid": f"{self.url}/keys/{name}"} for name in self.keys.names()]
        return web.json_response({"value": found, "nextLink": None})

    async def _create(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if body.get("kty") != "RSA":
            raise VaultError(400, "BadParameter", "this vault makes RSA keys only")
        return self._bundle(_name(request), self.keys.make(_name(request), int(self._clock())))

    async def _rotate(self, request: web.Request) -> web.Response:
        self._found(request)
        return self._bundle(_name(request), self.keys.make(_name(request), int(self._clock())))

    async def _get(self, request: web.Request) -> web.Response:
        return self._bundle(_name(request), self._found(request))

    async def _versions(self, request: web.Request) -> web.Response:
        self._found(request)
        found = [self._facts(_name(request), version) for version in self.keys.versions(_name(request))]
        return web.json_response({"value": found, "nextLink": None})

    async def _wrap(self, request: web.Request) -> web.Response:
        version, value = self._found(request), await _value(request)
        try:
            return self._result(request, version, version.wrap(value))
        except ValueError as error:
            raise VaultError(400, "BadParameter", "the value is too long for the key") from error

    async def _unwrap(self, request: web.Request) -> web.Response:
        version, value = self._found(request), await _value(request)
        try:
            return self._result(request, version, version.unwrap(value))
        except ValueError as error:
            raise VaultError(400, "BadParameter", "the value cannot be unwrapped with the key") from error

    def _found(self, request: web.Request) -> Version:
        name = _name(request)
        found = self.keys.find(name, request.match_info.get("version", ""))
        if found is None:
            raise VaultError(404, "KeyNotFound", f"A key with (name/id) {name} was not found in this key vault.")
        return found

    def _bundle(self, name: str, version: Version) -> web.Response:
        numbers = {
            member: _base64url(number.to_bytes(-(-number.bit_length() // 8), "big"))
            for member, number in version.public_numbers().items()
        }
        facts = self._facts(name, version)
        key = {"kid": facts["kid"], "kty": "RSA", "key_ops": _OPERATIONS, **numbers}
        return web.json_response({"key": key, "attributes": facts["attributes"], "tags": {}})

    def _facts(self, name: str, version: Version) -> dict[str, Any]:
        attributes = {
            "enabled": True,
            "created": version.created,
            "updated": version.created,
            "recoveryLevel": "Recoverable+Purgeable",
        }
        return {"kid": f"{self.url}/keys/{name}/{version.id}", "attributes": attributes}

    def _result(self, request: web.Request, version: Version, value: bytes) -> web.Response:
        kid = self._facts(_name(request), version)["kid"]
        return web.json_response({"kid": kid, "value": _base64url(value)})


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise VaultError(400, "BadParameter", "this is no name of a key")
    return name


async def _body(request: web.Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise VaultError(400, "BadParameter", "the body is no JSON") from error
    if not isinstance(body, dict):
        raise VaultError(400, "BadParameter", "the body is no JSON object")
    return body


async def _value(request: web.Request) -> bytes:
    body = await _body(request)
    if body.get("alg") != ALGORITHM:
        raise VaultError(400, "BadParameter", f"this vault knows {ALGORITHM} only")
    try:
        return _unbase64url(str(body["value"]))
    except (KeyError, ValueError) as error:
        raise VaultError(400, "BadParameter", "the value is no base64url") from error


def token_facts(token: str) -> Mapping[str, Any]:
    """The claims of a JWT; none where it is no JWT."""
    try:
        facts = json.loads(_unbase64url(token.split(".")[1]))
    except (IndexError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("this is no base64url") from error
