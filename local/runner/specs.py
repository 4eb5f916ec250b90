"""What runs on one machine: each process as data, and the variables by which they find each other.

The same programs run in containers and in Azure Functions; there the Bicep templates set what `environment` sets here.
A variable that the person who starts the system has set wins: with PARLEY_REDIS_URL or PARLEY_OIDC_ISSUER given, the
embedded Redis server or the local identity provider is not started.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TENANT_VARIABLE = "PARLEY_IDENTITY_TENANT"


@dataclass(frozen=True)
class Spec:
    """A process. It starts when all of `after` are ready and stops before them.

    `ready` is an http address that answers 200, or a redis address that answers PING; without one the process is a step
    that must end with code 0. `stops` orders the end: lower first.
    """

    name: str
    argv: tuple[str, ...]
    ready: str = ""
    after: tuple[str, ...] = ()
    stops: int = 0
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_step(self) -> bool:
        return not self.ready


@dataclass(frozen=True)
class Ports:
    """Where each process listens: loopback TCP ports, and the UDP port of media."""

    redis: int
    functions: int
    identity: int
    signaling: int
    sfu: int
    media: int


@dataclass(frozen=True)
class Site:
    """How the system is reached: `host` and `port` as bound, `public_url` as browsers see it.

    `loopback_url` is the same origin by its loopback address, where it has one.
    """

    host: str
    port: int
    tls: bool
    public_url: str
    loopback_url: str
    public_ip: str = ""


def environment(site: Site, ports: Ports, data_dir: Path, given: Mapping[str, str], tenant: str) -> dict[str, str]:
    """The variables of every process; what `given` already sets is kept."""
    identity = f"http://127.0.0.1:{ports.identity}/identity/{tenant}/v2.0"
    ours = {
        "PARLEY_REDIS_URL": f"redis://127.0.0.1:{ports.redis}/0",
        "PARLEY_ALLOWED_ORIGINS": "" if site.loopback_url == site.public_url else site.loopback_url,
        "PARLEY_JWKS_URL": f"http://127.0.0.1:{ports.functions}/.well-known/jwks.json",
        "PARLEY_SFU_CONTROL_URL": f"ws://127.0.0.1:{ports.sfu}/control",
        "PARLEY_PUBLIC_IP": site.public_ip,
        "PARLEY_SFU_MEDIA_PORT": str(ports.media),
    }
    if not given.get("PARLEY_OIDC_ISSUER"):
        ours["PARLEY_OIDC_ISSUER"] = f"{site.public_url}/identity/{tenant}/v2.0"
        ours["PARLEY_OIDC_DISCOVERY_URL"] = f"{identity}/.well-known/openid-configuration"
    fixed = {
        "PARLEY_DATA_DIR": str(data_dir),
        "PARLEY_PUBLIC_URL": site.public_url,
        "PARLEY_HOST": site.host,
        "PARLEY_PORT": str(site.port),
        "PARLEY_TLS": "1" if site.tls else "0",
        "PARLEY_FUNCTIONS_PORT": str(ports.functions),
        "PARLEY_IDENTITY_PORT": str(ports.identity),
        TENANT_VARIABLE: tenant,
        "PARLEY_SIGNALING_HOST": "127.0.0.1",
        "PARLEY_SIGNALING_PORT": str(ports.signaling),
        "PARLEY_SFU_HOST": "127.0.0.1",
        "PARLEY_SFU_PORT": str(ports.sfu),
        "PYTHONUNBUFFERED": "1",
    }
    set_by_hand = {name: value for name, value in given.items() if value}
    return ours | set_by_hand | fixed


def processes(
    site: Site, ports: Ports, variables: Mapping[str, str], redis_server: tuple[str, ...], given: Mapping[str, str]
) -> tuple[Spec, ...]:
    """Everything to start, in no particular order: `after` tells."""
    scheme = "https" if site.tls else "http"
    bound = "127.0.0.1" if site.host in ("0.0.0.0", "::") else site.host  # noqa: S104
    origin = f"{scheme}://{bracketed(bound)}:{site.port}"
    embedded_redis = not given.get("PARLEY_REDIS_URL")
    stores = ("redis", "migrate") if embedded_redis else ("migrate",)

    def python(name: str, module: str, ready: str, *more: str, after: tuple[str, ...] = (), stops: int = 0) -> Spec:
        return Spec(name, (sys.executable, "-m", module, *more), ready, after, stops, variables)

    specs = [
        python("migrate", "conference.adapters.sql.migrate", ""),
        python("edge", "local.edge", f"{origin}/edge/health", stops=1),
        python("sfu", "media_workers.sfu", f"http://127.0.0.1:{ports.sfu}/ready", after=stores[:-1], stops=0),
        python(
            "functions",
            "local.functions_host",
            f"http://127.0.0.1:{ports.functions}/health",
            *("--port", str(ports.functions)),
            after=stores,
        ),
        python("signaling", "media_workers.signaling", f"http://127.0.0.1:{ports.signaling}/ready", after=stores),
    ]
    if embedded_redis:
        specs.append(Spec("redis", redis_server, f"redis://127.0.0.1:{ports.redis}", stops=2, environment=variables))
    if not given.get("PARLEY_OIDC_ISSUER"):
        specs.append(python("identity", "local.identity", f"http://127.0.0.1:{ports.identity}/ready", stops=1))
    return tuple(specs)


def bracketed(host: str) -> str:
    """An IPv6 address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
