"""Media that waits for a wire dies by age: audio after 200 ms, video after 400, and pictures with all that need them.

Sound goes first. A frame gets its sequence when it leaves, so that a gap always means loss. The age of what waits says
what the link carries: `level` falls to `low` and `audio`, and comes back one step after five seconds of calm.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from conference.protocol.tunnel.frame import DISCARDABLE, KEY, Frame, FrameType

Level = Literal["all", "low", "audio"]
AUDIO_S: Final = 0.2
VIDEO_S: Final = 0.4
DATAGRAM_S: Final = 0.3
LOW_S: Final = 0.1
SOUND_ONLY_S: Final = 0.3
CALM_S: Final = 5.0
MAX_BYTES: Final = 2_097_152
_AGES: Final = {FrameType.AUDIO: AUDIO_S, FrameType.VIDEO: VIDEO_S, FrameType.DATAGRAM: DATAGRAM_S}


@dataclass(slots=True)
class _Waiting:
    frame: Frame
    since: float


@dataclass(slots=True)
class MediaQueue:
    """`dropped` counts frames that died here, by type."""

    dropped: dict[FrameType, int] = field(default_factory=lambda: dict.fromkeys(_AGES, 0))
    _audio: deque[_Waiting] = field(default_factory=deque)
    _video: deque[_Waiting] = field(default_factory=deque)
    _bytes: int = 0
    _sequences: dict[int, int] = field(default_factory=dict)
    _broken: set[int] = field(default_factory=set)  # streams of which nothing is sent before the next key frame
    _wanted: set[int] = field(default_factory=set)  # streams that are to be asked for one
    _level: Level = "all"
    _calm_since: float | None = None

    def __len__(self) -> int:
        return len(self._audio) + len(self._video)

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def level(self) -> Level:
        return self._level

    def put(self, frame: Frame, now: float) -> None:
        """Something that is to be sent. Beyond two MiB the oldest dies at once."""
        if frame.type is FrameType.VIDEO and frame.stream in self._broken:
            if not frame.flags & KEY:
                self._count(frame)
                return
            self._broken.discard(frame.stream)
        queue = self._video if frame.type is FrameType.VIDEO else self._audio
        queue.append(_Waiting(frame, now))
        self._bytes += frame.size
        while self._bytes > MAX_BYTES and len(self):
            self._drop_oldest()
        self.expire(now)

    def take(self, now: float) -> Frame | None:
        """What goes next, with its sequence; None where nothing waits."""
        self.expire(now)
        queue = self._audio or self._video
        if not queue:
            return None
        frame = queue.popleft().frame
        self._bytes -= frame.size
        sequence = self._sequences.get(frame.stream, 0)
        self._sequences[frame.stream] = (sequence + 1) & 0xFFFF
        return frame._replace(sequence=sequence)

    def expire(self, now: float) -> None:
        """Lets die what is too old, and judges the link by the age of what is left."""
        oldest = min((queue[0].since for queue in (self._audio, self._video) if queue), default=now)
        self._judge(now - oldest, now)
        while self._audio and now - self._audio[0].since > _AGES[self._audio[0].frame.type]:
            self._gone(self._audio.popleft())
        while self._video and now - self._video[0].since > VIDEO_S:
            self._drop_picture()

    def key_frames_wanted(self) -> list[int]:
        """Streams whose encoder is to be asked for a key frame, each once."""
        wanted, self._wanted = sorted(self._wanted), set()
        return wanted

    def forget(self, stream: int) -> None:
        """The stream is closed: what waits of it goes, and a later one of that number begins anew."""
        for queue in (self._audio, self._video):
            kept = [waiting for waiting in queue if waiting.frame.stream != stream]
            queue.clear()
            queue.extend(kept)
        self._bytes = sum(waiting.frame.size for queue in (self._audio, self._video) for waiting in queue)
        self._sequences.pop(stream, None)
        self._broken.discard(stream)
        self._wanted.discard(stream)

    def _drop_oldest(self) -> None:
        if not self._video or (self._audio and self._audio[0].since < self._video[0].since):
            self._gone(self._audio.popleft())
        else:
            self._drop_picture()

    def _drop_picture(self) -> None:
        """The oldest picture, and all that depend on it up to the next key frame of its stream."""
        waiting = self._video.popleft()
        self._gone(waiting)
        frame = waiting.frame
        if frame.flags & DISCARDABLE:
            return
        kept: deque[_Waiting] = deque()
        is_broken = True
        for later in self._video:
            is_same = later.frame.stream == frame.stream
            if is_same and later.frame.flags & KEY:
                is_broken = False
            if is_same and is_broken:
                self._gone(later)
            else:
                kept.append(later)
        self._video = kept
        if is_broken:
            self._broken.add(frame.stream)
            self._wanted.add(frame.stream)

    def _gone(self, waiting: _Waiting) -> None:
        self._bytes -= waiting.frame.size
        self._count(waiting.frame)

    def _count(self, frame: Frame) -> None:
        self.dropped[frame.type] += 1

    def _judge(self, age: float, now: float) -> None:
        level: Level = "audio" if age > SOUND_ONLY_S else "low" if age > LOW_S else "all"
        order = ("all", "low", "audio")
        if order.index(level) > order.index(self._level):
            self._level = level
        if age > LOW_S or self._level == "all":
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= CALM_S:
            self._level = "low" if self._level == "audio" else "all"
            self._calm_since = now
