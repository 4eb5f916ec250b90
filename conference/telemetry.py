"""Traces and logs of every process.

`configure` is called once by a process's wiring: structured logs to stderr, and a tracer provider that exports by OTLP
over http/protobuf where an endpoint is set (the exporter is imported only then). Without it, spans still carry context
from process to process, and cost little. Personal data never enters a span or a log line: opaque ids only.
"""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:  # importing pydantic-settings would cost the Functions app a tenth of its import
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from conference.settings import Settings

_PROPAGATOR: Final = TraceContextTextMapPropagator()
# What a LogRecord has by itself; everything else came in by `extra=` and is shown.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NS_PER_MS: Final = 1_000_000

AttributeValue = str | bool | int | float


@dataclass(frozen=True, slots=True)
class _Exporting:
    """Where finished spans go. Kept here and not in OpenTelemetry's global, which can be set once a process only."""

    provider: "TracerProvider"
    processor: "SpanProcessor"
    resource: "Resource"


_exporting: _Exporting | None = None


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, trace and span id, and the fields given by `extra`."""

    def __init__(self, service_name: str) -> None:
        super().__init__()
        self._service_name = service_name

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service_name,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["traceId"] = f"{context.trace_id:032x}"
            line["spanId"] = f"{context.span_id:016x}"
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(service_name: str, settings: "Settings") -> None:
    """Sets up logs and traces of this process. Call once, before the first span."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service_name))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # These log request lines, which may hold query strings, at INFO.
    for noisy in ("aiohttp.access", "httpx", "azure", "aioice", "aiortc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if settings.otlp_endpoint:
        _export(service_name, settings)


def _export(service_name: str, settings: "Settings") -> None:
    # Late import: the exporter pulls requests and protobuf, which no process needs that exports nothing.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    export_to(BatchSpanProcessor(OTLPSpanExporter()), service_name, settings)


def export_to(processor: "SpanProcessor", service_name: str, settings: "Settings") -> None:
    """Records spans from now on and hands the finished ones to `processor`."""
    # Late import: a process that exports nothing runs on the API alone.
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    global _exporting
    resource = Resource.create(
        {
            "service.name": service_name,
            "service.namespace": "parley",
            "deployment.environment.name": settings.environment,
            "cloud.region": settings.region,
        }
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    _exporting = _Exporting(provider, processor, resource)


def stop_exporting() -> None:
    """Hands over what is still waiting and records nothing from now on."""
    global _exporting
    exporting, _exporting = _exporting, None
    if exporting is not None:
        exporting.provider.shutdown()


def tracer() -> Tracer:
    """The tracer of Parley's own spans."""
    return _exporting.provider.get_tracer("parley") if _exporting else trace.get_tracer("parley")


def context_of(traceparent: str | None) -> Context | None:
    """The context that a W3C traceparent names; None where it is absent or malformed."""
    if not traceparent:
        return None
    context = _PROPAGATOR.extract({"traceparent": traceparent})
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def traceparent_of(span: Span) -> str | None:
    """The W3C traceparent that continues `span` elsewhere; None where it has no valid context."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent")


@contextmanager
def span(
    name: str,
    *,
    traceparent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    links: Iterable[SpanContext] = (),
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """A span around a block, the child of `traceparent` where given, else of the current span.

    Without a provider the span records nothing, but still carries the incoming context on."""
    parent = context_of(traceparent)
    started = tracer().start_as_current_span(
        name,
        context=parent,
        kind=kind,
        links=[Link(context) for context in links],
        attributes=dict(attributes or {}),
        # The text of an exception may hold what a person typed: the type alone is recorded, by whoever handles it.
        record_exception=False,
        set_status_on_exception=False,
    )
    with started as current:
        try:
            yield current
        except Exception as error:
            current.set_status(StatusCode.ERROR, type(error).__name__)
            raise


@dataclass(frozen=True, slots=True)
class ReportedSpan:
    """A span that a client measured itself; times in epoch milliseconds, ids in hex."""

    name: str
    span_id: str
    start_ms: float
    end_ms: float
    parent_span_id: str | None = None


def export_reported(spans: Iterable[ReportedSpan], traceparent: str | None) -> int:
    """Exports a client's spans, under the ids it gave them, into the trace that `traceparent` names.

    Gives the number exported: 0 where nothing is exported or the traceparent names no trace."""
    root = context_of(traceparent)
    if root is None or _exporting is None:
        return 0
    from opentelemetry.sdk.trace import ReadableSpan  # late, as above

    processor, resource = _exporting.processor, _exporting.resource
    root_context = trace.get_current_span(root).get_span_context()

    def context(span_id: str) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(root_context.trace_id, int(span_id, 16), is_remote=False, trace_flags=flags)

    count = 0
    for reported in spans:
        processor.on_end(
            ReadableSpan(
                f"client {reported.name}",
                context=context(reported.span_id),
                parent=context(reported.parent_span_id) if reported.parent_span_id else root_context,
                resource=resource,
                kind=SpanKind.CLIENT,
                start_time=int(reported.start_ms * _NS_PER_MS),
                end_time=int(max(reported.end_ms, reported.start_ms) * _NS_PER_MS),
            )
        )
        count += 1
    return count
