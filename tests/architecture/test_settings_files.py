"""host.json and local.settings.example.json, against the settings class and the functions."""

import json
from pathlib import Path
from typing import Any

import pytest

from conference.settings import Settings
from local.functions_host.loading import queue_rules

pytestmark = pytest.mark.architecture
ROOT = Path(__file__).resolve().parents[2]
HOST: dict[str, Any] = json.loads((ROOT / "host.json").read_text())
EXAMPLE: dict[str, Any] = json.loads((ROOT / "local.settings.example.json").read_text())
OTHER_NAMES = {"otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT"}
# Settings of other processes: everything else is the Functions app's and belongs into its example.
NOT_OURS = (
    "signaling_host",
    "signaling_port",
    "allowed_origins",
    "jwks_url",
    "lease_seconds",
    "resume_seconds",
    "ping_seconds",
    "message_",
    "sfu_",
    "public_ip",
    "node_id",
    "host",
    "port",
    "tls",
    "web_dir",
    "functions_port",
    "cosmos_port",
    "identity_",
    "turn_server",
    "turn_host",
    "turn_port",
    "turn_tls_port",
    "turn_certificate",
    "turn_relay_ports",
    "turn_peers",
    "turn_health_port",
    "mesh_",
    "tunnel_",
    "topology_",
    "debug_hooks",
)


def variable(field: str) -> str:
    return OTHER_NAMES.get(field, f"PARLEY_{field.upper()}")


def test_the_example_holds_every_setting_of_the_functions_app_and_no_other() -> None:
    ours = {variable(field) for field in Settings.model_fields if not field.startswith(NOT_OURS)}
    given = {name for name in EXAMPLE["Values"] if name.startswith(("PARLEY_", "OTEL_"))}
    assert given == ours


def test_the_example_is_a_working_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(isinstance(value, str) for value in EXAMPLE["Values"].values())  # the host takes texts only
    for name, value in EXAMPLE["Values"].items():
        monkeypatch.setenv(name, value)
    chosen = Settings()
    assert chosen.oidc_issuer == f"{chosen.public_url}/identity/{chosen.identity_tenant}/v2.0"
    assert chosen.turn_secret is None


def test_the_example_says_what_the_host_needs() -> None:
    assert EXAMPLE["IsEncrypted"] is False
    assert EXAMPLE["Values"]["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert EXAMPLE["Values"]["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
    assert EXAMPLE["Host"]["LocalHttpPort"] == Settings.model_fields["functions_port"].default


def test_the_example_holds_no_secret() -> None:
    secrets = [name for name in EXAMPLE["Values"] if "SECRET" in name]
    assert secrets
    assert [EXAMPLE["Values"][name] for name in secrets] == [""] * len(secrets)


def test_host_json_asks_for_what_the_app_needs() -> None:
    assert HOST["version"] == "2.0"
    assert HOST["extensionBundle"] == {
        "id": "Microsoft.Azure.Functions.ExtensionBundle",
        "version": "[4.*, 5.0.0)",
    }
    assert HOST["telemetryMode"] == "OpenTelemetry"
    assert HOST["extensions"]["http"]["routePrefix"] == ""  # FastAPI sees whole paths
    rules = queue_rules(ROOT / "host.json")
    assert rules.max_dequeue_count == 5
    assert rules.visibility_timeout.total_seconds() == 30


def test_the_package_leaves_out_what_is_not_the_functions_app() -> None:
    lines = (ROOT / ".funcignore").read_text().splitlines()
    ignored = {line for line in lines if line and not line.startswith("#")}
    needed = {"function_app.py", "functions", "conference", "host.json", "requirements.txt"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert not {name for name in folders - needed if f"/{name}/" not in ignored}
    assert not {line for line in ignored if line.strip("/") in needed}
    # A folder's name without a leading slash would also take folders of that name inside the app.
    inside = {path.name for root in ("functions", "conference") for path in (ROOT / root).rglob("*") if path.is_dir()}
    assert not {line for line in ignored if line.rstrip("/") in inside - {"__pycache__"}}
