"""The authorization request (RFC 6749 4.1.1, RFC 7636, OpenID Connect Core 3.1.2): a check that decides what happens.

Pure: the request's parameters go in, one of four outcomes comes out. What must not be sent to an unverified address is
`Refuse` (a page); every other error travels back to the client by redirect, with its state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from local.identity import people
from local.identity.clients import Clients
from local.identity.grants import Grant

MAX_VALUE = 2048


@dataclass(frozen=True)
class Refuse:
    """Answer with a page: the client or its address is not known."""

    reason: str


@dataclass(frozen=True)
class SendError:
    """Answer with a redirect that carries an error code of RFC 6749 or OpenID Connect."""

    redirect_uri: str
    error: str
    description: str


@dataclass(frozen=True)
class Pick:
    """Show the user picker; `problem` says what was wrong with the former choice."""

    redirect_uri: str
    problem: str = ""


@dataclass(frozen=True)
class Issue:
    """Send a code for this grant."""

    grant: Grant


Outcome = Refuse | SendError | Pick | Issue


def decide(request: Mapping[str, str], clients: Clients) -> Outcome:
    """What to do with an authorization request."""
    client_id, redirect_uri = request.get("client_id", ""), request.get("redirect_uri", "")
    if not clients.may_use_code_flow(client_id):
        return Refuse("The application that sent you here is not registered.")
    if not clients.allows_redirect(redirect_uri):
        return Refuse("The address to return to is not registered.")
    fault = _fault(request)
    if fault is not None:
        return SendError(redirect_uri, *fault)
    return _choose(request, client_id, redirect_uri)


def _fault(request: Mapping[str, str]) -> tuple[str, str] | None:
    """The error code and its sentence for a request that the protocol forbids."""
    if any(len(value) > MAX_VALUE for value in request.values()):
        return "invalid_request", "A parameter is too long."
    if request.get("request") or request.get("request_uri"):
        return "request_not_supported", "Request objects are not supported."
    if request.get("response_type") != "code":
        return "unsupported_response_type", "Only the authorization code flow is supported."
    if request.get("response_mode", "query") not in ("query", "fragment"):
        return "invalid_request", "The response mode is not supported."
    if "openid" not in request.get("scope", "").split():
        return "invalid_scope", "The scope must contain openid."
    if request.get("code_challenge_method") != "S256":
        return "invalid_request", "PKCE with S256 is required."
    challenge = request.get("code_challenge", "")
    if len(challenge) != 43 or not challenge.replace("-", "").replace("_", "").isalnum():
        return "invalid_request", "The code challenge is not a SHA-256 digest."
    return None


def _choose(request: Mapping[str, str], client_id: str, redirect_uri: str) -> Outcome:
    prompts = request.get("prompt", "").split()
    hint = request.get("login_hint", "")
    person = people.find(hint, request.get("login_name", "")) if hint else None
    if "none" in prompts and (len(prompts) > 1 or person is None):
        if len(prompts) > 1:
            return SendError(redirect_uri, "invalid_request", "prompt=none stands alone.")
        return SendError(redirect_uri, "login_required", "Nobody is named and no page may be shown.")
    if person is None or "select_account" in prompts:
        problem = "" if person or not hint else "That is not an e-mail address."
        return Pick(redirect_uri, problem)
    grant = Grant(
        client_id=client_id,
        redirect_uri=redirect_uri,
        code_challenge=request["code_challenge"],
        person=person,
        scope=request["scope"],
        nonce=request.get("nonce", ""),
    )
    return Issue(grant)


def answer_address(redirect_uri: str, request: Mapping[str, str], answer: Mapping[str, str]) -> str:
    """The client's address with the answer and its state, in the query or the fragment as it asked."""
    values = dict(answer) | ({"state": request["state"]} if request.get("state") else {})
    parts = urlsplit(redirect_uri)
    if request.get("response_mode") == "fragment":
        return urlunsplit(parts._replace(fragment=urlencode(values)))
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *values.items()])
    return urlunsplit(parts._replace(query=query))
