"""One container of Blob storage, its calls, and what its answers mean."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob.aio import BlobClient, BlobServiceClient, ContainerClient

from conference.adapters.azure.calls import NO_RETRIES, RETRIES, Calls, error_code
from conference.adapters.retries import Retries

T = TypeVar("T")
# What moves content: an attempt is long enough for a block of 100 MiB at 15 Mbit/s.
TRANSFERS: Final = replace(RETRIES, attempt_s=60.0, total_s=320.0)


class Container:
    """`credential` is a token credential, or the account key of an emulator. The container is made when it is first
    written to and is not there; in Azure the templates make it. `retries` are for all calls; without them, those that
    move content have longer."""

    def __init__(
        self,
        endpoint: str,
        container: str,
        credential: AsyncTokenCredential | str,
        *,
        retries: Retries | None = None,
        **options: Any,
    ) -> None:
        self.service = BlobServiceClient(endpoint, credential=credential, **NO_RETRIES, **options)
        self.key = credential if isinstance(credential, str) else None
        self.name = container
        self.client: ContainerClient = self.service.get_container_client(container)
        self.calls = Calls("Blob storage", retries or RETRIES)
        self.transfers = Calls("Blob storage", retries or TRANSFERS)

    async def aclose(self) -> None:
        await self.service.close()

    def blob(self, name: str) -> BlobClient:
        return self.client.get_blob_client(name)

    async def find(self, work: Callable[[], Awaitable[T]], calls: Calls | None = None) -> T | None:
        """What `work` gives; None where there is no such blob, or no such container. Raises as `Calls`."""
        try:
            return await (calls or self.calls)(work)
        except HttpResponseError as error:
            if is_missing(error):
                return None
            raise

    async def write(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, tried again where it meets no container, which is made. Raises as `Calls`."""

        async def made() -> T:
            try:
                return await work()
            except HttpResponseError as error:
                if error_code(error) != "ContainerNotFound":
                    raise
                with suppress(ResourceExistsError):  # another process was faster
                    await self.client.create_container()
                return await work()

        return await self.transfers(made)


def is_missing(error: HttpResponseError) -> bool:
    """Whether there is no such blob, or no such container."""
    return error.status_code == 404


def is_taken(error: HttpResponseError) -> bool:
    """Whether `If-None-Match: *` met a blob."""
    return error_code(error) in ("BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet")


def is_leased(error: HttpResponseError) -> bool:
    """Whether another's lease is in the way."""
    return error.status_code in (409, 412) and error_code(error).startswith("Lease")
