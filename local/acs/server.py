"""Azure Communication Services over HTTP: identity, rooms and e-mail, as far as Parley calls them.

Every request is checked: the API version, which is the one that today's SDKs send; then the signature, or the bearer
token that the resource takes. Faults can be ordered, in the process or at `POST /faults` with the access key.
"""

import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from local.acs.faults import Faults, Handler
from local.acs.signing import decode_key, fault_of
from local.acs.state import BadRequest, Conflict, NotFound, Resource

MAX_BODY: Final = 1024 * 1024
VERSIONS: Final = {"identities": "2023-10-01", "rooms": "2025-03-13", "emails": "2025-09-01"}
POLLS_UNTIL_SENT: Final = 1
_OPEN: Final = frozenset({"/health", "/ready", "/faults"})


class AcsServer:
    """`access_key` in base64; `bearer` is a token that is taken besides; `clock` gives seconds since the epoch."""

    def __init__(self, access_key: str, clock: Callable[[], float], *, bearer: str | None = None) -> None:
        self.resource = Resource()
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []  # method and path of all that were signed
        self._access_key, self._key = access_key, decode_key(access_key)
        self._bearer = bearer
        self._clock = clock

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._errors, self._checked, self._faulty])
        room, identity = "/rooms/{room}", "/identities/{identity}"
        app.add_routes(
            [
                web.get("/health", _health),
                web.get("/ready", _health),
                web.post("/faults", self.order_fault),
                web.post("/identities", self.create_identity),
                web.post(f"{identity}/:issueAccessToken", self.issue_token),
                web.post(f"{identity}/:revokeAccessTokens", self.revoke_tokens),
                web.delete(identity, self.delete_identity),
                web.post("/rooms", self.create_room),
                web.get("/rooms", self.list_rooms),
                web.get(room, self.get_room),
                web.patch(room, self.update_room),
                web.delete(room, self.delete_room),
                web.get(f"{room}/participants", self.list_participants),
                web.patch(f"{room}/participants", self.update_participants),
                web.post("/emails:send", self.send_email),
                web.get("/emails/operations/{operation}", self.email_status),
            ]
        )
        return app

    # --- identities ---

    async def create_identity(self, request: web.Request) -> web.Response:
        body = await _body(request)
        answer: dict[str, Any] = {"identity": {"id": self.resource.new_identity()}}
        if body.get("createTokenWithScopes"):
            answer["accessToken"] = self._token(answer["identity"]["id"], body["createTokenWithScopes"], body)
        return web.json_response(answer, status=201)

    async def issue_token(self, request: web.Request) -> web.Response:
        body = await _body(request)
        return web.json_response(self._token(request.match_info["identity"], body.get("scopes"), body))

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        self.resource.revoke(request.match_info["identity"])
        return web.Response(status=204)

    async def delete_identity(self, request: web.Request) -> web.Response:
        self.resource.delete_identity(request.match_info["identity"])
        return web.Response(status=204)

    def _token(self, identity: str, scopes: object, body: dict[str, Any]) -> dict[str, str]:
        token, expires = self.resource.token(identity, scopes, body.get("expiresInMinutes"), self._now())
        return {"token": token, "expiresOn": expires.isoformat()}

    # --- rooms ---

    async def create_room(self, request: web.Request) -> web.Response:
        request_id = request.headers.get("Repeatability-Request-Id", "")
        room = self.resource.create_room(await _body(request), request_id, self._now())
        return web.json_response(room.shown(), status=201, headers={"Repeatability-Result": "accepted"})

    async def list_rooms(self, request: web.Request) -> web.Response:
        return web.json_response({"value": [room.shown() for room in self.resource.rooms.values()]})

    async def get_room(self, request: web.Request) -> web.Response:
        return web.json_response(self.resource.room(request.match_info["room"]).shown())

    async def update_room(self, request: web.Request) -> web.Response:
        room = self.resource.update_room(request.match_info["room"], await _body(request), self._now())
        return web.json_response(room.shown())

    async def delete_room(self, request: web.Request) -> web.Response:
        self.resource.delete_room(request.match_info["room"])
        return web.Response(status=204)

    async def list_participants(self, request: web.Request) -> web.Response:
        roster = self.resource.room(request.match_info["room"]).roster
        return web.json_response({"value": [{"rawId": identity, "role": role} for identity, role in roster.items()]})

    async def update_participants(self, request: web.Request) -> web.Response:
        self.resource.update_roster(request.match_info["room"], await _body(request))
        return web.json_response({})

    # --- e-mail ---

    async def send_email(self, request: web.Request) -> web.Response:
        operation_id = request.headers.get("Operation-Id", "")
        if not operation_id:
            raise BadRequest("Operation-Id is missing")
        self.resource.send(operation_id, await _body(request))
        version = VERSIONS["emails"]
        place = f"{request.scheme}://{request.host}/emails/operations/{operation_id}?api-version={version}"
        headers = {"Operation-Location": place, "Retry-After": "0"}
        return web.json_response({"id": operation_id, "status": "Running"}, status=202, headers=headers)

    async def email_status(self, request: web.Request) -> web.Response:
        email = self.resource.emails.get(request.match_info["operation"])
        if email is None:
            raise NotFound("operation")
        email.polls += 1
        status = "Succeeded" if email.polls > POLLS_UNTIL_SENT else "Running"
        return web.json_response({"id": email.operation_id, "status": status}, headers={"Retry-After": "0"})

    # --- what every request meets ---

    async def order_fault(self, request: web.Request) -> web.Response:
        """`{kind, times?, path?, seconds?, retry_after_s?}`; `{}` takes all back."""
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Key {self._access_key}".encode()):
            return _error(401, "Denied", "the access key is not right")
        body = await _body(request)
        try:
            if body:
                self.faults.order(**body)
            else:
                self.faults.clear()
        except (TypeError, ValueError) as error:
            raise BadRequest(str(error)) from None
        return web.Response(status=204)

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadRequest as error:
            return _error(400, "BadRequest", str(error))
        except NotFound:
            return _error(404, "NotFound", "there is no such thing")
        except Conflict:
            return _error(409, "Conflict", "the operation is of another message")

    @web.middleware
    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        service = request.path.strip("/").partition("/")[0].partition(":")[0]
        if request.query.get("api-version") != VERSIONS.get(service):
            return _error(400, "UnsupportedApiVersion", "the API version is not one of this server")
        if not self._is_bearer(request):
            fault = fault_of(
                self._key, request.method, request.raw_path, request.headers, await request.read(), self._clock()
            )
            if fault is not None:
                return _error(401, "Denied", fault)
        self.requests.append((request.method, request.path))
        return await handler(request)

    def _is_bearer(self, request: web.Request) -> bool:
        if self._bearer is None:
            return False
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._bearer}".encode())

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        return await self.faults.meet(request, handler, _refusal)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _refusal(status: int) -> web.Response:
    return _error(status, "TooManyRequests" if status == 429 else "ServiceUnavailable", "ordered")


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object of the body; empty where there is none. Raises BadRequest."""
    text = await request.read()
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        raise BadRequest("the body is no JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is no object")
    return body


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
