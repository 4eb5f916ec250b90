"""The stores of an installation: in SQL, or in Cosmos DB with the queue beside it. Each process opens them once.

The Cosmos DB client is loaded only where it is used: it takes longer to import than all the rest of a cold start.
"""

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from conference.adapters.credentials import ProcessCredential
from conference.adapters.sql import open_database, sql_stores
from conference.domain.ids import Secret
from conference.ports.clock import Ids
from conference.ports.records import EventQueue
from conference.ports.stores import Stores
from conference.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_COSMOS: Final = "conference.adapters.cosmos"


@dataclass(frozen=True, slots=True)
class CosmosAccount:
    """Where the containers are. `key` is an emulator's; a real account is entered with `credential`."""

    endpoint: str
    database: str
    key: Secret | None = None
    credential: "AsyncTokenCredential | None" = None


@dataclass(frozen=True, slots=True)
class OpenStores:
    """The stores, and how to close what they hold."""

    stores: Stores
    close: Callable[[], Awaitable[None]]


def open_stores(
    ids: Ids, *, sql_url: str, cosmos: CosmosAccount | None = None, queue: EventQueue | None = None
) -> OpenStores:
    """In Cosmos DB where an account is given, else in SQL. `queue` is used in place of the one in SQL.

    Connects lazily; call it inside the event loop. Raises ValueError."""
    if cosmos is None:
        database = open_database(sql_url)
        stores = sql_stores(database, ids)
        return OpenStores(stores if queue is None else replace(stores, queue=queue), database.close)
    adapter: Any = importlib.import_module(_COSMOS)
    containers = adapter.CosmosDatabase(cosmos.endpoint, cosmos.database, key=cosmos.key, credential=cosmos.credential)
    if queue is not None:
        return OpenStores(cast(Stores, adapter.cosmos_stores(containers, ids, queue)), containers.close)
    database = open_database(sql_url)

    async def close() -> None:
        await containers.close()
        await database.close()

    embedded = sql_stores(database, ids).queue
    return OpenStores(cast(Stores, adapter.cosmos_stores(containers, ids, embedded)), close)


def open_chosen_stores(
    ids: Ids, chosen: Settings, credential: ProcessCredential, queue: EventQueue | None = None
) -> OpenStores:
    """Those of the settings. Raises ValueError."""
    if not chosen.uses_cosmos:
        return open_stores(ids, sql_url=chosen.sql_url, queue=queue)
    key = Secret(chosen.cosmos_key.get_secret_value()) if chosen.cosmos_key else None
    token = credential.token(chosen.cosmos_endpoint) if key is None else None
    account = CosmosAccount(chosen.cosmos_endpoint, chosen.cosmos_database, key, token)
    return open_stores(ids, sql_url=chosen.sql_url, cosmos=account, queue=queue)
