"""The local Cosmos DB server as the service's own client sees it: what it promises, and what it refuses."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from azure.core import MatchConditions
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from local.cosmos.faults import Fault
from tests.support.cosmos import KEY, RunningCosmos, cosmos_server, signed

pytestmark = pytest.mark.contract


# aiohttp asks its caller, the client, to stream bodies over 1 MB.
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body")


class Seconds:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def running(seconds: Seconds) -> AsyncIterator[RunningCosmos]:
    async with cosmos_server(seconds) as server:
        yield server


@pytest.fixture
async def database(running: RunningCosmos) -> AsyncIterator[DatabaseProxy]:
    async with CosmosClient(running.url, KEY) as client:
        yield await client.create_database("tests")


@pytest.fixture
async def items(database: DatabaseProxy) -> ContainerProxy:
    return await database.create_container("items", PartitionKey("/pk"), default_ttl=-1)


def item(id: str = "a", pk: Any = "k", **more: Any) -> dict[str, Any]:
    return {"id": id, "pk": pk, **more}


def _status(error: BaseException) -> int:
    assert isinstance(error, CosmosHttpResponseError | CosmosBatchOperationError)
    return int(error.status_code or 0)


async def _all(container: ContainerProxy, text: str = "SELECT * FROM c", **options: Any) -> list[Any]:
    return [row async for row in container.query_items(text, **options)]


# --- items ---


async def test_an_item_is_created_read_replaced_and_deleted(items: ContainerProxy) -> None:
    made = await items.create_item(item(n=1))
    assert {name: made[name] for name in ("id", "pk", "n")} == item(n=1)
    assert {"_rid", "_self", "_etag", "_ts", "_attachments"} <= made.keys()
    assert await items.read_item("a", "k") == made
    changed = await items.replace_item("a", {**made, "n": 2})
    assert (changed["n"], changed["_rid"]) == (2, made["_rid"])
    assert changed["_etag"] != made["_etag"]
    with pytest.raises(CosmosResourceExistsError):
        await items.create_item(item())
    await items.delete_item("a", "k")
    for call in (items.read_item("a", "k"), items.delete_item("a", "k"), items.replace_item("a", item())):
        with pytest.raises(CosmosResourceNotFoundError):
            await call


async def test_the_same_id_is_another_item_in_another_partition(items: ContainerProxy) -> None:
    keys: list[Any] = ["k", "l", 1, True, False, None, 1.5]
    for number, key in enumerate(keys):
        await items.create_item(item(pk=key, n=number))
    for number, key in enumerate(keys):
        read = await items.read_item("a", key)
        assert read["n"] == number
        if key is not None:  # which the client takes for "in all of them"
            assert [row["n"] for row in await _all(items, partition_key=key)] == [number]
    assert len(await _all(items)) == len(keys)


async def test_a_write_of_a_stale_etag_changes_nothing(items: ContainerProxy) -> None:
    stale = (await items.create_item(item(n=1)))["_etag"]
    await items.upsert_item(item(n=2))
    unmodified: dict[str, Any] = {"etag": stale, "match_condition": MatchConditions.IfNotModified}
    set_n = [{"op": "set", "path": "/n", "value": 3}]
    for call in (
        items.replace_item("a", item(n=3), **unmodified),
        items.upsert_item(item(n=3), **unmodified),
        items.delete_item("a", "k", **unmodified),
        items.patch_item("a", "k", set_n, **unmodified),
    ):
        with pytest.raises(CosmosAccessConditionFailedError):
            await call
    assert (await items.read_item("a", "k"))["n"] == 2


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"pk": "k"}, 400),
        ({"id": "", "pk": "k"}, 400),
        ({"id": "a", "pk": {"no": "scalar"}}, 400),
        ({"id": "a", "pk": "k", "ttl": 0}, 400),
        ({"id": "a", "pk": "k", "text": "x" * (2 * 1024 * 1024)}, 413),
    ],
)
@LARGE
async def test_an_item_that_cannot_be_is_refused(items: ContainerProxy, document: dict[str, Any], status: int) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        await items.create_item(document)
    assert _status(caught.value) == status
    assert await _all(items) == []


async def test_a_unique_key_holds_within_a_partition(database: DatabaseProxy) -> None:
    policy: dict[str, Any] = {"uniqueKeys": [{"paths": ["/mail"]}]}
    people = await database.create_container("people", PartitionKey("/pk"), unique_key_policy=policy)
    await people.create_item(item("1", mail="a@example.org"))
    await people.create_item(item("2", "other", mail="a@example.org"))
    await people.create_item(item("3"))  # without a value, once
    for second in (item("4", mail="a@example.org"), item("5")):
        with pytest.raises(CosmosResourceExistsError):
            await people.create_item(second)
    await people.upsert_item(item("1", mail="b@example.org"))
    await people.create_item(item("4", mail="a@example.org"))


async def test_items_expire_by_their_own_or_the_containers_time(
    database: DatabaseProxy, items: ContainerProxy, seconds: Seconds
) -> None:
    short = await database.create_container("short", PartitionKey("/pk"), default_ttl=60)
    never = await database.create_container("never", PartitionKey("/pk"))
    for container in (items, short, never):
        await container.create_item(item("own", ttl=10))
        await container.create_item(item("kept", ttl=-1))
        await container.create_item(item("plain"))
    seconds.now += 10
    assert sorted([row["id"] for row in await _all(items)]) == ["kept", "plain"]
    seconds.now += 50
    assert [[row["id"] for row in await _all(c)] for c in (short, never)] == [["kept"], ["own", "kept", "plain"]]
    with pytest.raises(CosmosResourceNotFoundError):
        await items.read_item("own", "k")
    assert (await items.create_item(item("own", n=2)))["n"] == 2  # an id that has expired is free


# --- patches and batches ---


async def test_a_patch_changes_what_it_names_under_its_condition(items: ContainerProxy) -> None:
    await items.create_item(item(n=1, deep={"list": [1, 2]}, old=True))
    operations: list[dict[str, Any]] = [
        {"op": "incr", "path": "/n", "value": 2},
        {"op": "add", "path": "/deep/list/0", "value": 0},
        {"op": "add", "path": "/deep/list/-", "value": 3},
        {"op": "set", "path": "/deep/new", "value": None},
        {"op": "replace", "path": "/deep/list/1", "value": "one"},
        {"op": "move", "from": "/old", "path": "/older"},
        {"op": "remove", "path": "/deep/list/2"},
    ]
    patched = await items.patch_item("a", "k", operations, filter_predicate="FROM c WHERE c.n = 1")
    assert {name: patched[name] for name in ("n", "deep", "older")} == {
        "n": 3,
        "deep": {"list": [0, "one", 3], "new": None},
        "older": True,
    }
    assert "old" not in patched
    with pytest.raises(CosmosAccessConditionFailedError):
        await items.patch_item("a", "k", operations, filter_predicate="FROM c WHERE c.n = 1")
    assert await items.read_item("a", "k") == patched


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "set", "path": "/n", "value": 1}] * 11,
        [],
        [{"op": "set", "path": "/id", "value": "b"}],
        [{"op": "set", "path": "/pk", "value": "b"}],
        [{"op": "set", "path": "/_etag", "value": "b"}],
        [{"op": "remove", "path": "/none"}],
        [{"op": "replace", "path": "/none", "value": 1}],
        [{"op": "set", "path": "/none/deeper", "value": 1}],
        [{"op": "incr", "path": "/text", "value": 1}],
        [{"op": "incr", "path": "/n", "value": "1"}],
        [{"op": "add", "path": "/list/9", "value": 1}],
        [{"op": "move", "from": "/list", "path": "/list/0"}],
        [{"op": "shuffle", "path": "/n", "value": 1}],
        [{"op": "set", "path": "n", "value": 1}],
        [{"op": "set", "path": "/n", "value": 5}, {"op": "remove", "path": "/none"}],
    ],
)
async def test_a_patch_that_cannot_be_changes_nothing(items: ContainerProxy, operations: list[dict[str, Any]]) -> None:
    before = await items.create_item(item(n=1, text="x", list=[1]))
    with pytest.raises(CosmosHttpResponseError) as caught:
        await items.patch_item("a", "k", operations)
    assert _status(caught.value) == 400
    assert await items.read_item("a", "k") == before


async def test_a_batch_is_done_whole_or_not_at_all(items: ContainerProxy) -> None:
    first = await items.create_item(item("first", n=1))
    await items.create_item(item("gone"))
    results = await items.execute_item_batch(
        [
            ("create", (item("new"),)),
            ("upsert", (item("up", n=1),)),
            ("replace", ("first", item("first", n=2)), {"if_match_etag": first["_etag"]}),
            ("patch", ("new", [{"op": "set", "path": "/n", "value": 7}]), {"filter_predicate": "FROM c WHERE true"}),
            ("read", ("first",)),
            ("delete", ("gone",)),
        ],
        "k",
    )
    assert [result["statusCode"] for result in results] == [201, 201, 200, 200, 200, 204]
    assert results[4]["resourceBody"]["n"] == 2
    before = await _all(items, "SELECT * FROM c ORDER BY c.id", partition_key="k")
    with pytest.raises(CosmosBatchOperationError) as caught:
        await items.execute_item_batch(
            [
                ("create", (item("more"),)),
                ("delete", ("up",)),
                ("patch", ("new", [{"op": "incr", "path": "/n", "value": 1}])),
                ("replace", ("first", item("first", n=3)), {"if_match_etag": first["_etag"]}),
                ("create", (item("never"),)),
            ],
            "k",
        )
    assert (caught.value.error_index, caught.value.status_code) == (3, 412)
    codes = [result["statusCode"] for result in caught.value.operation_responses or ()]
    assert codes == [424, 424, 424, 412, 424]
    assert await _all(items, "SELECT * FROM c ORDER BY c.id", partition_key="k") == before


async def test_a_batch_that_is_undone_leaves_no_trace_in_the_feed_or_in_unique_keys(database: DatabaseProxy) -> None:
    policy: dict[str, Any] = {"uniqueKeys": [{"paths": ["/mail"]}]}
    people = await database.create_container("people", PartitionKey("/pk"), unique_key_policy=policy)
    await people.create_item(item("1", mail="a"))
    with pytest.raises(CosmosBatchOperationError):
        await people.execute_item_batch(
            [("delete", ("1",)), ("create", (item("2", mail="b"),)), ("delete", ("none",))], "k"
        )
    assert [row["id"] async for row in people.query_items_change_feed(start_time="Beginning")] == ["1"]
    await people.create_item(item("2", mail="b"))
    with pytest.raises(CosmosResourceExistsError):
        await people.create_item(item("3", mail="a"))


@LARGE
async def test_a_batch_has_its_limits(items: ContainerProxy) -> None:
    with pytest.raises(CosmosHttpResponseError) as caught:
        await items.execute_item_batch([("upsert", (item(str(n)),)) for n in range(101)], "k")
    assert _status(caught.value) == 400
    large = [("create", (item(str(n), text="x" * 1_000_000),)) for n in range(3)]
    with pytest.raises(CosmosHttpResponseError) as caught:
        await items.execute_item_batch(large, "k")
    assert _status(caught.value) == 413
    assert await _all(items) == []


# --- queries, hierarchical keys, the change feed ---


async def test_a_query_of_a_partition_sees_that_partition_alone(items: ContainerProxy) -> None:
    for pk in ("k", "l"):
        for n in range(5):
            await items.create_item(item(str(n), pk, n=n))
    text = "SELECT VALUE c.n FROM c WHERE c.n >= @least ORDER BY c.n DESC"
    given: list[dict[str, Any]] = [{"name": "@least", "value": 1}]
    assert await _all(items, text, parameters=given, partition_key="k", max_item_count=2) == [4, 3, 2, 1]
    assert await _all(items, text, parameters=given, max_item_count=3) == [4, 4, 3, 3, 2, 2, 1, 1]
    assert await _all(items, "SELECT VALUE COUNT(1) FROM c") == [10]


async def test_two_orders_need_a_composite_index(database: DatabaseProxy, items: ContainerProxy) -> None:
    text = "SELECT * FROM c ORDER BY c.a DESC, c.b DESC"
    with pytest.raises(CosmosHttpResponseError, match="composite index"):
        await _all(items, text)
    index = [[{"path": "/a", "order": "descending"}, {"path": "/b", "order": "descending"}]]
    policy: dict[str, Any] = {"compositeIndexes": index}
    indexed = await database.create_container("indexed", PartitionKey("/pk"), indexing_policy=policy)
    for n, (a, b) in enumerate([(1, 1), (2, 1), (2, 2)]):
        await indexed.create_item(item(str(n), a=a, b=b))
    assert [row["id"] for row in await _all(indexed, text)] == ["2", "1", "0"]


async def test_a_hierarchical_key_is_one_key_and_its_prefix_a_range(database: DatabaseProxy) -> None:
    key = PartitionKey(["/tenant", "/day", "/user"], kind="MultiHash")
    log = await database.create_container("log", key)
    for tenant in "ab":
        for day in "12":
            for user in "xy":
                await log.create_item({"id": "e", "tenant": tenant, "day": day, "user": user, "v": tenant + day + user})
    assert (await log.read_item("e", ["a", "2", "x"]))["v"] == "a2x"
    assert await _all(log, "SELECT VALUE c.v FROM c ORDER BY c.v", partition_key=["b"]) == ["b1x", "b1y", "b2x", "b2y"]
    assert await _all(log, "SELECT VALUE c.v FROM c ORDER BY c.v", partition_key=["b", "2"]) == ["b2x", "b2y"]
    assert await _all(log, "SELECT VALUE c.v FROM c", partition_key=["b", "2", "y"]) == ["b2y"]
    await log.delete_item("e", ["a", "1", "x"])
    assert len(await _all(log)) == 7
    with pytest.raises(CosmosHttpResponseError):
        await log.read_item("e", ["a", "2"])


async def test_the_change_feed_gives_the_latest_of_each_in_order_and_goes_on(items: ContainerProxy) -> None:
    for id, pk in (("1", "k"), ("2", "l"), ("3", "k")):
        await items.create_item(item(id, pk))
    await items.upsert_item(item("1", n=2))
    await items.execute_item_batch([("create", (item(f"b{n}"),)) for n in range(3)], "k")

    async def read(**options: Any) -> tuple[list[str], str]:
        feed = items.query_items_change_feed(**options).by_page()
        found = [row["id"] async for page in feed async for row in page]
        return found, feed.continuation_token  # type: ignore[attr-defined]

    found, token = await read(start_time="Beginning", max_item_count=2)
    assert found == ["2", "3", "1", "b0", "b1", "b2"]
    assert (await read(start_time="Beginning", partition_key="l"))[0] == ["2"]
    assert (await read(continuation=token))[0] == []
    await items.delete_item("3", "k")
    await items.upsert_item(item("2", "l"))
    assert (await read(continuation=token))[0] == ["2"]


# --- resources, the key, faults ---


async def test_databases_and_containers_come_and_go(running: RunningCosmos, database: DatabaseProxy) -> None:
    async with CosmosClient(running.url, KEY) as client:
        names = {found["id"] async for found in client.list_databases()}
        assert names == {"tests", running.database}
        with pytest.raises(CosmosResourceExistsError):
            await client.create_database("tests")
        container = await database.create_container("one", PartitionKey("/pk"))
        with pytest.raises(CosmosResourceExistsError):
            await database.create_container("one", PartitionKey("/pk"))
        changed = await database.replace_container(container, PartitionKey("/pk"), default_ttl=5)
        assert (await changed.read())["defaultTtl"] == 5
        with pytest.raises(CosmosHttpResponseError):
            await database.replace_container(container, PartitionKey("/other"))
        await database.delete_container("one")
        with pytest.raises(CosmosResourceNotFoundError):
            await container.read_item("a", "k")
        await client.delete_database("tests")
        with pytest.raises(CosmosResourceNotFoundError):
            await database.read()


async def test_a_wrong_key_is_refused(running: RunningCosmos) -> None:
    client = CosmosClient(running.url, base64.b64encode(b"another key").decode())
    try:
        with pytest.raises(CosmosHttpResponseError) as caught:
            await client.__aenter__()
        assert _status(caught.value) == 401
    finally:
        await client.close()


@pytest.mark.parametrize("date", ["", "Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", "x" * 3_000])
async def test_requests_with_no_date_or_no_signature_are_refused(running: RunningCosmos, date: str) -> None:
    address, headers = f"{running.url}/dbs", {"x-ms-date": date}
    async with aiohttp.ClientSession() as http, http.get(address, headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["code"] == "Unauthorized"


async def test_faults_are_switched_over_http(running: RunningCosmos, items: ContainerProxy) -> None:
    fault = {"kind": "unavailable", "times": 1_000, "on": ["read"]}
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as http:
        for body, status in ((fault, 200), ({"kind": "earthquake"}, 400), ([], 400)):
            sent = {**headers, **signed("POST", "", "faults")}
            async with http.post(f"{running.url}/faults", json=body, headers=sent) as answer:
                assert answer.status == status
        with pytest.raises(CosmosHttpResponseError) as caught:
            await items.read_item("a", "k")
        assert _status(caught.value) == 503
        async with http.delete(f"{running.url}/faults", headers=signed("DELETE", "", "faults")) as answer:
            assert (await answer.json())["switchedOn"] == 0
        async with http.delete(f"{running.url}/faults") as answer:
            assert answer.status == 401
    with pytest.raises(CosmosResourceNotFoundError):
        await items.read_item("a", "k")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "dbs/none", None),
        ("GET", "dbs/none/colls/none/docs/a", None),
        ("POST", "dbs", b"{"),
        ("POST", "dbs", b"[]"),
        ("POST", "dbs", b'{"id": "a/b"}'),
        ("POST", "dbs", b"\xff\xfe"),
        ("POST", "dbs", b"[" * 100_000),
        ("POST", "dbs/tests/colls", b'{"id": "x"}'),
        ("POST", "dbs/tests/colls/items/docs", b'{"id": "x", "pk": "k"}'),
        ("PUT", "dbs/tests/colls/items", b"{}"),
        ("DELETE", "dbs/tests/colls/items/docs", None),
        ("GET", "dbs/tests/colls/items/sprocs", None),
        ("PATCH", "unknown", b"{}"),
    ],
)
async def test_no_request_is_a_failure_of_the_server(
    running: RunningCosmos, items: ContainerProxy, method: str, path: str, body: bytes | None
) -> None:
    parts = path.split("/") if path else []
    is_feed = len(parts) % 2 == 1
    kind = parts[-1] if is_feed else (parts[-2] if parts else "")
    link = "/".join(parts[:-1]) if is_feed else path
    async with aiohttp.ClientSession() as http:
        sent = signed(method, link, kind)
        async with http.request(method, f"{running.url}/{path}", data=body, headers=sent) as answer:
            assert answer.status < 500
            assert answer.status < 300 if path == "" else answer.status >= 400
            assert json.loads(await answer.text())


async def test_a_throttled_client_waits_as_it_is_told(running: RunningCosmos, items: ContainerProxy) -> None:
    running.server.faults.switch_on(Fault("throttle", times=3, on=frozenset({"write"}), after_ms=40))
    before = asyncio.get_running_loop().time()
    await items.create_item(item())
    assert asyncio.get_running_loop().time() - before >= 0.12
    assert running.server.faults.met == 3
    assert await _all(items, "SELECT VALUE c.id FROM c") == ["a"]


async def test_what_was_done_and_not_answered_is_done(running: RunningCosmos, items: ContainerProxy) -> None:
    running.server.faults.switch_on(Fault("lose-answer", on=frozenset({"batch"})))
    lost = [("create", (item(),))]
    client = CosmosClient(running.url, KEY, retry_connect=0, retry_read=0, retry_total=0)
    async with client:
        container = client.get_database_client("tests").get_container_client("items")
        with pytest.raises(Exception, match=r"(?i)disconnected|closed|reset"):
            await container.execute_item_batch(lost, "k")
    assert (await items.read_item("a", "k"))["id"] == "a"
