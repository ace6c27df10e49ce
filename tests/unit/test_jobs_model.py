"""What a job is: ids, ends and their charges, and rows that come back as they went."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from rolehost import clock
from rolehost.jobs.codec import attempt_field, attempt_to_text, dumps, job_from_row, result_to_text, spec_to_fields
from rolehost.jobs.job import CAPS, Attempt, Charges, End, Job, JobState, Result, new_id
from rolehost.stores import Row
from support.jobs import a_spec

# The design's table: the end, and the budget that it is charged to.
TABLE = {
    End.OK: None,
    End.BAD_INPUT: None,
    End.APP_ERROR: "app",
    End.TIMEOUT: "app",
    End.STALLED: "app",
    End.OOM: "resource",
    End.KILLED: "resource",
    End.WORKER_LOST: "lost",
    End.BAD_OUTPUT: "app",
    End.DRAINED: None,
    End.LEASE_LOST: None,
    End.DISK_FULL: None,
    End.STORE_ERROR: None,
    End.SOURCE_ERROR: "app",
    End.PUT_BACK: None,
    End.POISON_NOW: None,
    End.CANCELLED: None,
}


def test_ids_sort_by_time_also_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(2000)]
    moments = [UUID(each).int >> 64 for each in ids]
    assert moments == sorted(moments)
    assert len({moment >> 16 for moment in moments}) < len(set(moments))  # many in one millisecond, still apart
    assert len(set(ids)) == len(ids)


def test_an_id_is_a_version_7_uuid_of_now() -> None:
    before = clock.now()
    made = UUID(new_id())
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert abs((made.int >> 80) / 1000 - before.timestamp()) < 5


def test_every_end_has_its_line_in_the_table() -> None:
    assert set(TABLE) == set(End)


@pytest.mark.parametrize(("end", "budget"), TABLE.items())
def test_an_end_is_charged_as_the_table_says(end: End, budget: str | None) -> None:
    charged = Charges(app=1, resource=1, lost=1).plus(end).to_json()
    assert charged == {name: 2 if name == budget else 1 for name in CAPS}
    assert end.charged_to == budget


@pytest.mark.parametrize(("budget", "cap"), {"app": 5, "resource": 2, "lost": 3}.items())
def test_a_budget_is_spent_at_its_cap(budget: str, cap: int) -> None:
    end = next(end for end, charged in TABLE.items() if charged == budget)
    assert Charges.of([end] * (cap - 1)).spent is None
    assert Charges.of([end] * cap).spent == budget


def test_open_attempts_and_free_ends_spend_nothing() -> None:
    assert Charges.of([None, *(end for end, budget in TABLE.items() if budget is None)] * 50) == Charges()


def test_only_queued_and_running_are_not_terminal() -> None:
    assert {state for state in JobState if not state.terminal} == {JobState.QUEUED, JobState.RUNNING}


def a_row(*attempts: Attempt, tag: str = "running", **fields: str | int) -> Row:
    spec = a_spec(parameters={"größe": "ünï", "n": 3}, origin="o", batch="b")
    written = {attempt_field(attempt.number): attempt_to_text(attempt) for attempt in attempts}
    return Row(key=spec.id, version="7", tag=tag, fields=spec_to_fields(spec) | written | fields)


def test_a_spec_comes_back_as_it_went() -> None:
    spec = a_spec(parameters={"größe": "ünï", "n": 3, "deep": {"a": [1, None]}}, origin="o", batch=None)
    job = job_from_row(Row(key=spec.id, version="7", tag="queued", fields=spec_to_fields(spec)))
    assert job.spec == replace(spec, submitted_at=clock.from_iso(clock.iso(spec.submitted_at)))
    assert (job.version, job.state, job.attempts, job.result) == ("7", JobState.QUEUED, (), None)


def test_attempts_come_back_as_they_went() -> None:
    now = clock.from_iso(clock.iso(clock.now()))
    opened = Attempt(number=2, started_at=now, instance="W_IN_0")
    over = replace(
        opened,
        number=1,
        ended_at=now,
        end=End.APP_ERROR,
        exit_code=3,
        detail="d\n",
        stdout="\u2028",
        stderr="e",
        log="l",
    )
    assert job_from_row(a_row(opened, over)).attempts == (over, opened)


def test_attempts_stand_in_the_order_of_their_numbers_however_many() -> None:
    numbers = [1, 2, 9999, 10_000, 10_001]
    attempts = [Attempt(number=number, started_at=clock.now()) for number in numbers]
    random.Random(1).shuffle(attempts)  # noqa: S311 - an order, not a secret
    assert [attempt.number for attempt in job_from_row(a_row(*attempts)).attempts] == numbers


def test_a_completed_job_comes_back_whole_and_shows_no_blob() -> None:
    now = clock.from_iso(clock.iso(clock.now()))
    result = Result(name="r.txt", size=1, sha256="ab", type="text/plain", blob="results/x/1-t/result.txt")
    done = Attempt(number=1, started_at=now, ended_at=now, end=End.OK)
    row = a_row(
        done,
        tag="completed",
        result=result_to_text(result),
        attempt=1,
        started_at=clock.iso(now),
        finished_at=clock.iso(now),
    )
    job = job_from_row(row)
    assert (job.result, job.started_at, job.finished_at, job.charges) == (result, now, now, Charges())
    assert "blob" not in dumps(job.to_json())
    assert "inputs/" not in dumps(job.to_json())


def test_a_job_as_json_has_the_designs_names() -> None:
    job = Job(spec=a_spec(), version="1", state=JobState.QUEUED, retries_at=clock.now() + timedelta(seconds=1))
    named = (
        "id kind state reason submitted_at started_at finished_at parameters source result progress charges attempts"
    )
    assert set(job.to_json()) >= {*named.split(), "origin", "batch"}
    assert set(job.to_json()["source"]) == {"name", "size", "type"}
    attempt = Attempt(number=1, started_at=clock.now(), ended_at=clock.now(), end=End.OOM, exit_code=-9, instance="i")
    shown = attempt.to_json()
    assert set(shown) == {"number", "started_at", "ended_at", "end", "exit_code", "charged", "instance"}
    assert (shown["charged"], shown["end"], shown["exit_code"]) == ("resource", "oom", -9)
