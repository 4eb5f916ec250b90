"""Recursive descent from the text of a query to its syntax tree.

The part of Cosmos DB's language that this server speaks: one container in FROM, SELECT of items, objects, values and
aggregates, WHERE, ORDER BY, OFFSET LIMIT, TOP, DISTINCT. What it does not know (JOIN, GROUP BY, subqueries) is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from local.cosmos.lexing import QueryError, Token, tokens

DEEPEST: Final = 50  # nested expressions
LONGEST_CHAIN: Final = 100  # properties or operators after each other
AGGREGATES: Final = frozenset({"COUNT", "SUM", "AVG", "MIN", "MAX"})
_COMPARISONS: Final = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})
_CLAUSES: Final = frozenset({"SELECT", "FROM", "WHERE", "ORDER", "BY", "OFFSET", "LIMIT", "JOIN", "GROUP"})
_KEYWORDS: Final = _CLAUSES | {"VALUE", "DISTINCT", "TOP", "ASC", "DESC", "AND", "OR", "NOT", "IN", "BETWEEN", "AS"}


@dataclass(frozen=True, slots=True)
class Constant:
    value: object


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str


@dataclass(frozen=True, slots=True)
class Root:
    """The item itself, by the alias of FROM."""


@dataclass(frozen=True, slots=True)
class Member:
    """`of.name`, `of["name"]`, `of[3]`."""

    of: "Expression"
    key: "Expression"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function, by its name in upper case."""

    name: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    items: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class ObjectOf:
    members: tuple[tuple[str, "Expression"], ...]


Expression = Constant | Parameter | Root | Member | Operation | ArrayOf | ObjectOf


@dataclass(frozen=True, slots=True)
class Select:
    """A query. `shape` is what each item becomes: None for `*`."""

    shape: Expression | None
    where: Expression | None = None
    order: tuple[tuple[Expression, bool], ...] = ()  # expression, descending
    distinct: bool = False
    top: Expression | None = None
    offset: Expression | None = None
    limit: Expression | None = None
    named_aggregates: bool = False  # SELECT COUNT(1) AS n, not SELECT VALUE


def parse(query: str) -> Select:
    """Raises QueryError for anything that is no query of this language."""
    return _Parser(tokens(query)).select()


def parse_predicate(text: str) -> Expression:
    """The condition of a patch: `FROM c WHERE ...`. Raises QueryError."""
    return _Parser(tokens(text)).predicate()


class _Parser:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._alias = "c"

    # --- tokens ---

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._at += 1
        return token

    def _has(self, *wanted: str) -> bool:
        """Takes the keyword or sign where it comes next."""
        token = self._next
        matched = token.upper in wanted or (token.kind == "sign" and token.value in wanted)
        if matched:
            self._at += 1
        return matched

    def _need(self, wanted: str) -> None:
        if not self._has(wanted):
            raise self._error(f"expected {wanted}")

    def _error(self, reason: str) -> QueryError:
        token = self._next
        near = "the end" if token.kind == "end" else repr(token.value)
        return QueryError(f"{reason} at {token.at}, near {near}")

    def _name(self) -> str:
        token = self._take()
        if token.kind != "word" or token.upper in _KEYWORDS:
            self._at -= token.kind != "end"
            raise self._error("expected a name")
        return str(token.value)

    # --- clauses ---

    def select(self) -> Select:
        self._need("SELECT")
        distinct = self._has("DISTINCT")
        top = self._amount() if self._has("TOP") else None
        shape_at = self._at
        self._find_alias()
        self._at = shape_at
        shape, named = self._shape()
        if self._has("FROM"):
            self._from()
        where = self._expression() if self._has("WHERE") else None
        order = self._order() if self._has("ORDER") else ()
        offset = limit = None
        if self._has("OFFSET"):
            offset = self._amount()
            self._need("LIMIT")
            limit = self._amount()
        if self._next.kind != "end":
            raise self._error("not supported here")
        return Select(shape, where, order, distinct, top, offset, limit, named)

    def predicate(self) -> Expression:
        self._need("FROM")
        self._from()
        self._need("WHERE")
        found = self._expression()
        if self._next.kind != "end":
            raise self._error("not supported here")
        return found

    def _find_alias(self) -> None:
        """FROM comes after SELECT and names what SELECT uses."""
        words = [token.upper for token in self._tokens]
        if "FROM" in words:
            self._at = words.index("FROM") + 1
            self._from()

    def _from(self) -> None:
        self._alias = self._name()
        if self._has("AS") or (self._next.kind == "word" and self._next.upper not in _KEYWORDS):
            self._alias = self._name()

    def _shape(self) -> tuple[Expression | None, bool]:
        if self._has("*"):
            return None, False
        if self._has("VALUE"):
            return self._expression(), False
        members = [self._member(0)]
        while self._has(","):
            members.append(self._member(len(members)))
        names = [name for name, _ in members]
        if len(set(names)) < len(names):
            raise self._error("two columns have one name")
        aggregated = any(isinstance(e, Operation) and e.name in AGGREGATES for _, e in members)
        return ObjectOf(tuple(members)), aggregated

    def _member(self, number: int) -> tuple[str, Expression]:
        found = self._expression()
        if self._has("AS"):
            return self._name(), found
        if self._next.kind == "word" and self._next.upper not in _KEYWORDS:
            return self._name(), found
        if isinstance(found, Member) and isinstance(found.key, Constant) and isinstance(found.key.value, str):
            return found.key.value, found
        return f"${number + 1}", found

    def _order(self) -> tuple[tuple[Expression, bool], ...]:
        self._need("BY")
        keys = []
        while True:
            key = self._expression()
            if not isinstance(key, Member):
                raise self._error("ORDER BY takes properties")
            keys.append((key, self._has("DESC")))
            if not keys[-1][1]:
                self._has("ASC")
            if not self._has(","):
                return tuple(keys)

    def _amount(self) -> Expression:
        token = self._take()
        if token.kind == "parameter":
            return Parameter(str(token.value))
        if token.kind == "number" and isinstance(token.value, int):
            return Constant(token.value)
        raise self._error("expected a whole number")

    # --- expressions, the loosest binding first ---

    def _expression(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error("nested too deeply")
        found = self._either()
        if self._has("??"):
            found = Operation("??", (found, self._expression()))
        elif self._has("?"):
            then = self._expression()
            self._need(":")
            found = Operation("?", (found, then, self._expression()))
        self._depth -= 1
        return found

    def _either(self) -> Expression:
        found = [self._both()]
        while self._has("OR"):
            found.append(self._both())
        return Operation("OR", tuple(found)) if len(found) > 1 else found[0]

    def _both(self) -> Expression:
        found = [self._negated()]
        while self._has("AND"):
            found.append(self._negated())
        return Operation("AND", tuple(found)) if len(found) > 1 else found[0]

    def _negated(self) -> Expression:
        negations = 0
        while self._has("NOT"):
            negations += 1
        found = self._comparison()
        for _ in range(min(negations, 2 - negations % 2)):
            found = Operation("NOT", (found,))
        return found

    def _comparison(self) -> Expression:
        left = self._sum()
        token = self._next
        if token.kind == "sign" and token.value in _COMPARISONS:
            self._take()
            name = "!=" if token.value == "<>" else str(token.value)
            return Operation(name, (left, self._sum()))
        negated = self._has("NOT")
        if self._has("IN"):
            self._need("(")
            found: Expression = Operation("IN", (left, *self._list(")")))
        elif self._has("BETWEEN"):
            low = self._sum()
            self._need("AND")
            found = Operation("BETWEEN", (left, low, self._sum()))
        elif negated:
            raise self._error("expected IN or BETWEEN")
        else:
            return left
        return Operation("NOT", (found,)) if negated else found

    def _sum(self) -> Expression:
        return self._chain(self._product, ("+", "-", "||"))

    def _product(self) -> Expression:
        return self._chain(self._signed, ("*", "/", "%"))

    def _chain(self, operand: Callable[[], Expression], operators: tuple[str, ...]) -> Expression:
        found = operand()
        for _ in range(LONGEST_CHAIN):
            token = self._next
            if token.kind != "sign" or token.value not in operators:
                return found
            self._take()
            found = Operation(str(token.value), (found, operand()))
        raise self._error("too many operators")

    def _signed(self) -> Expression:
        minuses = 0
        while (token := self._next).kind == "sign" and token.value in ("-", "+"):
            self._take()
            minuses += token.value == "-"
        found = self._path()
        if not minuses:
            return found
        return Operation("0-", (found,)) if minuses % 2 else Operation("0+", (found,))

    def _path(self) -> Expression:
        found = self._atom()
        for _ in range(LONGEST_CHAIN):
            if self._has("."):
                token = self._take()
                if token.kind != "word":
                    raise self._error("expected a property")
                found = Member(found, Constant(token.value))
            elif self._has("["):
                found = Member(found, self._expression())
                self._need("]")
            else:
                return found
        raise self._error("too many properties")

    def _atom(self) -> Expression:
        token = self._take()
        match token.kind:
            case "number" | "text":
                return Constant(token.value)
            case "parameter":
                return Parameter(str(token.value))
            case "word":
                return self._word(token)
        if token.value == "(":
            found = self._expression()
            self._need(")")
            return found
        if token.value == "[":
            return ArrayOf(self._list("]"))
        if token.value == "{":
            return self._object()
        self._at -= token.kind != "end"
        raise self._error("expected an expression")

    def _word(self, token: Token) -> Expression:
        constants = {"TRUE": True, "FALSE": False, "NULL": None}
        if token.upper in constants and token.value != self._alias:
            return Constant(constants[token.upper])
        if token.upper == "UNDEFINED":
            return Operation("UNDEFINED", ())
        if self._has("("):
            return Operation(token.upper, self._list(")"))
        if token.value == self._alias:
            return Root()
        self._at -= 1
        raise self._error("an unknown name")

    def _list(self, end: str) -> tuple[Expression, ...]:
        if self._has(end):
            return ()
        found = [self._expression()]
        while self._has(","):
            found.append(self._expression())
        self._need(end)
        return tuple(found)

    def _object(self) -> Expression:
        members: list[tuple[str, Expression]] = []
        while not self._has("}"):
            if members:
                self._need(",")
            token = self._take()
            if token.kind not in ("text", "word"):
                raise self._error("expected a property")
            self._need(":")
            members.append((str(token.value), self._expression()))
        return ObjectOf(tuple(members))
