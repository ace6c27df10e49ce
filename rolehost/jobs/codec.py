"""Jobs to rows and back: scalars as they are, everything nested as JSON text, each attempt in a field of its own."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.jobs.job import Attempt, End, Fetched, Job, JobSpec, JobState, Priority, Resource, Result, Source

if TYPE_CHECKING:
    from rolehost.stores.tables import Fields, Row, Scalar

ATTEMPT = "attempt_"


def dumps(value: Any) -> str:
    """JSON without spaces, in the characters of the text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def spec_to_json(spec: JobSpec) -> dict[str, Any]:
    """A spec as a message carries it."""
    source = spec.source
    told = {"name": source.name, "size": source.size, "type": source.type, "blob": source.blob}
    facts: dict[str, Any] = {
        "id": spec.id,
        "kind": spec.kind,
        "submitted_at": clock.iso(spec.submitted_at),
        "parameters": dict(spec.parameters),
        "source": told | ({"url": source.url} if source.url else {}),
        "origin": spec.origin,
        "batch": spec.batch,
    }
    if spec.priority is not Priority.NORMAL:
        facts["priority"] = spec.priority
    if spec.resources:
        facts["resources"] = [_resource(each) for each in spec.resources]
    return facts | {name: value for name in ("traceparent", "webhook", "group") if (value := getattr(spec, name))}


def spec_from_json(facts: dict[str, Any]) -> JobSpec:
    """The reverse of `spec_to_json`."""
    return JobSpec(
        id=facts["id"],
        kind=facts["kind"],
        submitted_at=clock.from_iso(facts["submitted_at"]),
        parameters=dict(facts["parameters"]),
        source=Source(**facts["source"]),
        origin=facts.get("origin"),
        batch=facts.get("batch"),
        traceparent=str(facts.get("traceparent") or ""),
        webhook=str(facts.get("webhook") or ""),
        priority=Priority(facts.get("priority") or Priority.NORMAL),
        group=str(facts.get("group") or ""),
        resources=tuple(Resource(**each) for each in facts.get("resources") or ()),
    )


def _resource(resource: Resource) -> dict[str, str]:
    return {"name": resource.name} | ({"url": resource.url} if resource.url else {"blob": resource.blob})


def spec_to_fields(spec: JobSpec) -> dict[str, Scalar]:
    """The fields of a new row."""
    facts = spec_to_json(spec)
    facts["parameters"] = dumps(facts["parameters"])
    facts["source"] = dumps(facts["source"])
    if "resources" in facts:
        facts["resources"] = dumps(facts["resources"])
    del facts["id"]
    return {name: value for name, value in facts.items() if value is not None}


def attempt_field(number: int) -> str:
    """The field that holds an attempt."""
    return f"{ATTEMPT}{number:04d}"


def attempt_to_text(attempt: Attempt) -> str:
    """An attempt as its field holds it."""
    facts: dict[str, Any] = {
        "number": attempt.number,
        "started_at": clock.iso(attempt.started_at),
        "instance": attempt.instance,
    }
    if attempt.end is not None and attempt.ended_at is not None:
        facts |= {"ended_at": clock.iso(attempt.ended_at), "end": attempt.end, "exit_code": attempt.exit_code}
    facts |= {name: value for name in ("detail", "stdout", "stderr", "log") if (value := getattr(attempt, name))}
    if attempt.fetched:
        facts["fetched"] = [attempt.fetched.size, attempt.fetched.type]
    return dumps(facts)


def attempt_from_text(text: str) -> Attempt:
    """The reverse of `attempt_to_text`."""
    facts = json.loads(text)
    return Attempt(
        number=facts["number"],
        started_at=clock.from_iso(facts["started_at"]),
        instance=facts["instance"],
        ended_at=clock.from_iso(facts["ended_at"]) if "ended_at" in facts else None,
        end=End(facts["end"]) if "end" in facts else None,
        exit_code=facts.get("exit_code"),
        detail=facts.get("detail", ""),
        stdout=facts.get("stdout", ""),
        stderr=facts.get("stderr", ""),
        log=facts.get("log", ""),
        fetched=Fetched(*facts["fetched"]) if "fetched" in facts else None,
    )


def result_to_text(result: Result) -> str:
    """A result as its field holds it."""
    return dumps(result.to_json() | {"blob": result.blob})


def job_from_row(row: Row) -> Job:
    """A job from its row."""
    fields: Fields = row.fields
    facts: dict[str, Any] = dict(fields)
    attempts = [attempt_from_text(str(text)) for name, text in fields.items() if name.startswith(ATTEMPT)]
    return Job(
        spec=spec_from_json(
            facts | {"id": row.key} | {name: _loads(facts, name) for name in ("parameters", "source", "resources")}
        ),
        version=row.version,
        state=JobState(row.tag),
        reason=str(facts.get("reason", "")),
        attempt=int(facts.get("attempt", 0)),
        token=str(facts.get("token", "")),
        lease=float(facts.get("lease", 0.0)),
        attempts=tuple(sorted(attempts, key=lambda attempt: attempt.number)),
        started_at=_moment(facts, "started_at"),
        finished_at=_moment(facts, "finished_at"),
        retries_at=_moment(facts, "retries_at"),
        result=Result(**_loads(facts, "result")) if facts.get("result") else None,
        progress=_loads(facts, "progress"),
        renewal=_renewal(facts),
    )


def renewal_to_text(token: str, version: str) -> str:
    """The version from which a lease counts; under another token it means nothing."""
    return f"{token} {version}"


def _renewal(facts: dict[str, Any]) -> str:
    token, _, version = str(facts.get("renewal", "")).partition(" ")
    return version if token and token == facts.get("token") else ""


def _moment(facts: dict[str, Any], name: str) -> datetime | None:
    return clock.from_iso(facts[name]) if facts.get(name) else None


def _loads(facts: dict[str, Any], name: str) -> Any:
    return json.loads(facts[name]) if facts.get(name) else None
