"""HTTP shape of the recordings resource."""

from fastapi import APIRouter

from conference.domain.ids import MeetingId
from functions.recordings import use_cases
from functions.recordings.schemas import RecordingOrder, RecordingOut
from functions.routing import MeetingPath, refusals
from functions.security import CallerOf, ServicesOf

router = APIRouter(prefix="/v1/rooms/{id}/recordings", tags=["recordings"])
_ORDER = refusals("not-found", "not-host", "meeting-ended", "forbidden", "recorder-unavailable")


@router.get("", operation_id="listRecordings", responses=refusals("not-found", "not-a-participant"))
async def list_recordings(room_id: MeetingPath, services: ServicesOf, caller: CallerOf) -> list[RecordingOut]:
    """Finished recordings of the room, for its host, admins, and those who took part. Each access is audited."""
    recordings = await use_cases.finished(services, caller, MeetingId(room_id))
    return [RecordingOut.of(recording, url) for recording, url in recordings]


@router.post("/start", operation_id="startRecording", status_code=202, responses=_ORDER)
async def start_recording(room_id: MeetingPath, services: ServicesOf, caller: CallerOf) -> RecordingOrder:
    """Orders a recorder to record the room. Host only; 503 while no recorder is registered."""
    meeting = await use_cases.command(services, caller, MeetingId(room_id), "start")
    return RecordingOrder.model_construct(room_id=meeting.id)


@router.post("/stop", operation_id="stopRecording", status_code=202, responses=_ORDER)
async def stop_recording(room_id: MeetingPath, services: ServicesOf, caller: CallerOf) -> RecordingOrder:
    """Orders the recorder to finish. Host only; 503 while no recorder is registered."""
    meeting = await use_cases.command(services, caller, MeetingId(room_id), "stop")
    return RecordingOrder.model_construct(room_id=meeting.id)
