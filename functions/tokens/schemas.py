"""Bodies of the tokens resource."""

from typing import Annotated, Any

from pydantic import Field

from functions.schemas import Shape


class JwksOut(Shape):
    """A JSON Web Key Set (RFC 7517): the public keys of join, consent, tunnel and service tokens."""

    keys: list[dict[str, Any]]


class ConfigOut(Shape):
    """What a client has to know before it can sign in."""

    issuer: Annotated[str, Field(description="OIDC issuer; its discovery document says the rest")]
    discovery_url: Annotated[str, Field(description="that document's address where it is elsewhere; else empty")]
    client_id: str
    signaling_url: str
    version: str
