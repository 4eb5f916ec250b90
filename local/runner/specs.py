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

    `ready` is an http address that answers 200, a redis address that answers PING, or a tcp address that takes
    connections; without one the process is a step that must end with code 0. `stops` orders the end: lower first.
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


def python(
    variables: Mapping[str, str],
    name: str,
    module: str,
    ready: str,
    *more: str,
    after: tuple[str, ...] = (),
    stops: int = 0,
) -> Spec:
    """A module of ours as a process."""
    return Spec(name, (sys.executable, "-m", module, *more), ready, after, stops, variables)


@dataclass(frozen=True)
class Ports:
    """Where each process listens: loopback TCP ports, and the UDP port of media."""

    redis: int
    functions: int
    identity: int
    signaling: int
    sfu: int
    media: int
    tunnel: int
    turn: int = 0  # UDP and TCP; 0: there is no TURN server
    turn_tls: int = 0
    turn_health: int = 0


@dataclass(frozen=True)
class Site:
    """How the system is reached: `host` and `port` as bound, `public_url` as browsers see it.

    `loopback_url` is the same origin by its loopback address, where it has one. `turn_host` is where the TURN server is
    bound; clients are told `public_ip` in its place, unless it `is_turn_host_given` by hand.
    """

    host: str
    port: int
    tls: bool
    public_url: str
    loopback_url: str
    public_ip: str = ""
    turn_host: str = "127.0.0.1"
    is_turn_host_given: bool = False


def turn_urls(site: Site, ports: Ports) -> str:
    """What clients are told of the TURN server, best first."""
    host = bracketed(site.turn_host if site.is_turn_host_given else site.public_ip or site.turn_host)
    urls = [f"turn:{host}:{ports.turn}?transport={transport}" for transport in ("udp", "tcp")]
    if ports.turn_tls:
        urls.append(f"turns:{host}:{ports.turn_tls}?transport=tcp")
    return ",".join(urls)


def turn_variables(site: Site, ports: Ports, data_dir: Path, secret: str, workers: int) -> dict[str, str]:
    """Of the TURN server, and of signaling, which offers it. It relays to the media ports of this machine alone."""
    if not ports.turn:
        return {}
    hosts = [site.public_ip] if site.public_ip else list(dict.fromkeys((site.turn_host, "127.0.0.1")))
    span = f"{ports.media}-{min(65_535, ports.media + workers - 1)}"
    certificates = data_dir / "tls"
    return {
        "PARLEY_TURN_URLS": turn_urls(site, ports),
        "PARLEY_TURN_SECRET": secret,
        "PARLEY_TURN_HOST": site.turn_host,
        "PARLEY_TURN_PORT": str(ports.turn),
        "PARLEY_TURN_TLS_PORT": str(ports.turn_tls),
        "PARLEY_TURN_CERTIFICATE": str(certificates / "leaf.pem") if ports.turn_tls else "",
        "PARLEY_TURN_CERTIFICATE_KEY": str(certificates / "leaf.key") if ports.turn_tls else "",
        "PARLEY_TURN_PEERS": ",".join(f"{bracketed(host)}:{span}" for host in hosts),
        "PARLEY_TURN_HEALTH_PORT": str(ports.turn_health),
    }


def environment(
    site: Site,
    ports: Ports,
    data_dir: Path,
    given: Mapping[str, str],
    tenant: str,
    turn: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables of every process; what `given` already sets is kept. `turn` are those of the TURN server."""
    identity = f"http://127.0.0.1:{ports.identity}/identity/{tenant}/v2.0"
    ours = {
        "PARLEY_REDIS_URL": f"redis://127.0.0.1:{ports.redis}/0",
        "PARLEY_ALLOWED_ORIGINS": "" if site.loopback_url == site.public_url else site.loopback_url,
        "PARLEY_JWKS_URL": f"http://127.0.0.1:{ports.functions}/.well-known/jwks.json",
        "PARLEY_SFU_CONTROL_URL": f"ws://127.0.0.1:{ports.sfu}/control",
        "PARLEY_PUBLIC_IP": site.public_ip,
        "PARLEY_SFU_MEDIA_PORT": str(ports.media),
        **(turn or {}),
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
        "PARLEY_TUNNEL_HOST": "127.0.0.1",
        "PARLEY_TUNNEL_PORT": str(ports.tunnel),
        "PARLEY_SFU_HOST": "127.0.0.1",
        "PARLEY_SFU_PORT": str(ports.sfu),
        "PYTHONUNBUFFERED": "1",
    }
    set_by_hand = {name: value for name, value in given.items() if value}
    return ours | set_by_hand | fixed


def processes(
    site: Site,
    ports: Ports,
    variables: Mapping[str, str],
    redis_server: tuple[str, ...],
    given: Mapping[str, str],
    emulators: tuple[Spec, ...] = (),
) -> tuple[Spec, ...]:
    """Everything to start, in no particular order: `after` tells. `emulators` stand for Azure's services."""
    scheme = "https" if site.tls else "http"
    bound = "127.0.0.1" if site.host in ("0.0.0.0", "::") else site.host  # noqa: S104
    origin = f"{scheme}://{bracketed(bound)}:{site.port}"
    embedded_redis = not given.get("PARLEY_REDIS_URL")
    uses_sql = not emulators and _keeps_something_in_sql(given)
    directory = ("redis",) if embedded_redis else ()
    stores = (*directory, *(("migrate",) if uses_sql else ()), *(spec.name for spec in emulators))

    specs = [
        *((python(variables, "migrate", "conference.adapters.sql.migrate", ""),) if uses_sql else ()),
        *emulators,
        python(variables, "edge", "local.edge", f"{origin}/edge/health", stops=1),
        python(variables, "sfu", "media_workers.sfu", f"http://127.0.0.1:{ports.sfu}/ready", after=directory, stops=0),
        python(
            variables,
            "functions",
            "local.functions_host",
            f"http://127.0.0.1:{ports.functions}/health",
            *("--port", str(ports.functions)),
            after=stores,
        ),
        python(variables, "tunnel", "media_workers.tunnel", f"http://127.0.0.1:{ports.tunnel}/ready", after=directory),
        python(
            variables, "signaling", "media_workers.signaling", f"http://127.0.0.1:{ports.signaling}/ready", after=stores
        ),
    ]
    if embedded_redis:
        specs.append(Spec("redis", redis_server, f"redis://127.0.0.1:{ports.redis}", stops=2, environment=variables))
    if not given.get("PARLEY_OIDC_ISSUER"):
        specs.append(
            python(variables, "identity", "local.identity", f"http://127.0.0.1:{ports.identity}/ready", stops=1)
        )
    if ports.turn:
        ready = f"http://127.0.0.1:{ports.turn_health}/ready"
        after = ("edge",) if ports.turn_tls else ()  # which makes the certificate
        specs.append(python(variables, "turn", "local.turn", ready, after=after, stops=1))
    return tuple(specs)


def _keeps_something_in_sql(given: Mapping[str, str]) -> bool:
    """Cosmos DB has no queue: without Azure's, events wait in SQL."""
    in_cosmos = bool(given.get("PARLEY_COSMOS_ENDPOINT")) and given.get("PARLEY_STORES") != "sql"
    return not (in_cosmos and given.get("PARLEY_QUEUES") == "azure")


def bracketed(host: str) -> str:
    """An IPv6 address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
