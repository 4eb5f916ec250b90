"""The real clock and the real source of ids: the one place where a process asks the machine for either."""

from datetime import UTC, datetime
from uuid import uuid4


class SystemClock:
    """Port `Clock`: the machine's wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemIds:
    """Port `Ids`: random UUIDs (version 4)."""

    def new(self) -> str:
        return str(uuid4())
