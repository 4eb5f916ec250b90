"""Parley's own tokens in a worker, which verifies them with the keys that the API publishes."""

from conference.adapters.http_json import HttpJson
from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.public_keys import RemotePublicKeys
from conference.ports.tokens import SigningKeys
from conference.settings import Settings


def worker_tokens(chosen: Settings, signing: SigningKeys | None = None) -> JwtTokens:
    """`signing` is the shared set, for a worker that signs as well. Reads the keys with the first token."""
    jwks_url = chosen.jwks_url or chosen.public_url.rstrip("/") + "/.well-known/jwks.json"
    fetch_json = HttpJson(ca_file=chosen.ca_file, allow_http=chosen.environment != "production")
    return JwtTokens(issuer=chosen.public_url, keys=RemotePublicKeys(jwks_url, fetch_json), signing=signing)
