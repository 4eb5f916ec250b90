"""Builds the Cosmos DB server from the settings and serves it on a loopback port."""

import base64
import secrets
import time

from aiohttp import web

from conference import telemetry
from conference.settings import Settings, settings
from local.cosmos.account import Account
from local.cosmos.server import CosmosServer
from local.identity.keys import write_private


def build(chosen: Settings) -> CosmosServer:
    """An empty account; what is stored is kept in memory. Makes the master key where neither settings nor data folder
    have one."""
    return CosmosServer(Account(time.time), master_key(chosen))


def master_key(chosen: Settings) -> str:
    """In base64."""
    if chosen.cosmos_key is not None:
        return chosen.cosmos_key.get_secret_value()
    file = chosen.data_dir / "cosmos" / "key"
    if not file.exists():
        write_private(file, base64.b64encode(secrets.token_bytes(64)).decode())
    return file.read_text(encoding="utf-8").strip()


def main() -> None:
    """The process: logs, then serves until SIGINT or SIGTERM."""
    telemetry.configure("parley-cosmos", settings())
    web.run_app(
        build(settings()).application(),
        host="127.0.0.1",
        port=settings().cosmos_port,
        access_log=None,
        print=lambda line: None,
        shutdown_timeout=2,
    )
