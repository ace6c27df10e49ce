"""`rolehost poison list|replay|purge` against real stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import ended, invoke, poisoned, submitted, with_stores


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def bad(data: Path) -> list[Job]:
    """Two poisoned jobs, the oldest first."""

    async def act(stores: Stores) -> list[Job]:
        return [await poisoned(stores, data.parent, name) for name in ("first.png", "second.png")]

    return with_stores(data, act)


def all_jobs(data: Path) -> dict[str, Job]:
    async def act(stores: Stores) -> dict[str, Job]:
        return {job.id: job for job in (await JobTable(stores.table(TABLE)).list()).jobs}

    return with_stores(data, act)


def test_the_list_has_reasons(data: Path, bad: list[Job]) -> None:
    with_stores(data, lambda stores: submitted(stores, data.parent, "healthy.png"))
    shown = invoke("poison", "list", "--data", data).stdout.splitlines()
    assert [row.split()[0] for row in shown[1:]] == [bad[1].id, bad[0].id]
    assert "exit code 3: no such font" in shown[1]
    document = json.loads(invoke("poison", "list", "--data", data, "--json").stdout)
    assert [job["id"] for job in document["jobs"]] == [bad[1].id, bad[0].id]


def test_replay_makes_a_new_job_that_names_its_origin(data: Path, bad: list[Job]) -> None:
    told = invoke("poison", "replay", bad[0].id, "--data", data)
    assert told.exit_code == 0
    origin, *_, new = told.stdout.split()
    jobs = all_jobs(data)
    assert origin == bad[0].id
    assert (jobs[new].state, jobs[new].spec.origin) == (JobState.QUEUED, bad[0].id)
    assert jobs[new].spec.source.blob != bad[0].spec.source.blob
    assert jobs[bad[0].id] == bad[0]


def test_replay_of_all_as_json(data: Path, bad: list[Job]) -> None:
    told = invoke("poison", "replay", "--all", "--data", data, "--json")
    assert [job["origin"] for job in json.loads(told.stdout)["jobs"]] == [job.id for job in bad]


def test_a_failed_job_is_replayed_by_its_id(data: Path) -> None:
    async def act(stores: Stores) -> Job:
        job = await submitted(stores, data.parent)
        return await ended(stores, job, End.BAD_INPUT, final="fail", exit_code=65)

    assert invoke("poison", "replay", with_stores(data, act).id, "--data", data).exit_code == 0


def test_one_that_refuses_holds_up_none_of_the_others(data: Path, bad: list[Job]) -> None:
    healthy = with_stores(data, lambda stores: submitted(stores, data.parent))
    told = invoke("poison", "replay", "unknown", healthy.id, bad[0].id, bad[0].id, "--data", data)
    assert told.exit_code == 1
    unknown, queued = told.stderr.splitlines()
    assert unknown == "rolehost: no job has the id unknown"
    assert f"{healthy.id} is queued" in queued
    assert len(told.stdout.splitlines()) == 1  # named twice, replayed once


def test_purge_asks_and_no_leaves_all_as_it_is(data: Path, bad: list[Job]) -> None:
    for answer in ("n\n", "", "\n"):
        told = invoke("poison", "purge", bad[0].id, "--data", data, answer=answer)
        assert told.exit_code == 1
        assert told.stderr == "Remove 1 job for good? [y/N] rolehost: nothing was purged\n"
        assert told.stdout == ""
    assert set(all_jobs(data)) == {job.id for job in bad}


def test_purge_removes_after_yes(data: Path, bad: list[Job]) -> None:
    told = invoke("poison", "purge", bad[0].id, "--data", data, answer="y\n")
    assert (told.exit_code, told.stdout) == (0, f"{bad[0].id} is purged\n")
    assert set(all_jobs(data)) == {bad[1].id}


def test_purge_of_all_without_asking_spares_what_is_not_poisoned(data: Path, bad: list[Job]) -> None:
    healthy = with_stores(data, lambda stores: submitted(stores, data.parent))
    told = invoke("poison", "purge", "--all", "--yes", "--data", data)
    assert told.exit_code == 0
    assert told.stdout.splitlines() == [f"{job.id} is purged" for job in bad]
    assert set(all_jobs(data)) == {healthy.id}
    again = invoke("poison", "purge", "--all", "--yes", "--data", data)
    assert (again.exit_code, again.stderr) == (0, "no job is poisoned\n")


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_ids_and_all_exclude_each_other_and_one_is_needed(data: Path, bad: list[Job], verb: str) -> None:
    for arguments in ([], [bad[0].id, "--all"]):
        told = invoke("poison", verb, *arguments, "--data", data)
        assert told.exit_code == 2
        assert "--all" in told.stderr
    assert set(all_jobs(data)) == {job.id for job in bad}
