"""Reads function_app and host.json: which functions there are, by which trigger, under which rules."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from local.functions_host.schedules import Schedule

Handler = Callable[..., Awaitable[Any] | Any]
_SPAN: Final = re.compile(r"(\d{2}):(\d{2}):(\d{2})")
_CATCH_ALL: Final = re.compile(r"/?\{\*\w+\}")


class CannotHost(Exception):
    """A function or rule that this host does not know; the text says which."""


@dataclass(frozen=True, slots=True)
class HttpFunction:
    name: str
    handler: Handler
    argument: str
    methods: frozenset[str]
    asgi: Any = None  # the AsgiFunctionApp's middleware, for its lifespan


@dataclass(frozen=True, slots=True)
class TimerFunction:
    name: str
    handler: Handler
    argument: str
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True)
class QueueFunction:
    name: str
    handler: Handler
    argument: str
    queue: str


@dataclass(frozen=True, slots=True)
class Functions:
    """What there is to host."""

    http: HttpFunction
    timers: Sequence[TimerFunction]
    queues: Sequence[QueueFunction]


@dataclass(frozen=True, slots=True)
class QueueRules:
    """host.json, extensions.queues."""

    max_dequeue_count: int
    batch_size: int
    visibility_timeout: timedelta
    max_polling_interval: timedelta


def queue_rules(host_json: Path) -> QueueRules:
    """Raises CannotHost where host.json asks for something that this host does not do."""
    document = json.loads(host_json.read_text(encoding="utf-8"))
    extensions = document.get("extensions", {})
    if extensions.get("http", {}).get("routePrefix") != "":
        raise CannotHost("host.json: extensions.http.routePrefix has to be empty")
    queues = extensions.get("queues", {})
    return QueueRules(  # defaults as in Azure's host
        int(queues.get("maxDequeueCount", 5)),
        int(queues.get("batchSize", 16)),
        _span(queues.get("visibilityTimeout", "00:00:00")),
        _span(queues.get("maxPollingInterval", "00:01:00")),
    )


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise CannotHost(f"host.json: {text} is no hh:mm:ss")
    hours, minutes, seconds = map(int, match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def load(app: Any) -> Functions:
    """The functions of an `azure.functions` app. Its `get_functions()` may be called once only. Raises CannotHost."""
    https: list[HttpFunction] = []
    timers: list[TimerFunction] = []
    queues: list[QueueFunction] = []
    for function in app.get_functions():
        name, handler = function.get_function_name(), function.get_user_function()
        trigger = function.get_trigger().get_dict_repr()
        _check_bindings(name, [binding.get_dict_repr() for binding in function.get_bindings()])
        match trigger["type"]:
            case "httpTrigger":
                https.append(_http(name, handler, trigger, getattr(app, "middleware", None)))
            case "timerTrigger":
                timers.append(_timer(name, handler, trigger))
            case "queueTrigger":
                queues.append(QueueFunction(name, handler, trigger["name"], _plain(name, trigger["queueName"])))
            case other:
                raise CannotHost(f"{name}: this host does not know the trigger {other}")
    if len(https) != 1:
        raise CannotHost(f"one catch-all HTTP function is expected, there are {len(https)}")
    return Functions(https[0], timers, queues)


def _check_bindings(name: str, bindings: Sequence[Mapping[str, Any]]) -> None:
    for binding in bindings:
        if binding["type"] not in ("httpTrigger", "timerTrigger", "queueTrigger", "http"):
            raise CannotHost(f"{name}: this host does not know the binding {binding['type']}")


def _http(name: str, handler: Handler, trigger: Mapping[str, Any], middleware: Any) -> HttpFunction:
    if not _CATCH_ALL.fullmatch(trigger["route"]):
        raise CannotHost(f"{name}: only a catch-all route is hosted, not {trigger['route']}")
    if trigger["authLevel"].value != "anonymous":
        raise CannotHost(f"{name}: this host has no function keys")
    return HttpFunction(name, handler, trigger["name"], frozenset(m.value for m in trigger["methods"]), middleware)


def _timer(name: str, handler: Handler, trigger: Mapping[str, Any]) -> TimerFunction:
    try:
        schedule = Schedule(_plain(name, trigger["schedule"]))
    except ValueError as error:
        raise CannotHost(f"{name}: {error}") from None
    return TimerFunction(
        name,
        handler,
        trigger["name"],
        schedule,
        bool(trigger.get("runOnStartup")),
        bool(trigger.get("useMonitor", True)),
    )


def _plain(name: str, value: str) -> str:
    if "%" in value:
        raise CannotHost(f"{name}: binding expressions such as {value} are not resolved here")
    return value
