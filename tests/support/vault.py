"""The local Key Vault for tests: in the test's own loop, on a free port, with a certificate of the session's."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from conference.adapters.azure.credentials import EmulatorCredential
from conference.adapters.keyvault import VaultKeyRing
from local.azurite.server import Certificate
from local.keyvault.keys import Keys
from local.keyvault.server import Vault
from tests.support.azurite import certificate
from tests.support.faults import server_context

KEY: Final = "parley"


class TrustedVault(Vault):
    """Knows which certificate its clients have to trust."""

    def __init__(self, trusted: Certificate, clock: Callable[[], float]) -> None:
        super().__init__(Keys(), clock)
        self.trusted = trusted


@pytest.fixture(scope="session")
def vault_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("vault") / "tls")


@asynccontextmanager
async def running_vault(trusted: Certificate, clock: Callable[[], float] = time.time) -> AsyncIterator[TrustedVault]:
    """A vault with one key for the time of the block."""
    vault = TrustedVault(trusted, clock)
    vault.keys.make(KEY, 1_700_000_000)
    await vault.start("127.0.0.1", 0, server_context(trusted))
    try:
        yield vault
    finally:
        await vault.stop()


def ring_of(vault: TrustedVault, *, url: str = "", **options: Any) -> VaultKeyRing:
    """The ring as an installation on one machine has it."""
    given = {"credential": EmulatorCredential(), "is_emulator": True, **options}
    return VaultKeyRing(url or vault.url, KEY, connection_verify=str(vault.trusted.ca_file), **given)
