"""The page's files: read once, told apart by their hash, compressed where that helps.

Only names with a known type below the web folder are served; everything else is not found, whatever it is. Files keep
their names over releases, so a browser revalidates each (`no-cache` with an ETag) and mostly gets a 304.
"""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".wav": "audio/wav",
}
_COMPRESSED: Final = frozenset({".html", ".js", ".mjs", ".css", ".svg", ".txt", ".webmanifest", ".wasm"})
_SPECIAL: Final = {"/": "index.html", "/test": "index.html", "/favicon.ico": "icon.svg"}
MAX_FILE: Final = 8 * 1024 * 1024


@dataclass(frozen=True)
class File:
    """A file as it is sent. `packed` is its gzip form, empty where that is no smaller."""

    content: bytes
    packed: bytes
    media_type: str
    digest: str
    stamp: tuple[int, int]

    def etag(self, *, packed: bool) -> str:
        """A strong validator of the bytes that are sent (RFC 9110 8.8.3)."""
        return f'"{self.digest}-gz"' if packed else f'"{self.digest}"'


class Files:
    """The files below one folder. A changed file is read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._read: dict[Path, File] = {}

    def find(self, path: str) -> File | None:
        """The file of a request path (already checked to have no dot segments), or None."""
        name = "index.html" if path.startswith("/m/") else _SPECIAL.get(path) or path.removeprefix("/")
        file = Path(self._folder, *name.split("/"))
        media_type = TYPES.get(file.suffix)
        if media_type is None or name.startswith("tests/") or any(part.startswith(".") for part in name.split("/")):
            return None
        try:
            resolved = file.resolve(strict=True)
            status = resolved.stat()
        except (OSError, ValueError):
            return None
        if not resolved.is_relative_to(self._folder) or not resolved.is_file() or status.st_size > MAX_FILE:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(resolved)
        if known is None or known.stamp != stamp:
            known = self._read[resolved] = _load(resolved, media_type, stamp)
        return known


def _load(file: Path, media_type: str, stamp: tuple[int, int]) -> File:
    content = file.read_bytes()
    packed = gzip.compress(content, mtime=0) if file.suffix in _COMPRESSED else b""
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(content, packed if len(packed) < len(content) else b"", media_type, digest, stamp)
