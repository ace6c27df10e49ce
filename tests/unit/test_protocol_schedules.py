"""The protocol under thousands of schedules of crashes, freezes, lost answers and doubled messages.

What runs is the package's own code: submission, claiming, the lease, completion, recovery, cancellation. Only stores,
clocks and the console application are simulated, so that an hour takes milliseconds. `python -m pytest -k schedules`
repeats a seed that failed; the rules taken back below show that the monitors can see.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from rolehost.jobs.garbage import GarbageCollection
from rolehost.jobs.job import JobState
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.table import JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Fields, Note, QueueMessage
from rolehost.workers import claiming, completion
from rolehost.workers.desk import Desk
from support.history import TERMINAL, main
from support.simulation import ENGINES, engines, run
from support.simulation.memory import MemoryTable

SCHEDULES = int(os.environ.get("ROLEHOST_SCHEDULES", "5000"))
CHUNK = 50
ENOUGH = 600


def _violations(chunk: tuple[str, int]) -> list[tuple[int, str, dict[str, int]]]:
    engine, first = chunk
    found = ((seed, engine, run(seed, engine).violations) for seed in range(first, first + CHUNK))
    return [(seed, name, dict(violations)) for seed, name, violations in found if violations]


def test_no_schedule_breaks_the_protocol() -> None:
    each = SCHEDULES // len(ENGINES)
    chunks = [(engine, first) for engine in ENGINES for first in range(0, each, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        broken = [one for found in pool.map(_violations, chunks) for one in found]
    assert broken == []


def test_schedules_are_troubled() -> None:
    """A simulation in which nothing goes wrong would prove nothing."""
    facts = sum((run(seed, engine).facts for seed in range(40) for engine in ENGINES), Counter[str]())
    assert facts["lost"] > 20
    assert facts["told"] > 200


def test_a_schedules_history_is_one_for_the_checker(engine: str, tmp_path: Path) -> None:
    """The same as the soak writes: judged alone, line by line, and what is taken out of it is missed."""
    history = next(one.history for one in (run(seed, engine) for seed in range(ENOUGH)) if one.facts["lost"])
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in history))
    assert main([str(path)]) == 0
    job = next(event["job"] for event in history if event["event"] == "accepted")
    path.write_text("".join(json.dumps(event) + "\n" for event in history if not _ends(event, job)))
    assert main([str(path)]) == 1


def _ends(event: Mapping[str, Any], job: str) -> bool:
    return event["event"] == "row" and event["job"]["id"] == job and event["job"]["state"] in TERMINAL


def found_by(engine: str, what: str = "") -> bool:
    """Whether the monitors see this violation, or any, within enough schedules."""
    return any(
        violations[what] if what else violations
        for violations in (run(seed, engine).violations for seed in range(ENOUGH))
    )


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_writes_by_id_alone_are_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """A late worker overwrites a result."""

    def any_version(table: MemoryTable, key: str, _version: str) -> object:
        return table.rows[key]

    monkeypatch.setattr(MemoryTable, "_expected", any_version)
    assert found_by(engine, "a terminal row changed")


def test_one_blob_name_for_all_attempts_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """What an attempt finds under the shared name is another's: the recorded hash is of other bytes."""
    upload = completion._put

    async def shared(desk: Desk, blob: str, path: object) -> object:
        kind, job, _, name = blob.split("/")
        return await upload(desk, f"{kind}/{job}/1-shared/{name}", path)  # type: ignore[arg-type]

    monkeypatch.setattr(completion, "_put", shared)
    assert found_by(engine)


def test_no_recovery_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row without its message stays queued for ever."""

    async def nothing(_recovery: Recovery) -> None:
        return

    monkeypatch.setattr(Recovery, "sweep", nothing)
    assert found_by("azure_storage", "an accepted job is still open")


def test_a_poisoned_job_settled_by_deletion_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    async def delete(desk: Desk, message: QueueMessage | None, _state: JobState, _reason: str) -> None:
        if message is not None:
            await claiming.settled(desk.queue.complete(message))
            await claiming.settled(desk.stores.table("jobs").drop_note(Note("debt", WakeUp.decode(message.body).job)))

    monkeypatch.setattr(claiming, "settle_terminal", delete)
    monkeypatch.setattr(completion, "settle_terminal", delete)
    assert found_by(engine, "a poisoned job has no dead letter")


def test_a_brokers_own_dead_letters_that_nobody_looks_at_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message was delivered too often, through no fault of its job."""

    async def nothing(_recovery: Recovery) -> None:
        return

    monkeypatch.setattr(engines, "MOST_DELIVERIES", (1,))
    monkeypatch.setattr(Recovery, "_wake_undelivered", nothing)
    assert found_by("service_bus")


def test_a_lease_judged_by_the_wall_clock_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Machines' clocks differ: a live attempt would be charged."""
    decode = WakeUp.decode

    class Always(str):
        __slots__ = ()

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    def credulous(body: str) -> WakeUp:
        told = decode(body)
        return WakeUp(
            job=told.job,
            spec=told.spec,
            version=told.version,
            attempt=told.attempt,
            charges=told.charges,
            seen=Always("any"),
        )

    monkeypatch.setattr(WakeUp, "decode", credulous)
    assert found_by(engine, "a lease that did not stand still was taken")


@pytest.mark.parametrize("engine", ["embedded", "service_bus"])
def test_a_renewal_that_counts_from_an_older_one_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Progress leaves the lease as it is; a renewal that leaves what progress wrote looks as if there was none."""
    write = MemoryTable.write

    async def keeping(table: MemoryTable, key: str, version: str, changes: Fields, **more: Any) -> str:
        return await write(
            table, key, version, {name: changes[name] for name in changes if name != "renewal" or changes[name]}, **more
        )

    monkeypatch.setattr(MemoryTable, "write", keeping)
    assert found_by(engine, "a lease that did not stand still was taken")


def test_garbage_collected_without_the_row_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    async def everything(_collection: GarbageCollection, _name: str) -> bool:
        return True

    monkeypatch.setattr(GarbageCollection, "_is_unnamed_result", everything)
    assert found_by(engine)


def test_a_charge_without_a_cap_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(completion, "_no_more", lambda *_: "")
    monkeypatch.setattr(claiming, "_no_more", lambda *_: "")
    assert found_by(engine, "charges over their cap")


def test_a_tombstone_that_is_not_put_is_seen(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """The input of a submitter that was frozen for long is gone when its row comes."""

    async def trusting(_jobs: JobTable, _job_id: str) -> bool:
        return True

    monkeypatch.setattr(JobTable, "bury", trusting)
    assert found_by(engine, "accepted without its input")
