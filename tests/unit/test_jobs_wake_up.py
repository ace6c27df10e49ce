"""Messages: what comes back is what was put, and nothing that anyone puts into a queue is more than a bad message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import NotAWakeUpError
from rolehost.jobs.job import Charges
from rolehost.jobs.wake_up import WakeUp
from support.jobs import a_spec


def test_a_wake_up_comes_back_as_it_went() -> None:
    spec = a_spec(parameters={"größe": "ünï", "n": 3}, origin="o")
    spec = replace(spec, submitted_at=clock.from_iso(clock.iso(spec.submitted_at)))
    told = WakeUp(job=spec.id, spec=spec, version="9", attempt=4, charges=Charges(app=1, lost=2))
    assert WakeUp.decode(told.encode()) == told
    seen = WakeUp(job=spec.id, seen="11")
    assert WakeUp.decode(seen.encode()) == seen


def changed(**facts: Any) -> str:
    """A good body, with some facts replaced; `...` takes one away."""
    spec = a_spec()
    body = json.loads(WakeUp(job=spec.id, spec=spec, version="9", attempt=1).encode()) | facts
    return json.dumps({name: value for name, value in body.items() if value is not ...})


def spec_with(**facts: Any) -> str:
    body = json.loads(changed())
    body["spec"] = {name: value for name, value in (body["spec"] | facts).items() if value is not ...}
    return json.dumps(body)


GARBAGE = {
    "empty": "",
    "no JSON": "hello",
    "64 KB of noise": "\x00\xff" * 32768,
    "a list": "[]",
    "a number": "5",
    "null": "null",
    "nested for ever": "[" * 60_000,
    "nested objects": '{"a":' * 60_000,
    "a number of 5000 digits": '{"rolehost":1,"job":"x","attempt":' + "9" * 5000 + "}",
    "half a body": changed()[:40],
    "no format": changed(rolehost=...),
    "another format": changed(rolehost=2),
    "no job": changed(job=...),
    "a job that is no text": changed(job={"a": 1}),
    "an empty job": changed(job=""),
    "a job that no row can have": changed(job="\ud800"),
    "a job whose id leads elsewhere": changed(job="a/b", spec=None),
    "a job with an endless id": changed(job="x" * 40_000, spec=None),
    "a version that is no text": changed(version=9),
    "a version seen that is no text": changed(seen=["9"]),
    "an attempt out of this world": changed(attempt=1e999),
    "an attempt below zero": changed(attempt=-1),
    "charges that are no numbers": changed(charges={"app": "many"}),
    "charges of an unknown budget": changed(charges={"luck": 1}),
    "charges that are a list": changed(charges=[1]),
    "a spec that is text": changed(spec="spec"),
    "a spec without a source": spec_with(source=...),
    "a spec with half a source": spec_with(source={"name": "x"}),
    "a spec without a time": spec_with(submitted_at=...),
    "a spec of no time": spec_with(submitted_at="yesterday"),
    "a spec of a time without a zone": spec_with(submitted_at="2026-01-01T00:00:00"),
    "a spec of another job": spec_with(id="0190aaaa-0000-7000-8000-000000000000"),
    "a spec with parameters of no kind": spec_with(parameters=7),
}


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_not_a_wake_up(body: str) -> None:
    with pytest.raises(NotAWakeUpError):
        WakeUp.decode(body)


def test_the_good_body_of_this_test_is_good() -> None:
    assert WakeUp.decode(changed()).attempt == 1
    assert WakeUp.decode(spec_with()).spec is not None


def test_another_format_is_named() -> None:
    with pytest.raises(NotAWakeUpError, match="format 2; this release reads format 1"):
        WakeUp.decode(changed(rolehost=2))
