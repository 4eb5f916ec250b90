"""The query language of the local Cosmos DB server: what it means, and that nothing but a query is taken for one."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.cosmos.containers import Container, Item
from local.cosmos.errors import CosmosError
from local.cosmos.evaluating import UNDEFINED, compiled, equal, same, sort_key
from local.cosmos.lexing import LONGEST, QueryError, tokens
from local.cosmos.parsing import DEEPEST, LONGEST_CHAIN, parse, parse_predicate
from local.cosmos.querying import Page, parameters_of, run

pytestmark = pytest.mark.unit

COMPOSITE = {"compositeIndexes": [[{"path": "/a", "order": "ascending"}, {"path": "/b", "order": "descending"}]]}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ITEMS: list[dict[str, Any]] = [
    {"id": "1", "a": 1, "b": "x", "tags": ["red", "blue"], "in": {"deep": [10, 20]}},
    {"id": "2", "a": 2, "b": "y", "tags": []},
    {"id": "3", "a": 2, "b": "z", "flag": True},
    {"id": "4", "b": None},
    {"id": "5", "a": "text", "b": 1},
]


def container(documents: list[dict[str, Any]] = ITEMS) -> Container:
    made = Container({"_rid": "c", "partitionKey": {"paths": ["/pk"], "kind": "Hash", "version": 2}}, lambda: 1_000.0)
    for document in documents:
        made.create(("k",), {**document, "pk": "k"})
    return made


def page(text: str, limit: int = 100, continuation: str | None = None, **parameters: Any) -> Page:
    return run(
        text,
        {f"@{name}": value for name, value in parameters.items()},
        container().items(),
        COMPOSITE,
        limit,
        continuation,
    )


def rows(text: str, **parameters: Any) -> list[Any]:
    return page(text, **parameters).rows


def ids(condition: str, **parameters: Any) -> list[str]:
    return rows(f"SELECT VALUE c.id FROM c WHERE {condition}", **parameters)


def value(expression: str, document: Any = None, **parameters: Any) -> Any:
    given = {f"@{name}": value for name, value in parameters.items()}
    return compiled(parse_predicate(f"FROM c WHERE {expression}"))(document or {}, given)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("c.a = 2", ["2", "3"]),
        ("c.a != 2", ["1", "5"]),
        ("c.a > 1", ["2", "3"]),
        ("c.a <= 1 OR c.a = 'text'", ["1", "5"]),
        ("NOT IS_DEFINED(c.a)", ["4"]),
        ("c.b = null", ["4"]),
        ("IS_NULL(c.b)", ["4"]),
        ("c.missing = null", []),
        ("NOT (c.a = 2)", ["1", "5"]),
        ("c.flag", ["3"]),
        ("c.a", []),
        ("c.id IN ('1', '4', 5)", ["1", "4"]),
        ("c.id NOT IN ('1', '4')", ["2", "3", "5"]),
        ("c.a BETWEEN 1 AND 1.5", ["1"]),
        ("ARRAY_CONTAINS(c.tags, 'red')", ["1"]),
        ("ARRAY_CONTAINS(['2', '5'], c.id)", ["2", "5"]),
        ("c['in'].deep[1] = 20", ["1"]),
        ("c.in.deep[7] = 20", []),
        ("STARTSWITH(c.a, 'te')", ["5"]),
        ("c.a + 1 = 3", ["2", "3"]),
        ("-c.a = -1", ["1"]),
        ("c.a = 2 AND c.b = 'y' OR c.id = '1'", ["1", "2"]),
        ("c.a = 2 AND (c.b = 'y' OR c.id = '1')", ["2"]),
        ("(c.a ?? 'none') = 'none'", ["4"]),
        ("c.a = 1 ? true : false", ["1"]),
        ('c.b = "\\u0078"', ["1"]),
        ("c.id = '1' -- a remark\n", ["1"]),
    ],
)
def test_a_condition_takes_the_items_for_which_it_is_true(condition: str, found: list[str]) -> None:
    assert ids(condition) == found


def test_parameters_stand_for_values_and_have_to_be_there() -> None:
    assert ids("c.a = @a AND ARRAY_CONTAINS(@ids, c.id)", a=2, ids=["3"]) == ["3"]
    with pytest.raises(CosmosError, match="@a"):
        ids("c.a = @a")


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("false AND c.none", False),
        ("c.none AND false", False),
        ("true AND c.none", UNDEFINED),
        ("true OR c.none", True),
        ("c.none OR true", True),
        ("c.none OR false", UNDEFINED),
        ("NOT c.none", UNDEFINED),
        ("1 < 'a'", UNDEFINED),
        ("1 = 'a'", False),
        ("1 = true", False),
        ("1 = 1.0", True),
        ("1 / 0", UNDEFINED),
        ("'a' + 'b'", UNDEFINED),
        ("'a' || 'b'", "ab"),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 4 - 3", 3),
        ("-(-2)", 2),
        ("0x10", 16),
        ("[1, c.none, {'a': 2}]", [1, {"a": 2}]),
    ],
)
def test_expressions_have_three_values_and_the_usual_precedence(expression: str, result: Any) -> None:
    assert value(expression) is result or value(expression) == result
    assert type(value(expression)) is type(result)


def test_what_is_selected_takes_the_shape_that_is_asked_for() -> None:
    assert rows("SELECT * FROM c WHERE c.id = '2'")[0]["tags"] == []
    assert rows("SELECT c.id, c.none, c.a AS amount FROM c WHERE c.id = '1'") == [{"id": "1", "amount": 1}]
    assert rows("SELECT VALUE {'n': c.a} FROM c WHERE c.id = '1'") == [{"n": 1}]
    assert rows("SELECT VALUE c.a FROM c") == [1, 2, 2, "text"]  # where it is undefined there is no row
    assert rows("SELECT x.id FROM items AS x WHERE x.a = 1") == [{"id": "1"}]
    assert rows("SELECT DISTINCT VALUE c.a FROM c") == [1, 2, "text"]


def test_aggregates_count_what_is_defined() -> None:
    assert rows("SELECT VALUE COUNT(1) FROM c") == [5]
    assert rows("SELECT VALUE COUNT(c.a) FROM c") == [4]
    assert rows("SELECT COUNT(1) AS n, MAX(c.a) AS most FROM c WHERE c.a < 5") == [{"n": 3, "most": 2}]
    assert rows("SELECT VALUE SUM(c.a) FROM c WHERE c.a < 5") == [5]
    assert rows("SELECT VALUE AVG(c.a) FROM c WHERE c.a < 5") == [5 / 3]
    assert rows("SELECT VALUE MIN(c.a) FROM c WHERE c.a > 9") == []
    assert rows("SELECT VALUE SUM(c.a) FROM c") == []  # of texts there is no sum
    with pytest.raises(CosmosError, match="GROUP BY"):
        rows("SELECT c.id, COUNT(1) AS n FROM c")


def test_items_come_in_the_order_of_types_and_then_of_values() -> None:
    assert rows("SELECT VALUE c.id FROM c ORDER BY c.a") == ["4", "1", "2", "3", "5"]
    assert rows("SELECT VALUE c.id FROM c ORDER BY c.a DESC") == ["5", "2", "3", "1", "4"]
    assert rows("SELECT VALUE c.id FROM c ORDER BY c.a, c.b DESC") == ["4", "1", "3", "2", "5"]
    assert rows("SELECT VALUE c.id FROM c ORDER BY c.a DESC, c.b ASC") == ["5", "2", "3", "1", "4"]
    assert rows("SELECT TOP 2 VALUE c.id FROM c ORDER BY c.a") == ["4", "1"]
    assert rows("SELECT VALUE c.id FROM c ORDER BY c.a OFFSET 1 LIMIT @most", most=2) == ["1", "2"]


@pytest.mark.parametrize("order", ["c.a, c.b", "c.a DESC, c.b DESC", "c.b, c.a", "c.a, c.b DESC, c.id"])
def test_two_keys_need_a_composite_index_of_those_directions(order: str) -> None:
    with pytest.raises(CosmosError, match="composite index") as caught:
        rows(f"SELECT * FROM c ORDER BY {order}")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "text",
    [
        "SELECT VALUE c.id FROM c",
        "SELECT VALUE c.id FROM c ORDER BY c.a DESC",
        "SELECT VALUE c.id FROM c ORDER BY c.a, c.b DESC",
        "SELECT DISTINCT VALUE c.b FROM c",
        "SELECT TOP 3 VALUE c.id FROM c ORDER BY c.a",
        "SELECT VALUE c.id FROM c ORDER BY c.a OFFSET 1 LIMIT 3",
    ],
)
def test_pages_together_are_the_whole_answer(text: str) -> None:
    seen, token = [], None
    for _ in range(10):
        one = page(text, 2, token)
        assert len(one.rows) <= 2
        seen += one.rows
        token = one.continuation
        if token is None:
            break
    assert seen == rows(text)


def test_a_page_goes_on_behind_the_last_row_whatever_came_meanwhile() -> None:
    stored = container()
    text = "SELECT VALUE c.id FROM c ORDER BY c.a"
    first = run(text, {}, stored.items(), {}, 2, None)
    assert first.rows == ["4", "1"]
    stored.create(("k",), {"id": "0", "a": 0, "pk": "k"})  # before what was given
    stored.create(("k",), {"id": "9", "a": 3, "pk": "k"})
    rest = run(text, {}, stored.items(), {}, 100, first.continuation)
    assert rest.rows == ["2", "3", "9", "5"]


@pytest.mark.parametrize("token", ["", "x", "!!!", "e30=", "W10=", "WzEsW10sMV0x"])
def test_a_made_up_continuation_is_refused(token: str) -> None:
    with pytest.raises(CosmosError, match="continuation"):
        page("SELECT * FROM c ORDER BY c.a", 2, token)


def test_a_continuation_of_another_query_is_refused() -> None:
    token = page("SELECT * FROM c", 2).continuation
    with pytest.raises(CosmosError, match="continuation"):
        page("SELECT * FROM c ORDER BY c.a", 2, token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT * FROM",
        "SELECT * FROM c WHERE",
        "SELECT * FROM c WHERE c.a =",
        "SELECT * FROM c WHERE c.a = 1 GROUP BY c.a",
        "SELECT * FROM c JOIN x IN c.tags",
        "SELECT * FROM c WHERE d.a = 1",
        "SELECT * FROM c WHERE UNKNOWN(c.a)",
        "SELECT * FROM c WHERE IS_DEFINED(c.a, c.b)",
        "SELECT * FROM c WHERE COUNT(1) > 2",
        "SELECT c.a, c.a FROM c",
        "SELECT * FROM c ORDER BY 1",
        "SELECT * FROM c ORDER BY c.a OFFSET 1",
        "SELECT TOP -1 * FROM c",
        "SELECT * FROM c OFFSET 0 LIMIT @none",
        "SELECT * FROM c; DROP c",
        "SELECT * FROM c WHERE c.a = 'open",
        "SELECT * FROM c WHERE c.a = '\\q'",
        "SELECT * FROM c WHERE c.a = 1 1",
    ],
)
def test_what_is_no_query_here_is_a_bad_request(text: str) -> None:
    with pytest.raises(CosmosError) as caught:
        rows(text)
    assert caught.value.status == 400


def test_limits_are_hard() -> None:
    deep = "(" * (DEEPEST + 1) + "1" + ")" * (DEEPEST + 1)
    for condition in (
        deep,
        "1" + "+1" * (LONGEST_CHAIN + 1),
        "c" + ".a" * (LONGEST_CHAIN + 1),
        "NOT " * 5_000 + "true",
    ):
        try:
            parse(f"SELECT * FROM c WHERE {condition}")
        except QueryError:
            continue
        assert condition.startswith("NOT")
    with pytest.raises(QueryError, match="too long"):
        tokens(" " * (LONGEST + 1))


@given(st.text(max_size=200) | st.text(alphabet="SELECT*FROMcWHERE().,'\"[]{}<>=!@0129 \\-?:", max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    for read in (parse, parse_predicate):
        with suppress(QueryError):
            read(text)


_WORDS = (
    "SELECT VALUE * FROM c WHERE c.a = 1 'x' AND OR NOT ( ) IN , ORDER BY DESC OFFSET LIMIT TOP BETWEEN COUNT(1) @p "
    "[ ] IS_DEFINED ? : ?? -"
)
WORDS = st.sampled_from(_WORDS.split())


@given(st.lists(WORDS, max_size=25))
def test_no_row_of_words_breaks_the_server(words: list[str]) -> None:
    with suppress(CosmosError):
        json.dumps(page("SELECT " + " ".join(words), p=1).rows)


@given(VALUES)
def test_every_json_value_is_found_by_itself_and_written_as_a_constant(given_value: Any) -> None:
    stored = container([{"id": "1", "v": given_value}])
    assert run("SELECT VALUE c.v FROM c WHERE c.v = @v", {"@v": given_value}, stored.items(), {}, 10, None).rows == [
        given_value
    ]
    if isinstance(given_value, str | int):
        assert value(f"c.v = {json.dumps(given_value)}", {"v": given_value}) is True


@given(VALUES, VALUES)
def test_equality_and_order_agree(left: Any, right: Any) -> None:
    assert equal(left, right) is same(left, right)
    assert same(left, right) == same(right, left)
    if same(left, right):
        assert sort_key(left) == sort_key(right)
    assert sort_key(left) < sort_key(right) or sort_key(right) <= sort_key(left)  # always comparable


@given(st.lists(st.tuples(st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=1), st.integers(0, 2))))
def test_any_paging_of_an_order_gives_every_item_once(pairs: list[tuple[Any, int]]) -> None:
    stored = container([{"id": str(n), "a": a, "b": b} for n, (a, b) in enumerate(pairs)])
    text = "SELECT VALUE c.id FROM c ORDER BY c.a, c.b DESC"
    seen: list[str] = []
    token = None
    while True:
        one = run(text, {}, stored.items(), COMPOSITE, 2, token)
        seen += one.rows
        token = one.continuation
        if token is None:
            break
    assert sorted(seen) == sorted(str(n) for n in range(len(pairs)))
    keys = [(sort_key(pairs[int(id)][0]), -pairs[int(id)][1], int(id)) for id in seen]
    assert keys == sorted(keys)


@pytest.mark.parametrize("given_parameters", [{}, "x", [1], [{"name": "@a"}], None])
def test_parameters_that_are_none_are_refused(given_parameters: Any) -> None:
    with pytest.raises(CosmosError):
        parameters_of(given_parameters)


def test_an_item_knows_its_size() -> None:
    (item,) = container([{"id": "1"}]).items()
    assert isinstance(item, Item)
    assert item.size == len('{"id":"1","pk":"k"}')


@pytest.mark.parametrize("id", ["", "a/b", "a\\b", "a?b", "a#b", 7, None, "x" * 1_024])
def test_an_item_without_a_proper_id_is_refused(id: Any) -> None:
    with pytest.raises(CosmosError) as caught:
        container([{"id": id}])
    assert caught.value.status == 400
