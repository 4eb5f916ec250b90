"""Calls a function as the worker does: by argument name, with a context where it asks for one."""

import asyncio
import inspect
import threading
from typing import Any, Final
from uuid import uuid4

import azure.functions as func

from local.functions_host.loading import Handler

_STORAGE: Final = threading.local()


class InvocationContext(func.Context):
    """What the worker tells a function of its call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._id = str(uuid4())

    @property
    def invocation_id(self) -> str:
        return self._id

    @property
    def thread_local_storage(self) -> Any:
        return _STORAGE

    @property
    def function_name(self) -> str:
        return self._name

    @property
    def function_directory(self) -> str:
        return ""

    @property
    def trace_context(self) -> Any:
        return None

    @property
    def retry_context(self) -> Any:
        return None


async def invoke(name: str, handler: Handler, argument: str, value: object) -> Any:
    """Runs the function; a synchronous one in a thread, as the worker does. Raises what it raises."""
    arguments: dict[str, object] = {argument: value}
    if "context" in inspect.signature(handler).parameters:
        arguments["context"] = InvocationContext(name)
    if inspect.iscoroutinefunction(handler):
        return await handler(**arguments)
    return await asyncio.to_thread(handler, **arguments)
