"""HTTP shape of the tokens resource; open to everybody."""

from fastapi import APIRouter, Response

from functions.routing import refusals
from functions.security import ServicesOf
from functions.tokens import use_cases
from functions.tokens.schemas import ConfigOut, JwksOut

# A new key is published ten minutes before its first use: half of that keeps every cache in time.
JWKS_CACHE = "public, max-age=300"
CONFIG_CACHE = "public, max-age=60"
router = APIRouter(tags=["tokens"])


@router.get("/.well-known/jwks.json", operation_id="getJwks", responses=refusals(signed_in=False))
async def jwks(response: Response, services: ServicesOf) -> JwksOut:
    """The public keys of Parley's own tokens. Cache them; ask again for an unknown `kid`."""
    response.headers["Cache-Control"] = JWKS_CACHE
    return JwksOut.model_validate(await use_cases.jwks(services))


@router.get("/config.json", operation_id="getConfig", responses=refusals(signed_in=False))
async def config(response: Response, services: ServicesOf) -> ConfigOut:
    """Where the page signs in and where signaling is."""
    response.headers["Cache-Control"] = CONFIG_CACHE
    return ConfigOut.showing(use_cases.client_config(services))
