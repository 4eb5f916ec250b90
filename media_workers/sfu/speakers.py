"""Who is speaking: from the RFC 6464 levels of a room's microphones to a short ordered list.

Levels are smoothed (fast up, slow down), a speaker starts above one threshold and stops below a lower one, and the
order changes only when somebody is clearly louder, so that the picture of a meeting does not flicker.
"""

from dataclasses import dataclass
from typing import Final

SILENCE: Final = 127.0
START_DBOV: Final = 45.0  # louder than -45 dBov: speaks
STOP_DBOV: Final = 55.0
HOLD_S: Final = 1.0  # pauses between words
LOUDER_BY: Final = 6.0
RISE: Final = 0.6
FALL: Final = 0.2
MIN_INTERVAL_S: Final = 0.3
LEVEL_STEP: Final = 0.15


@dataclass(slots=True)
class _Voice:
    level: float = SILENCE  # -dBov, smoothed
    speaking: bool = False
    heard: float = 0.0


class SpeakerDetector:
    """The speakers of one room, by any key (a track or a participant)."""

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}
        self._told: list[tuple[str, float]] = []
        self._told_at = float("-inf")

    def forget(self, key: str) -> None:
        self._voices.pop(key, None)

    def update(self, levels: dict[str, int], now: float) -> list[tuple[str, float]] | None:
        """The speakers, loudest first, with levels from 0 to 1; None where nothing worth telling has changed."""
        for key, level in levels.items():
            self._hear(self._voices.setdefault(key, _Voice()), float(level), now)
        speakers = self._order()
        if not self._is_news(speakers) or now - self._told_at < MIN_INTERVAL_S:
            return None
        self._told, self._told_at = speakers, now
        return speakers

    @staticmethod
    def _hear(voice: _Voice, level: float, now: float) -> None:
        voice.level += (level - voice.level) * (RISE if level < voice.level else FALL)
        if voice.level <= STOP_DBOV:
            voice.heard = now
        if voice.level <= START_DBOV:
            voice.speaking = True
        elif voice.speaking and now - voice.heard > HOLD_S:
            voice.speaking = False

    def _order(self) -> list[tuple[str, float]]:
        """Loudest first; whoever led before keeps a head start."""
        leader = self._told[0][0] if self._told else None
        speaking = [(key, voice.level) for key, voice in self._voices.items() if voice.speaking]
        speaking.sort(key=lambda item: item[1] - (LOUDER_BY if item[0] == leader else 0.0))
        return [(key, round(1.0 - min(max(level, 0.0), SILENCE) / SILENCE, 2)) for key, level in speaking]

    def _is_news(self, speakers: list[tuple[str, float]]) -> bool:
        if [key for key, _ in speakers] != [key for key, _ in self._told]:
            return True
        return any(abs(new - old) >= LEVEL_STEP for (_, new), (_, old) in zip(speakers, self._told, strict=True))
