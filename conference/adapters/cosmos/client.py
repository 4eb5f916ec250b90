"""One client of the account a process, and what each call may end in: an answer, `Raced`, or `Unavailable`.

A throttled request (429) waits as long as the service says, a bounded number of times. Reads are tried again when the
service is away; writes are tried again only by `settle`, which reads anew before it writes: a write whose answer was
lost may have happened.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from conference.adapters.azure.calls import NO_RETRIES
from conference.adapters.cosmos.containers import ContainerDefinition
from conference.domain.addresses import is_loopback
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret

T = TypeVar("T")
Document = dict[str, Any]
Key = str | Sequence[str]
Operation = tuple[Any, ...]

log = logging.getLogger(__name__)
MOST_OPERATIONS: Final = 100  # of a batch
CONFLICT: Final = 409
GONE: Final = 404
_WHAT: Final = "the database"
_READ_TRIES: Final = 3
_SETTLE_TRIES: Final = 20
_IN_FLIGHT: Final = (
    64  # requests of this process at once: more would only wait at the service, each against its time-out
)
_AWAY_TRIES: Final = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.4
_FRESH_READS: Final = frozenset({"Strong", "BoundedStaleness"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the service may take, in seconds: to connect, to answer one request, over a whole operation with its
    retries; and how often, and how long in sum, a throttled request waits."""

    connect_s: float = 3.0
    answer_s: float = 5.0
    operation_s: float = 20.0
    throttled_tries: int = 6
    throttled_s: int = 6


class Raced(Exception):
    """Another writer came between: the item is there, is gone, or is not as it was read. `index` is the operation of a
    batch that met it."""

    def __init__(self, status: int, index: int = 0) -> None:
        super().__init__(f"{status} at {index}")
        self.status = status
        self.index = index


class CosmosDatabase:
    """A database of an account; `close` it at the end of the process. Connects with its first use.

    `credential` is a managed identity or a developer's; `key` that of an emulator on this machine, refused for any
    other address."""

    def __init__(
        self,
        endpoint: str,
        name: str,
        *,
        key: Secret | None = None,
        credential: AsyncTokenCredential | None = None,
        patience: Patience | None = None,
    ) -> None:
        if key is not None and not is_loopback(urlsplit(endpoint).hostname):
            raise ValueError("a Cosmos DB key is for an emulator on this machine; enter a real account by identity")
        if key is None and credential is None:
            raise ValueError("Cosmos DB needs a credential, or the key of an emulator")
        self.name = name
        self._endpoint = endpoint
        self._credential: Any = key.reveal() if key is not None else credential
        self._patience = patience or Patience()
        self._client: CosmosClient | None = None
        self._opening = asyncio.Lock()
        self.in_flight = asyncio.Semaphore(_IN_FLIGHT)

    async def client(self) -> CosmosClient:
        """The one client, opened. Raises Unavailable."""
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    self._client = await self._open()
        return self._client

    async def _open(self) -> CosmosClient:
        patience = self._patience
        client = CosmosClient(
            self._endpoint,
            self._credential,
            connection_timeout=patience.connect_s,
            read_timeout=patience.answer_s,
            retry_throttle_total=patience.throttled_tries,
            retry_throttle_backoff_max=patience.throttled_s,
            **NO_RETRIES,
        )
        try:
            async with self.bounded(), translated():
                await client.__aenter__()
                await _look_at_consistency(client)
        except BaseException:
            await client.close()
            raise
        return client

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Raises Unavailable where the block takes longer than an operation may."""
        try:
            async with asyncio.timeout(self._patience.operation_s):
                yield
        except TimeoutError:
            raise Unavailable(_WHAT) from None

    def items(self, definition: ContainerDefinition) -> "Items":
        return Items(self, definition)

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def settle(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Runs the attempt, which reads, decides and writes, until nobody came between. Raises Unavailable."""
        away = 0
        async with self.bounded():
            for number in range(_SETTLE_TRIES):
                try:
                    return await attempt()
                except Raced:
                    pass
                except Unavailable as error:
                    away += 1
                    if away == _AWAY_TRIES or not error.retryable or isinstance(error, _Throttled):
                        raise
                await asyncio.sleep(_pause_s(number))
        raise Unavailable(_WHAT)


async def _look_at_consistency(client: CosmosClient) -> None:
    """Says so where a read of this process may be behind a write of another one (ADR 16)."""
    policy = (await client._get_database_account()).ConsistencyPolicy or {}
    level = str(policy.get("defaultConsistencyLevel", ""))
    if level not in _FRESH_READS:
        log.warning("the account's consistency lets refusals come too early", extra={"consistency": level})


class _Throttled(Unavailable):
    """Too many requests for longer than was waited."""


def _pause_s(number: int) -> float:
    """Full jitter, so that those who met do not meet again."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**number))  # noqa: S311


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the client's errors into `Raced` and `Unavailable`; what is our own mistake passes through."""
    try:
        yield
    except CosmosBatchOperationError as error:
        index = int(error.error_index or 0)
        raise _of_status(int(error.status_code or 0), error, index) from None
    except CosmosHttpResponseError as error:
        raise _of_status(int(error.status_code or 0), error) from None
    except AzureError as error:
        log.warning("database away", extra={"error": type(error).__name__})
        raise Unavailable(_WHAT) from None


_NO_CONTAINER: Final = 1003  # a substatus of 404
_NO_SESSION: Final = 1002  # of another: no replica has caught up with what this client has seen


def _of_status(status: int, error: CosmosHttpResponseError | CosmosBatchOperationError, index: int = 0) -> Exception:
    if status == 404 and error.sub_status == _NO_CONTAINER:
        log.error("the database or one of its containers does not exist")
        return Unavailable(f"{_WHAT} (it lacks its containers)", retryable=False, after_s=None)
    if status == 404 and error.sub_status == _NO_SESSION:
        return Unavailable(_WHAT)
    if status in (404, CONFLICT, 412, 449):
        return Raced(status, index)
    if status == 429:
        milliseconds = (getattr(error, "headers", None) or {}).get("x-ms-retry-after-ms", "1000")
        return _Throttled(_WHAT, after_s=max(float(milliseconds) / 1_000, 0.1))
    if status in (401, 403):
        log.error("the database refuses this process's credential", extra={"status": status})
        return Unavailable(f"{_WHAT} (it refuses this process's credential)", retryable=False, after_s=None)
    if status in (408, 410) or status >= 500:
        log.warning("database away", extra={"status": status})
        return Unavailable(_WHAT)
    return error


class Items:
    """The items of one container. Every method raises Unavailable."""

    def __init__(self, database: CosmosDatabase, definition: ContainerDefinition) -> None:
        self._database = database
        self._definition = definition

    async def _container(self) -> ContainerProxy:
        client = await self._database.client()
        return client.get_database_client(self._database.name).get_container_client(self._definition.name)

    async def _read(self, call: Callable[[ContainerProxy], Awaitable[T]]) -> T:
        async with self._database.bounded():
            for number in range(_READ_TRIES):
                try:
                    async with self._database.in_flight, translated():
                        return await call(await self._container())
                except _Throttled:
                    raise
                except Unavailable as error:
                    if number == _READ_TRIES - 1 or not error.retryable:
                        raise
                await asyncio.sleep(_pause_s(number + 3))
        raise Unavailable(_WHAT)

    async def read(self, key: Key, id: str) -> Document | None:
        """The item, None where there is none."""
        try:
            return await self._read(lambda container: container.read_item(id, _key(key)))
        except Raced:
            return None

    async def query(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        key: Key | None = None,
        limit: int | None = None,
    ) -> list[Any]:
        """What is selected, at most `limit`; of one partition (or those with a prefix of its key), else of all."""
        if limit == 0:
            return []
        given = [{"name": f"@{name}", "value": value} for name, value in (parameters or {}).items()]
        where: dict[str, Any] = {} if key is None else {"partition_key": _key(key)}

        async def call(container: ContainerProxy) -> list[Any]:
            found: list[Any] = []
            async for row in container.query_items(text, parameters=given, max_item_count=limit or 1_000, **where):
                found.append(row)
                if len(found) == limit:
                    break
            return found

        return await self._read(call)

    async def changes(self, continuation: str | None) -> tuple[list[Document], str | None]:
        """A page of what has changed since, in order within a partition; empty where nothing has. Begins at the
        beginning."""

        async def call(container: ContainerProxy) -> tuple[list[Document], str | None]:
            start: dict[str, Any] = {"continuation": continuation} if continuation else {"start_time": "Beginning"}
            feed = container.query_items_change_feed(max_item_count=200, **start).by_page()
            try:
                page = [item async for item in await anext(feed)]
            except StopAsyncIteration:
                page = []
            return page, feed.continuation_token or continuation  # type: ignore[attr-defined]

        return await self._read(call)

    async def create(self, document: Document) -> Document:
        """Raises Raced (409) where it is there."""
        return await self._write(lambda container: container.create_item(document))

    async def upsert(self, document: Document) -> Document:
        """Raises Raced (449) where the service asks to try again."""
        return await self._write(lambda container: container.upsert_item(document))

    async def replace(self, document: Document, etag: str) -> Document:
        """Raises Raced (404, 412) where it is not as it was read."""
        unmodified = MatchConditions.IfNotModified
        return await self._write(
            lambda container: container.replace_item(document["id"], document, etag=etag, match_condition=unmodified)
        )

    async def delete(self, key: Key, id: str) -> bool:
        """False where it was gone."""
        try:
            await self._write(lambda container: container.delete_item(id, _key(key)))
        except Raced as raced:
            if raced.status != GONE:
                raise Unavailable(_WHAT) from None
            return False
        return True

    async def batch(self, key: Key, operations: Sequence[Operation]) -> list[str]:
        """All of them or none; the ETags that they left. Raises Raced."""
        results = await self._write(lambda container: container.execute_item_batch(operations, _key(key)))
        return [str(result.get("eTag", "")) for result in results]

    async def _write(self, call: Callable[[ContainerProxy], Awaitable[T]]) -> T:
        async with self._database.bounded(), self._database.in_flight, translated():
            return await call(await self._container())


def _key(key: Key) -> Any:
    return key if isinstance(key, str) else list(key)
