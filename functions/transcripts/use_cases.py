"""Transcripts and summaries over the ports, and the choice of a format by Accept."""

from collections.abc import Sequence
from typing import Final

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId
from conference.domain.records import MeetingMetadata, Segment
from functions.access import attended
from functions.services import Services

JSON: Final = "application/json"
VTT: Final = "text/vtt"
SRT: Final = "application/x-subrip"
FORMATS: Final = (JSON, VTT, SRT)  # in our order of preference


async def segments(services: Services, caller: Caller, meeting_id: MeetingId) -> Sequence[Segment]:
    """By time; empty where nothing was transcribed. Raises Refused: not-found, not-a-participant."""
    await attended(services, caller, meeting_id)
    return await services.transcripts.segments(meeting_id)


async def summary(services: Services, caller: Caller, meeting_id: MeetingId) -> MeetingMetadata:
    """Raises Refused: not-found (also where none was made), not-a-participant."""
    await attended(services, caller, meeting_id)
    metadata = await services.transcripts.metadata(meeting_id)
    if metadata is None:
        raise Refused("not-found", "This meeting has no summary.")
    return metadata


def choose_format(accept: str | None) -> str:
    """The best of FORMATS for an Accept header (RFC 9110 12.5.1). Raises Refused("not-acceptable")."""
    if not accept or not accept.strip():
        return JSON
    ranges = [_range(part) for part in accept.split(",")[:32]]
    best, quality = max(((media, _quality(media, ranges)) for media in FORMATS), key=lambda pair: pair[1])
    if quality <= 0:
        raise Refused("not-acceptable", extra={"available": list(FORMATS)})
    return best


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media, quality


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Of the most specific range that matches."""
    for pattern in (media, media.partition("/")[0] + "/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
