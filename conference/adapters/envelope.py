"""Envelope encryption: AES-256-GCM under a fresh key, which a key ring wraps and which lies beside the text it opens.

`purpose` is authenticated with it: what was sealed as one thing does not open as another.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conference.ports.keys import KeyRing, WrappedKey

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_MEMBERS: Final = frozenset({"kek", "alg", "key", "nonce", "text"})


async def seal(ring: KeyRing, text: bytes, purpose: str) -> dict[str, str]:
    """The sealed text as members of a JSON object. Raises Unavailable."""
    key, nonce = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    wrapped = await ring.wrap(key)
    return {
        "kek": wrapped.key_id,
        "alg": wrapped.algorithm,
        "key": _text(wrapped.wrapped),
        "nonce": _text(nonce),
        "text": _text(AESGCM(key).encrypt(nonce, text, purpose.encode())),
    }


async def unseal(ring: KeyRing, sealed: object, purpose: str) -> bytes:
    """The text, of what a JSON document holds for it. Raises ValueError for what was not sealed with this ring for this
    purpose, or was changed since; Unavailable."""
    if (
        not isinstance(sealed, Mapping)
        or set(sealed) != _MEMBERS
        or not all(isinstance(value, str) for value in sealed.values())
    ):
        raise ValueError("this is no sealed text")
    nonce, text = _bytes(sealed["nonce"]), _bytes(sealed["text"])
    if len(nonce) != _NONCE_BYTES:
        raise ValueError("this is no sealed text")
    key = await ring.unwrap(WrappedKey(str(sealed["kek"]), str(sealed["alg"]), _bytes(sealed["key"])))
    try:
        return AESGCM(key).decrypt(nonce, text, purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise ValueError("this sealed text was changed, or is another's") from error


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("this is no sealed text") from error
