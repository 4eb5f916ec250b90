"""Time and ids, as inputs."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time, in UTC."""

    def now(self) -> datetime: ...


class Ids(Protocol):
    """Fresh, unguessable UUIDs in canonical form."""

    def new(self) -> str: ...
