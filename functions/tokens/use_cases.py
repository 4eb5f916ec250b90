"""Public keys and configuration over the ports."""

from collections.abc import Mapping
from dataclasses import dataclass

from functions.services import VERSION, Services


@dataclass(frozen=True, slots=True)
class ClientConfig:
    issuer: str
    discovery_url: str
    client_id: str
    signaling_url: str
    version: str


async def jwks(services: Services) -> Mapping[str, object]:
    """Every public key that verifiers must know."""
    return await services.public_keys.jwks(services.clock.now())


def client_config(services: Services) -> ClientConfig:
    config = services.config
    return ClientConfig(
        issuer=config.oidc_issuer,
        discovery_url=config.oidc_discovery_url,
        client_id=config.oidc_client_id,
        signaling_url=config.signaling_url,
        version=VERSION,
    )
