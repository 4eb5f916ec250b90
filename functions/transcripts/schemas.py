"""Bodies of the transcripts resource, and the subtitle formats."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from conference.domain.records import ActionItem, MeetingMetadata, Segment
from functions.schemas import Id, Shape, Time


class SegmentOut(Shape):
    """A piece of speech; `t0` and `t1` in seconds of the recording clock. A final one never changes."""

    id: str
    participant_id: Id
    t0: float
    t1: float
    lang: str
    text: str
    final: bool
    rev: int


class TranscriptOut(Shape):
    meeting_id: Id
    segments: list[SegmentOut]


class ActionItemOut(Shape):
    """An item, and the segments that it was drawn from."""

    text: str
    owner: str | None
    segment_ids: list[str]

    @classmethod
    def of(cls, item: ActionItem) -> "ActionItemOut":
        return cls.showing(item, segment_ids=list(item.segment_ids))


class SummaryOut(Shape):
    """What was made of the transcript."""

    meeting_id: Id
    summary: str
    action_items: list[ActionItemOut]
    decisions: list[ActionItemOut]
    sentiment: Annotated[str, Field(examples=["neutral"])]
    created_at: Time

    @classmethod
    def of(cls, metadata: MeetingMetadata) -> "SummaryOut":
        return cls.showing(
            metadata,
            action_items=[ActionItemOut.of(item) for item in metadata.action_items],
            decisions=[ActionItemOut.of(item) for item in metadata.decisions],
        )


def as_vtt(segments: Sequence[Segment]) -> str:
    """WebVTT: one cue a segment, with its id."""
    cues = [
        f"{_one_line(segment.id)}\n{_clock(segment.t0, '.')} --> {_clock(segment.t1, '.')}\n{_cue_text(segment.text)}\n"
        for segment in segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def as_srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues with a comma in their times."""
    cues = [
        f"{number}\n{_clock(segment.t0, ',')} --> {_clock(segment.t1, ',')}\n{_one_line(segment.text)}\n"
        for number, segment in enumerate(segments, 1)
    ]
    return "\n".join(cues)


def _clock(seconds: float, mark: str) -> str:
    total_ms = max(0, round(seconds * 1000))
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{ms // 1000:02d}{mark}{ms % 1000:03d}"


def _one_line(text: str) -> str:
    """An empty line would end the cue, and an arrow would begin one."""
    return " ".join(text.split()).replace("-->", "→")


def _cue_text(text: str) -> str:
    """WebVTT reads & and < as markup."""
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;")
