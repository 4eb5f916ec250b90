"""Faults to order: what a test or a person wants the next requests to meet."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS: Final = ("busy", "down", "slow", "silent", "lost")


@dataclass(slots=True)
class Fault:
    """`busy`: 429; `down`: 503; `slow`: answers `seconds` later; `silent`: takes the request and never answers;
    `lost`: does what is asked, and the connection breaks before the answer. Meets the next `times` requests whose
    path holds `path`; `retry_after_s` is told with 429 and 503."""

    kind: str
    times: int = 1
    path: str = ""
    seconds: float = 1.0
    retry_after_s: int | None = None


@dataclass(slots=True)
class Faults:
    """Those that are ordered, the first one first."""

    ordered: list[Fault] = field(default_factory=list)

    def order(self, kind: str, **more: Any) -> None:
        """Raises ValueError for a kind that is unknown, TypeError for members that are."""
        if kind not in KINDS:
            raise ValueError("kind is one of " + ", ".join(KINDS))
        self.ordered.append(Fault(kind, **more))

    def clear(self) -> None:
        self.ordered.clear()

    def next(self, path: str) -> Fault | None:
        """The fault that a request meets, once."""
        for fault in self.ordered:
            if fault.path in path:
                fault.times -= 1
                if fault.times <= 0:
                    self.ordered.remove(fault)
                return fault
        return None

    async def meet(
        self, request: web.Request, handler: Handler, refusal: Callable[[int], web.Response]
    ) -> web.StreamResponse:
        """Handles the request, or does what was ordered for it; `refusal` makes the body of a 429 or 503."""
        fault = self.next(request.path)
        if fault is None:
            return await handler(request)
        if fault.kind in ("busy", "down"):
            response = refusal(429 if fault.kind == "busy" else 503)
            if fault.retry_after_s is not None:
                response.headers["Retry-After"] = str(fault.retry_after_s)
            return response
        if fault.kind == "silent":
            await asyncio.Event().wait()
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return await handler(request)
        await handler(request)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # goes nowhere
