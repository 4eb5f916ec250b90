"""Every refusal of contracts.md section 3, for all five kinds of token.

A replayed jti is not here: burning it is part of the atomic join, and tested with the presence store.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.forge import b64, ec_key, forge, jwk_of, rsa_key, signature
from tests.support.token_kinds import ENTRY, KINDS, NOW, NOW_S, ROOM, USER, Kind, kind_of

pytestmark = pytest.mark.unit

_STRANGER = ec_key()
_RSA = rsa_key()
NODE = {"ip": "192.0.2.7", "port": 7882}
OURS = tuple(name for name in KINDS if name != "caller")
Attack = Callable[[Kind], str]


@pytest.fixture(params=KINDS)
async def kind(request: pytest.FixtureRequest) -> Kind:
    return await kind_of(request.param)


async def test_a_good_token_is_accepted(kind: Kind) -> None:
    assert await kind.cause(kind.token()) == "accepted"


def _unsigned(kind: Kind, algorithm: str) -> str:
    return forge({**kind.header, "alg": algorithm}, kind.claims, None)


def _hmac_with_public_key(kind: Kind) -> str:
    """The classic confusion: the published key, taken as the secret of an HMAC."""
    public = json.dumps(jwk_of(kind.key, kind.header["kid"])).encode()
    return forge({**kind.header, "alg": "HS256"}, kind.claims, public)


def _rsa_claimed_for_ec_key(kind: Kind) -> str:
    return forge({**kind.header, "alg": "RS256"}, kind.claims, _RSA)


def _carrying_own_key(name: str, value: Any) -> Attack:
    return lambda kind: forge({**kind.header, name: value}, kind.claims, _STRANGER)


def _doubled(kind: Kind, part: str, name: str) -> str:
    """The part's JSON with a member twice; the right value last, where `json.loads` would take it."""
    header, claims = json.dumps(dict(kind.header)), json.dumps(dict(kind.claims))
    if part == "header":
        header = f'{{"{name}":"other",{header[1:]}'
    else:
        claims = f'{{"{name}":"other",{claims[1:]}'
    return forge(header, claims, kind.key)


def _nested_duplicate(kind: Kind) -> str:
    claims = json.dumps({**kind.claims, "extra": 0}).replace('"extra": 0', '"extra": {"a": 1, "a": 2}')
    return forge(kind.header, claims, kind.key)


def _without_kid(kind: Kind) -> str:
    return forge({name: value for name, value in kind.header.items() if name != "kid"}, kind.claims, kind.key)


def _truncated_signature(kind: Kind) -> str:
    head, claims, _ = kind.token().split(".")
    return f"{head}.{claims}.{b64(signature(f'{head}.{claims}'.encode(), kind.key)[:-1])}"


def _another_text_of_the_same_signature(kind: Kind) -> str:
    """The last character of 86 carries two bits of the 64 bytes; the other four are free in lenient decoders."""
    token = kind.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


ATTACKS: dict[str, tuple[Attack, str]] = {
    "alg none": (lambda kind: _unsigned(kind, "none"), "alg"),
    "alg none with a signature": (lambda kind: forge({**kind.header, "alg": "none"}, kind.claims, kind.key), "alg"),
    "alg NONE": (lambda kind: forge({**kind.header, "alg": "NONE"}, kind.claims, b"k"), "alg"),
    "no alg": (lambda kind: forge({"typ": kind.header["typ"], "kid": kind.header["kid"]}, kind.claims, b"k"), "alg"),
    "alg of another type": (lambda kind: kind.token(header={"alg": ["ES256"]}), "alg"),
    "HMAC with the public key": (_hmac_with_public_key, "alg"),
    "RSA for an elliptic key": (_rsa_claimed_for_ec_key, "alg"),
    "an algorithm that we do not use": (lambda kind: kind.token(header={"alg": "ES512"}), "alg"),
    "typ of nothing known": (lambda kind: kind.token(header={"typ": "logout+jwt"}), "typ"),
    "typ of another type": (lambda kind: kind.token(header={"typ": 1}), "typ"),
    "another audience": (lambda kind: kind.token(claims={"aud": "elsewhere"}), "aud"),
    "another issuer": (lambda kind: kind.token(claims={"iss": f"{kind.claims['iss']}/"}), "iss"),
    "nbf in the future": (lambda kind: kind.token(claims={"nbf": NOW_S + 60, "exp": NOW_S + 120}), "nbf"),
    "expired": (lambda kind: kind.token(claims={"nbf": NOW_S - 90, "exp": NOW_S - 40}), "expired"),
    "unknown crit": (lambda kind: kind.token(header={"crit": ["exp"], "exp": 1}), "crit"),
    "empty crit": (lambda kind: kind.token(header={"crit": []}), "crit"),
    "unencoded payload": (lambda kind: kind.token(header={"b64": False, "crit": ["b64"]}), "crit"),
    "unencoded payload, not critical": (lambda kind: kind.token(header={"b64": False}), "crit"),
    "embedded jwk": (_carrying_own_key("jwk", jwk_of(_STRANGER, "mine")), "header-key"),
    "jku": (_carrying_own_key("jku", "https://attacker.test/keys"), "header-key"),
    "x5u": (_carrying_own_key("x5u", "https://attacker.test/cert"), "header-key"),
    "x5c": (_carrying_own_key("x5c", ["MIIB"]), "header-key"),
    "duplicate alg": (lambda kind: _doubled(kind, "header", "alg"), "duplicate"),
    "duplicate kid": (lambda kind: _doubled(kind, "header", "kid"), "duplicate"),
    "duplicate sub": (lambda kind: _doubled(kind, "claims", "sub"), "duplicate"),
    "duplicate exp": (lambda kind: _doubled(kind, "claims", "exp"), "duplicate"),
    "duplicate in a nested object": (_nested_duplicate, "duplicate"),
    "over 8 KiB": (lambda kind: kind.token(claims={"padding": "x" * 8192}), "oversize"),
    "unknown kid": (lambda kind: kind.token(header={"kid": "nobody's"}), "unknown-kid"),
    "kid of another type": (lambda kind: kind.token(header={"kid": {"a": 1}}), "unknown-kid"),
    "kid that is a path": (lambda kind: kind.token(header={"kid": "../../etc/passwd"}), "unknown-kid"),
    "endless kid": (lambda kind: kind.token(header={"kid": "k" * 300}), "unknown-kid"),
    "no kid": (_without_kid, "unknown-kid"),
    "signature of a stranger": (lambda kind: forge(kind.header, kind.claims, _STRANGER), "signature"),
    "signature of zeros": (lambda kind: kind.token().rsplit(".", 1)[0] + "." + b64(bytes(64)), "signature"),
    "truncated signature": (_truncated_signature, "signature"),
    "no signature": (lambda kind: kind.token().rsplit(".", 1)[0] + ".", "malformed"),
    "signature in another text": (_another_text_of_the_same_signature, "malformed"),
    "padding": (lambda kind: kind.token() + "==", "malformed"),
    "white space": (lambda kind: kind.token() + "\n", "malformed"),
    "five parts": (lambda kind: kind.token() + ".AA.AA", "malformed"),
    "empty": (lambda _: "", "malformed"),
    "not ASCII": (lambda kind: kind.token() + "é", "malformed"),
    "digits of another script": (lambda kind: kind.token() + "٣", "malformed"),
    "header that is no object": (lambda kind: forge("[]", kind.claims, kind.key), "malformed"),
    "claims that are no object": (lambda kind: forge(kind.header, '"sub"', kind.key), "malformed"),
    "claims that are no JSON": (lambda kind: forge(kind.header, "{'a': 1}", kind.key), "malformed"),
    "claims nested deep": (lambda kind: forge(kind.header, "[" * 5000, kind.key), "malformed"),
    "NaN": (lambda kind: kind.token(claims={"exp": float("nan")}), "malformed"),
    "lone surrogate": (lambda kind: forge(kind.header, '{"sub":"\\ud800"}', kind.key), "malformed"),
    "number of 5,000 digits": (lambda kind: forge(kind.header, '{"exp":' + "9" * 5000 + "}", kind.key), "malformed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_refused_with_its_cause(kind: Kind, attack: str) -> None:
    token, cause = ATTACKS[attack][0](kind), ATTACKS[attack][1]
    assert await kind.cause(token) == cause


@pytest.mark.parametrize("other", KINDS)
async def test_a_token_of_one_kind_is_none_of_another(kind: Kind, other: str) -> None:
    """Signed with this kind's own key: even then the type alone tells them apart."""
    if other == kind.name:
        return
    theirs = await kind_of(other)
    token = forge({**theirs.header, "kid": kind.header["kid"]}, theirs.claims, kind.key)
    assert await kind.cause(token) == "typ"


async def test_a_token_without_a_required_claim_is_refused(kind: Kind) -> None:
    for name in kind.required:
        rest = {key: value for key, value in kind.claims.items() if key != name}
        cause = await kind.cause(forge(kind.header, rest, kind.key))
        assert cause in {"claims", name}, f"without {name}"


_OF_EVERY_TYPE: tuple[Any, ...] = (None, True, 1, 1.5, "text", [], {})


async def test_a_claim_of_a_wrong_type_is_refused(kind: Kind) -> None:
    for name in kind.required:
        right = {type(kind.claims[name])} | ({type(None)} if name == "consentVersion" else set())
        for value in _OF_EVERY_TYPE:
            if type(value) not in right:
                cause = await kind.cause(kind.token(claims={name: value}))
                assert cause not in {"accepted", "token-refused"}, f"{name}={value!r}"


@pytest.mark.parametrize(
    ("name", "claim", "values"),
    [
        ("join", "sub", ["", "me", USER.upper().replace("0", "A"), f"{USER}\n", f" {USER}"]),
        ("join", "roomId", ["", "../room", f"{ROOM}\n"]),
        ("join", "userId", ["", "user@parley.test"]),
        ("join", "role", ["", "admin", "HOST", "guest"]),
        ("join", "grants", [["everything"], ["ai", "ai", "ai"], [1]]),
        ("join", "region", ["", "x" * 129]),
        ("join", "epoch", [-1, 2**53 + 1, 10**400]),
        ("join", "jti", ["", "x" * 129]),
        ("join", "exp", [-1, 10**20]),
        ("consent", "sub", ["", "me"]),
        ("consent", "consentId", ["", f"{ENTRY}0"]),
        ("consent", "meetingId", ["", "room"]),
        ("service", "sub", ["", "x" * 129]),
        ("tunnel", "sub", ["", "me"]),
        ("tunnel", "roomId", ["", "room"]),
        ("tunnel", "nodes", [[], [NODE] * 5, ["192.0.2.7"], [{"ip": "192.0.2.7"}], [{**NODE, "more": 1}]]),
        ("tunnel", "nodes", [[{**NODE, "port": port}] for port in (0, -1, 65_536, "53", None)]),
        ("tunnel", "jti", ["", "x" * 129]),
        ("caller", "sub", ["", "x" * 257]),
        ("caller", "tid", [7, "x" * 257]),
        ("caller", "oid", [["a"], "x" * 257]),
        ("caller", "name", [True, {"first": "Test"}]),
        ("caller", "roles", ["Parley.Admin", {"Parley.Admin": 1}]),
        ("caller", "exp", [-1, 10**20, 10**400, "4000000000"]),
        ("caller", "nbf", ["0", True, None]),
    ],
)
async def test_a_claim_out_of_bounds_is_refused(name: str, claim: str, values: list[Any]) -> None:
    kind = await kind_of(name)
    assert {await kind.cause(kind.token(claims={claim: value})) for value in values} == {"claims"}


@pytest.mark.parametrize("name", OURS)
async def test_our_own_tokens_take_no_claim_that_is_not_theirs(name: str) -> None:
    kind = await kind_of(name)
    assert await kind.cause(kind.token(claims={"admin": True})) == "claims"


@pytest.mark.parametrize(("name", "longest_s"), [("join", 600), ("consent", 3600), ("service", 300), ("tunnel", 60)])
async def test_a_token_that_would_live_too_long_is_refused(name: str, longest_s: int) -> None:
    kind = await kind_of(name)
    assert await kind.cause(kind.token(claims={"exp": NOW_S + longest_s})) == "accepted"
    assert await kind.cause(kind.token(claims={"exp": NOW_S + longest_s + 1})) == "claims"
    assert await kind.cause(kind.token(claims={"exp": NOW_S})) == "claims"


@pytest.mark.parametrize("name", OURS)
async def test_our_own_tokens_end_on_the_second_and_begin_within_five(name: str) -> None:
    kind = await kind_of(name)
    token, life = kind.token(), kind.claims["exp"] - NOW_S
    assert await kind.cause(token, NOW + timedelta(seconds=life - 1)) == "accepted"
    assert await kind.cause(token, NOW + timedelta(seconds=life)) == "expired"
    assert await kind.cause(token, NOW - timedelta(seconds=5)) == "accepted"
    assert await kind.cause(token, NOW - timedelta(seconds=6)) == "nbf"


# --- properties: whatever is changed, the answer is Refused, never another error and never a yes ---

_parts = st.sampled_from([0, 1, 2])
_three_parts = st.lists(st.binary(max_size=60).map(b64), min_size=3, max_size=3).map(".".join)
_headers = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "cty", "url", "x"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.text(max_size=5), max_size=2)),
    min_size=1,
    max_size=4,
)
_quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _mutated(token: str, draw: st.DataObject) -> str:
    data = bytearray(token.encode())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    return data.decode("latin-1")


@_quick
@given(draw=st.data())
async def test_a_token_with_flipped_bytes_is_refused(kind: Kind, draw: st.DataObject) -> None:
    token = kind.token()
    changed = _mutated(token, draw)
    if changed != token:
        assert await kind.cause(changed) != "accepted"


@_quick
@given(order=st.lists(_parts, min_size=1, max_size=5).filter(lambda order: order != [0, 1, 2]))
async def test_a_token_with_swapped_parts_is_refused(kind: Kind, order: list[int]) -> None:
    parts = kind.token().split(".")
    assert await kind.cause(".".join(parts[index] for index in order)) != "accepted"


@_quick
@given(added=_headers)
async def test_a_token_with_other_headers_is_refused(kind: Kind, added: dict[str, Any]) -> None:
    """The signature is the good token's, over the header before the change."""
    _, claims, sealed = kind.token().split(".")
    header = b64(json.dumps({**kind.header, **added}).encode())
    if {**kind.header, **added} != kind.header:
        assert await kind.cause(f"{header}.{claims}.{sealed}") != "accepted"


@_quick
@given(token=st.one_of(st.text(max_size=200), _three_parts))
async def test_what_is_no_token_is_refused(kind: Kind, token: str) -> None:
    assert await kind.cause(token) != "accepted"


@_quick
@given(
    name=st.sampled_from(["iss", "aud", "sub", "nbf", "exp", "role", "grants", "epoch", "tid", "oid", "roles", "jti"]),
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=30)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    ),
)
async def test_a_signed_token_with_any_claim_is_accepted_or_refused_and_never_an_error(
    kind: Kind, name: str, value: Any
) -> None:
    assert await kind.cause(kind.token(claims={name: value})) in {
        "accepted", "claims", "iss", "aud", "nbf", "expired", "malformed", "tenant",
    }  # fmt: skip
