"""Recordings of the data folder, to whoever has a link: Blob storage's part, on one machine."""

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from conference.adapters.files import FilesMediaFiles
from conference.adapters.files.links import MEDIA_PATH, Links
from conference.ports.media_files import content_type

_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "Parley",
}


class Media:
    """Answers below `/media/`; a browser may ask for ranges, as a player does."""

    def __init__(self, files: FilesMediaFiles, links: Links, now: Callable[[], datetime]) -> None:
        self._files, self._links, self._now = files, links, now

    def answers(self, path: str) -> bool:
        return path.startswith(f"{MEDIA_PATH}/")

    def find(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """The file that the link reads; None where it is no link of ours, has ended, or its file is gone."""
        name = self._links.opened(request.raw_path, self._now())
        file = None if name is None else self._files.readable(name)
        if name is None or file is None:
            return None
        return web.FileResponse(file, headers=_HEADERS | {"Content-Type": content_type(name)})
