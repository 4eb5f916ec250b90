"""Who may ask for tokens, and where sign-in may return to.

Two clients are registered: the page (public, code flow with PKCE) and a command-line client with a secret (client
credentials, and the provider's own administration). A redirect address is accepted by its origin: the public one, a
loopback origin of the same port (the person opened `localhost` and the origin says `127.0.0.1`), or one of the setting.
"""

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from conference.domain.addresses import is_loopback

CLI_CLIENT_ID = "parley-cli"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Clients:
    """The registered clients. `public_url` is the origin that browsers see; `extra_origins` are further ones."""

    web_client_id: str
    cli_secret: str
    public_url: str
    extra_origins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Clients {self.web_client_id}>"

    def may_use_code_flow(self, client_id: str) -> bool:
        return client_id in (self.web_client_id, CLI_CLIENT_ID)

    def is_confidential(self, client_id: str) -> bool:
        return client_id == CLI_CLIENT_ID

    def proves_itself(self, client_id: str, secret: str) -> bool:
        """True where the secret is the confidential client's."""
        return client_id == CLI_CLIENT_ID and hmac.compare_digest(secret.encode(), self.cli_secret.encode())

    def allows_origin(self, origin: str) -> bool:
        """True for an origin that may take part in sign-in."""
        asked, public = _endpoint(origin), _endpoint(self.public_url)
        if asked is None or public is None:
            return False
        if asked == public or asked in (_endpoint(extra) for extra in self.extra_origins):
            return True
        return is_loopback(asked[1]) and asked[2] == public[2]

    def allows_redirect(self, uri: str) -> bool:
        """True for an absolute address without fragment and user info whose origin is registered."""
        if len(uri) > 2048 or not uri.isascii() or not uri.isprintable() or "\\" in uri:
            return False
        try:
            parts = urlsplit(uri)
        except ValueError:
            return False
        return not parts.fragment and "#" not in uri and "@" not in parts.netloc and self.allows_origin(origin_of(uri))


def origin_of(uri: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def _endpoint(origin: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme]
