"""Connections that sign in anew while they live, and TLS whose authorities are read once.

A connection signs in again before its next command, when it belongs to the command's task alone: nothing can come
between AUTH and its answer. A connection whose token has run out is made anew instead, as the server ends it. One that
is subscribed gets messages between commands and answers, so its owner (`sharded.py`) sends AUTH and sees the answer.
"""

from functools import lru_cache
from typing import Any, Final

from redis.asyncio.connection import Connection, RedisSSLContext, SSLConnection
from redis.credentials import CredentialProvider
from redis.exceptions import AskError, AuthenticationError, ConnectionError, TimeoutError

from conference.adapters.redis.passwords import Password, Passwords

_CONTEXT_PARTS: Final = (
    "keyfile",
    "certfile",
    "cert_reqs",
    "ca_certs",
    "ca_data",
    "ca_path",
    "check_hostname",
    "min_version",
    "ciphers",
    "password",
)


class PlainConnection(Connection):
    """redis-py closes the connections of a node that leaves a cluster, also under a command that is on its way."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except AttributeError:  # of the writer that is gone
            if self.is_connected:
                raise
            raise ConnectionError("the connection was closed meanwhile") from None


class SharedTls(PlainConnection, SSLConnection):
    """redis-py reads the system's authorities for every connection, which takes some 20 ms each time."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        context = self.ssl_context
        if not context.include_verify_flags and not context.exclude_verify_flags:
            self.ssl_context = _shared_context(tuple(getattr(context, part) for part in _CONTEXT_PARTS))


@lru_cache(maxsize=4)
def _shared_context(parts: tuple[Any, ...]) -> RedisSSLContext:
    return RedisSSLContext(**dict(zip(_CONTEXT_PARTS, parts, strict=True)))


class _Ticket(CredentialProvider):
    """Remembers with which password one connection has signed in."""

    def __init__(self, passwords: Passwords) -> None:
        self.passwords = passwords
        self.used: Password | None = None
        self.tried: Password | None = None  # the last one that was sent

    async def get_credentials_async(self) -> tuple[str, str]:
        self.used = self.tried = await self.passwords.get()
        return self.used.user_name, self.used.token

    def newer(self) -> Password | None:
        return self.passwords.newer_than(self.tried.serial if self.tried is not None else 0)


class RenewingConnection(PlainConnection):
    """`credential_provider` gives what it signs in with. Without TLS: on loopback."""

    def __init__(self, *, credential_provider: Passwords, **kwargs: Any) -> None:
        self._ticket = _Ticket(credential_provider)
        self._signed_in = False
        self.owner_renews = False
        super().__init__(credential_provider=self._ticket, **kwargs)

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self._signed_in = False
        try:
            await super().on_connect_check_health(check_health=check_health)
        except AuthenticationError:
            if self._ticket.used is not None:
                self._ticket.passwords.refused(self._ticket.used)
            raise
        self._signed_in = True

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._signed_in and self.is_connected and not self.owner_renews:
            await self._renew()
        await super().send_packed_command(command, check_health)

    def next_sign_in(self) -> tuple[str, str, str] | None:
        """For the owner: the AUTH to send now; None where none is due."""
        password = self._ticket.newer()
        if password is None:
            return None
        self._ticket.tried = password
        return "AUTH", password.user_name, password.token

    def sign_in_refused(self) -> None:
        """For the owner: the server did not take the last AUTH. It goes by the former one."""
        if self._ticket.tried is not None:
            self._ticket.passwords.refused(self._ticket.tried)

    async def _renew(self) -> None:
        newer, used = self._ticket.newer(), self._ticket.used
        if newer is None:
            return
        if used is not None and self._ticket.passwords.has_run_out(used):
            await self.disconnect(nowait=True)  # the command connects again, with the new one
            return
        self._ticket.tried = newer
        try:
            packed = self.pack_command("AUTH", newer.user_name, newer.token)
            await super().send_packed_command(packed, check_health=False)
            await self.read_response(disconnect_on_error=False)
            self._ticket.used = newer
        except AuthenticationError:
            self._ticket.passwords.refused(newer)  # and the server goes by the former one
        except (ConnectionError, TimeoutError):
            await self.disconnect(nowait=True)  # nothing was asked yet: the command connects again
        except BaseException:
            await self.disconnect(nowait=True)
            raise


class RenewingTls(RenewingConnection, SharedTls):
    """With TLS."""


class RenewingByName(RenewingTls):
    """Of a cluster whose nodes call themselves by addresses that their certificates do not hold, as Azure's do."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except AskError as redirect:  # MOVED as well
            redirect.host = self.host
            redirect.node_addr = (self.host, redirect.port)
            raise
