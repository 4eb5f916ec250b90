"""The server over HTTP: paths, headers and statuses of the Cosmos DB REST API, as the service's clients use them.

One physical partition, so clients never ask for a query plan; session tokens count the container's changes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from aiohttp import web

from local.cosmos import batching, faults, querying, signatures
from local.cosmos.account import Account
from local.cosmos.containers import Conditions, Container, Item, Key
from local.cosmos.errors import CosmosError
from local.cosmos.faults import Fault, Faults

LARGEST_BODY: Final = 4 * 1024 * 1024
LARGEST_BATCH: Final = 2 * 1024 * 1024
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with its document; None has no body."""

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    charge: float = 1.0


class CosmosServer:
    """`key` is the master key in base64; `wall_clock` judges the dates of signatures."""

    def __init__(self, account: Account, key: str, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.account = account
        self.faults = Faults()
        self.consistency = "BoundedStaleness"  # what clients are told; every read here is the latest
        self._key = key
        self._wall_clock = wall_clock

    def application(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_get("/health", _health)
        app.router.add_get("/ready", _health)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request: checks its signature, lets it meet its fault, answers."""
        path = request.rel_url.raw_path
        try:
            signatures.check(self._key, request.method, path, request.headers, self._wall_clock())
            parts = [unquote(part) for part in path.strip("/").split("/") if part]
            body = await request.read()
            fault = self._fault(request, parts)
            if fault is not None:
                await faults.before(fault)
            answer = self._answer(request, parts, body)
            if fault is not None and fault.kind == "lose-answer" and request.transport is not None:
                request.transport.abort()
        except CosmosError as error:
            headers = {"x-ms-substatus": str(error.substatus)} if error.substatus else {}
            answer = Answer(error.status, error.body, {**headers, **error.headers})
        except web.HTTPRequestEntityTooLarge:
            answer = Answer(413, CosmosError(413, "Request size is too large.").body)
        return self._response(answer)

    def _fault(self, request: web.Request, parts: list[str]) -> Fault | None:
        if len(parts) < 5 or parts[4] != "docs":
            return None
        return self.faults.next(_operation(request), parts[3])

    def _response(self, answer: Answer) -> web.Response:
        headers = {
            "x-ms-request-charge": f"{answer.charge:.2f}",
            "x-ms-activity-id": "00000000-0000-0000-0000-000000000000",
            "x-ms-version": "2020-07-15",
            **answer.headers,
        }
        if answer.document is None:
            return web.Response(status=answer.status, headers=headers)
        return web.Response(
            status=answer.status, headers=headers, body=msgspec.json.encode(answer.document), content_type=_JSON
        )

    def _answer(self, request: web.Request, parts: list[str], body: bytes) -> Answer:
        """Raises CosmosError."""
        method = request.method
        match parts:
            case []:
                return Answer(200, self._account(request))
            case ["faults"]:
                return self._switch(method, body)
            case ["dbs"]:
                return self._databases(method, body)
            case ["dbs", database]:
                return self._database(method, database)
            case ["dbs", database, "colls"]:
                return self._containers(method, database, body)
            case ["dbs", database, "colls", name]:
                return self._container(method, database, name, body)
            case ["dbs", database, "colls", name, "pkranges"]:
                return _ranges(request, self.account.container(database, name))
            case ["dbs", database, "colls", name, "docs"]:
                return _Feed(request, self.account.container(database, name)).answer(body)
            case ["dbs", database, "colls", name, "docs", id]:
                return _document(request, self.account.container(database, name), id, body)
        raise CosmosError(404, "There is no such resource.")

    def _account(self, request: web.Request) -> dict[str, Any]:
        here = [{"name": "Local", "databaseAccountEndpoint": f"{request.scheme}://{request.host}/"}]
        return {
            "_self": "",
            "id": "local",
            "_rid": "local",
            "media": "//media/",
            "addresses": "//addresses/",
            "_dbs": "//dbs/",
            "writableLocations": here,
            "readableLocations": here,
            "enableMultipleWriteLocations": False,
            "userConsistencyPolicy": {"defaultConsistencyLevel": self.consistency},
            "userReplicationPolicy": {"asyncReplication": False, "minReplicaSetSize": 1, "maxReplicasetSize": 1},
            "systemReplicationPolicy": {"minReplicaSetSize": 1, "maxReplicasetSize": 1},
            "readPolicy": {"primaryReadCoefficient": 1, "secondaryReadCoefficient": 1},
            "queryEngineConfiguration": "{}",
        }

    def _switch(self, method: str, body: bytes) -> Answer:
        """`POST /faults` switches one on, `DELETE /faults` all off."""
        if method == "DELETE":
            self.faults.clear()
        elif method == "POST":
            self.faults.switch_on(faults.read(_parsed(body)))
        return Answer(200, {"switchedOn": len(self.faults.switched_on), "met": self.faults.met})

    def _databases(self, method: str, body: bytes) -> Answer:
        if method == "POST":
            return Answer(201, self.account.create_database(_parsed(body)).description)
        found = [database.description for database in self.account.databases.values()]
        return Answer(200, {"_rid": "", "Databases": found, "_count": len(found)})

    def _database(self, method: str, name: str) -> Answer:
        database = self.account.database(name)
        if method == "DELETE":
            del self.account.databases[name]
            return Answer(204)
        return Answer(200, database.description)

    def _containers(self, method: str, database: str, body: bytes) -> Answer:
        if method == "POST":
            return Answer(201, self.account.create_container(database, _parsed(body)).description)
        found = [container.description for container in self.account.database(database).containers.values()]
        return Answer(200, {"_rid": "", "DocumentCollections": found, "_count": len(found)})

    def _container(self, method: str, database: str, name: str, body: bytes) -> Answer:
        container = self.account.container(database, name)
        if method == "DELETE":
            del self.account.database(database).containers[name]
            return Answer(204)
        if method == "PUT":
            container = self.account.replace_container(database, name, _parsed(body))
        return Answer(200, container.description, _session(container))


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _parsed(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise CosmosError(400, "The body is not JSON.") from None


def _object(body: bytes) -> dict[str, Any]:
    found = _parsed(body)
    if not isinstance(found, dict):
        raise CosmosError(400, "The body is not an object.")
    return found


def _is(request: web.Request, header: str) -> bool:
    return request.headers.get(header, "").lower() == "true"


def _operation(request: web.Request) -> str:
    """What a fault may be aimed at."""
    if _is(request, "x-ms-documentdb-isquery"):
        return "query"
    if _is(request, "x-ms-cosmos-is-batch-request"):
        return "batch"
    if request.method == "GET":
        return "feed" if "A-IM" in request.headers else "read"
    return "write"


def _session(container: Container) -> dict[str, str]:
    return {"x-ms-session-token": f"0:-1#{container.lsn}", "lsn": str(container.lsn)}


def _key(request: web.Request, container: Container) -> Key | None:
    given = request.headers.get("x-ms-documentdb-partitionkey")
    return None if given is None else container.keys.header(given)


def _whole_key(request: web.Request, container: Container) -> Key:
    key = _key(request, container)
    if key is None or not container.keys.is_whole(key):
        raise CosmosError(400, "PartitionKey value must be supplied for this operation.")
    return key


def _conditions(request: web.Request) -> Conditions:
    return Conditions(request.headers.get("If-Match"), request.headers.get("If-None-Match"))


def _stored(status: int, container: Container, item: Item) -> Answer:
    return Answer(status, item.document, {"etag": item.etag, **_session(container)}, 5.0 + item.size / 1_024)


def _document(request: web.Request, container: Container, id: str, body: bytes) -> Answer:
    """One item: read, replaced, patched, deleted."""
    key, conditions = _whole_key(request, container), _conditions(request)
    match request.method:
        case "GET":
            item = container.get(key, id)
            if conditions.if_none_match == item.etag:
                return Answer(304, None, {"etag": item.etag, **_session(container)})
            return Answer(200, item.document, {"etag": item.etag, **_session(container)}, 1 + item.size / 10_240)
        case "PUT":
            return _stored(200, container, container.replace(key, id, _object(body), conditions))
        case "PATCH":
            return _stored(200, container, container.patch(key, id, _object(body), conditions))
        case "DELETE":
            container.delete(key, id, conditions)
            return Answer(204, None, _session(container), 5.0)
    raise CosmosError(405, "The method is not allowed here.")


def _ranges(request: web.Request, container: Container) -> Answer:
    """The one physical partition. A reader who knows it is told that nothing has changed."""
    etag = '"1"'
    if request.headers.get("If-None-Match") == etag:
        return Answer(304, None, {"etag": etag})
    whole = {
        "_rid": f"{container.rid}-range",
        "id": "0",
        "_etag": etag,
        "minInclusive": "",
        "maxExclusive": "FF",
        "ridPrefix": 0,
        "_self": f"{container.description['_self']}pkranges/0/",
        "throughputFraction": 1,
        "status": "online",
        "parents": [],
        "_ts": container.description["_ts"],
    }
    return Answer(200, {"_rid": container.rid, "PartitionKeyRanges": [whole], "_count": 1}, {"etag": etag})


class _Feed:
    """What is asked of all items of a container, or of a part of it."""

    def __init__(self, request: web.Request, container: Container) -> None:
        self._request = request
        self._container = container

    def answer(self, body: bytes) -> Answer:
        request = self._request
        if request.method == "GET":
            return self._changes() if "A-IM" in request.headers else self._query("SELECT * FROM c", {})
        if request.method != "POST":
            raise CosmosError(405, "The method is not allowed here.")
        if _is(request, "x-ms-cosmos-is-query-plan-request"):
            raise CosmosError(400, "There is one physical partition: no query needs a plan.")
        if _is(request, "x-ms-documentdb-isquery") or "query+json" in request.headers.get("Content-Type", ""):
            query = _object(body)
            return self._query(str(query.get("query", "")), querying.parameters_of(query.get("parameters") or []))
        if _is(request, "x-ms-cosmos-is-batch-request"):
            return self._batch(body)
        return self._create(_object(body))

    def _create(self, document: dict[str, Any]) -> Answer:
        key = _whole_key(self._request, self._container)
        if not _is(self._request, "x-ms-documentdb-is-upsert"):
            return _stored(201, self._container, self._container.create(key, document))
        item, is_new = self._container.upsert(key, document, _conditions(self._request))
        return _stored(201 if is_new else 200, self._container, item)

    def _batch(self, body: bytes) -> Answer:
        if len(body) > LARGEST_BATCH:
            raise CosmosError(413, "A batch is at most 2 MB.")
        key = _whole_key(self._request, self._container)
        done, results = batching.execute(self._container, key, _parsed(body))
        return Answer(200 if done else 207, results, _session(self._container), 5.0 * len(results))

    def _bounds(self) -> tuple[str, str]:
        """The effective keys that are asked for: of a key, of a range that the client computed, or all."""
        key, headers = _key(self._request, self._container), self._request.headers
        if key is not None:
            return self._container.keys.bounds(key)
        low, high = headers.get("x-ms-start-epk"), headers.get("x-ms-end-epk")
        if low is None or high is None:
            return "", "FF"
        if low == high:
            return low, low + "\0"
        return low, high

    def _limit(self) -> int:
        given = self._request.headers.get("x-ms-max-item-count", "")
        try:
            limit = int(given or querying.MOST_ITEMS)
        except ValueError:
            raise CosmosError(400, "The maximum item count is not a number.") from None
        return min(limit, querying.MOST_ITEMS) if limit > 0 else querying.MOST_ITEMS

    def _query(self, text: str, parameters: Mapping[str, Any]) -> Answer:
        container, headers = self._container, self._request.headers
        is_everywhere = _key(self._request, container) is None and "x-ms-start-epk" not in headers
        if self._request.method == "POST" and is_everywhere and not self._may_cross():
            raise CosmosError(400, "Cross partition query is required but disabled.", substatus=1004)
        items = list(container.items(*self._bounds()))
        policy = container.description.get("indexingPolicy")
        page = querying.run(text, parameters, items, policy, self._limit(), headers.get("x-ms-continuation"))
        found = {"_rid": container.rid, "Documents": page.rows, "_count": len(page.rows)}
        more = {"x-ms-continuation": page.continuation} if page.continuation else {}
        return Answer(
            200,
            found,
            {**_session(container), **more, "x-ms-item-count": str(len(page.rows))},
            2.5 + len(page.rows) / 10,
        )

    def _may_cross(self) -> bool:
        headers = self._request.headers
        return _is(self._request, "x-ms-documentdb-query-enablecrosspartition") or (
            "x-ms-documentdb-partitionkeyrangeid" in headers
        )

    def _changes(self) -> Answer:
        """Incremental feed: the latest version of what has changed, in order. Deletions are not told."""
        container, headers = self._container, self._request.headers
        if headers["A-IM"].lower() != "incremental feed":
            raise CosmosError(400, "Only the latest-version change feed is served here.")
        after, bounds = self._after(), self._bounds()
        changed, last = container.changes(after, *bounds, self._limit())
        etag = {"etag": f'"{last}"', **_session(container)}
        if not changed:
            return Answer(304, None, etag)
        documents = [{**item.document, "_lsn": item.lsn} for item in changed]
        return Answer(200, {"_rid": container.rid, "Documents": documents, "_count": len(documents)}, etag)

    def _after(self) -> int:
        given = self._request.headers.get("If-None-Match")
        if given is None:
            return 0
        if given == "*":
            return self._container.lsn
        number = given.strip('"')
        if not number.isdecimal() or not number.isascii() or len(number) > 18:
            raise CosmosError(400, "Invalid continuation of the change feed.")
        return int(number)
