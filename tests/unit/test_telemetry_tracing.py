"""A job's trace: from the request's header through row and message into the console application's environment."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span

from rolehost.jobs.codec import spec_from_json, spec_to_json
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.wake_up import WakeUp
from rolehost.telemetry import subscribe
from rolehost.telemetry.opentelemetry_export import ENDPOINTS, OpenTelemetryRecorder, exported_traces
from rolehost.telemetry.tracing import (
    TraceParent,
    current,
    incoming,
    record_by,
    record_no_more,
    span,
    variables,
)
from support.commands import environ
from support.console_apps import outcome, shell
from support.front_end import front_end, picture
from support.jobs import open_bench

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (GIVEN, GIVEN),
        (f" {GIVEN} ", GIVEN),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", GIVEN),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", GIVEN),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (GIVEN.upper(), None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01\n$(reboot)", None),
        (f"cc-{TRACE}-{SPAN}-01-" + "x" * 1000, None),
        ("", None),
    ],
)
def test_the_header_is_read_as_w3c_has_it(text: str, read: str | None) -> None:
    found = TraceParent.parse(text)
    assert (str(found) if found else None) == read


def test_each_step_has_a_span_of_its_own_in_the_same_trace() -> None:
    with incoming([GIVEN]):
        with span("outer", kind="producer") as outer:
            assert (outer.place.trace_id, outer.place.span_id == SPAN) == (TRACE, False)
            assert variables() == {"TRACEPARENT": str(outer.place)}
            with span("inner", kind="internal") as inner:
                assert inner.place.trace_id == TRACE
                assert inner.place.span_id not in {SPAN, outer.place.span_id}
        assert str(current()) == GIVEN
    assert variables() == {}


@pytest.mark.parametrize("headers", [[], ["rubbish"], [GIVEN, GIVEN]])
def test_without_a_good_header_a_trace_begins(headers: list[str]) -> None:
    with incoming(headers):
        first = current()
    with incoming(headers):
        second = current()
    assert first
    assert second
    assert len({first.trace_id, second.trace_id, TRACE}) == 3


def test_a_command_goes_on_where_its_caller_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", GIVEN)
    with span("submit", kind="producer") as step:
        assert step.place.trace_id == TRACE
    with incoming([]), span("submit", kind="producer") as step:
        assert step.place.trace_id != TRACE, (
            "a service that was started inside a trace does not put all of its jobs there"
        )


async def test_the_row_and_the_message_carry_it(tmp_path: Path) -> None:
    files = {"file": ("a.png", picture(), "image/png")}
    async with front_end(tmp_path / "data") as site:
        answers = [
            await site.client.post("/api/v1/jobs", files=files, headers=headers)
            for headers in ({"traceparent": GIVEN}, {"traceparent": f"{GIVEN}; DROP"}, {})
        ]
        jobs = [await site.jobs.read(answer.json()["id"]) for answer in answers]
        places = [TraceParent.parse(job.spec.traceparent) for job in jobs if job]
        [message, *_] = await site.stores.queue(kind_named("thumbnail").queue).peek(1)
    assert [place.trace_id == TRACE for place in places if place] == [True, False, False]
    assert jobs[0]
    assert SPAN not in jobs[0].spec.traceparent
    told = WakeUp.decode(message.body).spec
    assert told
    assert told.traceparent == jobs[0].spec.traceparent
    assert spec_from_json(spec_to_json(told)) == told
    without = {name: value for name, value in spec_to_json(told).items() if name != "traceparent"}
    assert spec_from_json(without).traceparent == "", "as releases before this one wrote it"


async def test_the_console_application_goes_on_in_the_same_trace(tmp_path: Path) -> None:
    """Two attempts: each has a place of its own, below the submission."""
    async with open_bench(tmp_path) as bench:
        told = shell(bench, 'printf "%s" "$TRACEPARENT"; printf x > "$2"')
        with incoming([GIVEN]):
            jobs = [await outcome(bench, told) for _ in range(2)]
    places = [TraceParent.parse(job.attempts[0].stdout) for job in jobs]
    found = [place for place in places if place]
    assert [place.trace_id for place in found] == [TRACE, TRACE]
    seen = {place.span_id for place in found}
    submitted = {place.span_id for job in jobs if (place := TraceParent.parse(job.spec.traceparent))}
    assert (len(seen), len(submitted), seen & submitted, SPAN in seen | submitted) == (2, 2, set(), False)


class RecordedTracer:
    """Keeps what it is asked to record; a tracer as far as it is used."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str, int]] = []
        self.attributes: dict[str, Any] = {}

    @contextmanager
    def start_as_current_span(self, name: str, context: Any, kind: Any) -> Iterator[Any]:
        above = get_current_span(context).get_span_context()
        self.spans.append((name, kind.name, above.trace_id))
        made = SpanContext(above.trace_id or 7, 0xABC, is_remote=False, trace_flags=TraceFlags(1))
        tracer = self

        class Recording(NonRecordingSpan):
            def set_attribute(self, key: str, value: Any) -> None:
                tracer.attributes[key] = value

        yield Recording(made)


def test_a_library_records_each_step_and_its_ids_go_on() -> None:
    tracer: Any = RecordedTracer()
    record_by(OpenTelemetryRecorder(tracer))
    try:
        with span("process thumbnail", kind="consumer", parent=GIVEN, job="a", attempt=2) as step:
            step.facts["end"] = "ok"
            assert variables() == {"TRACEPARENT": f"00-{TRACE}-0000000000000abc-01"}
    finally:
        record_no_more()
    assert tracer.spans == [("process thumbnail", "CONSUMER", int(TRACE, 16))]
    assert tracer.attributes == {"rolehost.job": "a", "rolehost.attempt": 2, "rolehost.end": "ok"}


def test_an_exporter_without_the_extra_is_told_and_stops_no_work() -> None:
    told: list[str] = []
    unsubscribe = subscribe(lambda event, _: told.append(event))
    try:
        with exported_traces("Backend_IN_0", {}):
            assert told == []
        with exported_traces("Backend_IN_0", {ENDPOINTS[0]: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}):
            assert told == []
    finally:
        unsubscribe()


async def test_nothing_of_a_tracing_library_is_loaded_unasked() -> None:
    program = "import sys, rolehost.workers.thumbnail, rolehost.frontend.role; print(*sys.modules)"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=environ()
    )
    loaded = (await child.communicate())[0].decode().split()
    assert "rolehost.telemetry.tracing" in loaded
    assert [name for name in loaded if re.match(r"opentelemetry\.sdk|prometheus_client", name)] == []
