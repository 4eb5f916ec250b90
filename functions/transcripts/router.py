"""HTTP shape of the transcripts resource."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from conference.domain.ids import MeetingId
from functions.routing import MeetingPath, refusals
from functions.security import CallerOf, ServicesOf
from functions.transcripts import use_cases
from functions.transcripts.schemas import SegmentOut, SummaryOut, TranscriptOut, as_srt, as_vtt
from functions.transcripts.use_cases import SRT, VTT

router = APIRouter(prefix="/v1/meetings/{id}", tags=["transcripts"])
_FORMATS: dict[str, Any] = {
    "description": "The transcript in the form that Accept asks for",
    "content": {VTT: {"schema": {"type": "string"}}, SRT: {"schema": {"type": "string"}}},
    "headers": {"Vary": {"schema": {"type": "string"}}},
}


@router.get(
    "/transcript",
    operation_id="getTranscript",
    response_model=TranscriptOut,
    responses={**refusals("not-found", "not-a-participant", "not-acceptable"), 200: _FORMATS},
)
async def get_transcript(
    meeting_id: MeetingPath,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response | TranscriptOut:
    """What was said, by time: JSON, WebVTT or SubRip by `Accept`. Empty where nothing was transcribed."""
    media_type = use_cases.choose_format(accept)
    segments = await use_cases.segments(services, caller, MeetingId(meeting_id))
    vary = {"Vary": "Accept"}
    if media_type == VTT:
        return Response(as_vtt(segments), media_type=VTT, headers=vary)
    if media_type == SRT:
        return Response(as_srt(segments), media_type=SRT, headers=vary)
    response.headers.update(vary)
    pieces = [SegmentOut.showing(segment) for segment in segments]
    return TranscriptOut.model_construct(meeting_id=meeting_id, segments=pieces)


@router.get("/summary", operation_id="getSummary", responses=refusals("not-found", "not-a-participant"))
async def get_summary(meeting_id: MeetingPath, services: ServicesOf, caller: CallerOf) -> SummaryOut:
    """Summary, action items and decisions; each item cites segments of the transcript."""
    return SummaryOut.of(await use_cases.summary(services, caller, MeetingId(meeting_id)))
