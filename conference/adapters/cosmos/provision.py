"""Makes the database and its containers on an emulator: `python -m conference.adapters.cosmos.provision`.

In Azure Bicep makes them, and the identities of our processes may not. What is there already is left as it is.
"""

import asyncio
import logging
from contextlib import suppress

from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosResourceExistsError

from conference.adapters.cosmos.client import CosmosDatabase, translated
from conference.adapters.cosmos.containers import ALL, ContainerDefinition
from conference.domain.ids import Secret
from conference.settings import settings

log = logging.getLogger(__name__)


async def provision(database: CosmosDatabase) -> None:
    """Repeatable, and safe where several do it at once. Raises Unavailable."""
    client = await database.client()
    async with database.bounded(), translated():
        proxy = await _database(client, database.name)
        for definition in ALL:
            await _container(proxy, definition)


async def _database(client: CosmosClient, name: str) -> DatabaseProxy:
    try:
        return await client.create_database(name)
    except CosmosResourceExistsError:
        return client.get_database_client(name)


async def _container(database: DatabaseProxy, definition: ContainerDefinition) -> None:
    paths = list(definition.partition_key)
    key = PartitionKey(paths, kind="MultiHash") if definition.is_hierarchical else PartitionKey(paths[0])
    with suppress(CosmosResourceExistsError):
        await database.create_container(
            definition.name,
            key,
            indexing_policy=definition.indexing_policy,
            default_ttl=definition.default_ttl,
        )


async def main() -> None:
    """For the account of the settings."""
    chosen = settings()
    key = Secret(chosen.cosmos_key.get_secret_value()) if chosen.cosmos_key else None
    database = CosmosDatabase(chosen.cosmos_endpoint, chosen.cosmos_database, key=key)
    try:
        await provision(database)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
