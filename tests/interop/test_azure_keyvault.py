"""Signing keys under a vault: instances that race, a vault or a document that is away, what the local vault refuses."""

import asyncio
import base64
import json
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.credentials import AccessToken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conference.adapters import sealed_keys
from conference.adapters.azure.credentials import EMULATOR_KEY, EmulatorCredential
from conference.adapters.blob.client import Container
from conference.adapters.blob.document import BlobDocument
from conference.adapters.files.document import FileDocument
from conference.adapters.key_ring import FileKeyRing
from conference.adapters.retries import Retries
from conference.adapters.sealed_keys import REFRESH, SealedSigningKeys
from conference.adapters.system import SystemIds
from conference.domain.errors import Unavailable
from conference.ports.keys import KeyRing
from local.azurite.server import ROOT, Azurite, Certificate
from local.keyvault.keys import Keys
from local.keyvault.server import token_facts
from tests.support.azurite import fresh_name
from tests.support.faults import HANG, LOST, RESET, FaultyFront, faulty
from tests.support.token_kinds import NOW
from tests.support.vault import KEY, TrustedVault, ring_of, running_vault
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

QUICK = Retries(attempts=5, attempt_s=1.0, total_s=10.0, base_s=0.01, wait_s=0.05)
HOUR = timedelta(hours=1)
SECRET = secrets.token_bytes(32)


@pytest.fixture
async def vault(vault_certificate: Certificate) -> AsyncIterator[TrustedVault]:
    async with running_vault(vault_certificate) as found:
        yield found


@pytest.fixture
async def front(vault: TrustedVault) -> AsyncIterator[FaultyFront]:
    async with faulty(vault.url, vault.trusted) as found:
        yield found


@asynccontextmanager
async def _instances(azurite: Azurite, vault: TrustedVault, number: int) -> AsyncIterator[list[SealedSigningKeys]]:
    name = fresh_name()
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            ring = await stack.enter_async_context(aclosing(ring_of(vault)))
            container = await stack.enter_async_context(
                aclosing(Container(azurite.blob_endpoint, name, EMULATOR_KEY, retries=QUICK))
            )
            made.append(SealedSigningKeys(BlobDocument(container, "signing-keys.json"), ring, SystemIds()))
        yield made


async def test_instances_that_start_together_agree_on_one_key(azurite: Azurite, vault: TrustedVault) -> None:
    async with _instances(azurite, vault, 4) as instances:
        found = await asyncio.gather(*(keys.current(NOW) for keys in instances))
        assert len({key.kid for key in found}) == 1
        rotated = await asyncio.gather(*(keys.rotate(NOW + HOUR) for keys in instances))
        assert len({key.kid for key in rotated}) == 1
        later = NOW + HOUR + REFRESH
        assert {len(await keys.published(later)) for keys in instances} == {2}
        assert {(await keys.current(rotated[0].use_from)).kid for keys in instances} == {rotated[0].kid}


async def test_the_document_shows_no_private_key(azurite: Azurite, vault: TrustedVault) -> None:
    container = Container(azurite.blob_endpoint, fresh_name(), EMULATOR_KEY)
    async with aclosing(ring_of(vault)) as ring, aclosing(container):
        document = BlobDocument(container, "signing-keys.json")
        key = await SealedSigningKeys(document, ring, SystemIds()).current(NOW)
        found = await document.read()
    assert found is not None
    body = found[0].decode()
    assert "PRIVATE" not in body
    assert base64.b64encode(key.pem.reveal().encode()).decode() not in body
    (entry,) = json.loads(body)["keys"]
    assert entry["kid"] == key.kid
    assert entry["sealed"]["kek"].startswith(f"{vault.url}/keys/{KEY}/")
    assert entry["sealed"]["alg"] == "RSA-OAEP-256"


async def test_signing_goes_on_while_vault_and_document_are_away(azurite: Azurite, vault: TrustedVault) -> None:
    async with _instances(azurite, vault, 2) as (known, fresh):
        key = await known.current(NOW)
        await vault.stop()
        assert await known.current(NOW + HOUR) == key  # the document has not changed: the vault is not asked
        with azurite.paused():
            assert await known.current(NOW + 2 * HOUR) == key
            assert await known.published(NOW + 2 * HOUR) == (key,)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(fresh.current(NOW), 30)


class HangingDocument(FileDocument):
    """Hangs while it is told to, as a half-open connection does."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.hangs, self.hung = False, 0

    async def read(self) -> tuple[bytes, str] | None:
        if self.hangs:
            self.hung += 1
            await asyncio.Event().wait()
        return await super().read()


async def test_a_document_that_hangs_delays_one_caller_a_minute_and_nobody_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_keys, "REFRESH_LIMIT_S", 0.5)
    document = HangingDocument(tmp_path / "keys.json")
    keys = SealedSigningKeys(document, FileKeyRing(tmp_path / "ring"), SystemIds())
    key = await keys.current(NOW)
    document.hangs = True
    looking = asyncio.create_task(keys.current(NOW + HOUR))
    await eventually(lambda: document.hung == 1)
    assert await keys.current(NOW + HOUR) == key
    assert not looking.done()
    assert await asyncio.wait_for(looking, 30) == key
    assert await keys.published(NOW + HOUR) == (key,)
    assert document.hung == 1


async def test_a_document_that_vanishes_is_an_error_and_never_a_new_set(tmp_path: Path) -> None:
    def instance() -> SealedSigningKeys:
        return SealedSigningKeys(FileDocument(tmp_path / "keys.json"), FileKeyRing(tmp_path / "ring"), SystemIds())

    keys = instance()
    key = await keys.current(NOW)
    (tmp_path / "keys.json").unlink()
    assert await keys.current(NOW + HOUR) == key
    with pytest.raises(Unavailable):
        await keys.rotate(NOW + HOUR)


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"keys": [{}]}', '{"keys": [{"kid": "x", "retireAt": null, "sealed": {}}]}']
)
async def test_a_damaged_document_is_an_error_and_never_a_new_set(tmp_path: Path, damage: str) -> None:
    (tmp_path / "keys.json").write_text(damage)
    keys = SealedSigningKeys(FileDocument(tmp_path / "keys.json"), FileKeyRing(tmp_path / "ring"), SystemIds())
    with pytest.raises(Unavailable) as unavailable:
        await keys.current(NOW)
    assert not unavailable.value.retryable


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "kid": st.text() | st.none(),
        "retireAt": st.none() | st.text() | st.integers(),
        "publishedAt": st.text(),
        "useFrom": st.text(),
        "sealed": st.none() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.binary()
    | st.builds(lambda found: json.dumps(found).encode(), st.fixed_dictionaries({"keys": st.lists(ENTRY, min_size=1)}))
)
async def test_no_document_raises_anything_else(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "keys.json").write_bytes(body)
    keys = SealedSigningKeys(FileDocument(tmp_path / "keys.json"), FileKeyRing(tmp_path / "ring"), SystemIds())
    with pytest.raises(Unavailable):
        await keys.current(NOW)


async def test_keys_sealed_before_a_rotation_of_the_vaults_key_still_open(
    azurite: Azurite, vault: TrustedVault
) -> None:
    async with _instances(azurite, vault, 2) as (known, fresh):
        old = await known.current(NOW)
        vault.keys.make(KEY, 1_800_000_000)
        new = await known.rotate(NOW)
        assert {key.kid for key in await fresh.published(NOW)} == {old.kid, new.kid}
        assert (await fresh.current(NOW)).pem == old.pem


# --- the vault on the way ---


@pytest.mark.parametrize("fate", [503, 429, 401, RESET, HANG, LOST])
async def test_a_key_is_unwrapped_whatever_happens_on_the_way(
    vault: TrustedVault, front: FaultyFront, fate: str | int
) -> None:
    vault.url = front.endpoint  # which its ids name
    async with aclosing(ring_of(vault, retries=QUICK)) as ring:
        wrapped = await ring.wrap(SECRET)
        front.fates.extend([fate] if fate == 401 else [fate, fate])
        assert await ring.unwrap(wrapped) == SECRET
        front.fates.append(fate)
        assert (await ring.wrap(SECRET)).key_id == wrapped.key_id


async def test_a_vault_that_stays_away_is_unavailable_after_a_bounded_number_of_tries(
    vault: TrustedVault, front: FaultyFront
) -> None:
    front.fates.extend([503] * 50)
    async with aclosing(ring_of(vault, url=front.endpoint, retries=QUICK)) as ring:
        with pytest.raises(Unavailable) as unavailable:
            await ring.wrap(SECRET)
    assert unavailable.value.retryable
    assert front.seen == QUICK.attempts


class OneToken(EmulatorCredential):
    def __init__(self, **changed: Any) -> None:
        self._changed = changed

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        token = await super().get_token(*scopes)
        facts = {**token_facts(token.token), **self._changed}
        middle = base64.urlsafe_b64encode(json.dumps(facts).encode()).rstrip(b"=").decode()
        head, _, signature = token.token.split(".")
        return AccessToken(f"{head}.{middle}.{signature}", token.expires_on)


@pytest.mark.parametrize(
    ("claim", "value"), [("aud", "https://storage.azure.com"), ("exp", -1), ("nbf", 600)], ids=["aud", "exp", "nbf"]
)
async def test_a_token_for_another_service_or_time_is_refused(
    vault: TrustedVault, claim: str, value: str | int
) -> None:
    told = int(time.time()) + value if isinstance(value, int) else value
    async with aclosing(ring_of(vault, credential=OneToken(**{claim: told}), retries=QUICK)) as ring:
        with pytest.raises(Unavailable):
            await ring.wrap(SECRET)


async def test_azures_own_check_of_the_challenge_is_off_for_emulators_only(vault: TrustedVault) -> None:
    """A vault that names another domain than its own could collect tokens for that one."""
    ring: KeyRing
    async with aclosing(ring_of(vault, is_emulator=False, retries=QUICK)) as ring:
        with pytest.raises(ValueError, match="does not match the requested domain"):
            await ring.wrap(SECRET)


async def test_the_local_vault_answers_as_azures_does_where_something_is_wrong(vault: TrustedVault) -> None:
    trust = ssl.create_default_context(cafile=vault.trusted.ca_file)
    token = (await EmulatorCredential().get_token("https://vault.azure.net/.default")).token
    version = vault.keys.versions(KEY)[0].id
    good = {"alg": "RSA-OAEP-256", "value": base64.urlsafe_b64encode(SECRET).decode().rstrip("=")}
    async with aiohttp.ClientSession(vault.url, connector=aiohttp.TCPConnector(ssl=trust)) as client:
        bare = await client.get(f"/keys/{KEY}?api-version=7.6")
        assert bare.status == 401
        assert bare.headers["WWW-Authenticate"].startswith("Bearer authorization=")
        client.headers["Authorization"] = f"Bearer {token}"
        for path, body, status, code in (
            (f"/keys/{KEY}/{version}/wrapkey?api-version=7.6", good, 200, None),
            (f"/keys/{KEY}/{version}/wrapkey?api-version=7.6", {**good, "alg": "RSA1_5"}, 400, "BadParameter"),
            (f"/keys/{KEY}/{version}/wrapkey?api-version=7.6", {**good, "value": "§"}, 400, "BadParameter"),
            (f"/keys/{KEY}/{version}/wrapkey?api-version=7.6", [], 400, "BadParameter"),
            (f"/keys/{KEY}/{version}/unwrapkey?api-version=7.6", good, 400, "BadParameter"),
            (f"/keys/{KEY}/{'0' * 32}/unwrapkey?api-version=7.6", good, 404, "KeyNotFound"),
            (f"/keys/{KEY}/{version}/wrapkey", good, 400, "BadParameter"),
            ("/keys/nobody/rotate?api-version=7.6", {}, 404, "KeyNotFound"),
            ("/keys/a_b/create?api-version=7.6", {"kty": "RSA"}, 400, "BadParameter"),
            ("/keys/new/create?api-version=7.6", {"kty": "EC"}, 400, "BadParameter"),
        ):
            async with client.post(path, json=body) as answer:
                assert answer.status == status, path
                assert ((await answer.json()).get("error") or {}).get("code") == code


@given(st.text() | st.binary().map(lambda middle: "a." + base64.urlsafe_b64encode(middle).decode() + ".c"))
def test_no_text_is_more_than_a_token_without_claims(token: str) -> None:
    assert isinstance(token_facts(token), dict)


async def test_the_local_vault_as_a_process_keeps_its_key(tmp_path: Path) -> None:
    found = [await _key_of_a_process(tmp_path) for _ in range(2)]
    assert found[0] == found[1]


async def _key_of_a_process(folder: Path) -> Any:
    """Starts the vault, asks it for its key, and ends it."""
    command = (sys.executable, "-m", "local.keyvault", "--folder", str(folder), "--key", KEY)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        url = line.decode().split()[-1]
        trust = ssl.create_default_context(cafile=folder / "tls/ca.pem")
        token = (await EmulatorCredential().get_token("https://vault.azure.net/.default")).token
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust), headers=headers) as client:
            async with client.get(f"{url}/health") as answer:
                assert answer.status == 200
            async with client.get(f"{url}/keys/{KEY}?api-version=7.6") as answer:
                return (await answer.json())["key"]["n"]
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


def test_the_local_vaults_keys_survive_a_restart(tmp_path: Path) -> None:
    before = Keys(tmp_path)
    made = [before.make(KEY, created).id for created in (1_700_000_000, 1_800_000_000)]
    wrapped = before.versions(KEY)[0].wrap(SECRET)
    after = Keys(tmp_path)
    assert [version.id for version in after.versions(KEY)] == made
    assert after.versions(KEY)[0].unwrap(wrapped) == SECRET
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("*/*.pem")} == {0o600}
