"""By what names the media provider of a meeting knows its users: an item a user, in the meeting's partition."""

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Raced
from conference.adapters.cosmos.rooms import Rooms
from conference.domain.ids import MeetingId, UserId

KIND = "identity"


async def find(rooms: Rooms, meeting_id: MeetingId, user_id: UserId) -> str | None:
    """`MeetingStore.provider_identity`."""
    found = await rooms.items.read(meeting_id, documents.item_id(KIND, user_id))
    return str(found["identity"]) if found else None


async def bind(rooms: Rooms, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
    """`MeetingStore.bind_provider_identity`: the container refuses a second one. Raises Raced where the one that was in
    the way is gone, Unavailable."""
    item = {"id": documents.item_id(KIND, user_id), "kind": KIND, "meetingId": meeting_id, "userId": user_id}
    try:
        await rooms.items.create({**item, "identity": identity})
    except Raced:
        known = await find(rooms, meeting_id, user_id)
        if known is None:
            raise
        return known
    return identity
