"""Bodies of the recordings resource."""

from typing import Annotated

from pydantic import Field

from conference.domain.records import Recording, StorageTier
from functions.schemas import Id, Shape, Time


class RecordingOut(Shape):
    """A finished recording: the composite, or one participant's tracks."""

    id: Id
    url: Annotated[str, Field(examples=["https://media.example.com/recordings/3f1d7a52.mp4"])]
    duration: Annotated[float, Field(description="seconds")]
    session_id: Id
    participant_id: Id | None
    storage_tier: StorageTier
    created_at: Time

    @classmethod
    def of(cls, recording: Recording, url: str) -> "RecordingOut":
        return cls.showing(recording, url=url, duration=recording.duration_seconds)


class RecordingOrder(Shape):
    """The order was accepted; RecordingStarted or RecordingStopped over signaling says that it took effect."""

    room_id: Id
