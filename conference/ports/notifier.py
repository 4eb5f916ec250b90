"""Notifier: tells a person outside of the page, by e-mail. Adapters: `memory`, `acs` (e-mail), and `Silent` here."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """A message to one person. The same `id` (a UUID) again is the same message: it is sent once."""

    id: str
    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)


class Notifier(Protocol):
    async def send(self, notice: Notice) -> None:
        """Hands the notice over. Raises Unavailable where that fails and a repetition may help; an address that the
        service refuses for good is logged and given up."""
        ...


class Silent:
    """The notifier of an installation that sends none."""

    async def send(self, notice: Notice) -> None:
        return None
