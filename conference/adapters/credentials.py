"""The process's one credential for Azure's services, loaded when something first asks for it.

azure.core takes a sixth of a second to import, which an installation without Azure never pays.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from conference.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from conference.adapters.azure.credentials import Credentials


class ProcessCredential:
    """Every adapter is given the same object; whoever builds it closes it last."""

    def __init__(self, chosen: Settings) -> None:
        self._chosen = chosen
        self._made: Credentials | None = None

    def token(self, endpoint: str) -> "AsyncTokenCredential":
        """For a service at this endpoint; those of this machine take tokens that nobody signed."""
        if self._made is None:
            module = import_module("conference.adapters.azure.credentials")
            chosen = self._chosen
            made = module.Credentials(managed=chosen.signs_in_managed, client_id=chosen.azure_client_id)
            self._made = cast("Credentials", made)
        return self._made.token(endpoint)

    async def aclose(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.aclose()
