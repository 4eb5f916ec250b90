"""Forges tokens: what an attacker could send, down to the raw JSON text, signed or not, with any key.

Nothing here uses the code under test, nor PyJWT, so that a mistake in either cannot hide in both.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def text_of(value: Mapping[str, Any] | str) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def forge(header: Mapping[str, Any] | str, claims: Mapping[str, Any] | str, key: PrivateKey | bytes | None) -> str:
    """A compact JWS over these texts: ES256 or RS256 by the key's type, HS256 for bytes, no signature for None."""
    signed = f"{b64(text_of(header).encode())}.{b64(text_of(claims).encode())}"
    return f"{signed}.{b64(signature(signed.encode(), key))}"


def signature(signed: bytes, key: PrivateKey | bytes | None) -> bytes:
    if key is None:
        return b""
    if isinstance(key, bytes):
        return hmac.digest(key, signed, hashlib.sha256)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), SHA256())
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def jwk_of(key: PrivateKey, kid: str) -> dict[str, str]:
    """The public half as an issuer publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        n = key.public_key().public_numbers()
        return {"kty": "RSA", "use": "sig", "kid": kid, "n": b64(_big(n.n)), "e": b64(_big(n.e))}
    point = key.public_key().public_numbers()
    x, y = b64(point.x.to_bytes(32, "big")), b64(point.y.to_bytes(32, "big"))
    return {"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y}


def ec_key(pem: str | None = None) -> ec.EllipticCurvePrivateKey:
    """A new P-256 key, or the one of a PEM text."""
    if pem is None:
        return ec.generate_private_key(ec.SECP256R1())
    key = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _big(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
