"""Traces continue from a traceparent, client spans keep their ids, and spans tell no exception texts."""

import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from conference import telemetry
from conference.settings import Settings

pytestmark = pytest.mark.unit

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.export_to(SimpleSpanProcessor(exporter), "unit-test", Settings())
    yield exporter
    telemetry.stop_exporting()


def test_a_span_continues_the_trace_of_a_traceparent(exporter: InMemorySpanExporter) -> None:
    with telemetry.span("work", traceparent=TRACEPARENT) as span:
        onward = telemetry.traceparent_of(span)
    (finished,) = exporter.get_finished_spans()
    assert finished.context is not None
    assert finished.parent is not None
    assert f"{finished.context.trace_id:032x}" == TRACE
    assert f"{finished.parent.span_id:016x}" == "b7ad6b7169203331"
    assert onward == f"00-{TRACE}-{finished.context.span_id:016x}-01"


@pytest.mark.parametrize("bad", ["", "00-zz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 5_000])
def test_a_malformed_traceparent_starts_a_new_trace(bad: str, exporter: InMemorySpanExporter) -> None:
    with telemetry.span("work", traceparent=bad):
        pass
    (finished,) = exporter.get_finished_spans()
    assert finished.parent is None


def test_a_failed_span_tells_the_kind_of_error_and_not_its_text(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), telemetry.span("work"):
        raise ValueError("what a person typed")
    (finished,) = exporter.get_finished_spans()
    assert finished.status.description == "ValueError"
    assert not finished.events


def test_spans_that_a_client_reports_keep_their_ids_and_times(exporter: InMemorySpanExporter) -> None:
    spans = [
        telemetry.ReportedSpan("join", "00f067aa0ba902b7", 1_000.0, 1_500.0),
        telemetry.ReportedSpan("connect", "00f067aa0ba902b8", 1_100.0, 1_050.0, "00f067aa0ba902b7"),
    ]
    assert telemetry.export_reported(spans, TRACEPARENT) == 2
    join, connect = exporter.get_finished_spans()
    assert join.context is not None
    assert connect.parent is not None
    assert join.start_time == 1_000_000_000
    assert join.end_time == 1_500_000_000
    assert connect.end_time == connect.start_time, "an end before the start is moved to the start"
    assert connect.parent.span_id == join.context.span_id


def test_spans_without_a_trace_are_not_exported(exporter: InMemorySpanExporter) -> None:
    assert telemetry.export_reported([telemetry.ReportedSpan("join", "00f067aa0ba902b7", 1, 2)], None) == 0
    assert not exporter.get_finished_spans()


def test_a_log_line_is_one_json_object_with_its_extra_fields() -> None:
    record = logging.makeLogRecord(
        {"name": "x", "msg": "left %s", "args": ("room",), "levelname": "INFO", "reason": "y"}
    )
    line = json.loads(telemetry.JsonFormatter("svc").format(record))
    assert line["message"] == "left room"
    assert line["reason"] == "y"
    assert line["service"] == "svc"


def test_nothing_is_recorded_once_the_export_has_stopped(exporter: InMemorySpanExporter) -> None:
    telemetry.stop_exporting()
    with telemetry.span("work", traceparent=TRACEPARENT) as span:
        assert telemetry.traceparent_of(span) == TRACEPARENT, "context is passed on all the same"
    assert not exporter.get_finished_spans()
