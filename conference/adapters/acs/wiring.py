"""Builds what talks to Azure Communication Services from the settings.

Imported by name where an endpoint is set: the SDKs behind it take a third of a second to import.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from azure.core.credentials import AzureKeyCredential
from azure.core.credentials_async import AsyncTokenCredential

from conference.adapters.acs.email import AcsEmail
from conference.adapters.acs.rooms import AcsRooms
from conference.adapters.azure.credentials import emulator_key, endpoint_of
from conference.settings import Settings


@dataclass(frozen=True, slots=True)
class Acs:
    """`email` where a sender is set."""

    rooms: AcsRooms
    email: AcsEmail | None
    closers: tuple[Callable[[], Awaitable[None]], ...]


def build(chosen: Settings, token: Callable[[str], AsyncTokenCredential]) -> Acs:
    """`token` gives the process's credential for an endpoint. Raises ValueError where the endpoint is none, and for a
    key of anything but a local server."""
    endpoint = endpoint_of("PARLEY_ACS_ENDPOINT", chosen.acs_endpoint)
    given = chosen.acs_access_key.get_secret_value() if chosen.acs_access_key else ""
    key = emulator_key("PARLEY_ACS_ACCESS_KEY", endpoint, given)
    credential: AzureKeyCredential | AsyncTokenCredential = AzureKeyCredential(key) if key else token(endpoint)
    life = timedelta(minutes=chosen.acs_token_minutes)
    rooms = AcsRooms(endpoint, credential, token_life=life, ca_file=chosen.ca_file)
    if not chosen.email_sender:
        return Acs(rooms, None, (rooms.close,))
    email = AcsEmail(endpoint, credential, chosen.email_sender, ca_file=chosen.ca_file)
    return Acs(rooms, email, (rooms.close, email.close))
