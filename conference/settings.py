"""Every setting of every process, read once from the environment by a `wiring.py`.

Names are `PARLEY_` + the field in upper case (OpenTelemetry's own `OTEL_*` names are kept). Defaults are those of one
machine; the runner and the Bicep templates set the rest. `local.settings.example.json` and docs/operations.md are
compared with this class by a test.
"""

from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from conference.domain.addresses import is_loopback


class Settings(BaseSettings):
    """A sentence a field on what it affects."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", extra="ignore", frozen=True, env_ignore_empty=True)

    # --- all processes ---
    environment: Literal["local", "test", "production"] = Field(
        "local", description="Production switches debug hooks off and demands TLS origins."
    )
    data_dir: Path = Field(Path(".data"), description="Folder of the embedded defaults: database, keys, files.")
    region: str = Field("local", description="Region of this process; rooms stick to the region of their SFU.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged."
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
        description="OTLP over http/protobuf collector (for example the .NET Aspire Dashboard); unset exports nothing.",
    )
    debug_hooks: bool = Field(
        False,
        description="Allows faults on demand in signaling, SFU and the local identity provider; not in production.",
    )
    ca_file: Path | None = Field(None, description="Extra certificate authority that outgoing TLS trusts.")

    # --- stores ---
    database_url: str = Field("", description="SQLAlchemy URL, sqlite or postgresql; empty: SQLite in the data folder.")
    stores: Literal["auto", "sql", "cosmos"] = Field(
        "auto", description="Where meetings are kept: sql, cosmos, or cosmos where its endpoint is set."
    )
    cosmos_endpoint: str = Field("", description="Address of the Cosmos DB account.")
    cosmos_database: str = Field("parley", description="Database of that account that holds the containers.")
    cosmos_key: SecretStr | None = Field(
        None, description="Key of a Cosmos DB emulator on this machine; real accounts are entered by identity."
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="Redis 7.0 or later, or Valkey; rediss for TLS."
    )
    redis_cluster: bool = Field(False, description="The Redis server is a cluster (OSS cluster API).")
    redis_entra: bool = Field(
        False,
        description="Tokens of Entra ID are the Redis password, renewed in live connections (Azure Managed Redis).",
    )
    keys_dir: Path | None = Field(
        None, description="Folder of the token signing keys; default: keys in the data folder."
    )

    # --- Azure services ---
    azure_credential: Literal["auto", "managed", "developer"] = Field(
        "auto", description="Who signs in to Azure: the managed identity, or the developer; auto: by the environment."
    )
    azure_client_id: str = Field(
        "", description="Client id of the user-assigned managed identity; empty: the system's own."
    )
    storage_account: str = Field("", description="Name of the Azure Storage account; gives the two endpoints below.")
    blob_endpoint: str = Field("", description="Address of Blob storage; empty: the storage account's.")
    queue_endpoint: str = Field("", description="Address of Queue storage; empty: the storage account's.")
    storage_key: SecretStr | None = Field(
        None, description="Account key of a storage emulator; refused for any other endpoint."
    )
    queues: Literal["embedded", "azure"] = Field(
        "embedded", description="Where domain events wait: the database, or Azure Storage queues."
    )
    media_files: Literal["embedded", "azure"] = Field(
        "embedded", description="Where recordings are kept: the data folder, or Blob storage."
    )
    recordings_container: str = Field("recordings", description="Blob container of the recordings.")
    keyvault_url: str = Field(
        "", description="Address of the Key Vault that wraps the token signing keys; empty: they stay in keys_dir."
    )
    keyvault_key: str = Field("parley", description="Name of the vault's key that wraps other keys.")

    # --- media providers and e-mail ---
    media_provider: Literal["parley", "acs", "livekit"] = Field(
        "parley",
        description="Media provider of meetings that choose none and neither record nor use AI.",
    )
    acs_endpoint: str = Field(
        "", description="Address of Azure Communication Services; empty: no meeting may choose acs, no e-mail is sent."
    )
    acs_access_key: SecretStr | None = Field(
        None, description="Access key of a local server of Communication Services; refused for any other endpoint."
    )
    acs_token_minutes: int = Field(
        60, ge=60, le=1440, description="Life of a user's token of Communication Services; so long a place is held."
    )
    livekit_url: str = Field("", description="Address of LiveKit, wss or https; empty: no meeting may choose livekit.")
    livekit_key: str = Field("", description="API key at LiveKit.")
    livekit_secret: SecretStr | None = Field(None, description="The secret of that key; signs users' tokens.")
    email_sender: str = Field(
        "",
        description="Sender address of e-mails to hosts, of a domain at Communication Services; empty: none is sent.",
    )

    # --- REST and tokens ---
    public_url: str = Field("http://127.0.0.1:8080", description="The one origin that browsers see.")
    signaling_url: str = Field("", description="WebSocket address given to clients; empty: derived from the origin.")
    oidc_issuer: str = Field("", description="Issuer of callers' tokens, compared exactly; keys come by discovery.")
    oidc_provider: Literal["any", "entra"] = Field(
        "any", description="Rules for callers' tokens: those of any OIDC issuer, or of Entra ID, External ID and B2C."
    )
    oidc_discovery_url: str = Field("", description="Where to read the discovery document; empty: under the issuer.")
    oidc_client_id: str = Field("parley-web", description="Client id of the page at the issuer.")
    oidc_audience: str = Field(
        "parley-web", description="Audience that callers' tokens must carry; entra: comma list, one of which is there."
    )
    oidc_tenants: str = Field("", description="Comma list of tenant ids that may call; empty: any of the issuer.")
    oidc_clients: str = Field("", description="entra: comma list of clients whose access tokens are taken; empty: any.")
    oidc_scope: str = Field("", description="entra: scope that a person's access token must carry; empty: none.")
    admin_role: str = Field("Parley.Admin", description="App role that makes a caller an admin of their tenant.")
    admin_groups: str = Field("", description="entra: comma list of group ids whose members are admins, too.")
    join_token_seconds: int = Field(300, ge=1, le=600, description="Life of a join token; also the first lease.")
    consent_token_seconds: int = Field(600, ge=1, le=3600, description="Life of a consent token.")
    clock_skew_seconds: int = Field(30, ge=0, le=120, description="Tolerated difference of clocks in callers' tokens.")
    join_early_minutes: int = Field(
        15, ge=0, description="How long before scheduledTime others than the host may join."
    )
    retention_days: int = Field(365, ge=1, description="Ended meetings are deleted after so many days.")
    rate_limit_per_minute: int = Field(600, ge=1, description="REST requests a caller may make per minute.")
    turn_urls: str = Field("", description="Comma list of turn: and turns: URLs; empty: no TURN server is offered.")
    turn_secret: SecretStr | None = Field(None, description="Secret shared with the TURN server.")
    turn_secret_previous: SecretStr | None = Field(None, description="The former TURN secret, still accepted.")

    # --- signaling ---
    signaling_host: str = Field("127.0.0.1", description="Address the signaling worker binds.")
    signaling_port: int = Field(7001, ge=0, le=65535, description="Port of the signaling worker; 0 picks a free one.")
    allowed_origins: str = Field("", description="Comma list of browser origins besides the public one; * allows all.")
    jwks_url: str = Field("", description="Where workers read the API's public keys; empty: at the public origin.")
    lease_seconds: int = Field(90, ge=5, description="Lease of a connected participant, renewed every third of it.")
    resume_seconds: int = Field(45, ge=1, description="How long a dropped connection may resume.")
    ping_seconds: float = Field(20, gt=0, description="Interval of WebSocket pings.")
    room_ttl_seconds: int = Field(120, ge=5, description="Life of a room's Redis keys past their last refresh.")
    mesh_limit: int = Field(5, ge=0, le=16, description="People who talk peer to peer at most; 0: always the SFU.")
    mesh_calm_seconds: float = Field(60, gt=0, description="How long a room must not need the SFU before it leaves it.")
    topology_deadline_seconds: float = Field(15, gt=0, description="How long a room may take to change its topology.")
    message_rate: float = Field(
        50, gt=0, description="Messages of 4 KiB a connection may send per second, in the long run."
    )
    message_burst: int = Field(200, ge=1, description="Messages a connection may send at once.")

    # --- HTTP tunnel ---
    tunnel_host: str = Field("127.0.0.1", description="Address that the tunnel gateway binds.")
    tunnel_port: int = Field(7004, ge=0, le=65535, description="Port of the same; 0 picks a free one.")
    tunnel_sessions: int = Field(500, ge=1, description="Sessions of a tunnel gateway at most.")

    # --- TURN, on one machine ---
    turn_server: Literal["auto", "coturn", "embedded", "off"] = Field(
        "auto", description="TURN server of make run: coturn where it is installed and safe, else the embedded one."
    )
    turn_host: str = Field("127.0.0.1", description="Address that the TURN server binds and relays from.")
    turn_port: int = Field(3478, ge=1, le=65535, description="UDP and TCP port of the TURN server.")
    turn_tls_port: int = Field(0, ge=0, le=65535, description="TLS port of the TURN server; 0: none.")
    turn_certificate: str = Field("", description="Certificate chain of the TLS port; read again when it changes.")
    turn_certificate_key: str = Field("", description="The key of that certificate.")
    turn_relay_ports: str = Field("49152-49407", description="UDP ports that the TURN server relays from.")
    turn_peers: str = Field("", description="Comma list of host:port or host:first-last: the media nodes to relay to.")
    turn_health_port: int = Field(0, ge=0, le=65535, description="Loopback port of the TURN server's health, metrics.")

    # --- SFU ---
    sfu_host: str = Field("127.0.0.1", description="Address of the SFU's control link, health and metrics.")
    sfu_port: int = Field(7002, ge=0, le=65535, description="Port of the same; 0 picks a free one.")
    sfu_control_url: str = Field("", description="Where signaling reaches the control link; empty: from host and port.")
    sfu_media_host: str = Field("0.0.0.0", description="Address the media socket binds.")  # noqa: S104
    sfu_media_port: int = Field(7882, ge=0, le=65535, description="UDP port of the first packet worker; 0: a free one.")
    public_ip: str = Field("", description="Address put into ICE candidates behind NAT; empty: the interface's own.")
    node_id: str = Field("", description="Name of the SFU node; empty: chosen at start.")
    sfu_engine: Literal["auto", "native", "reference"] = Field(
        "auto", description="Data plane: native, reference (Python, slow), or native where its wheel is installed."
    )
    sfu_workers: int = Field(
        0, ge=0, le=64, description="Packet workers of the native data plane; 0: one per core less one, at least one."
    )
    sfu_video_codecs: str = Field(
        "VP8,H264,VP9,AV1",
        description="Video codecs to publish with, best first; one is used while everybody in the room decodes it.",
    )
    sfu_audio_red: bool = Field(
        False, description="Uses RED (Opus sent twice) where everybody in the room says that they decode it."
    )
    sfu_last_n: int = Field(
        0, ge=0, description="Most videos that one person receives, by who is pinned or spoke last; 0: all."
    )
    sfu_capacity: int = Field(500, ge=1, description="Transports at which a node counts as fully loaded.")

    # --- one machine ---
    host: str = Field("127.0.0.1", description="Address the local origin binds.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the local origin.")
    tls: bool = Field(False, description="The local origin speaks TLS with a certificate made in the data folder.")
    web_dir: Path = Field(Path("web_client"), description="Folder of the page that the local origin serves.")
    functions_port: int = Field(7071, ge=0, le=65535, description="Loopback port of the local Functions host.")
    cosmos_port: int = Field(7005, ge=0, le=65535, description="Loopback port of the local Cosmos DB server.")
    identity_port: int = Field(7003, ge=0, le=65535, description="Loopback port of the local identity provider.")
    identity_tenant: str = Field(
        "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60", description="Tenant id of the local identity provider."
    )
    identity_client_secret: SecretStr | None = Field(
        None, description="Secret of the local client parley-cli; empty: made and kept in the data folder."
    )
    identity_redirect_origins: str = Field(
        "", description="Comma list of origins that sign-in may return to, besides the public one and loopback."
    )
    identity_key_hours: float = Field(
        24, gt=0, description="How long the local identity provider signs with a key before it takes the next one."
    )

    @field_validator("sfu_video_codecs")
    @classmethod
    def _codecs_are_known(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if not set(names) <= {"VP8", "H264", "VP9", "AV1"} or "VP8" not in names:
            raise ValueError("sfu_video_codecs lists VP8 and any of H264, VP9 and AV1")
        return ",".join(dict.fromkeys(names))

    @model_validator(mode="after")
    def _the_media_provider_is_set_up(self) -> Self:
        if self.livekit_url and not (self.livekit_key and self.livekit_secret):
            raise ValueError("livekit_url needs livekit_key and livekit_secret")
        if {"acs": self.acs_endpoint, "livekit": self.livekit_url}.get(self.media_provider) == "":
            raise ValueError(f"media_provider {self.media_provider} needs its address")
        if self.email_sender and not self.acs_endpoint:
            raise ValueError("email_sender needs acs_endpoint")
        return self

    @model_validator(mode="after")
    def _production_is_https(self) -> Self:
        if self.environment == "production" and not self.public_url.startswith("https://"):
            raise ValueError("public_url has to be an https origin in production")
        return self

    @model_validator(mode="after")
    def _cosmos_is_named(self) -> Self:
        if self.stores == "cosmos" and not self.cosmos_endpoint:
            raise ValueError("cosmos_endpoint has to name the account where stores is cosmos")
        host = urlsplit(self.cosmos_endpoint).hostname
        if self.cosmos_key is not None and not (host is None or is_loopback(host)):
            raise ValueError("cosmos_key is for an emulator on this machine; a real account is entered by identity")
        return self

    @property
    def signs_in_managed(self) -> bool:
        """Whether Azure is reached by the managed identity: in production, where nothing else is said."""
        if self.azure_credential == "auto":
            return self.environment == "production"
        return self.azure_credential == "managed"

    def storage_endpoint(self, service: Literal["blob", "queue"]) -> str:
        """The address of the storage service; empty where none is set."""
        given = self.blob_endpoint if service == "blob" else self.queue_endpoint
        account = self.storage_account
        return given or (f"https://{account}.{service}.core.windows.net" if account else "")

    @property
    def sql_url(self) -> str:
        """The database to use."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'parley.db'}"

    @property
    def media_folder(self) -> Path:
        """Of recordings, where they are not in Blob storage."""
        return self.data_dir / "media"

    @property
    def uses_cosmos(self) -> bool:
        """Whether the stores are in Cosmos DB, and not in SQL."""
        return self.stores == "cosmos" or (self.stores == "auto" and bool(self.cosmos_endpoint))

    @property
    def keys_folder(self) -> Path:
        return self.keys_dir or self.data_dir / "keys"

    @property
    def websocket_url(self) -> str:
        """The signaling address for clients: http becomes ws, https wss."""
        return self.signaling_url or self.public_url.replace("http", "ws", 1).rstrip("/") + "/v1/signal"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings. Raises pydantic.ValidationError that names the variable that is wrong."""
    return Settings()
