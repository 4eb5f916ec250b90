"""Builds the identity provider from the settings and serves it on a loopback port."""

import secrets
import time
import uuid

from conference.settings import Settings
from local.identity.clients import CLI_CLIENT_ID, Clients
from local.identity.keys import KeySet, write_private
from local.identity.server import Provider
from local.identity.tokens import TOKEN_SECONDS, TokenMaker


def build(settings: Settings) -> Provider:
    """The provider. Makes keys and the command-line client's secret where the data folder has none."""
    folder = settings.data_dir / "identity"
    public_url = settings.public_url.rstrip("/")
    tenant = settings.identity_tenant
    clients = Clients(
        web_client_id=settings.oidc_client_id,
        cli_secret=_cli_secret(settings),
        public_url=public_url,
        extra_origins=tuple(part.strip() for part in settings.identity_redirect_origins.split(",") if part.strip()),
    )
    rotate_every_s = settings.identity_key_hours * 3600
    keys = KeySet(folder / "keys.json", rotate_every_s=rotate_every_s, keep_s=TOKEN_SECONDS + 300)
    issuer = f"{public_url}/identity/{tenant}/v2.0"
    return Provider(
        tenant=tenant,
        public_url=public_url,
        clients=clients,
        keys=keys,
        tokens=TokenMaker(keys, issuer, tenant, settings.oidc_audience),
        cli_object_id=str(uuid.uuid5(uuid.UUID(tenant), CLI_CLIENT_ID)),
        clock=time.time,
    )


def _cli_secret(settings: Settings) -> str:
    if settings.identity_client_secret is not None:
        return settings.identity_client_secret.get_secret_value()
    file = settings.data_dir / "identity" / "client_secret"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()
