"""NCRONTAB: six fields, seconds first, in UTC; day of month and day of week must both match."""

from datetime import UTC, datetime

from croniter import croniter


class Schedule:
    """A timer's schedule. Raises ValueError for an expression that is none."""

    def __init__(self, expression: str) -> None:
        if len(expression.split()) != 6:
            raise ValueError(f"{expression!r} is no NCRONTAB expression of six fields")
        if not croniter.is_valid(expression, second_at_beginning=True):  # type: ignore[no-untyped-call]
            raise ValueError(f"{expression!r} is no NCRONTAB expression")
        self.expression = expression

    def after(self, moment: datetime) -> datetime:
        """The first occurrence after `moment`."""
        occurrences = croniter(
            self.expression, moment.astimezone(UTC), ret_type=datetime, second_at_beginning=True, day_or=False
        )
        found = occurrences.get_next()  # type: ignore[no-untyped-call]
        assert isinstance(found, datetime)
        return found
