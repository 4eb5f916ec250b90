"""Port `RecordingStore` in memory."""

from collections.abc import Sequence

from conference.domain.ids import MeetingId, RecordingId
from conference.domain.records import Recording


class MemoryRecordingStore:
    def __init__(self) -> None:
        self._meetings: dict[MeetingId, dict[RecordingId, Recording]] = {}

    async def put(self, recording: Recording) -> None:
        self._meetings.setdefault(recording.meeting_id, {})[recording.id] = recording

    async def of_meeting(self, meeting_id: MeetingId) -> Sequence[Recording]:
        stored = self._meetings.get(meeting_id, {}).values()
        return sorted(stored, key=lambda recording: (recording.created_at, recording.id))

    def forget(self, meeting_id: MeetingId) -> None:
        """The meeting was deleted."""
        self._meetings.pop(meeting_id, None)
