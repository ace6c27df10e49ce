"""`rolehost poison list|replay|purge` against real stores."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import ended, invoke, poisoned, start, submitted, with_stores


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
    assert [entry["job"]["id"] for entry in document["entries"]] == [bad[1].id, bad[0].id]


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


def noise(data: Path, message_id: str = "noise-1", body: str = "\x1b[31mno json") -> None:
    """A message that no worker could read."""

    async def act(stores: Stores) -> None:
        queue = stores.queue("thumbnail-jobs")
        await queue.put(body, message_id=message_id)
        (message,) = [each for each in await queue.receive(32, hide=1) if each.id == message_id]
        await queue.dead_letter(message, reason="malformed", description="not a wake-up message")

    with_stores(data, act)


def listed(data: Path, *filters: str) -> list[str]:
    told = invoke("poison", "list", *filters, "--data", data, "--json")
    assert told.exit_code == 0, told.stderr
    return [entry["id"] for entry in json.loads(told.stdout)["entries"]]


def test_a_second_replay_of_all_replays_nothing_twice(data: Path, bad: list[Job]) -> None:
    assert invoke("poison", "replay", "--all", "--data", data, "--limit", "1").stdout.split()[0] == bad[0].id
    assert listed(data) == [bad[1].id]
    assert invoke("poison", "replay", "--all", "--data", data).stdout.split()[0] == bad[1].id
    again = invoke("poison", "replay", "--all", "--data", data)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "no job is poisoned\n")
    refused = invoke("poison", "replay", bad[0].id, "--data", data)
    assert refused.exit_code == 1
    assert "was replayed already, as" in refused.stderr
    assert len(invoke("poison", "replay", "--all", "--again", "--data", data).stdout.splitlines()) == 2
    assert listed(data, "--replayed", "yes") == [bad[1].id, bad[0].id]


def test_a_filter_a_pace_and_a_dry_run(data: Path, bad: list[Job]) -> None:
    filters = ("--reason", "SUCH FONT", "--kind", "thumbnail", "--older", "0s", "--text", "second")
    dry = invoke("poison", "replay", *filters, "--rate", "1/h", "--dry-run", "--data", data)
    assert (dry.exit_code, dry.stdout) == (0, f"{bad[1].id} would be replayed\n")
    assert len(all_jobs(data)) == 2
    done = invoke("poison", "replay", *filters, "--rate", "50/s", "--data", data)
    assert done.stdout.startswith(f"{bad[1].id} is replayed as ")
    for nothing in (("--reason", "other"), ("--kind", "x"), ("--older", "1d"), ("--cause", "lost"), ("--newer", "0s")):
        assert listed(data, *nothing) == []
        assert invoke("poison", "purge", *nothing, "--yes", "--data", data).stderr == "no job is poisoned\n"
    assert len(all_jobs(data)) == 3


@pytest.mark.parametrize(
    ("option", "value"), [("--older", "7"), ("--newer", "soon"), ("--rate", "0/s"), ("--limit", "0"), ("--state", "x")]
)
def test_what_an_option_can_not_be(data: Path, bad: list[Job], option: str, value: str) -> None:
    told = invoke("poison", "replay", "--all", option, value, "--data", data)
    assert told.exit_code == 2
    assert option in told.stderr
    assert set(all_jobs(data)) == {job.id for job in bad}


def test_a_dry_run_of_a_purge_asks_nothing_and_removes_nothing(data: Path, bad: list[Job]) -> None:
    told = invoke("poison", "purge", "--all", "--dry-run", "--data", data)
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [f"{job.id} would be purged" for job in bad]
    assert set(all_jobs(data)) == {job.id for job in bad}


def test_purge_of_what_was_replayed(data: Path, bad: list[Job]) -> None:
    assert invoke("poison", "replay", bad[0].id, "--data", data).exit_code == 0
    told = invoke("poison", "purge", "--replayed", "yes", "--yes", "--data", data)
    assert told.stdout == f"{bad[0].id} is purged\n"
    (new,) = [job for job in all_jobs(data).values() if job.spec.origin]
    assert f"replays     {bad[0].id} (removed)" in invoke("job", new.id, "--data", data).stdout


def test_the_story_of_a_job_has_its_origins_and_replays(data: Path, bad: list[Job]) -> None:
    new = invoke("poison", "replay", bad[0].id, "--data", data).stdout.split()[-1]
    assert f"replayed as {new} (queued)" in invoke("job", bad[0].id, "--data", data).stdout
    assert f"replays     {bad[0].id} (poisoned)" in invoke("job", new, "--data", data).stdout
    shown = invoke("poison", "show", bad[0].id, "--data", data).stdout
    assert shown == invoke("job", bad[0].id, "--data", data).stdout
    told = json.loads(invoke("poison", "show", bad[0].id, "--data", data, "--json").stdout)
    assert told["provenance"]["replays"] == [{"id": new, "state": "queued"}]
    assert [output["stderr"] for output in told["outputs"]] == ["no such font\n"] * 5


def test_the_original_input_comes_back_byte_by_byte(data: Path, bad: list[Job], tmp_path: Path) -> None:
    target = tmp_path / "again.png"
    told = invoke("poison", "input", bad[0].id, "--to", target, "--data", data)
    assert (told.exit_code, told.stdout) == (0, "")
    assert target.read_bytes() == (tmp_path / "first.png").read_bytes()
    assert invoke("poison", "input", bad[0].id, "--data", data).stdout_bytes == target.read_bytes()
    there = invoke("poison", "input", bad[1].id, "--to", target, "--data", data)
    assert (there.exit_code, there.stderr) == (1, f"rolehost: {target} is there already\n")


def test_a_message_without_a_job_is_listed_shown_and_purged(data: Path, bad: list[Job]) -> None:
    noise(data)
    (entry,) = listed(data, "--cause", "malformed")
    assert listed(data) == [bad[1].id, bad[0].id, entry]
    shown = invoke("poison", "show", entry, "--data", data).stdout
    assert "message     noise-1" in shown
    assert "the message can't be read" in shown
    assert "\x1b" not in shown
    assert "[31mno json" in shown
    assert invoke("poison", "input", entry, "--data", data).stdout_bytes == b"\x1b[31mno json"
    refused = invoke("poison", "replay", "--cause", "malformed", "--data", data)
    assert refused.exit_code == 1
    assert "can't be replayed" in refused.stderr
    assert invoke("poison", "purge", entry, "--yes", "--data", data).stdout == f"{entry} is purged\n"
    assert listed(data) == [bad[1].id, bad[0].id]


def test_a_long_list_tells_how_to_go_on(data: Path, bad: list[Job]) -> None:
    told = invoke("poison", "list", "--limit", "1", "--data", data)
    assert told.stderr.startswith("looked at 1 of 2; go on with --cursor ")
    rest = invoke("poison", "list", "--cursor", told.stderr.split()[-1], "--data", data)
    assert rest.stdout.splitlines()[1].split()[0] == bad[0].id
    wrong = invoke("poison", "list", "--cursor", "x", "--data", data)
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def test_an_interrupted_replay_says_how_far_it_came_and_the_same_command_goes_on(
    data: Path, bad: list[Job], tmp_path: Path
) -> None:
    process = start("poison", "replay", "--all", "--rate", "1/min", "--data", data, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"{bad[0].id} is replayed as ")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == f"rolehost: interrupted after 1 of 2: the others, from {bad[1].id} on, are as they were\n"
    again = invoke("poison", "replay", "--all", "--data", data)
    assert [line.split()[0] for line in again.stdout.splitlines()] == [bad[1].id]
