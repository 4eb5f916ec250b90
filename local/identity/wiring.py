"""Builds the identity provider from the settings and serves it on a loopback port."""

import secrets
import time
import uuid

from aiohttp import web

from conference import telemetry
from conference.settings import Settings, settings
from local.identity.clients import CLI_CLIENT_ID, Clients
from local.identity.faults import Switches
from local.identity.keys import KeySet, write_private
from local.identity.server import Provider
from local.identity.tokens import TOKEN_SECONDS, TokenMaker


def build(chosen: Settings) -> Provider:
    """The provider. Makes keys and the command-line client's secret where the data folder has none."""
    folder = chosen.data_dir / "identity"
    public_url = chosen.public_url.rstrip("/")
    tenant = chosen.identity_tenant
    clients = Clients(
        web_client_id=chosen.oidc_client_id,
        cli_secret=_cli_secret(chosen),
        public_url=public_url,
        extra_origins=tuple(part.strip() for part in chosen.identity_redirect_origins.split(",") if part.strip()),
    )
    rotate_every_s = chosen.identity_key_hours * 3600
    keys = KeySet(folder / "keys.json", rotate_every_s=rotate_every_s, keep_s=TOKEN_SECONDS + 300)
    issuer = f"{public_url}/identity/{tenant}/v2.0"
    has_hooks = chosen.debug_hooks and chosen.environment != "production"
    switches = Switches(f"{public_url}/identity/{tenant}") if has_hooks else None
    return Provider(
        tenant=tenant,
        public_url=public_url,
        clients=clients,
        keys=keys,
        tokens=TokenMaker(keys, issuer, tenant, chosen.oidc_audience, switches.shape if switches else dict),
        cli_object_id=str(uuid.uuid5(uuid.UUID(tenant), CLI_CLIENT_ID)),
        clock=time.time,
        switches=switches,
    )


def _cli_secret(chosen: Settings) -> str:
    if chosen.identity_client_secret is not None:
        return chosen.identity_client_secret.get_secret_value()
    file = chosen.data_dir / "identity" / "client_secret"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()


def main() -> None:
    """The process: logs, then serves until SIGINT or SIGTERM."""
    telemetry.configure("parley-identity", settings())
    web.run_app(
        build(settings()).application(),
        host="127.0.0.1",
        port=settings().identity_port,
        access_log=None,
        print=lambda line: None,
        shutdown_timeout=2,
    )
