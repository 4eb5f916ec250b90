"""Port `MediaProvider` on Azure Communication Services: a room a meeting, an identity a user and meeting.

An identity is made for one meeting and no other, so that revoking its tokens ends that meeting for the user and nothing
else. Presenter, Attendee and Consumer are our host, attendee and viewer; a viewer's token may join the room's call but
start none. What goes over the wire is what `local/acs` takes.
"""

import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azure.communication.identity import CommunicationTokenScope, CommunicationUserIdentifier
from azure.communication.identity.aio import CommunicationIdentityClient
from azure.communication.rooms import ParticipantRole, RoomParticipant
from azure.communication.rooms.aio import RoomsClient

from conference.adapters.acs.calls import SERVICE, Calls, client_options
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret, UserId
from conference.domain.meetings import Role
from conference.ports.media_provider import ProviderAccess, RoomPlan

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.credentials_async import AsyncTokenCredential

# The SDK warns of a time that it made itself, at every creation.
logging.getLogger("azure.communication.rooms._generated._serialization").setLevel(logging.ERROR)
ROOM_LIFE: Final = timedelta(days=90)  # the service allows 180; a room in use is carried on
_REQUESTS: Final = uuid.UUID("7f1c3f0a-52a6-5f0b-9f0e-6a1f5f0d9c21")
_ROLES: Final = {
    Role.HOST: ParticipantRole.PRESENTER,
    Role.ATTENDEE: ParticipantRole.ATTENDEE,
    Role.VIEWER: ParticipantRole.CONSUMER,
}
_SCOPES: Final = {
    Role.HOST: CommunicationTokenScope.VOIP,
    Role.ATTENDEE: CommunicationTokenScope.VOIP,
    Role.VIEWER: CommunicationTokenScope.VOIP_JOIN,
}


class AcsRooms:
    """Over the resource at `endpoint`. Clients connect with their first call."""

    def __init__(
        self,
        endpoint: str,
        credential: "AsyncTokenCredential | AzureKeyCredential",
        *,
        token_life: timedelta = timedelta(hours=1),
        ca_file: Path | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._token_life = token_life
        self._rooms = RoomsClient(endpoint, credential, **client_options(ca_file))
        self._identities = CommunicationIdentityClient(endpoint, credential, **client_options(ca_file))
        self._calls = Calls(retries or Retries())

    @property
    def token_life(self) -> timedelta:
        return self._token_life

    async def new_identity(self, user_id: UserId) -> str:
        # Not repeatable: an identity that was made without an answer has no token and no room, and stays unused.
        user = await self._calls.run(self._identities.create_user, repeatable=False)
        return str(user.properties["id"])

    async def drop_identity(self, identity: str) -> None:
        user = CommunicationUserIdentifier(identity)
        await self._calls.run_until_gone(lambda: self._identities.delete_user(user))

    async def open_room(self, plan: RoomPlan, roster: Mapping[str, Role]) -> str | None:
        room_id = await self._make(plan, roster, plan.meeting_id)
        if not await self._is_there(room_id):  # the answer of a former request, whose room was taken back
            room_id = await self._make(plan, roster, f"{plan.meeting_id} {plan.created_at.isoformat()}")
        return room_id

    async def _make(self, plan: RoomPlan, roster: Mapping[str, Role], name: str) -> str:
        """Requests of one name get one answer."""
        participants = [_participant(identity, role) for identity, role in roster.items()]
        request_id = str(uuid.uuid5(_REQUESTS, name))
        room = await self._calls.run(
            lambda: self._rooms.create_room(
                valid_from=plan.opens,
                valid_until=plan.opens + ROOM_LIFE,
                participants=participants,
                raw_request_hook=lambda request: _name_request(request, request_id, plan.created_at),
            )
        )
        return _given(room.id)

    async def _is_there(self, room_id: str) -> bool:
        return await self._calls.find(lambda: self._rooms.get_room(room_id)) is not None

    async def admit(self, plan: RoomPlan, room_id: str, identity: str, role: Role, *, now: datetime) -> ProviderAccess:
        if not plan.opens <= now < plan.opens + ROOM_LIFE / 2:
            await self._calls.run(
                lambda: self._rooms.update_room(room_id=room_id, valid_from=now, valid_until=now + ROOM_LIFE)
            )
        await self._set_role(room_id, identity, role)
        user = CommunicationUserIdentifier(identity)
        scopes: list[str | CommunicationTokenScope] = [_SCOPES[role]]
        token = await self._calls.run(
            lambda: self._identities.get_token(user, scopes, token_expires_in=self._token_life)
        )
        return ProviderAccess(room_id, identity, self._endpoint, Secret(token.token), _instant(token.expires_on))

    async def change_role(self, room_id: str, identity: str, role: Role) -> None:
        await self._set_role(room_id, identity, role)
        if role is Role.VIEWER:  # a token of before could still start calls
            await self._calls.run_until_gone(
                lambda: self._identities.revoke_tokens(CommunicationUserIdentifier(identity))
            )

    async def revoke(self, room_id: str, identity: str, *, now: datetime) -> None:
        user = CommunicationUserIdentifier(identity)
        await self._calls.run_until_gone(
            lambda: self._rooms.remove_participants(room_id=room_id, participants=[_participant(identity, Role.VIEWER)])
        )
        await self._calls.run_until_gone(lambda: self._identities.revoke_tokens(user))

    async def close_room(self, room_id: str) -> None:
        await self._calls.run_until_gone(lambda: self._rooms.delete_room(room_id))

    async def close(self) -> None:
        """Closes the clients' connections."""
        await self._rooms.close()
        await self._identities.close()

    async def _set_role(self, room_id: str, identity: str, role: Role) -> None:
        participants = [_participant(identity, role)]
        await self._calls.run(
            lambda: self._rooms.add_or_update_participants(room_id=room_id, participants=participants)
        )


def _participant(identity: str, role: Role) -> RoomParticipant:
    return RoomParticipant({"rawId": identity, "role": _ROLES[role]})


def _name_request(request: Any, request_id: str, first_sent: datetime) -> None:
    """The SDK names each call anew. Named after the meeting, a repeated creation finds the room of the first one
    (OASIS Repeatable Requests 1.0)."""
    headers = request.http_request.headers
    headers["Repeatability-Request-Id"] = request_id
    headers["Repeatability-First-Sent"] = format_datetime(first_sent.astimezone(UTC), usegmt=True)


def _given(value: str | None) -> str:
    if not value:
        raise Unavailable(SERVICE, retryable=False, after_s=None)
    return value


def _instant(value: object) -> datetime:
    """The SDK hands on the service's text (RFC 3339) where its type promises seconds."""
    try:
        found = datetime.fromisoformat(str(value))
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unavailable(SERVICE, retryable=False, after_s=None) from None
