"""Links that read one file for a while: an address with its end and a keyed hash over both (HMAC-SHA256)."""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from conference.adapters import disk
from conference.ports.media_files import LONGEST_LINK, checked_life, checked_name

MEDIA_PATH: Final = "/media"  # of the local origin, which serves the folder
_SECRET_BYTES: Final = 32


def shared_secret(file: Path) -> bytes:
    """The secret of the processes of a machine, made by the first that asks. Raises OSError."""
    if not file.exists():
        disk.appear(file, secrets.token_bytes(_SECRET_BYTES))
    secret = file.read_bytes()
    if len(secret) != _SECRET_BYTES:  # anybody could sign with an empty one
        raise OSError(f"{file} is damaged: remove it, and all links end")
    return secret


class Links:
    """Makes and reads links below `base`, for example https://meet.example/media."""

    def __init__(self, base: str, secret: bytes) -> None:
        self._base, self._secret = base.rstrip("/"), secret

    @classmethod
    def of(cls, folder: Path, public_url: str) -> Self:
        """Those to the files of `folder`, served by the local origin. Raises OSError."""
        return cls(public_url.rstrip("/") + MEDIA_PATH, shared_secret(folder / "links.key"))

    def link(self, name: str, now: datetime, life: timedelta = LONGEST_LINK) -> str:
        ends = int((now + checked_life(life)).timestamp())
        return f"{self._base}/{quote(checked_name(name))}?expires={ends}&signature={self._signature(name, ends)}"

    def opened(self, url: str, now: datetime) -> str | None:
        """The name of the file that the link reads now; None for one that ended, was changed, or lives too long."""
        parts = urlsplit(url)
        path, asked = urlsplit(self._base).path + "/", parse_qs(parts.query)
        try:
            name = checked_name(unquote(parts.path.removeprefix(path), errors="strict"))
            ((ends,), (signature,)) = asked["expires"], asked["signature"]
            is_ours = hmac.compare_digest(signature.encode(), self._signature(name, int(ends)).encode())
            left = datetime.fromtimestamp(int(ends), UTC) - now
        except (KeyError, ValueError, OverflowError, OSError):
            return None
        return name if is_ours and parts.path.startswith(path) and timedelta(0) < left <= LONGEST_LINK else None

    def _signature(self, name: str, ends: int) -> str:
        return hmac.new(self._secret, f"GET\n{name}\n{ends}".encode(), hashlib.sha256).hexdigest()
