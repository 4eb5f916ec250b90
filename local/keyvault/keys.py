"""The keys of the local vault: RSA, in versions, in memory and on disk, one PEM a version."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conference.adapters import disk

_BITS: Final = 2_048
_OAEP: Final = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


@dataclass(frozen=True, slots=True)
class Version:
    """`id` is 32 hexadecimal digits, `created` in seconds since 1970."""

    id: str
    created: int
    key: rsa.RSAPrivateKey

    def wrap(self, key: bytes) -> bytes:
        return self.key.public_key().encrypt(key, _OAEP)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Raises ValueError for what this version did not wrap."""
        return self.key.decrypt(wrapped, _OAEP)

    def public_numbers(self) -> Mapping[str, int]:
        numbers = self.key.public_key().public_numbers()
        return {"n": numbers.n, "e": numbers.e}


class Keys:
    """By name, oldest version first. Without a folder they end with the process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._keys: dict[str, list[Version]] = {}
        for file in sorted(folder.glob("*/*.pem")) if folder else []:
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
            if not isinstance(key, rsa.RSAPrivateKey):
                raise ValueError(f"{file} is no RSA key")
            created, _, id = file.stem.partition("-")
            self._keys.setdefault(file.parent.name, []).append(Version(id, int(created), key))

    def make(self, name: str, created: int) -> Version:
        """A new version of the key, which may be its first."""
        key = rsa.generate_private_key(public_exponent=65_537, key_size=_BITS)
        made = Version(secrets.token_hex(16), created, key)
        self._keys.setdefault(name, []).append(made)
        if self._folder is not None:
            disk.appear(self._folder / name / f"{created:012d}-{made.id}.pem", _pem(key))
        return made

    def versions(self, name: str) -> list[Version]:
        return list(self._keys.get(name, ()))

    def find(self, name: str, version: str) -> Version | None:
        """The version, or the newest where none is named."""
        found = [each for each in self.versions(name) if version in ("", each.id)]
        return found[-1] if found else None

    def names(self) -> list[str]:
        return sorted(self._keys)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
