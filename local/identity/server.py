"""The provider over HTTP: discovery, keys, authorize, token, logout, at Entra ID's paths with the tenant in front.

`/identity/{tenant}/v2.0/.well-known/openid-configuration` names the rest. Addresses that a browser opens are always at
the public origin; addresses that a server calls (keys, token) are given at the origin that was asked, so that a process
behind the edge needs neither the edge nor its certificate. The issuer is the public one in every case.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from conference.domain.addresses import is_loopback
from local.identity import pages
from local.identity.authorize import Issue, Pick, Refuse, SendError, answer_address, decide
from local.identity.clients import Clients, origin_of
from local.identity.faults import Switches, faulty, read_faults
from local.identity.grants import Grant, Grants, InvalidGrant
from local.identity.keys import KeySet
from local.identity.tokens import SCOPE, TOKEN_SECONDS, TokenMaker

MAX_BODY = 16 * 1024
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class TokenError(Exception):
    """An error answer of the token endpoint (RFC 6749 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.status = error, description, status


@dataclass(frozen=True)
class Provider:
    """All that the handlers need. `clock` gives seconds since the epoch; `switches` are there with debug hooks only."""

    tenant: str
    public_url: str
    clients: Clients
    keys: KeySet
    tokens: TokenMaker
    cli_object_id: str
    clock: Callable[[], float]
    grants: Grants = field(default_factory=Grants)
    switches: Switches | None = None

    @property
    def root(self) -> str:
        """The path of the tenant."""
        return f"/identity/{self.tenant}"

    def application(self) -> web.Application:
        """The aiohttp application. Another tenant's paths answer 404."""
        root, switches = self.root, self.switches
        middlewares = [_guard] if switches is None else [faulty(switches, f"{root}/admin/"), _guard]
        app = web.Application(client_max_size=MAX_BODY, middlewares=middlewares)
        app.add_routes(
            [
                web.get("/health", _health),
                web.get("/ready", _health),
                web.get(f"{root}/v2.0/.well-known/openid-configuration", self.discovery),
                web.get(f"{root}/discovery/v2.0/keys", self.published_keys),
                web.get(f"{root}/oauth2/v2.0/authorize", self.authorize),
                web.post(f"{root}/oauth2/v2.0/authorize", self.authorize),
                web.post(f"{root}/oauth2/v2.0/token", self.token),
                web.options(f"{root}/oauth2/v2.0/token", self.preflight),
                web.get(f"{root}/oauth2/v2.0/logout", self.logout),
                web.post(f"{root}/admin/rotate", self.rotate),
                web.get(f"{root}/style.css", _style),
            ]
        )
        if switches is not None:
            app.add_routes(
                [
                    web.put(f"{root}/admin/faults", self.set_faults),
                    web.get(f"{root}/.well-known/openid-configuration", self.discovery),  # as version 1.0 has it
                    web.get(f"{root}/b2c_1_signin/v2.0/.well-known/openid-configuration", self.discovery),
                ]
            )
        return app

    async def discovery(self, request: web.Request) -> web.Response:
        """The discovery document (OpenID Connect Discovery 3)."""
        front, back = self.public_url + self.root, self._back_channel(request) + self.root
        issuer = f"{front}/v2.0"
        if self.switches is not None:
            issuer = self.switches.issuer(request.path.removeprefix(self.root), front)
        document = {
            "issuer": issuer,
            "authorization_endpoint": f"{front}/oauth2/v2.0/authorize",
            "token_endpoint": f"{back}/oauth2/v2.0/token",
            "jwks_uri": f"{back}/discovery/v2.0/keys",
            "end_session_endpoint": f"{front}/oauth2/v2.0/logout",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment"],
            "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access", SCOPE],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
            "claims_supported": [
                "aud",
                "email",
                "exp",
                "iss",
                "name",
                "nonce",
                "oid",
                "preferred_username",
                "roles",
                "sub",
                "tid",
            ],
        }
        return web.json_response(document, headers={"Access-Control-Allow-Origin": "*"})

    async def published_keys(self, _request: web.Request) -> web.Response:
        """The JSON Web Key Set."""
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=60"}
        return web.json_response(self.keys.published(self.clock()), headers=headers)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Shows the picker, or sends the browser back with a code or an error."""
        pairs = list(request.query.items()) if request.method == "GET" else await _form(request)
        asked = dict(pairs)
        if len(asked) != len(pairs):
            return self._page(pages.refusal(self._style, "A parameter came twice."), status=400)
        outcome = decide(asked, self.clients)
        match outcome:
            case Refuse(reason):
                return self._page(pages.refusal(self._style, reason), status=400)
            case Pick(redirect_uri, problem):
                page = pages.picker(f"{self.root}/oauth2/v2.0/authorize", self._style, asked, problem=problem)
                return self._page(page, form_action=origin_of(redirect_uri))
            case SendError(redirect_uri, error, description):
                answer = {"error": error, "error_description": description}
            case Issue(grant):
                redirect_uri = grant.redirect_uri
                answer = {"code": self.grants.issue_code(grant, self.clock())}
        answer["iss"] = self.tokens.issuer  # RFC 9207: tells which provider answered
        location = answer_address(redirect_uri, asked, answer)
        return web.Response(status=302, headers=_NO_STORE | {"Location": location, "Referrer-Policy": "no-referrer"})

    async def token(self, request: web.Request) -> web.Response:
        """Exchanges a code, a refresh token or a client's secret for tokens."""
        headers = _NO_STORE | self._cors(request)
        try:
            pairs = await _form(request)
            asked = dict(pairs)
            if len(asked) != len(pairs):
                raise TokenError("invalid_request", "A parameter came twice.")
            client_id = self._authenticate(request, asked)
            exchange = _GRANT_TYPES.get(asked.get("grant_type", ""))
            if exchange is None:
                raise TokenError("unsupported_grant_type", "This grant type is not supported.")
            return web.json_response(exchange(self, asked, client_id), headers=headers)
        except TokenError as error:
            if error.status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="token"'
            body = {"error": error.error, "error_description": error.description}
            return web.json_response(body, status=error.status, headers=headers)

    async def preflight(self, request: web.Request) -> web.Response:
        """The CORS preflight of the token endpoint."""
        return web.Response(status=204, headers=self._cors(request))

    async def logout(self, request: web.Request) -> web.Response:
        """Ends the sign-in. There is no session here, so it only leads the browser back."""
        back = request.query.get("post_logout_redirect_uri", "")
        if back and not self.clients.allows_redirect(back):
            return self._page(pages.refusal(self._style, "The address to return to is not registered."), status=400)
        if not back:
            return self._page(pages.goodbye(self._style))
        return web.Response(status=302, headers=_NO_STORE | {"Location": answer_address(back, request.query, {})})

    async def rotate(self, request: web.Request) -> web.Response:
        """Takes the next signing key now. For the command-line client only."""
        if not self._is_admin(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="admin"'})
        return web.json_response({"kid": self.keys.rotate(self.clock()).kid}, headers=_NO_STORE)

    async def set_faults(self, request: web.Request) -> web.Response:
        """Takes the faults of the body in place of the former ones. For the command-line client only."""
        if self.switches is None or not self._is_admin(request):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="admin"'})
        try:
            self.switches.faults = read_faults(await request.read())
        except ValueError as error:
            return web.json_response({"error": "invalid_request", "error_description": str(error)}, status=400)
        return web.Response(status=204, headers=_NO_STORE)

    def _is_admin(self, request: web.Request) -> bool:
        return self.clients.proves_itself(*_basic(request))

    def exchange_code(self, asked: dict[str, str], client_id: str) -> dict[str, object]:
        """Grant type authorization_code (RFC 6749 4.1.3, RFC 7636 4.5)."""
        verifier = asked.get("code_verifier", "")
        if not 43 <= len(verifier) <= 128 or not asked.get("code"):
            raise TokenError("invalid_request", "A code and a code verifier of 43 to 128 characters are required.")
        now = self.clock()
        try:
            grant, refresh = self.grants.redeem_code(
                asked["code"], client_id, asked.get("redirect_uri", ""), verifier, now
            )
        except InvalidGrant as error:
            raise TokenError("invalid_grant", str(error)) from None
        return self._tokens(grant, refresh, now)

    def exchange_refresh(self, asked: dict[str, str], client_id: str) -> dict[str, object]:
        """Grant type refresh_token (RFC 6749 6)."""
        now = self.clock()
        try:
            grant, refresh = self.grants.redeem_refresh(asked.get("refresh_token", ""), client_id, now)
        except InvalidGrant as error:
            raise TokenError("invalid_grant", str(error)) from None
        return self._tokens(grant, refresh, now)

    def exchange_secret(self, asked: dict[str, str], client_id: str) -> dict[str, object]:
        """Grant type client_credentials (RFC 6749 4.4)."""
        if not self.clients.is_confidential(client_id):
            raise TokenError("unauthorized_client", "This client has no secret.")
        token = self.tokens.app_token(client_id, self.cli_object_id, self.clock())
        return {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "access_token": token}

    def _tokens(self, grant: Grant, refresh: str, now: float) -> dict[str, object]:
        return {
            "token_type": "Bearer",
            "scope": grant.scope,
            "expires_in": TOKEN_SECONDS,
            "access_token": self.tokens.access_token(grant, now),
            "id_token": self.tokens.id_token(grant, now),
            "refresh_token": refresh,
        }

    def _authenticate(self, request: web.Request, asked: dict[str, str]) -> str:
        """The client that asks. Raises TokenError where it is unknown or its secret is wrong."""
        client_id, secret = asked.get("client_id", ""), asked.get("client_secret", "")
        if "Authorization" in request.headers:
            if secret:
                raise TokenError("invalid_request", "One way of client authentication is enough.")
            client_id, secret = _basic(request)
        if self.clients.is_confidential(client_id):
            if not self.clients.proves_itself(client_id, secret):
                raise TokenError("invalid_client", "The client's secret is not right.", 401)
        elif secret or not self.clients.may_use_code_flow(client_id):
            raise TokenError("invalid_client", "The client is not known.", 401)
        return client_id

    def _cors(self, request: web.Request) -> dict[str, str]:
        origin = request.headers.get("Origin", "")
        if not origin or not self.clients.allows_origin(origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Max-Age": "600",
        }

    def _back_channel(self, request: web.Request) -> str:
        """The origin that servers use: the one asked where that is loopback and not the edge, else the public one."""
        forwarded = "X-Forwarded-Host" in request.headers
        if forwarded or not is_loopback(request.url.host):
            return self.public_url
        return f"http://{request.url.authority}"

    @property
    def _style(self) -> str:
        return f"{self.root}/style.css"

    @staticmethod
    def _page(html: str, *, status: int = 200, form_action: str = "") -> web.Response:
        policy = f"default-src 'none'; style-src 'self'; form-action 'self' {form_action}; frame-ancestors 'none'"
        return web.Response(
            text=html,
            status=status,
            content_type="text/html",
            headers=_NO_STORE | {"Content-Security-Policy": f"{policy.strip()}; base-uri 'none'"},
        )


_GRANT_TYPES: dict[str, Callable[[Provider, dict[str, str], str], dict[str, object]]] = {
    "authorization_code": Provider.exchange_code,
    "refresh_token": Provider.exchange_refresh,
    "client_credentials": Provider.exchange_secret,
}


async def _form(request: web.Request) -> list[tuple[str, str]]:
    """The pairs of a form body. Raises TokenError; a body over the limit is aiohttp's 413."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise TokenError("invalid_request", "Send application/x-www-form-urlencoded.")
    try:
        return parse_qsl((await request.read()).decode("utf-8"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise TokenError("invalid_request", "The body is not a form.") from None


def _basic(request: web.Request) -> tuple[str, str]:
    """Client id and secret of an Authorization header (RFC 6749 2.3.1); empty where there is none or it is broken."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote_plus(client_id), unquote_plus(secret)


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _style(_request: web.Request) -> web.Response:
    return web.Response(text=pages.STYLE, content_type="text/css", headers={"Cache-Control": "public, max-age=300"})


@web.middleware
async def _guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Headers of every answer, and the error form of a body that the authorize endpoint cannot read."""
    try:
        response = await handler(request)
    except TokenError as error:
        response = web.json_response({"error": error.error, "error_description": error.description}, status=400)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
