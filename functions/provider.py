"""What the process builds once, when it is first needed: the wiring, and the HTTP application.

HTTP requests, timers and queue messages share one wiring. Both are imported by name on first use: `functions.wiring`
pulls in SQLAlchemy, redis and the other SDKs, `functions.app` builds thirty FastAPI routes. So the worker indexes the
functions without paying for either, and an instance that runs only timers or queues never builds the routes.
"""

import asyncio
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from functions.edge import App, Receive, Scope, Send
    from functions.services import Services, ServicesProvider


class Wired(Protocol):
    """What `functions.wiring.build` makes."""

    services: "Services"

    async def close(self) -> None: ...


class LazyWiring:
    """Implements `ServicesProvider`. A build that fails is tried again by the next caller."""

    def __init__(self, module: str = "functions.wiring") -> None:
        self._module = module
        self._lock = asyncio.Lock()
        self._wired: Wired | None = None

    async def services(self) -> "Services":
        """Raises Unavailable where a store cannot be opened, pydantic.ValidationError for a wrong setting."""
        if self._wired is None:
            async with self._lock:
                if self._wired is None:
                    self._wired = cast(Wired, await import_module(self._module).build())
        return self._wired.services

    async def close(self) -> None:
        """Closes what was built; the next call builds anew."""
        async with self._lock:
            wired, self._wired = self._wired, None
        if wired is not None:
            await wired.close()


class LazyApp:
    """The ASGI application of `functions.app`, made with the first request."""

    def __init__(self, provider: "ServicesProvider", module: str = "functions.app") -> None:
        self._provider = provider
        self._module = module
        self._app: App | None = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if self._app is None:
            # First the wiring, which sets up traces: else the first request's span would be lost. Where that fails,
            # the request itself meets the error again and answers it.
            with suppress(Exception):
                await self._provider.services()
            self._app = cast("App", import_module(self._module).create_app(self._provider))
        await self._app(scope, receive, send)


wiring = LazyWiring()
http_app = LazyApp(wiring)
