"""Bodies of the health resource."""

from typing import Annotated, Literal

from pydantic import Field

from functions.schemas import Shape


class HealthOut(Shape):
    status: Literal["ok"]
    version: Annotated[str, Field(examples=["0.1.0"])]


class ReadyOut(Shape):
    """What was asked, and how it answered. `directory` may be away: calls and the API go on without it."""

    status: Literal["ready", "not-ready"]
    store: Literal["ok", "unavailable"]
    directory: Literal["ok", "unavailable"]
