"""A small document in Blob storage that changes under its ETag."""

from functools import partial
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContentSettings

from conference.adapters.blob.client import Container


class BlobDocument:
    """Implements `conference.adapters.sealed_keys.Document`. A write whose answer was lost is known by its bytes."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container
        self._blob = container.blob(name)

    async def read(self) -> tuple[bytes, str] | None:
        async def work() -> tuple[bytes, str]:
            found = await self._blob.download_blob()
            return await found.readall(), str(found.properties.etag)

        return await self._container.find(work)

    async def write(self, body: bytes, tag: str | None) -> str | None:
        condition: dict[str, Any] = (
            {"overwrite": False}  # If-None-Match: *
            if tag is None
            else {"overwrite": True, "etag": tag, "match_condition": MatchConditions.IfNotModified}
        )
        kind = ContentSettings(content_type="application/json")
        try:
            written = await self._container.write(
                partial(self._blob.upload_blob, body, length=len(body), content_settings=kind, **condition)
            )
        except HttpResponseError as error:
            if error.status_code not in (404, 409, 412):
                raise
            found = await self.read()
            return found[1] if found and found[0] == body else None
        return str(written["etag"])
