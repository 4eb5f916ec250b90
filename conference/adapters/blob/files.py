"""Port `MediaFiles` in a container of Azure Blob storage: block blobs, written under `If-None-Match: *`.

A repeated write whose first answer was lost meets its own blob: a file that was put says in its metadata what it holds,
and a committed one is told by its list of blocks, whose ids name the writer.
"""

import base64
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.async_paging import AsyncItemPaged
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import (
    BlobBlock,
    BlobProperties,
    BlobSasPermissions,
    ContentSettings,
    RehydratePriority,
    UserDelegationKey,
    generate_blob_sas,
)
from azure.storage.blob.aio import BlobClient, BlobLeaseClient

from conference.adapters.azure.calls import error_code
from conference.adapters.blob.client import Container, is_leased, is_missing, is_taken
from conference.domain.errors import Unavailable
from conference.domain.records import StorageTier
from conference.ports.media_files import (
    LEASE_S,
    LONGEST_LINK,
    Draft,
    MediaFile,
    checked_block,
    checked_lease,
    checked_life,
    checked_name,
    checked_numbers,
    checked_prefix,
    content_type,
)

PIECE: Final = 8 * 2**20  # bytes that one request reads, or writes of a large file
LARGEST_AT_ONCE: Final = 2**20
_SKEW: Final = timedelta(minutes=5)
_KEY_LIFE: Final = timedelta(hours=6)  # of a user-delegation key; Azure gives seven days at most
_DIGEST: Final = "sha256"


class BlobMediaFiles:
    def __init__(self, container: Container) -> None:
        self._container = container
        self._calls = container.calls
        self._key: UserDelegationKey | None = None
        self._key_ends = datetime.min.replace(tzinfo=UTC)

    async def put(self, name: str, body: bytes) -> bool:
        digest = hashlib.sha256(body).hexdigest()
        if len(body) > LARGEST_AT_ONCE:
            return await self._put_in_blocks(Draft(name, digest), body)
        blob = self._blob(name)
        write = partial(
            blob.upload_blob,
            body,
            length=len(body),
            overwrite=False,  # If-None-Match: *
            metadata={_DIGEST: digest},
            content_settings=ContentSettings(content_type=content_type(name)),
        )
        try:
            await self._container.write(write)
        except HttpResponseError as error:
            if not (is_taken(error) or is_leased(error)):
                raise
            return await self._digest(blob) == digest
        return True

    async def _put_in_blocks(self, draft: Draft, body: bytes) -> bool:
        view, numbers = memoryview(body), range(-(-len(body) // PIECE))
        try:
            for number in numbers:
                await self._stage(draft, number, bytes(view[number * PIECE : (number + 1) * PIECE]))
        except HttpResponseError as error:
            if not is_leased(error):
                raise
            committed, _ = await self._blocks(self._blob(draft.name))
            return committed == [_block_id(draft.writer, number) for number in numbers]
        return await self.commit(draft, numbers)

    async def _digest(self, blob: BlobClient) -> str | None:
        """Of what was put there; None where it grew by blocks, or is a draft yet, for which Azurite keeps the name."""
        found = await self._container.find(blob.get_blob_properties)
        return (found.metadata or {}).get(_DIGEST) if found else None

    async def stage(self, draft: Draft, number: int, body: bytes) -> None:
        checked_block(number, body)
        try:
            await self._stage(draft, number, body)
        except HttpResponseError as error:
            if is_leased(error):
                raise _leased() from error
            raise

    async def _stage(self, draft: Draft, number: int, body: bytes) -> None:
        blob, block = self._blob(draft.name), _block_id(draft.writer, number)
        # A stream, of which each try has its own: bytes that long would be one write to the transport.
        await self._container.write(lambda: blob.stage_block(block, io.BytesIO(body), length=len(body)))

    async def staged(self, draft: Draft) -> Sequence[int]:
        _, uncommitted = await self._blocks(self._blob(draft.name))
        return sorted(number for block in uncommitted if (number := _number(block, draft.writer)) is not None)

    async def commit(self, draft: Draft, numbers: Sequence[int]) -> bool:
        blob, ids = self._blob(draft.name), [_block_id(draft.writer, number) for number in checked_numbers(numbers)]
        write = partial(
            blob.commit_block_list,
            [BlobBlock(block_id=block) for block in ids],
            content_settings=ContentSettings(content_type=content_type(draft.name)),
            match_condition=MatchConditions.IfMissing,  # If-None-Match: *
        )
        try:
            await self._container.write(write)
        except HttpResponseError as error:
            is_there = is_taken(error) or is_leased(error)
            if not is_there and error_code(error) not in ("InvalidBlockList", "BlobNotFound"):
                raise
            committed, _ = await self._blocks(blob)
            if not committed and not is_there:
                raise ValueError("a block of the file was never staged") from error
            return committed == ids
        return True

    async def _blocks(self, blob: BlobClient) -> tuple[list[str], list[str]]:
        """The ids of the blocks that are committed, in order, and of those that are not."""
        found = await self._container.find(lambda: blob.get_block_list("all"))
        committed, uncommitted = ([str(block.id) for block in blocks] for blocks in found or ([], []))
        return committed, uncommitted

    async def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | None:
        """In pieces, each tried by itself."""
        blob, parts = self._blob(name), bytearray()
        while True:
            left = PIECE if length is None else min(PIECE, length - len(parts))
            wanted = max(1, left)  # of nothing one byte, which tells whether there is such a file
            piece = await self._piece(blob, offset + len(parts), wanted)
            if piece is None:
                return None
            parts += piece
            if len(piece) < wanted or (length is not None and len(parts) >= length):
                return bytes(parts[:length])

    async def _piece(self, blob: BlobClient, offset: int, length: int) -> bytes | None:
        async def work() -> bytes:
            return await (await blob.download_blob(offset, length)).readall()

        try:
            return await self._container.find(work, self._container.transfers)
        except HttpResponseError as error:
            if error.status_code == 416:
                return b""
            if error_code(error) == "BlobArchived":
                raise Unavailable("the archived file", retryable=False, after_s=None) from error
            raise

    async def facts(self, name: str) -> MediaFile | None:
        found = await self._container.find(self._blob(name).get_blob_properties)
        return _media_file(found) if found else None

    async def find(self, prefix: str) -> AsyncIterator[MediaFile]:
        checked_prefix(prefix)
        token: str | None = None
        while True:
            files, token = await self._container.find(partial(self._page, prefix, token)) or ([], None)
            for file in files:
                yield file
            if not token:
                return

    async def _page(self, prefix: str, token: str | None) -> tuple[list[MediaFile], str | None]:
        found: AsyncItemPaged[BlobProperties] = self._container.client.list_blobs(name_starts_with=prefix or None)
        pages: Any = found.by_page(token)  # its type hides the continuation token
        files = [_media_file(blob) async for blob in await anext(pages)]
        return files, pages.continuation_token

    async def delete(self, name: str, *, holder: str = "") -> bool:
        blob = self._blob(name)
        return await self._held(lambda lease: blob.delete_blob(lease=lease), holder)

    async def move(self, name: str, tier: StorageTier, *, holder: str = "") -> bool:
        blob, azures = self._blob(name), tier.value.capitalize()
        priority = RehydratePriority.STANDARD if tier is not StorageTier.ARCHIVE else None
        return await self._held(
            lambda lease: blob.set_standard_blob_tier(azures, rehydrate_priority=priority, lease=lease), holder
        )

    async def _held(self, work: Any, holder: str) -> bool:
        """Does it under the holder's lease, if there is one. False where there is no such blob."""
        for lease in dict.fromkeys((holder or None, None)):
            try:
                await self._calls(partial(work, lease))
            except HttpResponseError as error:
                if is_missing(error):
                    return False
                if lease and error_code(error) == "LeaseNotPresentWithBlobOperation":
                    continue  # the holder's lease has ended, and nobody has another
                if is_leased(error):
                    raise _leased() from error
                raise
            return True
        raise AssertionError("without a lease there is no lease to be missed")

    async def lease(self, name: str, holder: str, *, seconds: int) -> bool:
        span = checked_lease(seconds)
        blob = self._blob(name)
        return await self._ours(lambda: blob.acquire_lease(int(span.total_seconds()), lease_id=holder))

    async def release(self, name: str, holder: str) -> bool:
        lease = BlobLeaseClient(self._blob(name), lease_id=holder)
        return await self._ours(lease.release)

    async def _ours(self, work: Any) -> bool:
        """Whether the lease is the holder's after it."""
        try:
            await self._calls(work)
        except HttpResponseError as error:
            if is_missing(error) or is_leased(error):
                return False
            raise
        return True

    async def link(self, name: str, now: datetime, *, life: timedelta = LONGEST_LINK) -> str:
        blob, ends = self._blob(name), now + checked_life(life)
        signed = {"account_key": self._container.key} if self._container.key else {}
        if not signed:
            signed["user_delegation_key"] = await self._delegation_key(now)  # type: ignore[assignment]
        signature = generate_blob_sas(
            account_name=str(self._container.service.account_name),
            container_name=self._container.name,
            blob_name=name,
            permission=BlobSasPermissions(read=True),
            start=now - _SKEW,
            expiry=ends,
            protocol="https" if blob.url.startswith("https:") else None,
            **signed,  # type: ignore[arg-type]
        )
        return f"{blob.url}?{signature}"

    async def _delegation_key(self, now: datetime) -> UserDelegationKey:
        """Good for every link of the next hours: asking for one at each link would double its time."""
        if self._key is None or now + LONGEST_LINK > self._key_ends:
            ends = now + _KEY_LIFE
            service = self._container.service
            self._key = await self._calls(lambda: service.get_user_delegation_key(now - _SKEW, ends))
            self._key_ends = ends
        return self._key

    def _blob(self, name: str) -> BlobClient:
        return self._container.blob(checked_name(name))


def _media_file(blob: BlobProperties) -> MediaFile:
    tier = StorageTier(str(blob.blob_tier or "Hot").lower())
    return MediaFile(str(blob.name), int(blob.size), tier, blob.last_modified)


def _leased() -> Unavailable:
    return Unavailable("the leased file", after_s=float(LEASE_S[0]))


def _block_id(writer: str, number: int) -> str:
    """As long for every block of a blob, as Azure demands."""
    mark = hashlib.sha256(writer.encode()).hexdigest()[:16]
    return base64.b64encode(f"{mark}-{number:07d}".encode()).decode()


def _number(block: str, writer: str) -> int | None:
    """Of a block of this writer; None for another's."""
    try:
        found = int(base64.b64decode(block, validate=True).decode().partition("-")[2])
    except ValueError:
        return None
    return found if _block_id(writer, found) == block else None
