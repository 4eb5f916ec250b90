"""Builds the server from the settings and serves it on a loopback port."""

import argparse
import base64
import secrets
import time
from pathlib import Path

from aiohttp import web

from conference import telemetry
from conference.settings import Settings, settings
from local.acs.server import AcsServer
from local.identity.keys import write_private


def build(chosen: Settings) -> AcsServer:
    """The server. Makes an access key where neither the settings nor the data folder have one."""
    return AcsServer(access_key(chosen), time.time)


def access_key(chosen: Settings) -> str:
    """The key of the local resource, in base64."""
    if chosen.acs_access_key is not None:
        return chosen.acs_access_key.get_secret_value()
    return _kept_key(chosen.data_dir / "acs" / "access_key")


def _kept_key(file: Path) -> str:
    if not file.exists():
        write_private(file, base64.b64encode(secrets.token_bytes(32)).decode())
    return file.read_text(encoding="utf-8").strip()


def main() -> None:
    """The process: logs, then serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="Azure Communication Services of one machine")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    telemetry.configure("parley-acs", settings())
    application = build(settings()).application()
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=lambda line: None, shutdown_timeout=2)
