"""A clock that moves only when told, and ids that count: for tests and simulations."""

from datetime import UTC, datetime, timedelta
from itertools import count


class ManualClock:
    """Port `Clock`: starts at `start` (default 2026-01-01 12:00 UTC) and stands still until `advance`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Moves on and gives the new time."""
        self._now += timedelta(seconds=seconds)
        return self._now


class SequenceIds:
    """Port `Ids`: 00000000-0000-4000-8000-000000000001 and so on. `series` keeps two sequences apart."""

    def __init__(self, series: int = 0) -> None:
        self._series = series
        self._numbers = count(1)

    def new(self) -> str:
        return f"{self._series:08x}-0000-4000-8000-{next(self._numbers):012x}"
