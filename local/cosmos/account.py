"""The account: its databases and containers, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from local.cosmos.containers import Container
from local.cosmos.errors import CosmosError
from local.cosmos.partition_keys import KeyDefinition

LONGEST_ID: Final = 255
_DEFAULT_POLICY: Final = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": '/"_etag"/?'}],
}


@dataclass(slots=True)
class Database:
    description: dict[str, Any]
    containers: dict[str, Container] = field(default_factory=dict)


class Account:
    """`clock` gives seconds since the epoch: it stamps items and lets them expire."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.databases: dict[str, Database] = {}
        self._numbers = count(1)

    def database(self, name: str) -> Database:
        """Raises CosmosError 404."""
        if name not in self.databases:
            raise CosmosError(404, "Owner resource does not exist.", substatus=1003)
        return self.databases[name]

    def container(self, database: str, name: str) -> Container:
        """Raises CosmosError 404."""
        containers = self.database(database).containers
        if name not in containers:
            raise CosmosError(404, "Owner resource does not exist.", substatus=1003)
        return containers[name]

    def create_database(self, given: Any) -> Database:
        """Raises CosmosError 400, 409."""
        name = _name(given)
        if name in self.databases:
            raise CosmosError(409, "A database of that id exists already.")
        rid = f"d{next(self._numbers):06x}"
        description = self._described({"id": name}, rid, f"dbs/{rid}/") | {"_colls": "colls/", "_users": "users/"}
        database = self.databases[name] = Database(description)
        return database

    def create_container(self, database: str, given: Any) -> Container:
        """Raises CosmosError 400, 404, 409."""
        owner, name = self.database(database), _name(given)
        if name in owner.containers:
            raise CosmosError(409, "A container of that id exists already.")
        rid = f"c{next(self._numbers):06x}"
        base = {"indexingPolicy": _DEFAULT_POLICY, **given}
        _check_ttl(base)
        container = Container(self._described(base, rid, f"dbs/{owner.description['_rid']}/colls/{rid}/"), self.clock)
        owner.containers[name] = container
        return container

    def replace_container(self, database: str, name: str, given: Any) -> Container:
        """Takes over what may change: indexing policy and TTL. Raises CosmosError 400, 404."""
        container = self.container(database, name)
        if _name(given) != name or KeyDefinition.read(given.get("partitionKey")) != container.keys:
            raise CosmosError(400, "The id and the partition key of a container do not change.")
        _check_ttl(given)
        container.description["indexingPolicy"] = given.get("indexingPolicy") or _DEFAULT_POLICY
        container.description.pop("defaultTtl", None)
        if given.get("defaultTtl") is not None:
            container.description["defaultTtl"] = given["defaultTtl"]
        return container

    def _described(self, given: dict[str, Any], rid: str, link: str) -> dict[str, Any]:
        system = {"_rid": rid, "_self": link, "_etag": f'"{rid}"', "_ts": int(self.clock())}
        return {name: value for name, value in given.items() if value is not None} | system


def _name(given: Any) -> str:
    name = given.get("id") if isinstance(given, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_ID or any(sign in name for sign in "/\\?#"):
        raise CosmosError(400, "A resource needs an id of at most 255 characters without / \\ ? #.")
    return name


def _check_ttl(given: dict[str, Any]) -> None:
    ttl = given.get("defaultTtl")
    if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or (ttl < 1 and ttl != -1)):
        raise CosmosError(400, "defaultTtl is -1 or a number of seconds of at least 1.")
