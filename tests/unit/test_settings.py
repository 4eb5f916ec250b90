"""Settings: read from the environment, wrong ones named, the rest derived."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from conference.settings import Settings

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PARLEY_{name.upper()}", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


def test_one_machine_needs_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path))
    chosen = Settings()
    assert chosen.sql_url.startswith("sqlite")
    assert chosen.sql_url.endswith(str(tmp_path / "parley.db"))
    assert chosen.keys_folder == tmp_path / "keys"
    assert chosen.otlp_endpoint is None


def test_a_variable_that_is_set_wins_and_an_empty_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_DATABASE_URL", "postgresql://parley@127.0.0.1/parley")
    monkeypatch.setenv("PARLEY_REGION", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    chosen = Settings()
    assert chosen.sql_url == "postgresql://parley@127.0.0.1/parley"
    assert chosen.region == Settings.model_fields["region"].default
    assert chosen.otlp_endpoint == "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOIN_TOKEN_SECONDS", "601"),
        ("JOIN_TOKEN_SECONDS", "soon"),
        ("RETENTION_DAYS", "0"),
        ("PORT", "65536"),
        ("ENVIRONMENT", "staging"),
        ("LEASE_SECONDS", "1"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PARLEY_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/signal"),
        ("https://meet.example.org/", "wss://meet.example.org/v1/signal"),
    ],
)
def test_the_signaling_address_follows_the_origin(monkeypatch: pytest.MonkeyPatch, origin: str, address: str) -> None:
    monkeypatch.setenv("PARLEY_PUBLIC_URL", origin)
    assert Settings().websocket_url == address
    monkeypatch.setenv("PARLEY_SIGNALING_URL", "wss://signal.example.org/v1/signal")
    assert Settings().websocket_url == "wss://signal.example.org/v1/signal"


def test_secrets_show_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_TURN_SECRET", "hunter2")
    assert "hunter2" not in repr(Settings())


def test_every_setting_says_what_it_affects() -> None:
    assert not [name for name, field in Settings.model_fields.items() if len(field.description or "") < 15]


def test_production_wants_an_https_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ENVIRONMENT", "production")
    with pytest.raises(ValidationError, match="https"):
        Settings()
    monkeypatch.setenv("PARLEY_PUBLIC_URL", "https://meet.example.org")
    assert Settings().environment == "production"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"MEDIA_PROVIDER": "acs"}, "media_provider acs needs its address"),
        ({"MEDIA_PROVIDER": "livekit"}, "media_provider livekit needs its address"),
        ({"MEDIA_PROVIDER": "zoom"}, "media_provider"),
        ({"LIVEKIT_URL": "wss://livekit.example.com"}, "livekit_url needs livekit_key and livekit_secret"),
        ({"EMAIL_SENDER": "parley@example.com"}, "email_sender needs acs_endpoint"),
        ({"ACS_TOKEN_MINUTES": "59"}, "acs_token_minutes"),
    ],
)
def test_a_media_provider_that_is_half_set_up_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"PARLEY_{name}", value)
    with pytest.raises(ValidationError, match=words):
        Settings()


def test_a_media_provider_that_is_set_up_may_be_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_ACS_ENDPOINT", "https://parley.communication.azure.com")
    monkeypatch.setenv("PARLEY_MEDIA_PROVIDER", "acs")
    assert Settings().media_provider == "acs"
    monkeypatch.setenv("PARLEY_LIVEKIT_SECRET", "hush")
    assert "hush" not in repr(Settings())


@pytest.mark.parametrize(
    ("stores", "endpoint", "cosmos"),
    [
        ("auto", "", False),
        ("auto", "https://parley.documents.azure.com", True),
        ("sql", "https://parley.documents.azure.com", False),
        ("cosmos", "http://127.0.0.1:7005", True),
    ],
)
def test_stores_are_where_the_settings_say(stores: str, endpoint: str, cosmos: bool) -> None:
    assert Settings(stores=stores, cosmos_endpoint=endpoint).uses_cosmos is cosmos


def test_cosmos_needs_an_endpoint_and_takes_a_key_for_this_machine_only() -> None:
    with pytest.raises(ValidationError, match="cosmos_endpoint"):
        Settings(stores="cosmos")
    with pytest.raises(ValidationError, match="cosmos_key"):
        Settings(cosmos_endpoint="https://parley.documents.azure.com", cosmos_key=SecretStr("a2V5"))
    assert "a2V5" not in repr(Settings(cosmos_endpoint="http://127.0.0.1:7005", cosmos_key=SecretStr("a2V5")))
