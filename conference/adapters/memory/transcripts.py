"""Port `TranscriptStore` in memory."""

from collections.abc import Sequence

from conference.domain.ids import MeetingId
from conference.domain.records import MeetingMetadata, Segment


class MemoryTranscriptStore:
    def __init__(self) -> None:
        self._segments: dict[MeetingId, dict[str, Segment]] = {}
        self._metadata: dict[MeetingId, MeetingMetadata] = {}

    async def put_segments(self, meeting_id: MeetingId, segments: Sequence[Segment]) -> None:
        stored = self._segments.setdefault(meeting_id, {})
        for segment in segments:
            known = stored.get(segment.id)
            if known is None or (segment.rev > known.rev and not known.final):
                stored[segment.id] = segment

    async def segments(self, meeting_id: MeetingId) -> Sequence[Segment]:
        return sorted(self._segments.get(meeting_id, {}).values(), key=lambda segment: (segment.t0, segment.id))

    async def put_metadata(self, metadata: MeetingMetadata) -> None:
        self._metadata[metadata.meeting_id] = metadata

    async def metadata(self, meeting_id: MeetingId) -> MeetingMetadata | None:
        return self._metadata.get(meeting_id)

    def forget(self, meeting_id: MeetingId) -> None:
        """The meeting was deleted."""
        self._segments.pop(meeting_id, None)
        self._metadata.pop(meeting_id, None)
