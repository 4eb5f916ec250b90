"""What needs no sign-in: keys, configuration, health, documentation."""

import re
from typing import Any

import pytest

from conference.domain.errors import REASONS, Unavailable

pytestmark = pytest.mark.unit


async def test_public_keys_are_public_only_and_may_be_cached(stage: Any) -> None:
    response = await stage.client.get("/.well-known/jwks.json")
    assert response.headers["Cache-Control"] == "public, max-age=300"
    (key,) = response.json()["keys"]
    assert (key["kty"], key["crv"], key["use"]) == ("EC", "P-256", "sig")
    assert "d" not in key


async def test_the_page_finds_issuer_and_signaling(stage: Any) -> None:
    assert (await stage.client.get("/config.json")).json() == {
        "issuer": "http://127.0.0.1:8080/identity/tenant/v2.0",
        "discoveryUrl": "",
        "clientId": "parley-web",
        "signalingUrl": "ws://127.0.0.1:8080/v1/signal",
        "version": "0.1.0",
    }


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_health_asks_nothing_and_readiness_asks_the_store(stage: Any, prefix: str) -> None:
    ready = await stage.client.get(f"{prefix}/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "store": "ok", "directory": "ok"})
    stage.presence.away = True
    without = await stage.client.get(f"{prefix}/ready")
    assert (without.status_code, without.json()["directory"]) == (200, "unavailable")
    stage.failure = Unavailable("database")
    assert (await stage.client.get(f"{prefix}/ready")).status_code == 503
    assert (await stage.client.get(f"{prefix}/health")).json() == {"status": "ok", "version": "0.1.0"}


async def test_the_documentation_loads_nothing_from_elsewhere(stage: Any) -> None:
    page = await stage.client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert addresses
    for address in addresses:
        assert address.startswith("/docs/static/")
        assert (await stage.client.get(address)).status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("name", ["../router.py", "%2e%2e%2frouter.py", "router.py", "LICENSE"])
async def test_only_the_pages_own_files_are_served(stage: Any, name: str) -> None:
    assert (await stage.client.get(f"/docs/static/{name}")).status_code == 404


async def test_each_problem_type_has_a_page(stage: Any) -> None:
    everything = (await stage.client.get("/docs/problems")).text
    for reason in REASONS:
        assert f"<code>{reason}</code>" in everything
        assert (await stage.client.get(f"/docs/problems/{reason}")).status_code == 200
    assert (await stage.client.get("/docs/problems/boredom")).status_code == 404
