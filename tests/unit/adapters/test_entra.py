"""Microsoft's tokens, claim by claim: whose they are, for whom, from whom, and what they allow."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conference.adapters.entra import FLOOR, EntraCallerVerifier, EntraIssuer
from conference.adapters.public_keys import FLOOR as SHORT_FLOOR
from conference.domain.errors import Refused, Unavailable
from conference.domain.policies import user_id_of
from conference.ports.tokens import REFUSAL_CAUSES
from tests.support.forge import ec_key, forge, jwk_of, rsa_key
from tests.support.token_kinds import NOW, NOW_S, TENANT

pytestmark = pytest.mark.unit

OTHER = "0d0f7c3e-0f0e-4a9c-8f3e-2f5c0e6b7d11"
OID = "7d1f2a52-5d0e-4c1b-9a55-7c3f0f0a9d11"
GROUP = "3f9f4f0e-7a50-4e5b-8a55-0d6f2c1b7e33"
API = "9b2c6d1e-0f3a-4b57-8d2c-6e1f4a7b9c20"
V2, V1 = f"https://login.microsoftonline.com/{TENANT}/v2.0", f"https://sts.windows.net/{TENANT}/"
B2C = f"https://parley.b2clogin.com/{TENANT}/v2.0/"
EXTERNAL = f"https://{TENANT}.ciamlogin.com/{TENANT}/v2.0"
COMMON = "https://login.microsoftonline.com/{tid}/v2.0"
DISCOVERY = "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration"
_KEY = rsa_key()
_EC = ec_key()


def verifier(issuer: str = V2, *, named: str = "", jwk: Mapping[str, Any] = {}, **options: Any) -> EntraCallerVerifier:
    """Its issuer publishes one RSA and one elliptic key; the document calls itself `named`, else rightly."""

    async def fetch_json(url: str) -> object:
        if not url.endswith("openid-configuration"):
            return {"keys": [jwk_of(_KEY, "k") | dict(jwk), jwk_of(_EC, "ec")]}
        return {"issuer": named or issuer.replace("{tid}", "{tenantid}"), "jwks_uri": "https://keys.test"}

    chosen = {"discovery_url": DISCOVERY, "audiences": frozenset({API})} | options
    return EntraCallerVerifier(issuer=issuer, fetch_json=fetch_json, **chosen)


def token(*, header: Any = (), **changes: Any) -> str:
    """A person's access token of version 2.0 with these claims changed; None leaves one out."""
    claims = {
        "iss": V2,
        "aud": API,
        "tid": TENANT,
        "oid": OID,
        "sub": "pairwise",
        "ver": "2.0",
        "azp": "page",
        "azpacr": "0",
        "scp": "Meetings.ReadWrite openid",
        "name": "Ada Example",
        "preferred_username": "ada@example.org",
        "uti": "t1",
        "nbf": NOW_S,
        "exp": NOW_S + 3600,
    } | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return forge({"typ": "JWT", "alg": "RS256", "kid": "k"} | dict(header), kept, _KEY)


async def cause(made: EntraCallerVerifier, text: str) -> str:
    try:
        await made.verify(text, NOW)
    except Refused as refused:
        return str(refused.extra["cause"])
    return "accepted"


async def test_an_access_token_names_the_person_by_object_id_and_tenant() -> None:
    caller = await verifier().verify(token(), NOW)
    assert caller.user_id == user_id_of(TENANT, OID)
    assert (caller.tenant_id, caller.token_id, caller.is_admin) == (TENANT, "t1", False)
    assert (caller.display_name, caller.email) == ("Ada Example", "ada@example.org")


async def test_an_id_token_of_another_client_and_subject_is_the_same_person() -> None:
    made = verifier(audiences=frozenset({API, "page"}), clients=frozenset({"other"}), scope="Meetings.ReadWrite")
    by_id = await made.verify(token(aud="page", azp=None, azpacr=None, scp=None, sub="another", uti="t2"), NOW)
    assert by_id.user_id == user_id_of(TENANT, OID)


async def test_version_1_has_its_own_issuer_client_and_user_name() -> None:
    old = {"iss": V1, "ver": "1.0", "azp": None, "appid": "page", "preferred_username": None}
    caller = await verifier(V1, clients=frozenset({"page"})).verify(token(**old, unique_name="ada@example.org"), NOW)
    assert caller.user_id == user_id_of(TENANT, OID)
    assert caller.email == "ada@example.org"
    assert await cause(verifier(V1, clients=frozenset({"other"})), token(**old)) == "client"
    assert await cause(verifier(V1), token(**old | {"iss": V2})) == "iss"
    assert await cause(verifier(V2), token(**old)) == "iss"
    assert await cause(verifier(V2), token(ver="1.0")) == "claims"
    assert await cause(verifier(V2), token(ver=None)) == "claims"


async def test_b2c_names_no_tenant_and_its_subject_is_the_object_id() -> None:
    b2c = {"iss": B2C, "ver": "1.0", "tid": None, "oid": None, "sub": OID, "preferred_username": None}
    caller = await verifier(B2C).verify(token(**b2c, emails=["ada@example.org", "b@example.org"], tfp="p"), NOW)
    assert caller.user_id == user_id_of(TENANT, OID)
    assert (caller.tenant_id, caller.email) == (TENANT, "ada@example.org")
    assert await cause(verifier(B2C), token(**b2c | {"tid": OTHER})) == "tenant"
    assert await cause(verifier(B2C), token(**b2c | {"iss": B2C.rstrip("/")})) == "iss"


async def test_external_id_is_pinned_by_its_issuer_and_found_by_its_discovery_address() -> None:
    assert await cause(verifier(EXTERNAL), token(iss=EXTERNAL)) == "accepted"
    assert await cause(verifier(EXTERNAL), token()) == "iss"


async def test_elsewhere_than_in_b2c_tenant_and_object_id_have_to_be_there() -> None:
    assert await cause(verifier(), token(oid=None)) == "claims"
    assert await cause(verifier(), token(tid=None)) == "claims"
    assert await cause(verifier(), token(tid="common")) == "claims"
    assert await cause(verifier(), token(tid=OTHER)) == "tenant"


async def test_a_template_takes_the_listed_tenants_each_by_its_own_issuer() -> None:
    made = verifier(COMMON, tenants=frozenset({TENANT, OTHER.upper()}))
    theirs = {"tid": OTHER, "iss": V2.replace(TENANT, OTHER)}
    assert (await made.verify(token(), NOW)).tenant_id == TENANT
    assert (await made.verify(token(**theirs), NOW)).tenant_id == OTHER
    assert await cause(made, token(tid=OTHER)) == "iss"
    assert await cause(verifier(COMMON, tenants=frozenset({TENANT})), token(**theirs)) == "tenant"
    assert await cause(verifier(COMMON, tenants=frozenset({"*"})), token(**theirs)) == "accepted"


async def test_a_key_of_the_common_set_serves_the_issuer_that_it_is_kept_for() -> None:
    made = verifier(COMMON, tenants=frozenset({"*"}), jwk={"issuer": V2.replace(TENANT, OTHER)})
    assert await cause(made, token()) == "iss"
    made = verifier(COMMON, tenants=frozenset({"*"}), jwk={"issuer": V2.replace(TENANT, "{tenantid}")})
    assert await cause(made, token()) == "accepted"


@pytest.mark.parametrize("tenants", [frozenset[str](), frozenset({TENANT})])
def test_a_template_without_tenants_or_discovery_address_does_not_start(tenants: frozenset[str]) -> None:
    with pytest.raises(ValueError, match="list of tenants"):
        verifier(COMMON, tenants=tenants, discovery_url="" if tenants else DISCOVERY)


@pytest.mark.parametrize("issuer", ["", "https://login.microsoftonline.com/common/v2.0"])
def test_an_issuer_without_a_tenant_does_not_start(issuer: str) -> None:
    with pytest.raises(ValueError, match="tenant's id"):
        EntraIssuer(issuer)


async def test_a_discovery_document_of_another_issuer_is_not_taken() -> None:
    with pytest.raises(Unavailable):
        await verifier(named="https://issuer.test").verify(token(), NOW)


async def test_only_rs256_is_taken_also_where_the_issuer_has_other_keys() -> None:
    assert await cause(verifier(), token(header={"alg": "ES256", "kid": "ec"})) == "alg"
    assert await cause(verifier(), token(header={"kid": "ec"})) == "alg"
    assert await cause(verifier(), token(header={"typ": "at+jwt"})) == "typ"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "page"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": [7]}, "aud"),
        ({"exp": NOW_S - 30}, "expired"),
        ({"exp": NOW_S - 29}, "accepted"),
        ({"nbf": NOW_S + 31}, "nbf"),
        ({"nbf": NOW_S + 30}, "accepted"),
        ({"scp": ["Meetings.ReadWrite"]}, "claims"),
        ({"roles": "Parley.Admin"}, "claims"),
        ({"groups": "x"}, "accepted"),  # nobody asks for groups here
        ({"azp": 7}, "claims"),
    ],
)
async def test_what_is_not_for_us_now_is_refused(changes: dict[str, Any], why: str) -> None:
    assert await cause(verifier(), token(**changes)) == why


async def test_the_client_and_the_scope_have_to_be_ours_where_they_are_set() -> None:
    made = verifier(clients=frozenset({"page", "cli"}), scope="Meetings.ReadWrite")
    assert await cause(made, token()) == "accepted"
    assert await cause(made, token(azp="stranger")) == "client"
    assert await cause(made, token(scp="Meetings.Read")) == "scope"


async def test_a_program_calls_by_a_role_only_as_any_program_of_the_tenant_gets_a_token() -> None:
    program = {"scp": None, "azpacr": "1", "sub": OID, "name": None, "preferred_username": None}
    assert await cause(verifier(), token(**program)) == "scope"
    assert await cause(verifier(), token(**program, roles=[])) == "scope"
    assert await cause(verifier(), token(**program | {"azp": None}, idtyp="app")) == "scope"
    caller = await verifier().verify(token(**program, roles=["Parley.Admin"], app_displayname="Reports"), NOW)
    assert caller.is_admin
    assert caller.display_name == "Reports"


@pytest.mark.parametrize(
    ("claims", "is_admin"),
    [
        ({"roles": ["Parley.Admin"]}, True),
        ({"roles": ["parley.admin"]}, False),
        ({"groups": [OTHER, GROUP.upper()]}, True),
        ({"groups": [OTHER]}, False),
        ({"groups": [7, None]}, False),
        ({"groups": []}, False),
        ({}, False),
    ],
)
async def test_the_app_role_or_a_group_makes_an_admin(claims: dict[str, Any], is_admin: bool) -> None:
    made = verifier(admin_groups=frozenset({GROUP}))
    assert (await made.verify(token(**claims), NOW)).is_admin is is_admin


@pytest.mark.parametrize("overage", [{"_claim_names": {"groups": "src1"}}, {"hasgroups": True}])
async def test_groups_that_are_elsewhere_make_nobody_an_admin_and_are_told_of_once(
    overage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = verifier(admin_groups=frozenset({GROUP}))
    for _ in range(2):
        assert not (await made.verify(token(**overage, groups=[GROUP]), NOW)).is_admin
    assert len(caplog.records) == 1
    assert (await made.verify(token(**overage, roles=["Parley.Admin"]), NOW)).is_admin


async def test_two_hundred_groups_fit_into_a_token() -> None:
    many = [f"{number:08x}{GROUP[8:]}" for number in range(199)]
    text = token(groups=[*many, GROUP])
    assert len(text) > 8 * 1024
    assert (await verifier(admin_groups=frozenset({GROUP})).verify(text, NOW)).is_admin
    assert await cause(verifier(), token(padding="x" * 16 * 1024)) == "oversize"


async def test_keys_are_kept_for_hours_and_an_unknown_kid_asks_once_per_floor() -> None:
    asked = 0

    async def fetch_json(url: str) -> object:
        nonlocal asked
        if url.endswith("openid-configuration"):
            return {"issuer": V2, "jwks_uri": "https://keys.test"}
        asked += 1
        return {"keys": [jwk_of(_KEY, "k")]}

    made = EntraCallerVerifier(issuer=V2, audiences=frozenset({API}), fetch_json=fetch_json)
    long = token(exp=NOW_S + 24 * 3600)
    for hours in range(6):
        await made.verify(long, NOW + timedelta(hours=hours))
    assert asked == 1
    later = NOW + timedelta(hours=5)
    for seconds in range(0, 60, 5):
        with pytest.raises(Refused):
            await made.verify(token(header={"kid": f"made-up-{seconds}"}), later + timedelta(seconds=seconds))
    assert asked == 3
    assert FLOOR > SHORT_FLOOR


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_WHOSE = ("iss", "aud", "tid", "oid", "sub", "ver", "azp", "appid", "idtyp", "uti", "exp", "nbf")
_WHAT = ("scp", "roles", "groups", "_claim_names", "hasgroups", "name", "email", "emails", "upn", "preferred_username")
_NAMES = st.sampled_from(_WHOSE + _WHAT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(_NAMES, _JSON, max_size=4), b2c=st.booleans())
async def test_whatever_the_claims_are_a_token_is_taken_or_refused_with_a_cause(
    changes: dict[str, Any], b2c: bool
) -> None:
    made = verifier(B2C if b2c else V2, admin_groups=frozenset({GROUP}), clients=frozenset({"page"}))
    base = {"iss": B2C, "ver": "1.0"} if b2c else {}
    assert await cause(made, token(**base | changes)) in {"accepted", *REFUSAL_CAUSES}
