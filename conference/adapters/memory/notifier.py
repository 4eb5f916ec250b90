"""Port `Notifier` in memory: keeps what was sent."""

from conference.domain.errors import Unavailable
from conference.ports.notifier import Notice


class MemoryNotifier:
    """While `away` is set, sending raises Unavailable."""

    def __init__(self) -> None:
        self.away = False
        self._sent: dict[str, Notice] = {}

    @property
    def sent(self) -> list[Notice]:
        """In order."""
        return list(self._sent.values())

    async def send(self, notice: Notice) -> None:
        if self.away:
            raise Unavailable("the notifier")
        self._sent.setdefault(notice.id, notice)
