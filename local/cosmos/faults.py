"""Switches that make the server fail as the service does: throttled, down, slow, silent, or done and the answer
lost."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from local.cosmos.errors import CosmosError

Kind = Literal["throttle", "unavailable", "conflict", "slow", "hang", "lose-answer"]
KINDS: Final = ("throttle", "unavailable", "conflict", "slow", "hang", "lose-answer")
LONGEST_S: Final = 600.0


@dataclass(slots=True)
class Fault:
    """Meets the next `times` requests of item operations whose kind (`read`, `query`, `feed`, `write`, `batch`) is
    named; all of them where `on` is empty. It lets `skip` of them through first. `after_ms` is the delay: what a
    throttled client is told, how slow is slow."""

    kind: Kind
    times: int = 1
    on: frozenset[str] = frozenset()
    after_ms: int = 10
    container: str = ""
    skip: int = 0


@dataclass(slots=True)
class Faults:
    """The faults that are switched on. `met` counts the requests that met one."""

    switched_on: list[Fault] = field(default_factory=list)
    met: int = 0

    def switch_on(self, fault: Fault) -> None:
        self.switched_on.append(fault)

    def clear(self) -> None:
        self.switched_on.clear()

    def next(self, operation: str, container: str) -> Fault | None:
        """The fault that this request meets."""
        for fault in self.switched_on:
            if (not fault.on or operation in fault.on) and fault.container in ("", container):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                self.met += 1
                if fault.times <= 0:
                    self.switched_on.remove(fault)
                return fault
        return None


async def before(fault: Fault) -> None:
    """What the fault does before the operation. Raises CosmosError."""
    match fault.kind:
        case "throttle":
            headers = {"x-ms-retry-after-ms": str(fault.after_ms)}
            raise CosmosError(429, "Request rate is large.", substatus=3200, headers=headers)
        case "unavailable":
            raise CosmosError(503, "The service is currently unavailable.")
        case "conflict":
            raise CosmosError(449, "Conflicting request to resource has been attempted. Retry to avoid conflicts.")
        case "slow":
            await asyncio.sleep(fault.after_ms / 1_000)
        case "hang":
            await asyncio.sleep(LONGEST_S)


def read(given: Any) -> Fault:
    """A fault from JSON: {kind, times?, on?, afterMs?, container?}. Raises CosmosError 400."""
    if not isinstance(given, dict) or given.get("kind") not in KINDS:
        raise CosmosError(400, f"A fault is one of {', '.join(KINDS)}.")
    times, after = given.get("times", 1), given.get("afterMs", 10)
    on = given.get("on", [])
    if not all(type(number) is int and 0 < number <= 1_000_000 for number in (times, after)):
        raise CosmosError(400, "times and afterMs are whole numbers from 1 on.")
    if not isinstance(on, list) or not all(isinstance(name, str) for name in on):
        raise CosmosError(400, "on is a list of operations.")
    return Fault(given["kind"], times, frozenset(on), after, str(given.get("container", "")))
