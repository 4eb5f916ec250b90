"""Our Cosmos DB server beside @vercel/cosmosdb-server: a few hundred generated operations on single items, answer by
answer.

Both get the same requests, signed here and not by the SDK; ETags are each server's own. Where the answers differ the
service's documentation decides, and `EXPLAINED` says why ours is the one to trust. An explanation that no difference
needs any more fails the test, too.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.cosmos import cosmos_server, signed
from tests.support.emulators import started
from tests.support.ports import free_port

pytestmark = pytest.mark.contract

SEEDS: Final = (1, 2, 3)
OPERATIONS: Final = 150  # a seed
IDS: Final = ("a", "b", "c d", "ü")
SYSTEM: Final = frozenset({"_rid", "_self", "_etag", "_ts", "_attachments"})
PATCHES: Final[tuple[list[dict[str, Any]], ...]] = (
    [{"op": "set", "path": "/n", "value": 5}],
    [{"op": "incr", "path": "/n", "value": 2}],
    [{"op": "incr", "path": "/fresh", "value": 2}],
    [{"op": "add", "path": "/list/-", "value": "end"}],
    [{"op": "add", "path": "/list/0", "value": "begin"}],
    [{"op": "set", "path": "/deep/new", "value": {"x": [1]}}],
    [{"op": "remove", "path": "/text"}],
    [{"op": "replace", "path": "/text", "value": "other"}],
    [{"op": "replace", "path": "/none", "value": 1}],
    [{"op": "set", "path": "/none/deeper", "value": 1}],
    [{"op": "incr", "path": "/text", "value": 1}],
    [{"op": "move", "from": "/text", "path": "/moved"}],
    [{"op": "remove", "path": "/list/0"}],
    [{"op": "set", "path": "/id", "value": "z"}],
    [{"op": "set", "path": "/pk", "value": "z"}],
    [{"op": "set", "path": "/n", "value": n} for n in range(11)],
    [{"op": "set", "path": "/n", "value": 1}, {"op": "remove", "path": "/none"}],
)
CONDITIONS: Final = (None, "from c where c.n > 1", "from c where c.n > 1000", "from c where is_defined(c.text)")


@dataclass(frozen=True)
class Operation:
    """`condition` of an ETag: "" for none, else current, stale or any."""

    verb: str
    id: str
    body: Any = None
    condition: str = ""
    none_match: bool = False
    upsert: bool = False

    @property
    def name(self) -> str:
        return "UPSERT" if self.upsert else self.verb


@dataclass
class Server:
    """One of the two, with the ETags that it gave: the current one of each item and one that is stale."""

    http: aiohttp.ClientSession
    url: str
    etags: dict[str, str] = field(default_factory=dict)
    stale: str = '"00000000-0000-0000-0000-000000000000"'

    async def send(self, verb: str, link: str, kind: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """`link` is the resource that is signed; of a feed, its owner."""
        is_feed = verb == "POST"
        address = f"{self.url}/{quote(link)}{f'/{kind}' if is_feed and link else kind if is_feed else ''}"
        sent = {
            **signed(verb, link, kind),
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        data = None if body is None else json.dumps(body).encode()
        async with self.http.request(verb, address, data=data, headers=sent) as answer:
            content = await answer.read()
            return answer.status, json.loads(content) if content else None

    async def prepare(self) -> None:
        assert (await self.send("POST", "", "dbs", {"id": "d"}))[0] == 201
        key = {"paths": ["/pk"], "kind": "Hash", "version": 2}
        assert (await self.send("POST", "dbs/d", "colls", {"id": "c", "partitionKey": key}))[0] == 201

    async def forget(self, id: str) -> None:
        """So that both go on from the same state after answers that differed."""
        if id in IDS:
            await self.do(Operation("DELETE", id))

    async def do(self, operation: Operation) -> tuple[int, Any]:
        """The status, and the item without what the server adds."""
        headers = {"x_ms_documentdb_partitionkey": json.dumps(["k"])}
        etag = {"current": self.etags.get(operation.id, self.stale), "stale": self.stale, "any": "*"}
        if operation.condition:
            headers["If_None_Match" if operation.none_match else "If_Match"] = etag[operation.condition]
        if operation.upsert:
            headers["x_ms_documentdb_is_upsert"] = "True"
        if operation.verb == "PATCH":
            headers["Content_Type"] = "application/json-patch+json"
        collection = "dbs/d/colls/c"
        link = collection if operation.verb == "POST" else f"{collection}/docs/{operation.id}"
        status, found = await self.send(operation.verb, link, "docs", operation.body, **headers)
        if status >= 300 or not isinstance(found, dict):
            if status == 204:
                self.etags.pop(operation.id, None)
            return status, None
        if operation.verb != "GET":
            self.stale = self.etags.get(operation.id, self.stale)
            self.etags[operation.id] = found["_etag"]
        return status, {name: value for name, value in found.items() if name not in SYSTEM}


def _generated(seed: int) -> list[Operation]:
    chance = random.Random(seed)
    return [_operation(chance) for _ in range(OPERATIONS)]


def _operation(chance: random.Random) -> Operation:
    id, condition = chance.choice(IDS), chance.choice(("", "", "current", "stale", "any"))
    item: dict[str, Any] = {
        "id": id,
        "pk": "k",
        "n": chance.choice((1, 2.5, -3)),
        "text": chance.choice(("", "text", "ü €")),
        "list": [1, None, {"x": True}][: chance.randrange(4)],
        "deep": {"list": []},
    }
    match chance.choice(("create", "upsert", "read", "replace", "patch", "patch", "delete", "other")):
        case "create":
            return Operation("POST", id, item)
        case "upsert":
            return Operation("POST", id, item, condition, upsert=True)
        case "read":
            return Operation("GET", id, None, condition, none_match=True)
        case "replace":
            return Operation("PUT", id, item, condition)
        case "patch":
            given: dict[str, Any] = {"operations": chance.choice(PATCHES)}
            if (where := chance.choice(CONDITIONS)) is not None:
                given["condition"] = where
            return Operation("PATCH", id, given, condition)
        case "delete":
            return Operation("DELETE", id, None, condition)
    odd = chance.choice(({"pk": "k"}, {"id": "", "pk": "k"}, {"id": "a/b", "pk": "k"}, {"id": 7, "pk": "k"}))
    return Operation("POST", str(odd.get("id", "")), odd)


Answer = tuple[int, Any]


def _names(operation: Operation, *paths: str) -> bool:
    patches = operation.body.get("operations", ()) if operation.verb == "PATCH" else ()
    return any(patch["path"] in paths for patch in patches)


# Reason -> whether it explains our answer and theirs.
EXPLAINED: Final[dict[str, Callable[[Operation, Answer, Answer], bool]]] = {
    "An id is a text without / and \\ that the client gives: they take anything for one.": lambda o, us, them: (
        o.verb == "POST" and o.id not in IDS and us[0] == 400 and them[0] in (201, 409)
    ),
    "What is not there is 404: they fail with 500 where no item has that id.": lambda o, us, them: (
        o.verb == "GET" and us[0] == 404 and them[0] == 500
    ),
    "A read with the current ETag in If-None-Match is 304: they ignore the header.": lambda o, us, them: (
        o.verb == "GET" and o.condition == "current" and us[0] == 304 and them[0] == 200
    ),
    "If-Match: * is met by whatever there is (RFC 9110, 13.1.1): they compare it with the ETag.": lambda o, us, them: (
        o.condition == "any" and us[0] != 412 and them[0] == 412
    ),
    "A path needs its parent (RFC 6902, 4.1): they set the value somewhere above it.": lambda o, us, them: (
        _names(o, "/none/deeper") and us[0] == 400 and them[0] == 200
    ),
}


@pytest.fixture(scope="module")
def theirs() -> Iterator[str]:
    port = free_port()
    with started("cosmosdb-server", port, "-p", str(port), "--host", "127.0.0.1", "--no-ssl"):
        yield f"http://127.0.0.1:{port}"


async def test_both_servers_give_the_same_answers_but_for_what_is_explained(theirs: str) -> None:
    used: Counter[str] = Counter()
    unexplained = []
    async with cosmos_server() as running, aiohttp.ClientSession() as http:
        for seed in SEEDS:
            running.server.account.databases.pop("d", None)
            us, them = Server(http, running.url), Server(http, theirs)
            await us.prepare()
            await them.prepare()
            for number, operation in enumerate(_generated(seed)):
                ours, other = await us.do(operation), await them.do(operation)
                if ours == other:
                    continue
                await us.forget(operation.id)
                await them.forget(operation.id)
                reason = next((reason for reason, fits in EXPLAINED.items() if fits(operation, ours, other)), None)
                if reason is None:
                    unexplained.append(f"{seed}.{number} {operation}: ours {ours}, theirs {other}")
                else:
                    used[reason] += 1
            assert (await them.send("DELETE", "dbs/d", "dbs"))[0] == 204
    assert unexplained == []
    assert set(used) == set(EXPLAINED)
    assert sum(used.values()) < len(SEEDS) * OPERATIONS / 2  # most answers are the same
