"""Compact JWS (RFC 7515), opened strictly: the only module that imports PyJWT and cryptography.

Everything that can be judged without a key is judged before the library sees the token: size, canonical base64url,
duplicate JSON names, algorithm, type, critical and embedded-key headers. The key then decides the algorithm it serves
(one algorithm a key), so a token cannot choose how it is verified. Times are the caller's to check: `now` is an input.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from conference.domain.errors import Refused
from conference.domain.ids import Secret
from conference.ports.tokens import RefusalCause
from conference.protocol import strict_json

MAX_TOKEN_BYTES: Final = 8 * 1024
MIN_RSA_BITS: Final = 2048
MAX_KID: Final = 256
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
# A key named or carried by the token itself would let its author vouch for himself (RFC 7515 10.7; RFC 8725 3.10).
_KEY_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c"})
# `b64` changes what is signed, and is critical where it is used (RFC 7797 6). We understand no critical header.
_CRITICAL_HEADERS: Final = frozenset({"crit", "b64"})
_library: Final = jwt.PyJWS(algorithms=["ES256", "RS256"])


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of token has to look like. `types` are lower-case; "" stands for a header without `typ`."""

    types: frozenset[str]
    algorithms: frozenset[str]
    max_bytes: int = MAX_TOKEN_BYTES


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """A token that passed every check but its signature. Its claims are out of reach until `open_sealed`."""

    token: str
    algorithm: str
    kid: str
    _claims: dict[str, object]


def refuse(cause: RefusalCause) -> NoReturn:
    """Raises Refused("token-refused"); the cause is for logs and metrics, the sentence stays the same."""
    raise Refused("token-refused", extra={"cause": cause})


def read_sealed(token: str, profile: Profile) -> Sealed:
    """Every check that needs no key. Raises Refused("token-refused")."""
    if len(token) > profile.max_bytes:
        refuse("oversize")
    parts = token.split(".")
    if len(parts) != 3:
        refuse("malformed")
    header = _read_object(parts[0])
    algorithm, kid = _check_algorithm(header, profile), _check_header(header, profile)
    claims = _read_object(parts[1])
    _decode(parts[2])
    return Sealed(token, algorithm, kid, claims)


def open_sealed(sealed: Sealed, jwk: Mapping[str, object]) -> dict[str, object]:
    """The claims, once the signature holds under this key. Raises Refused("token-refused")."""
    key = _public_key(tuple(sorted((name, value) for name, value in jwk.items() if isinstance(value, str))))
    if key is None:
        refuse("unknown-kid")
    if key.algorithm_name != sealed.algorithm:
        refuse("alg")
    try:
        _library.decode(sealed.token, key, algorithms=[key.algorithm_name])
    except (jwt.PyJWTError, ValueError):
        refuse("signature")
    return sealed._claims


def algorithm_of(jwk: Mapping[str, object]) -> str | None:
    """The one algorithm that a JWK serves; None for a key that is of no use here, or is not public."""
    if jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", "P-256":
            algorithm = "ES256"
        case "RSA", None:
            algorithm = "RS256"
        case _:
            return None
    return algorithm if jwk.get("alg", algorithm) == algorithm else None


def sign(claims: Mapping[str, object], *, typ: str, kid: str, pem: Secret) -> str:
    """A compact ES256 JWS with exactly the headers alg, typ and kid."""
    headers = {"typ": typ, "kid": kid}
    return jwt.encode(dict(claims), _private_key(pem), algorithm="ES256", headers=headers)


def generate_pem() -> Secret:
    """A new P-256 private key, PKCS#8 in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))


def public_jwk(kid: str, pem: Secret) -> dict[str, str]:
    """The public half as a JWK (RFC 7517). Raises ValueError where `pem` is no P-256 key."""
    numbers = _private_key(pem).public_key().public_numbers()
    x, y = (_encode(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y}


def _check_algorithm(header: Mapping[str, object], profile: Profile) -> str:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in profile.algorithms:
        refuse("alg")
    return algorithm


def _check_header(header: Mapping[str, object], profile: Profile) -> str:
    """The kid."""
    if not _CRITICAL_HEADERS.isdisjoint(header):
        refuse("crit")
    if not _KEY_HEADERS.isdisjoint(header):
        refuse("header-key")
    typ = header.get("typ", "")
    if not isinstance(typ, str) or typ.lower() not in profile.types:
        refuse("typ")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        refuse("unknown-kid")
    return kid


def _read_object(part: str) -> dict[str, object]:
    try:
        return strict_json.loads_object(_decode(part))
    except strict_json.DuplicateName:
        refuse("duplicate")
    except ValueError:
        refuse("malformed")


def _decode(part: str) -> bytes:
    """Only the one canonical text of its bytes is taken: no padding, no white space, no stray bits at the end."""
    if not _PART.fullmatch(part) or len(part) % 4 == 1:
        refuse("malformed")
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if _encode(content) != part:
        refuse("malformed")
    return content


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


@lru_cache(maxsize=64)
def _public_key(members: tuple[tuple[str, str], ...]) -> jwt.PyJWK | None:
    """The key of a JWK's text members; None where it is of no use, for example a point that is not on the curve."""
    jwk = dict(members)
    algorithm = algorithm_of(jwk)
    if algorithm is None:
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
    return key if getattr(key.key, "key_size", 0) >= (MIN_RSA_BITS if algorithm == "RS256" else 256) else None


@lru_cache(maxsize=8)
def _private_key(pem: Secret) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem.reveal().encode("ascii"), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the signing key is no P-256 key")
    return key
