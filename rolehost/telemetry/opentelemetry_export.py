"""Spans by OpenTelemetry: with the extra `otel`, and an exporter in the variables that OpenTelemetry itself defines.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or its form for traces) says where they go; the library itself honours OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER and the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rolehost.telemetry import emit
from rolehost.telemetry.tracing import Span, TraceParent, record_by, record_no_more

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
MODULES = (
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.resources",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)


@contextmanager
def exported_traces(instance: str, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Record and export spans for as long as the block lasts, where that is asked for.

    Args:
        instance: the instance's id.
        environ: the variables.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in ENDPOINTS):
        yield
        return
    if missing := [name for name in MODULES if not _is_there(name)]:
        emit("traces.not_exported", reason=f"{missing[0]} is not there: pip install rolehost[otel]")
        yield
        return
    tracing, exporting, resources, otlp = (import_module(name) for name in MODULES)
    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": instance.rpartition("_IN_")[0] or "rolehost"}
    provider = tracing.TracerProvider(resource=resources.Resource.create({"service.instance.id": instance, **named}))
    provider.add_span_processor(exporting.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    record_by(OpenTelemetryRecorder(provider.get_tracer("rolehost")))
    emit("traces.exported", to=_shown(next(environ[name] for name in ENDPOINTS if environ.get(name))))
    try:
        yield
    finally:
        record_no_more()
        provider.shutdown()


def _shown(url: str) -> str:
    """An address without what may be a secret in it: its user and its query."""
    scheme, divider, rest = url.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{divider}{host.rpartition('@')[2]}{slash}{path}"


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class OpenTelemetryRecorder:
    """Records by a tracer.

    Args:
        tracer: of any provider.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def record(self, name: str, kind: str, parent: TraceParent | None, facts: dict[str, Any]) -> Iterator[Span]:
        """A span for as long as the block lasts; facts that are set meanwhile become attributes."""
        from opentelemetry import trace  # noqa: PLC0415 - an extra

        context = None
        if parent is not None:
            above = trace.SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(parent.flags),
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(above))
        kinds = {"producer": trace.SpanKind.PRODUCER, "consumer": trace.SpanKind.CONSUMER}
        recording = self._tracer.start_as_current_span(name, context, kinds.get(kind, trace.SpanKind.INTERNAL))
        with recording as span:
            own = span.get_span_context()
            step = Span(TraceParent(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags) & 1), facts)
            try:
                yield step
            finally:
                for fact, value in step.facts.items():
                    span.set_attribute(
                        f"rolehost.{fact}", value if isinstance(value, bool | int | float) else str(value)
                    )
