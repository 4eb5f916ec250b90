"""The one credential of a process: managed identity in Azure, the developer's own sign-in elsewhere.

Keys and connection strings open nothing but emulators: a key that reaches a cloud account by mistake is refused before
it is used. Emulators on loopback take tokens that nobody signed, so that they are driven as the services are.
"""

import base64
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
from azure.core.credentials_async import AsyncTokenCredential

from conference.domain import addresses

if TYPE_CHECKING:
    from types import TracebackType

    from azure.identity.aio import ChainedTokenCredential, ManagedIdentityCredential

# Azurite's account and its key, which its documentation prints.
EMULATOR_ACCOUNT: Final = "devstoreaccount1"
EMULATOR_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_TENANT: Final = {"iss": f"https://sts.windows.net/{_NOBODY}/", "tid": _NOBODY, "oid": _NOBODY}
_TOKEN_LIFE_S: Final = 3_600
_MARKS: Final = ("accountkey=", "sharedaccesskey=", "sharedaccesssignature=", "defaultendpointsprotocol=")


def is_loopback(endpoint: str) -> bool:
    """Whether the endpoint is of this machine."""
    return addresses.is_loopback(urlsplit(endpoint).hostname)


def is_emulator(endpoint: str, *, storage: bool = False) -> bool:
    """Whether the endpoint is an emulator's: on this machine, or, for `storage`, with Azurite's account in the path,
    as no cloud has it."""
    return is_loopback(endpoint) or (storage and urlsplit(endpoint).path.strip("/") == EMULATOR_ACCOUNT)


def endpoint_of(setting: str, endpoint: str, *, storage: bool = False) -> str:
    """The endpoint without a slash at its end. Raises ValueError where it is a connection string, no URL, carries a
    secret, or is http and no emulator's."""
    if any(mark in endpoint.lower() for mark in _MARKS):
        raise ValueError(f"{setting} is a connection string. Give the endpoint's address: no key is needed.")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{setting} is no https address.")
    if parts.query or parts.username or parts.password:
        raise ValueError(f"{setting} carries more than an address. Leave out user, key and signature.")
    if parts.scheme == "http" and not is_emulator(endpoint, storage=storage):
        raise ValueError(f"{setting} has to be an https address: http is for emulators.")
    return endpoint.rstrip("/")


def emulator_key(setting: str, endpoint: str, key: str, *, storage: bool = False) -> str:
    """The key, which may be empty. Raises ValueError where there is one and the endpoint is no emulator's."""
    if key and not is_emulator(endpoint, storage=storage):
        raise ValueError(
            f"{setting} is accepted for emulators only. Remove it: Parley signs in to Azure with its managed identity, "
            "or with your own sign-in (az login)."
        )
    return key


class EmulatorCredential(AsyncTokenCredential):
    """Tokens that nobody signed, as Azurite (`--oauth basic`) and the local Key Vault take them: for loopback only."""

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        now = int(time.time())
        audience = scopes[0].removesuffix("/.default")
        facts = {**_TENANT, "aud": audience, "nbf": now - 60, "iat": now, "exp": now + _TOKEN_LIFE_S}
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, facts)]
        token = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, b"emulator"))
        return AccessToken(token.decode(), now + _TOKEN_LIFE_S)

    async def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        token = await self.get_token(*scopes)
        return AccessTokenInfo(token.token, token.expires_on)

    async def close(self) -> None:
        """Nothing is held."""

    async def __aexit__(
        self,
        exc_type: "type[BaseException] | None" = None,
        exc_value: BaseException | None = None,
        traceback: "TracebackType | None" = None,
    ) -> None:
        await self.close()


class Credentials:
    """The credential of a process, made when it is first asked for. `client_id` names a user-assigned identity."""

    def __init__(self, *, managed: bool, client_id: str = "") -> None:
        self._managed, self._client_id = managed, client_id
        self._made: AsyncTokenCredential | None = None

    def token(self, endpoint: str) -> AsyncTokenCredential:
        """The credential for a service at this endpoint: the same object for all of Azure."""
        if is_loopback(endpoint):
            return EmulatorCredential()
        if self._made is None:
            self._made = _managed(self._client_id) if self._managed else _developer()
        return self._made

    async def aclose(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.close()


# azure.identity takes a third of a second to import, which an installation on emulators never needs.


def _managed(client_id: str) -> "ManagedIdentityCredential":
    """App Service, Container Apps, AKS (workload identity) or a VM, by what the environment offers."""
    from azure.identity.aio import ManagedIdentityCredential

    return ManagedIdentityCredential(client_id=client_id or None)


def _developer() -> "ChainedTokenCredential":
    """Never asks an instance metadata service, whose absence takes seconds to notice on a laptop."""
    from azure.identity.aio import (
        AzureCliCredential,
        AzureDeveloperCliCredential,
        AzurePowerShellCredential,
        ChainedTokenCredential,
        EnvironmentCredential,
    )

    return ChainedTokenCredential(
        EnvironmentCredential(), AzureCliCredential(), AzureDeveloperCliCredential(), AzurePowerShellCredential()
    )
