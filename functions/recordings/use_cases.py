"""Recordings over the ports: list the finished ones (audited), and order a recorder to start or stop."""

from collections.abc import Sequence

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.ids import EventId, MeetingId
from conference.domain.meetings import Meeting, MeetingStatus
from conference.domain.records import AuditAction, AuditEvent, Recording, RecordingState
from conference.ports.recorders import RecorderOrder
from functions.access import attended, hosted
from functions.services import Services


async def finished(services: Services, caller: Caller, room_id: MeetingId) -> Sequence[tuple[Recording, str]]:
    """The room's finished recordings, each with a link that reads it for some minutes. The access is audited, also a
    refused one. Raises Refused: not-found, not-a-participant."""
    try:
        meeting = await attended(services, caller, room_id)
    except Refused as refused:
        await _audit(services, caller, room_id, refused.reason)
        raise
    recordings = await services.recordings.of_meeting(meeting.id)
    await _audit(services, caller, room_id, "ok")
    now = services.clock.now()
    ready = [recording for recording in recordings if recording.state is RecordingState.READY]
    return [(recording, await services.media_files.link(recording.blob_url, now)) for recording in ready]


async def command(services: Services, caller: Caller, room_id: MeetingId, order: RecorderOrder) -> Meeting:
    """Hands a start or stop to a recorder. Raises Refused: not-found, not-host, meeting-ended, forbidden (the meeting
    is not to be recorded: nobody was asked), recorder-unavailable."""
    meeting = await hosted(services, caller, room_id)
    if meeting.status is MeetingStatus.COMPLETED:
        raise Refused("meeting-ended")
    if order == "start" and not meeting.settings.is_recording_enabled:
        raise Refused("forbidden", "Recording is not enabled for this meeting.")
    if not await services.recorders.order(room_id, order):
        raise Refused("recorder-unavailable")
    return meeting


async def _audit(services: Services, caller: Caller, room_id: MeetingId, outcome: str) -> None:
    event = AuditEvent(
        EventId(services.ids.new()),
        AuditAction.RECORDING_ACCESS,
        services.clock.now(),
        outcome,
        caller.tenant_id,
        caller.user_id,
        room_id,
    )
    await services.audit.write(event)
