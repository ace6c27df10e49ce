"""Spans that somebody records: OpenTelemetry's own exporter, to a collector on loopback."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rolehost.telemetry import subscribe
from rolehost.telemetry.opentelemetry_export import exported_traces
from rolehost.telemetry.tracing import incoming, span, variables

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it is sent, as (service, span)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> tuple[str, Any]:
        (found,) = [each for each in self.spans if each[1].name == name]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest()
        request.ParseFromString(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        for told in request.resource_spans:
            service = {each.key: each.value.string_value for each in told.resource.attributes}["service.name"]
            self.server.spans += [(service, each) for scope in told.scope_spans for each in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("more", ["", "/v1?key=canary"])
def test_where_traces_go_is_told_without_what_is_secret(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    told: list[Any] = []
    forget = subscribe(lambda event, facts: told.append((event, facts)))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:canary@127.0.0.1:9{more}")
    with exported_traces("Backend_IN_0"):
        pass
    forget()
    assert told == [("traces.exported", {"to": f"http://127.0.0.1:9{more.partition('?')[0]}"})]


def test_a_job_is_followed_from_its_caller_into_its_application(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    with exported_traces("Backend_IN_0"):
        with incoming([f"00-{TRACE}-{CALLER}-01"]), span("submit thumbnail", kind="producer", job="a") as submitted:
            pass
        with span("process thumbnail", kind="consumer", parent=str(submitted.place), job="a", attempt=1):
            given = variables()["TRACEPARENT"]
    service, producer = collector.named("submit thumbnail")
    _, consumer = collector.named("process thumbnail")
    assert service == "Backend"
    assert {producer.trace_id.hex(), consumer.trace_id.hex()} == {TRACE}
    assert producer.parent_span_id.hex() == CALLER
    assert consumer.parent_span_id == producer.span_id
    assert given == f"00-{TRACE}-{consumer.span_id.hex()}-01", "the application's own spans hang below the attempt"
    assert {each.key: each.value.int_value for each in consumer.attributes}["rolehost.attempt"] == 1


def test_nothing_is_exported_unless_it_is_asked_for(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with exported_traces("Backend_IN_0"), span("submit thumbnail", kind="producer"):
        pass
    assert collector.spans == []
