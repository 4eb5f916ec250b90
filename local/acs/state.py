"""What the service knows: identities and their tokens, rooms and their rosters, e-mails. Nothing outlives the process.

Rules are those of the real service as far as our adapters meet them; whoever breaks one gets `BadRequest`.
"""

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

SCOPES: Final = ("chat", "chat.join", "chat.join.limited", "voip", "voip.join")
ROLES: Final = ("Presenter", "Attendee", "Consumer", "Collaborator")
LEAST_MINUTES, MOST_MINUTES = 60, 1440
LONGEST_WINDOW: Final = timedelta(days=180)


class BadRequest(Exception):
    """Status 400; the text says why."""


class NotFound(Exception):
    """Status 404."""


class Conflict(Exception):
    """Status 409."""


@dataclass(slots=True)
class Room:
    id: str
    created_at: datetime
    valid_from: datetime
    valid_until: datetime
    roster: dict[str, str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "createdAt": _text(self.created_at),
            "validFrom": _text(self.valid_from),
            "validUntil": _text(self.valid_until),
            "pstnDialOutEnabled": False,
        }


@dataclass(slots=True)
class Email:
    operation_id: str
    message: dict[str, Any]
    polls: int = 0


class Resource:
    """One Communication Services resource. `now` is an argument of all that depends on it."""

    def __init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.identities: set[str] = set()
        self.rooms: dict[str, Room] = {}
        self.emails: dict[str, Email] = {}
        self._repeated: dict[str, Room] = {}  # Repeatability-Request-Id -> what was answered, for good
        self._key = secrets.token_bytes(32)
        self._valid_from: dict[str, int] = {}  # identity -> number of the first token that is not revoked
        self._issued = 0

    # --- identities ---

    def new_identity(self) -> str:
        identity = f"8:acs:{self.id}_{uuid.uuid4()}"
        self.identities.add(identity)
        return identity

    def delete_identity(self, identity: str) -> None:
        self.identities.discard(identity)

    def token(self, identity: str, scopes: object, minutes: object, now: datetime) -> tuple[str, datetime]:
        """Raises NotFound, BadRequest."""
        self._known(identity)
        if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
            raise BadRequest("scopes are unknown")
        life = MOST_MINUTES if minutes is None else minutes
        if not isinstance(life, int) or not LEAST_MINUTES <= life <= MOST_MINUTES:
            raise BadRequest("expiresInMinutes is from 60 to 1440")
        self._issued += 1
        expires = now + timedelta(minutes=life)
        claims = {"skypeid": identity.removeprefix("8:"), "scp": scopes, "n": self._issued, "exp": expires}
        return jwt.encode(claims, self._key, algorithm="HS256"), expires

    def revoke(self, identity: str) -> None:
        """Raises NotFound."""
        self._known(identity)
        self._valid_from[identity] = self._issued + 1

    def identity_of(self, token: str, now: datetime) -> str | None:
        """Whose valid token this is."""
        options: Any = {"verify_exp": False}
        claims = jwt.decode(token, self._key, algorithms=["HS256"], options=options)
        identity = f"8:{claims['skypeid']}"
        is_valid = (
            identity in self.identities
            and claims["n"] >= self._valid_from.get(identity, 0)
            and claims["exp"] > now.timestamp()
        )
        return identity if is_valid else None

    def may_enter(self, room_id: str, token: str, now: datetime) -> str | None:
        """The role that this token's identity has in the room at this moment, as a call would find it."""
        room, identity = self.rooms.get(room_id), self.identity_of(token, now)
        if room is None or identity is None or not room.valid_from <= now < room.valid_until:
            return None
        return room.roster.get(identity)

    def _known(self, identity: str) -> None:
        if identity not in self.identities:
            raise NotFound(identity)

    # --- rooms ---

    def create_room(self, body: dict[str, Any], request_id: str, now: datetime) -> Room:
        """Raises BadRequest. The same request id again gives the answer of the first time, whatever became of it."""
        known = self._repeated.get(request_id)
        if known is not None:
            return known
        valid_from = _instant(body, "validFrom", now)
        valid_until = _instant(body, "validUntil", valid_from + LONGEST_WINDOW)
        room = Room(_room_id(), now, valid_from, valid_until)
        _check_window(valid_from, valid_until, now)
        self._put(room, body.get("participants") or {})
        self.rooms[room.id] = room
        if request_id:
            self._repeated[request_id] = room
        return room

    def room(self, room_id: str) -> Room:
        """Raises NotFound."""
        room = self.rooms.get(room_id)
        if room is None:
            raise NotFound(room_id)
        return room

    def update_room(self, room_id: str, body: dict[str, Any], now: datetime) -> Room:
        """Raises NotFound, BadRequest."""
        room = self.room(room_id)
        valid_from = _instant(body, "validFrom", room.valid_from)
        valid_until = _instant(body, "validUntil", room.valid_until)
        _check_window(valid_from, valid_until, now)
        room.valid_from, room.valid_until = valid_from, valid_until
        return room

    def delete_room(self, room_id: str) -> None:
        """Raises NotFound."""
        self.room(room_id)
        del self.rooms[room_id]

    def update_roster(self, room_id: str, body: dict[str, Any]) -> None:
        """A merge patch (RFC 7396): null takes off the roster. Raises NotFound, BadRequest."""
        room = self.room(room_id)
        participants = body.get("participants")
        if not isinstance(participants, dict):
            raise BadRequest("participants is an object")
        self._put(room, {identity: entry for identity, entry in participants.items() if entry is not None})
        for identity, entry in participants.items():
            if entry is None:
                room.roster.pop(identity, None)

    def _put(self, room: Room, participants: object) -> None:
        if not isinstance(participants, dict):
            raise BadRequest("participants is an object")
        roles: dict[str, str] = {}
        for identity, entry in participants.items():
            role = entry.get("role") if isinstance(entry, dict) else None
            if identity not in self.identities or (role or "Attendee") not in ROLES:
                raise BadRequest("a participant or role is unknown")
            roles[identity] = role or "Attendee"
        room.roster |= roles

    # --- e-mail ---

    def send(self, operation_id: str, message: dict[str, Any]) -> Email:
        """Raises BadRequest; Conflict where the operation is of another message."""
        known = self.emails.get(operation_id)
        if known is not None:
            if known.message != message:
                raise Conflict(operation_id)
            return known
        content = message.get("content")
        if not message.get("senderAddress") or not isinstance(content, dict) or not content.get("subject"):
            raise BadRequest("sender or subject is missing")
        if not _addresses(message.get("recipients")):
            raise BadRequest("a recipient is missing, or their address is none")
        email = self.emails[operation_id] = Email(operation_id, message)
        return email


def _addresses(recipients: object) -> list[str]:
    """Of all recipients; none where one of them is not as it should be."""
    entries = recipients.get("to") if isinstance(recipients, dict) else None
    if not isinstance(entries, list):
        return []
    addresses = [entry.get("address") if isinstance(entry, dict) else None for entry in entries]
    found = [address for address in addresses if isinstance(address, str) and "@" in address]
    return found if len(found) == len(addresses) else []


def _check_window(valid_from: datetime, valid_until: datetime, now: datetime) -> None:
    if not valid_from < valid_until or valid_until <= now or valid_until - valid_from > LONGEST_WINDOW:
        raise BadRequest("the window is empty, over, or longer than 180 days")


def _instant(body: dict[str, Any], name: str, otherwise: datetime) -> datetime:
    value = body.get(name)
    if value is None:
        return otherwise
    try:
        found = datetime.fromisoformat(value)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"{name} is no time") from None


def _room_id() -> str:
    return "99" + "".join(secrets.choice("0123456789") for _ in range(15))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
