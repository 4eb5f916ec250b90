"""A participant's connection quality from link reports: windows of 5 s; falls fast, recovers slowly."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from conference.protocol.messages import Quality

WINDOW_S: Final = 5.0
RECOVER_S: Final = 10.0
SILENT_S: Final = 6.0
FEW_MISSED: Final = 0.1  # share of the wanted video layers that the link does not carry
MANY_MISSED: Final = 0.5
_RANK: Final[dict[Quality, int]] = {"lost": 0, "poor": 1, "good": 2, "excellent": 3}


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    loss: float
    round_trip_s: float
    layers_missed: float


class QualityMeter:
    """One participant's link. Feed reports, ask for changes."""

    def __init__(self, now: float) -> None:
        self._samples: deque[_Sample] = deque(maxlen=64)
        self._told: Quality | None = None
        self._since = now  # since when the measured quality is at least what would be told next
        self._is_up = False

    def report(self, loss: float, round_trip_s: float | None, now: float, layers_missed: float = 0.0) -> None:
        """A link report of a transport on which media flows; `layers_missed` is the share of the wanted video layers
        that the link does not carry."""
        self._is_up = True
        self._samples.append(_Sample(now, loss, round_trip_s or 0.0, layers_missed))

    def disconnected(self) -> None:
        """The transport has lost its peer for the moment."""
        self._is_up = False

    def change(self, now: float) -> Quality | None:
        """The quality where it has changed since the last call; None before the first report."""
        if not self._samples:
            return None
        measured = self._measure(now)
        told = self._told
        if told is None or _RANK[measured] < _RANK[told]:
            return self._tell(measured, now)
        if measured == told:
            self._since = now
        elif now - self._since >= (WINDOW_S if told == "lost" else RECOVER_S):
            return self._tell(measured, now)
        return None

    def _tell(self, quality: Quality, now: float) -> Quality:
        self._told, self._since = quality, now
        return quality

    def _measure(self, now: float) -> Quality:
        if not self._is_up or now - self._samples[-1].at > SILENT_S:
            return "lost"
        window = [s for s in self._samples if now - s.at <= WINDOW_S] or [self._samples[-1]]
        loss = sum(s.loss for s in window) / len(window)
        round_trip = max(s.round_trip_s for s in window)
        missed = max(sum(s.layers_missed for s in window) / len(window), 0.0)
        if loss < 0.02 and round_trip < 0.2 and missed < FEW_MISSED:
            return "excellent"
        return "good" if loss < 0.06 and round_trip < 0.4 and missed < MANY_MISSED else "poor"
