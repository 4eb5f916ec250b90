"""What Parley's own tokens say, and that they keep verifying while keys rotate."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conference.adapters.jws import _decode
from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.signing_keys import LEAD, MARGIN, MemorySigningKeys
from conference.domain.claims import LONGEST_LIFETIME, ConsentClaims, JoinClaims, TunnelClaims
from conference.domain.consent import Grant
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, UserId
from conference.domain.meetings import Role
from conference.protocol import strict_json
from tests.support.token_kinds import ENTRY, ISSUER, NOW, PARTICIPANT, ROOM, USER, SerialIds

pytestmark = pytest.mark.unit

JOIN = JoinClaims(
    participant_id=ParticipantId(PARTICIPANT),
    room_id=MeetingId(ROOM),
    user_id=UserId(USER),
    role=Role.ATTENDEE,
    grants=frozenset({Grant.AI, Grant.RECORDING}),
    consent_version="2026-11",
    consent_pending=False,
    region="local",
    epoch=3,
    jti="00000000-0000-4000-8000-000000000009",
    not_before=NOW,
    expires_at=NOW + timedelta(minutes=5),
)
CONSENT = ConsentClaims(ConsentId(ENTRY), UserId(USER), MeetingId(ROOM), NOW + timedelta(minutes=10))
TUNNEL = TunnelClaims(
    ParticipantId(PARTICIPANT),
    MeetingId(ROOM),
    (("192.0.2.7", 7882), ("2001:db8::7", 7883)),
    "00000000-0000-4000-8000-00000000000a",
    NOW + timedelta(seconds=60),
)


@pytest.fixture
def signing() -> MemorySigningKeys:
    return MemorySigningKeys(SerialIds())


@pytest.fixture
def tokens(signing: MemorySigningKeys) -> JwtTokens:
    return JwtTokens(issuer=ISSUER, keys=OwnPublicKeys(signing), signing=signing)


def _part(token: str, index: int) -> dict[str, Any]:
    return strict_json.loads_object(_decode(token.split(".")[index]))


async def test_a_join_token_comes_back_as_it_was_made(tokens: JwtTokens) -> None:
    assert await tokens.verify_join(await tokens.mint_join(JOIN), NOW) == JOIN


@pytest.mark.parametrize(
    "claims",
    [
        replace(JOIN, role=Role.HOST, grants=frozenset(), consent_version=None, consent_pending=True),
        replace(JOIN, role=Role.VIEWER, grants=frozenset({Grant.AI}), epoch=0, region="eu-north"),
    ],
)
async def test_every_role_and_grant_survives_the_token(tokens: JwtTokens, claims: JoinClaims) -> None:
    assert await tokens.verify_join(await tokens.mint_join(claims), NOW) == claims


async def test_a_tunnel_token_comes_back_as_it_was_made(tokens: JwtTokens) -> None:
    assert await tokens.verify_tunnel(await tokens.mint_tunnel(TUNNEL, NOW), NOW) == TUNNEL


@pytest.mark.parametrize(
    "claims",
    [
        replace(TUNNEL, nodes=()),
        replace(TUNNEL, nodes=(("192.0.2.7", 1),) * 5),
        replace(TUNNEL, expires_at=NOW + timedelta(seconds=61)),
    ],
)
async def test_no_tunnel_token_is_made_without_a_node_for_many_or_for_longer_than_a_minute(
    tokens: JwtTokens, claims: TunnelClaims
) -> None:
    with pytest.raises(ValueError, match=r"lifetime|length"):
        await tokens.mint_tunnel(claims, NOW)


async def test_a_consent_token_comes_back_as_it_was_made(tokens: JwtTokens) -> None:
    assert await tokens.verify_consent(await tokens.mint_consent(CONSENT, NOW), NOW) == CONSENT


async def test_a_service_token_names_its_subject_for_its_audience_alone(tokens: JwtTokens) -> None:
    token = await tokens.mint_service(subject="signaling-1", audience="sfu", now=NOW)
    assert await tokens.verify_service(token, audience="sfu", now=NOW) == "signaling-1"
    with pytest.raises(Refused) as refused:
        await tokens.verify_service(token, audience="recorder", now=NOW)
    assert refused.value.extra == {"cause": "aud"}


async def test_the_join_token_is_written_as_the_contract_says(tokens: JwtTokens, signing: MemorySigningKeys) -> None:
    token = await tokens.mint_join(JOIN)
    key = await signing.current(NOW)
    assert _part(token, 0) == {"alg": "ES256", "typ": "join+jwt", "kid": key.kid}
    assert _part(token, 1) == {
        "iss": ISSUER,
        "aud": "signaling",
        "sub": PARTICIPANT,
        "roomId": ROOM,
        "userId": USER,
        "role": "attendee",
        "grants": ["ai", "recording"],
        "consentVersion": "2026-11",
        "consentPending": False,
        "region": "local",
        "epoch": 3,
        "jti": JOIN.jti,
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 300,
    }


async def test_a_token_fits_into_a_websocket_header(tokens: JwtTokens) -> None:
    assert len(await tokens.mint_join(JOIN)) < 1024


async def test_a_token_of_another_installation_is_refused(tokens: JwtTokens, signing: MemorySigningKeys) -> None:
    other = JwtTokens(issuer="https://other.test", keys=OwnPublicKeys(signing), signing=signing)
    with pytest.raises(Refused) as refused:
        await tokens.verify_join(await other.mint_join(JOIN), NOW)
    assert refused.value.extra == {"cause": "iss"}


async def test_a_fraction_of_a_second_shortens_a_token_and_never_lengthens_it(tokens: JwtTokens) -> None:
    half = timedelta(milliseconds=500)
    token = await tokens.mint_join(replace(JOIN, not_before=NOW + half, expires_at=JOIN.expires_at + half))
    assert (await tokens.verify_join(token, NOW)).expires_at == JOIN.expires_at


@pytest.mark.parametrize(
    "claims",
    [
        replace(JOIN, expires_at=NOW + timedelta(minutes=10, seconds=1)),
        replace(JOIN, expires_at=NOW),
        replace(JOIN, region=""),
        replace(JOIN, room_id=MeetingId("no uuid")),
    ],
)
async def test_what_would_be_refused_is_not_minted(tokens: JwtTokens, claims: JoinClaims) -> None:
    with pytest.raises(ValueError, match=r"lifetime|Expected"):
        await tokens.mint_join(claims)


async def test_a_process_without_signing_keys_verifies_and_does_not_mint(
    tokens: JwtTokens, signing: MemorySigningKeys
) -> None:
    reader = JwtTokens(issuer=ISSUER, keys=OwnPublicKeys(signing))
    assert await reader.verify_join(await tokens.mint_join(JOIN), NOW) == JOIN
    with pytest.raises(RuntimeError):
        await reader.mint_join(JOIN)


async def test_tokens_of_the_previous_key_verify_until_it_retires(
    tokens: JwtTokens, signing: MemorySigningKeys
) -> None:
    """The last token that the old key can sign is minted just before the new key's first use, with the longest life."""
    old = await signing.current(NOW)
    new = await signing.rotate(NOW)
    last_use = NOW + LEAD - timedelta(seconds=1)
    claims = replace(CONSENT, expires_at=last_use + LONGEST_LIFETIME)
    token = await tokens.mint_consent(claims, last_use)
    assert _part(token, 0)["kid"] == old.kid
    assert (
        _part(await tokens.mint_consent(replace(CONSENT, expires_at=NOW + LEAD * 2), NOW + LEAD), 0)["kid"] == new.kid
    )

    assert await tokens.verify_consent(token, claims.expires_at - timedelta(seconds=1)) == claims
    with pytest.raises(Refused) as refused:
        await tokens.verify_consent(token, NOW + LEAD + LONGEST_LIFETIME + MARGIN)
    assert refused.value.extra == {"cause": "unknown-kid"}


async def test_claims_and_keys_show_neither_ids_nor_secrets(signing: MemorySigningKeys) -> None:
    key = await signing.current(NOW)
    shown = f"{JOIN!r} {CONSENT!r} {key!r}"
    assert "PRIVATE" not in shown
    for hidden in (PARTICIPANT, USER, ROOM, ENTRY, JOIN.jti):
        assert hidden not in shown
