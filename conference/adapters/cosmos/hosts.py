"""A host's list of meetings: a copy of each meeting in the host's partition, written after the meeting.

It may be behind for a moment; where the write failed, the reader of the change feed repairs it.
"""

import logging
from datetime import datetime
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Document, Items, Raced
from conference.adapters.cosmos.documents import moment
from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain.errors import Unavailable
from conference.domain.ids import UserId
from conference.domain.meetings import Meeting
from conference.ports.meetings import Page

log = logging.getLogger(__name__)
_TRIES = 5


async def list_meeting(hosts: Items, meeting: Meeting) -> None:
    """Writes the copy; what fails is left to the change feed."""
    try:
        await repair(hosts, meeting)
    except Unavailable:
        log.warning("host's list left to the change feed")


async def repair(hosts: Items, meeting: Meeting) -> bool:
    """Brings the copy up to this version, unless it is there already or a newer one is. True where it was written.
    Raises Unavailable."""
    wanted = _copy(meeting)
    for _ in range(_TRIES):
        known = await hosts.read(meeting.host_id, meeting.id)
        if known is not None and known["meeting"]["version"] >= meeting.version:
            return False
        try:
            await (hosts.create(wanted) if known is None else hosts.replace(wanted, known["_etag"]))
        except Raced:
            continue
        return True
    raise Unavailable("the database")


async def unlist(hosts: Items, meeting: Meeting) -> None:
    """Raises Unavailable."""
    await hosts.delete(meeting.host_id, meeting.id)


async def page(
    hosts: Items, host_id: UserId, start: datetime | None, end: datetime | None, cursor: str | None, limit: int
) -> Page:
    """`MeetingStore.of_host`."""
    conditions, given = ["true"], dict[str, Any]()
    if start is not None:
        conditions.append("c.listedAt >= @start")
        given["start"] = moment(start)
    if end is not None:
        conditions.append("c.listedAt < @end")
        given["end"] = moment(end)
    if cursor is not None:
        last_at, last_id = decode_cursor(cursor)
        conditions.append("(c.listedAt < @at OR (c.listedAt = @at AND c.id < @id))")
        given |= {"at": moment(last_at), "id": last_id}
    text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.listedAt DESC, c.id DESC"  # noqa: S608
    found = await hosts.query(text, given, key=host_id, limit=limit + 1)
    meetings = [documents.meeting(document["meeting"]) for document in found]
    more, meetings = len(meetings) > limit, meetings[:limit]
    return Page(meetings, encode_cursor(meetings[-1].listed_at, meetings[-1].id) if more else None)


def _copy(meeting: Meeting) -> Document:
    listed = {"id": meeting.id, "hostId": meeting.host_id, "listedAt": moment(meeting.listed_at)}
    return listed | {"meeting": documents.meeting_document(meeting, "")}
