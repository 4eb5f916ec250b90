"""Secrets of webhooks as they are sealed for the store, and the key that they are sealed under."""

import asyncio
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import pytest

from conference.adapters.webhook_secrets import FileKey, SealedWebhookSecrets
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret
from tests.support.webhooks import webhook_id

pytestmark = pytest.mark.unit
ONE, OTHER = webhook_id(1), webhook_id(2)


async def _key() -> bytes:
    return bytes(range(32))


async def test_what_was_sealed_opens_for_its_endpoint_only() -> None:
    secrets = SealedWebhookSecrets(_key)
    secret = secrets.new()
    sealed = await secrets.seal(secret, ONE)
    assert secret.reveal() not in sealed
    assert await secrets.open(sealed, ONE) == secret
    assert await SealedWebhookSecrets(_key).open(sealed, ONE) == secret  # of another process
    with pytest.raises(Unavailable) as refused:
        await secrets.open(sealed, OTHER)
    assert not refused.value.retryable


async def test_secrets_are_long_and_no_two_are_alike_sealed_or_not() -> None:
    secrets = SealedWebhookSecrets(_key)
    made = {secrets.new().reveal() for _ in range(50)}
    assert len(made) == 50
    assert all(text.startswith("whsec_") and len(text) == 6 + 43 for text in made)
    same = Secret("whsec_same")
    assert len({await secrets.seal(same, ONE) for _ in range(50)}) == 50


async def test_a_sealed_text_that_was_changed_does_not_open() -> None:
    secrets = SealedWebhookSecrets(_key)
    sealed = await secrets.seal(secrets.new(), ONE)
    content = urlsafe_b64decode(sealed.removeprefix("v1."))
    flipped = ["v1." + urlsafe_b64encode(bytes([content[0] ^ 1]) + content[1:]).decode() for _ in range(1)]
    cut = ["v1." + urlsafe_b64encode(content[:length]).decode() for length in (0, 5, 12, 20, len(content) - 1)]
    for text in [*flipped, *cut, "", "v1.", "v2" + sealed[2:], "v1.é", "v1.A"]:
        with pytest.raises(Unavailable):
            await secrets.open(text, ONE)


async def test_under_another_key_nothing_opens() -> None:
    async def other() -> bytes:
        return bytes(32)

    sealed = await SealedWebhookSecrets(_key).seal(Secret("whsec_x"), ONE)
    with pytest.raises(Unavailable):
        await SealedWebhookSecrets(other).open(sealed, ONE)


async def test_the_key_is_made_once_for_all_processes_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys = await asyncio.gather(*(FileKey(folder)() for _ in range(8)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert await FileKey(folder)() == keys[0]
    (file,) = folder.iterdir()  # and nothing half-made beside it
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
async def test_a_damaged_key_is_unavailable_and_never_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "webhooks.key").write_bytes(content)
    with pytest.raises(Unavailable) as refused:
        await FileKey(tmp_path)()
    assert not refused.value.retryable
    assert (tmp_path / "webhooks.key").read_bytes() == content


async def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        await FileKey(tmp_path / "file" / "keys")()
