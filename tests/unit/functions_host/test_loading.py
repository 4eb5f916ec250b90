"""What this host takes from an app and from host.json, and what it refuses plainly."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from local.functions_host.loading import CannotHost, load, queue_rules

pytestmark = pytest.mark.unit


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """No request comes in these tests."""


def app_with(blueprint: func.Blueprint | None = None) -> func.AsgiFunctionApp:
    app = func.AsgiFunctionApp(app=answer, http_auth_level=func.AuthLevel.ANONYMOUS, function_name="http")
    if blueprint is not None:
        app.register_functions(blueprint)
    return app


def blueprint_of() -> Any:
    return func.Blueprint()  # type: ignore[no-untyped-call]


def test_http_timers_and_queues_are_found_with_their_rules() -> None:
    blueprint = blueprint_of()

    @blueprint.function_name("tick")
    @blueprint.timer_trigger(arg_name="timer", schedule="*/5 * * * * *", run_on_startup=True, use_monitor=False)
    def tick(timer: func.TimerRequest) -> None: ...

    @blueprint.function_name("take")
    @blueprint.queue_trigger(arg_name="message", queue_name="jobs", connection="AzureWebJobsStorage")
    def take(message: func.QueueMessage) -> None: ...

    found = load(app_with(blueprint))
    assert (found.http.name, found.http.argument) == ("http", "req")
    assert {"GET", "POST", "PATCH"} <= found.http.methods
    (timer,) = found.timers
    assert (timer.name, timer.argument, timer.run_on_startup, timer.use_monitor) == ("tick", "timer", True, False)
    (queue,) = found.queues
    assert (queue.name, queue.argument, queue.queue) == ("take", "message", "jobs")


def test_a_trigger_that_is_not_known_is_named() -> None:
    blueprint = blueprint_of()

    @blueprint.function_name("on_blob")
    @blueprint.blob_trigger(arg_name="blob", path="in/{name}", connection="AzureWebJobsStorage")
    def on_blob(blob: func.InputStream) -> None: ...

    with pytest.raises(CannotHost, match="on_blob: this host does not know the binding blobTrigger"):
        load(app_with(blueprint))


def test_an_output_binding_is_refused() -> None:
    blueprint = blueprint_of()

    @blueprint.function_name("tick")
    @blueprint.timer_trigger(arg_name="timer", schedule="*/5 * * * * *")
    @blueprint.queue_output(arg_name="out", queue_name="jobs", connection="AzureWebJobsStorage")
    def tick(timer: func.TimerRequest, out: func.Out[str]) -> None: ...

    with pytest.raises(CannotHost, match="tick: this host does not know the binding queue"):
        load(app_with(blueprint))


@pytest.mark.parametrize("schedule", ["* * * * *", "not a schedule at all ok", "61 * * * * *", "%SCHEDULE%"])
def test_a_schedule_that_is_none_is_refused(schedule: str) -> None:
    blueprint = blueprint_of()

    @blueprint.function_name("tick")
    @blueprint.timer_trigger(arg_name="timer", schedule=schedule)
    def tick(timer: func.TimerRequest) -> None: ...

    with pytest.raises(CannotHost, match="tick: "):
        load(app_with(blueprint))


def test_function_keys_are_refused() -> None:
    with pytest.raises(CannotHost, match="no function keys"):
        load(func.AsgiFunctionApp(app=answer, http_auth_level=func.AuthLevel.FUNCTION, function_name="http"))


def test_an_app_without_the_catch_all_is_refused() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.function_name("hello")
    @app.route(route="hello")
    def hello(req: func.HttpRequest) -> str:
        return "hello"

    with pytest.raises(CannotHost, match="only a catch-all route is hosted, not hello"):
        load(app)


def host_json(folder: Path, queues: dict[str, Any], prefix: str | None = "") -> Path:
    file = folder / "host.json"
    http = {} if prefix is None else {"routePrefix": prefix}
    file.write_text(json.dumps({"version": "2.0", "extensions": {"http": http, "queues": queues}}))
    return file


def test_queue_rules_have_azures_defaults(tmp_path: Path) -> None:
    rules = queue_rules(host_json(tmp_path, {}))
    assert (rules.max_dequeue_count, rules.batch_size) == (5, 16)
    assert (rules.visibility_timeout, rules.max_polling_interval) == (timedelta(0), timedelta(minutes=1))


def test_queue_rules_are_read(tmp_path: Path) -> None:
    given = {"maxDequeueCount": 2, "batchSize": 4, "visibilityTimeout": "00:01:30", "maxPollingInterval": "00:00:03"}
    rules = queue_rules(host_json(tmp_path, given))
    assert (rules.max_dequeue_count, rules.batch_size, rules.visibility_timeout) == (2, 4, timedelta(seconds=90))
    assert rules.max_polling_interval == timedelta(seconds=3)


@pytest.mark.parametrize("prefix", ["api", None])
def test_a_route_prefix_is_refused(tmp_path: Path, prefix: str | None) -> None:
    with pytest.raises(CannotHost, match="routePrefix"):
        queue_rules(host_json(tmp_path, {}, prefix))


def test_a_span_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotHost, match="30s"):
        queue_rules(host_json(tmp_path, {"visibilityTimeout": "30s"}))
