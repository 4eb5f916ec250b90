"""The provider's RS256 signing keys: a small set that rotates and outlives a restart.

One key signs, the next one is already published (so that a verifier's cached set knows it when its turn comes), and a
retired key stays published until the last token that it signed has expired. The set is one file in the data folder,
written whole and renamed, readable by the owner only.
"""

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


@dataclass(frozen=True)
class Key:
    """A signing key. `since` is the time (s) from which it signs; None: not yet its turn."""

    kid: str
    private: RSAPrivateKey
    since: float | None
    retired: float | None = None

    def __repr__(self) -> str:
        return f"<Key {self.kid}>"

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517)."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": _base64url(numbers.n),
            "e": _base64url(numbers.e),
        }


class KeySet:
    """The keys in the order of their use. All times are seconds since the epoch, given by the caller."""

    def __init__(self, file: Path, *, rotate_every_s: float, keep_s: float) -> None:
        self._file = file
        self._rotate_every_s = rotate_every_s
        self._keep_s = keep_s
        self._keys: list[Key] = _read(file)

    def signing(self, now: float) -> Key:
        """The key to sign with at `now`; rotates first when the current one has served its time."""
        current = self._current()
        if current is None or now - (current.since or 0.0) >= self._rotate_every_s:
            current = self.rotate(now)
        return current

    def published(self, now: float) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set: the current key, the next, and those whose tokens may still live."""
        self.signing(now)
        return {"keys": [key.jwk() for key in self._keys if not self._forgotten(key, now)]}

    def rotate(self, now: float) -> Key:
        """Retires the signing key, takes the next one, and makes its successor. Returns the new signing key."""
        kept: list[Key] = []
        for key in self._keys:
            if key.since is not None and key.retired is None:
                kept.append(Key(key.kid, key.private, key.since, retired=now))
            elif key.since is not None and not self._forgotten(key, now):
                kept.append(key)
        waiting = next((key for key in self._keys if key.since is None), None) or _generate()
        current = Key(waiting.kid, waiting.private, since=now)
        self._keys = [*kept, current, _generate()]
        _write(self._file, self._keys)
        return current

    def _current(self) -> Key | None:
        return next((key for key in self._keys if key.since is not None and key.retired is None), None)

    def _forgotten(self, key: Key, now: float) -> bool:
        return key.retired is not None and now - key.retired > self._keep_s


def _generate() -> Key:
    return Key(secrets.token_urlsafe(12), generate_private_key(public_exponent=65537, key_size=2048), since=None)


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _read(file: Path) -> list[Key]:
    """The keys of `file`; none where there is no file. Raises ValueError where it is damaged."""
    if not file.exists():
        return []
    keys: list[Key] = []
    for entry in json.loads(file.read_text(encoding="utf-8"))["keys"]:
        private = load_pem_private_key(entry["pem"].encode(), password=None)
        if not isinstance(private, RSAPrivateKey):
            raise ValueError(f"{file} holds a key that is not RSA")
        keys.append(Key(entry["kid"], private, entry["since"], entry["retired"]))
    return keys


def _write(file: Path, keys: list[Key]) -> None:
    entries: list[dict[str, Any]] = [
        {
            "kid": key.kid,
            "since": key.since,
            "retired": key.retired,
            "pem": key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        }
        for key in keys
    ]
    write_private(file, json.dumps({"keys": entries}))


def write_private(file: Path, text: str) -> None:
    """Writes `file` whole, readable by its owner only; a crash leaves the old or the new content."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
