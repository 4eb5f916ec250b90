"""Notices to a meeting's host that something is ready, by e-mail, out of domain events.

The notice's id is the event's: the queue delivers at least once, and the service sends one message an id. A notice
holds no content of the meeting, only when it was and where to look.
"""

from collections.abc import Mapping
from typing import Final

from conference.domain.meetings import Meeting
from conference.domain.records import DomainEvent, EventType
from conference.ports.notifier import Notice
from functions.services import Services

_TEXTS: Final[Mapping[EventType, tuple[str, str]]] = {
    EventType.RECORDING_READY: ("The recording is ready", "The recording of your meeting {when} is ready."),
    EventType.RECORDING_FAILED: ("The recording failed", "The recording of your meeting {when} could not be finished."),
    EventType.SUMMARY_READY: ("The summary is ready", "The summary of your meeting {when} is ready."),
}


async def tell_host(services: Services, event: DomainEvent) -> None:
    """Sends the notice of the event to the host, where an address is known. Raises Unavailable."""
    meeting = await services.meetings.get(event.meeting_id)
    host = await services.users.get(meeting.host_id) if meeting else None
    if meeting is None or host is None or not host.email:
        return
    subject, sentence = _TEXTS[event.type]
    where = f"Sign in at {services.config.public_url} to see it. The meeting's id is {meeting.id}."
    text = f"{sentence.format(when=_when(meeting))}\n{where}\n"
    await services.notifier.send(Notice(event.id, host.email, subject, text))


def _when(meeting: Meeting) -> str:
    return f"of {meeting.listed_at:%Y-%m-%d %H:%M} UTC"
