"""The port `SigningKeys`: rotation that no verifier notices, in memory, in a folder that processes share, and sealed by
a key ring in a document that instances share (a file, or Blob storage with a vault)."""

import asyncio
import multiprocessing
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.blob.client import Container
from conference.adapters.blob.document import BlobDocument
from conference.adapters.files.document import FileDocument
from conference.adapters.key_ring import FileKeyRing
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.sealed_keys import SealedSigningKeys
from conference.adapters.signing_keys import LEAD, MARGIN, FileSigningKeys, MemorySigningKeys
from conference.adapters.system import SystemIds
from conference.domain.claims import LONGEST_LIFETIME
from conference.domain.errors import Unavailable
from conference.ports.tokens import SigningKey, SigningKeys
from local.azurite.server import Azurite
from tests.support.azurite import fresh_name
from tests.support.token_kinds import NOW, SerialIds
from tests.support.vault import ring_of, running_vault

pytestmark = pytest.mark.contract

TEN_MINUTES = timedelta(minutes=10)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "file", "sealed", "vault"])
async def keys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SigningKeys]:
    match request.param:
        case "memory":
            yield MemorySigningKeys(SerialIds())
        case "file":
            yield _in(tmp_path)
        case "sealed":
            yield _sealed(tmp_path)
        case _:
            azurite: Azurite = request.getfixturevalue("azurite")
            async with (
                running_vault(request.getfixturevalue("vault_certificate")) as vault,
                aclosing(ring_of(vault)) as ring,
                aclosing(Container(azurite.blob_endpoint, fresh_name(), EMULATOR_KEY)) as container,
            ):
                yield SealedSigningKeys(BlobDocument(container, "signing-keys.json"), ring, SystemIds())


def _sealed(folder: Path) -> SealedSigningKeys:
    return SealedSigningKeys(FileDocument(folder / "keys.json"), FileKeyRing(folder / "ring"), SystemIds())


def _in(folder: Path) -> FileSigningKeys:
    return FileSigningKeys(folder / "keys", SystemIds())


def _kids(keys: tuple[SigningKey, ...]) -> set[str]:
    return {key.kid for key in keys}


async def test_the_first_key_is_made_when_it_is_asked_for_and_then_stays(keys: SigningKeys) -> None:
    assert await keys.published(NOW) == ()
    key = await keys.current(NOW)
    assert key.use_from == NOW
    assert await keys.current(NOW + timedelta(days=30)) == key
    assert await keys.published(NOW) == (key,)


async def test_a_new_key_is_published_ten_minutes_before_its_first_use(keys: SigningKeys) -> None:
    old = await keys.current(NOW)
    new = await keys.rotate(NOW)
    assert new.use_from - new.published_at >= TEN_MINUTES
    assert _kids(await keys.published(NOW)) == {old.kid, new.kid}
    assert (await keys.current(NOW + TEN_MINUTES - SECOND)).kid == old.kid
    assert (await keys.current(new.use_from)).kid == new.kid


async def test_an_old_key_stays_published_for_the_longest_token_after_its_last_use(keys: SigningKeys) -> None:
    old = await keys.current(NOW)
    new = await keys.rotate(NOW)
    assert old.kid in _kids(await keys.published(new.use_from + LONGEST_LIFETIME))
    assert _kids(await keys.published(new.use_from + LONGEST_LIFETIME + MARGIN)) == {new.kid}


async def test_rotating_again_before_the_first_use_gives_the_same_key(keys: SigningKeys) -> None:
    new = await keys.rotate(NOW)
    again = await keys.rotate(NOW + LEAD - SECOND)
    assert again.kid == new.kid
    assert len(await keys.published(NOW)) == 2


async def test_many_rotations_keep_a_bounded_set(keys: SigningKeys) -> None:
    for hour in range(12):
        await keys.rotate(NOW + timedelta(hours=hour))
    assert len(await keys.published(NOW + timedelta(hours=12))) <= 3


async def test_a_clock_that_is_set_back_finds_a_key(keys: SigningKeys) -> None:
    key = await keys.current(NOW)
    assert await keys.current(NOW - timedelta(days=1)) == key


async def test_the_public_set_holds_no_private_half(keys: SigningKeys) -> None:
    public = OwnPublicKeys(keys)
    document = await public.jwks(NOW)
    await keys.rotate(NOW)
    key = await keys.current(NOW)
    jwk = await public.key(key.kid, NOW)
    assert document == {"keys": [jwk]}
    assert jwk is not None
    assert set(jwk) == {"kty", "crv", "use", "alg", "kid", "x", "y"}
    assert await public.key("nobody's", NOW) is None


# --- the folder ---


async def test_two_processes_sign_with_one_key_and_see_each_others_rotation(tmp_path: Path) -> None:
    here, there = _in(tmp_path), _in(tmp_path)
    assert (await here.current(NOW)).kid == (await there.current(NOW)).kid
    new = await there.rotate(NOW)
    assert (await here.current(new.use_from)).kid == new.kid


async def test_keys_survive_a_restart(tmp_path: Path) -> None:
    before = _in(tmp_path)
    new = await before.rotate(NOW)
    assert await _in(tmp_path).published(NOW) == await before.published(NOW)
    assert await _in(tmp_path).current(new.use_from) == new


def _first_kid(folder: str) -> str:
    return asyncio.run(FileSigningKeys(Path(folder), SystemIds()).current(NOW)).kid


def _rotated_kid(folder: str) -> str:
    return asyncio.run(FileSigningKeys(Path(folder), SystemIds()).rotate(NOW)).kid


@pytest.mark.parametrize("work", [_first_kid, _rotated_kid])
def test_processes_that_start_together_agree_on_one_key(tmp_path: Path, work: Callable[[str], str]) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        kids = pool.map(work, [str(tmp_path)] * 6, chunksize=1)
    assert len(set(kids)) == 1


async def test_only_the_owner_may_read_the_folder_and_its_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await _in(tmp_path).rotate(NOW)
    finally:
        os.umask(before)
    folder = tmp_path / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_a_retired_key_leaves_the_disk_and_no_half_written_file_stays(tmp_path: Path) -> None:
    keys = _in(tmp_path)
    old = await keys.current(NOW)
    await keys.rotate(NOW)
    await keys.rotate(NOW + timedelta(hours=2))
    names = {file.name for file in (tmp_path / "keys").iterdir()}
    assert f"{old.kid}.pem" not in names
    assert names == {".lock", "keys.json", *(f"{kid}.pem" for kid in _kids(await keys.published(NOW)) - {old.kid})}


@pytest.mark.parametrize("damage", ["{", "[]", '{"keys": [{}]}', '{"keys": [{"kid": "gone", "retireAt": null}]}'])
async def test_a_damaged_index_is_an_error_and_never_a_new_set(tmp_path: Path, damage: str) -> None:
    await _in(tmp_path).current(NOW)
    (tmp_path / "keys" / "keys.json").write_text(damage)
    with pytest.raises(Unavailable) as unavailable:
        await _in(tmp_path).current(NOW)
    assert not unavailable.value.retryable


async def test_a_damaged_key_is_an_error(tmp_path: Path) -> None:
    key = await _in(tmp_path).current(NOW)
    (tmp_path / "keys" / f"{key.kid}.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(Unavailable):
        await _in(tmp_path).current(NOW)


async def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(Unavailable):
        await _in(tmp_path).current(NOW)
