"""The items of the local Cosmos DB server: whole batches or none, and no input that breaks it."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from local.cosmos import batching, faults, querying, signatures
from local.cosmos.account import Account
from local.cosmos.containers import Container
from local.cosmos.errors import CosmosError
from local.cosmos.partition_keys import KeyDefinition
from local.cosmos.patching import patched
from tests.support.cosmos import KEY

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc/-~", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abn"), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    ["/n", "/a", "/a/b", "/a/0", "/a/-", "/b/n/a", "/id", "", "n", "/a/99", "/~0~1", "/"]
) | st.text("/abn019-~", max_size=6)
PATCH = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "set", "replace", "remove", "incr", "move", "test", 1]), "path": PATHS | JSON},
    optional={"value": JSON, "from": PATHS},
)
IDS = st.sampled_from(["1", "2", "3"])
OPERATION = st.one_of(
    st.fixed_dictionaries(
        {
            "operationType": st.sampled_from(["Create", "Upsert", "Replace"]),
            "id": IDS,
            "resourceBody": st.fixed_dictionaries(
                {"id": IDS, "pk": st.just("k"), "mail": st.sampled_from("xy"), "n": JSON}
            ),
        }
    ),
    st.fixed_dictionaries({"operationType": st.sampled_from(["Delete", "Read"]), "id": IDS}),
    st.fixed_dictionaries(
        {
            "operationType": st.just("Patch"),
            "id": IDS,
            "resourceBody": st.fixed_dictionaries({"operations": st.lists(PATCH, max_size=3)}),
        }
    ),
)


def container(*, unique: bool = False) -> Container:
    description: dict[str, Any] = {"_rid": "c", "_self": "c/", "partitionKey": {"paths": ["/pk"], "version": 2}}
    if unique:
        description["uniqueKeyPolicy"] = {"uniqueKeys": [{"paths": ["/mail"]}]}
    return Container(description, lambda: 1_000.0)


def seen(stored: Container) -> list[Any]:
    """Everything that a client can see."""
    changed, last = stored.changes(0, "", "FF", 1_000)
    return [
        sorted((i.document["id"], json.dumps(i.document)) for i in stored.items()),
        [i.document for i in changed],
        last,
    ]


@given(st.lists(st.lists(OPERATION, min_size=1, max_size=5), max_size=6))
def test_a_batch_leaves_all_of_it_or_no_trace(batches: list[list[dict[str, Any]]]) -> None:
    stored = container(unique=True)
    for operations in batches:
        before, count = seen(stored), len(list(stored.items()))
        done, results = batching.execute(stored, ("k",), operations)
        assert len(results) == len(operations)
        codes = [result["statusCode"] for result in results]
        if done:
            assert all(code < 300 for code in codes)
            made, gone = codes.count(201), codes.count(204)
            assert len(list(stored.items())) == count + made - gone
        else:
            assert seen(stored) == before
            assert codes.count(424) == len(codes) - 1
        mails = [item.document.get("mail") for item in stored.items()]
        assert len(mails) == len(set(mails))


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=20), st.integers(1, 4))
def test_the_change_feed_gives_each_items_last_change_once_in_order(changes: list[tuple[str, bool]], page: int) -> None:
    stored = container()
    last: dict[str, int] = {}
    for number, (id, is_deletion) in enumerate(changes):
        if is_deletion:
            with suppress(CosmosError):
                stored.delete(("k",), id)
            last.pop(id, None)
        else:
            stored.upsert(("k",), {"id": id, "pk": "k", "n": number})
            last[id] = number
    found, after = [], 0
    while True:
        some, after = stored.changes(after, "", "FF", page)
        if not some:
            break
        found += [(item.document["id"], item.document["n"]) for item in some]
    assert found == sorted(last.items(), key=lambda change: change[1])


@given(st.dictionaries(st.sampled_from("abn"), JSON), st.lists(PATCH, max_size=12) | JSON)
def test_a_patch_is_done_on_a_copy_or_refused(item: dict[str, Any], operations: Any) -> None:
    before = json.dumps(item)
    with suppress(CosmosError):
        json.dumps(patched(item, operations, frozenset({"id"})))
    assert json.dumps(item) == before


@given(JSON | st.lists(OPERATION | st.dictionaries(st.sampled_from(["operationType", "id", "resourceBody"]), JSON)))
def test_any_json_is_a_batch_or_a_bad_request(body: Any) -> None:
    try:
        done, results = batching.execute(container(), ("k",), body)
    except CosmosError as error:
        assert error.status == 400  # noqa: PT017
    else:
        assert done == all(result["statusCode"] < 300 for result in results)


@given(st.text() | JSON.map(json.dumps))
@example("[" * 8_000)
@example('["\\ud800"]')
@example('["\udcff"]')
@example("[NaN]")
@example("[1e999]")
@example(f"[{'9' * 400}]")
def test_any_header_is_a_partition_key_or_a_bad_request(text: str) -> None:
    definition = KeyDefinition.read({"paths": ["/a", "/b"], "kind": "MultiHash", "version": 2})
    with suppress(CosmosError):
        key = definition.header(text)
        low, high = definition.bounds(key)
        assert "" <= low < high


@pytest.mark.parametrize(
    "given_key",
    [
        None,
        {},
        {"paths": []},
        {"paths": ["a"]},
        {"paths": ["/"]},
        {"paths": "/a"},
        {"paths": ["/a", "/b"]},
        {"paths": ["/a", "/b", "/c", "/d"], "kind": "MultiHash"},
        {"paths": ["/a"], "kind": "Range"},
        {"paths": ["/a"], "version": 3},
    ],
)
def test_a_partition_key_that_cannot_be_is_refused(given_key: Any) -> None:
    with pytest.raises(CosmosError):
        KeyDefinition.read(given_key)


def test_a_number_that_no_key_holds_is_refused_in_an_item() -> None:
    with pytest.raises(CosmosError, match="out of range") as caught:
        KeyDefinition.read({"paths": ["/pk"]}).of({"pk": 10**400})
    assert caught.value.status == 400


def test_the_keys_of_a_prefix_lie_in_its_bounds() -> None:
    definition = KeyDefinition.read({"paths": ["/a", "/b"], "kind": "MultiHash", "version": 2})
    low, high = definition.bounds(("x",))
    assert all(low <= definition.effective(("x", other)) < high for other in ("", "y", 1, True, None))
    assert not low <= definition.effective(("y", "y")) < high
    whole = definition.bounds(("x", "y"))
    assert whole[0] == definition.effective(("x", "y"))
    assert definition.effective((1,)) != definition.effective((True,))


@given(st.text(), st.text(), st.text(max_size=40))
def test_no_header_is_a_signature_by_chance(authorization: str, date: str, path: str) -> None:
    headers = {"authorization": authorization, "x-ms-date": date}
    with pytest.raises(CosmosError) as caught:
        signatures.check(KEY, "GET", path, headers, 0.0)
    assert caught.value.status in (401, 403)


@given(st.text(max_size=60))
def test_any_continuation_is_ours_or_a_bad_request(token: str) -> None:
    with suppress(CosmosError):
        querying.run("SELECT * FROM c ORDER BY c.n", {}, container().items(), {}, 10, token)


@given(
    JSON
    | st.fixed_dictionaries(
        {"kind": st.sampled_from(faults.KINDS)}, optional={"times": JSON, "on": JSON, "afterMs": JSON}
    )
)
def test_any_json_is_a_fault_or_a_bad_request(body: Any) -> None:
    with suppress(CosmosError):
        assert faults.read(body).times >= 1


@pytest.mark.parametrize("ttl", [0, -2, "1", True, 1.5])
def test_a_lifetime_is_a_number_of_seconds(ttl: Any) -> None:
    account = Account(lambda: 0.0)
    account.create_database({"id": "d"})
    with pytest.raises(CosmosError):
        account.create_container("d", {"id": "c", "partitionKey": {"paths": ["/pk"]}, "defaultTtl": ttl})
    with pytest.raises(CosmosError):
        container().create(("k",), {"id": "1", "pk": "k", "ttl": ttl})
