"""`rolehost jobs`, `rolehost job`: against real stores in every state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rolehost.jobs.job import End, Job
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import ended, invoke, poisoned, submitted, with_stores


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def make(data: Path, *names: str) -> list[Job]:
    """Queued jobs, the oldest first."""

    async def act(stores: Stores) -> list[Job]:
        return [await submitted(stores, data.parent, name) for name in names]

    return with_stores(data, act)


def test_the_list_shows_the_newest_first_and_shortens_long_names_only(data: Path) -> None:
    name = f"{'long-' * 30}name.png"
    first, second = make(data, "first.png", name)
    shown = invoke("jobs", "--data", data)
    assert shown.exit_code == 0
    heading, *rows = shown.stdout.splitlines()
    assert heading.split() == ["ID", "STATE", "KIND", "SUBMITTED", "TRIES", "SOURCE", "OUTCOME"]
    assert [row.split()[0] for row in rows] == [second.id, first.id]
    assert rows[0].endswith("-long-long-name.png")
    assert "long-…-long" in rows[0]
    assert len(rows[0]) < 160
    assert rows[1].endswith("  first.png")
    assert json.loads(invoke("jobs", "--data", data, "--json").stdout)["jobs"][0]["source"]["name"] == name
    assert "\x1b" not in shown.stdout


def test_the_list_as_json_is_one_document_of_the_jobs(data: Path) -> None:
    (job,) = make(data, "photo.png")
    shown = invoke("jobs", "--data", data, "--json")
    assert json.loads(shown.stdout) == {"jobs": [json.loads(json.dumps(job.to_json()))], "cursor": None}


def test_the_list_goes_on_by_its_cursor(data: Path) -> None:
    made = make(data, *(f"{number}.png" for number in range(5)))
    seen: list[str] = []
    cursor: list[str] = []
    page: dict[str, Any] = {}
    for _ in range(3):
        page = json.loads(invoke("jobs", "--data", data, "--limit", "2", "--json", *cursor).stdout)
        seen += [job["id"] for job in page["jobs"]]
        cursor = ["--cursor", page["cursor"]]
    assert seen == [job.id for job in reversed(made)]
    assert page["cursor"] is None
    assert "--cursor" in invoke("jobs", "--data", data, "--limit", "2").stderr


def test_a_foreign_cursor_is_a_usage_error(data: Path) -> None:
    make(data, "photo.png")
    refused = invoke("jobs", "--data", data, "--cursor", "nonsense")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("rolehost: ")


def test_the_list_by_state(data: Path) -> None:
    async def act(stores: Stores) -> tuple[Job, Job, Job]:
        open_one = await submitted(stores, data.parent)
        done = await ended(stores, await submitted(stores, data.parent), End.OK, exit_code=0)
        return open_one, done, await poisoned(stores, data.parent)

    open_one, done, bad = with_stores(data, act)
    for state, job in (("queued", open_one), ("completed", done), ("poisoned", bad)):
        found = json.loads(invoke("jobs", "--data", data, "--state", state, "--json").stdout)["jobs"]
        assert [each["id"] for each in found] == [job.id]
    assert invoke("jobs", "--data", data, "--state", "sleeping").exit_code == 2


def test_a_jobs_story_tells_every_attempt_and_what_was_printed(data: Path) -> None:
    async def act(stores: Stores) -> Job:
        job = await submitted(stores, data.parent)
        job = await ended(stores, job, End.APP_ERROR, exit_code=3, detail="exit code 3", stderr="no such font\n")
        job = await ended(stores, job, End.KILLED, exit_code=-9, detail="it was killed")
        return await ended(stores, job, End.OK, exit_code=0, stdout="128x96\n")

    job = with_stores(data, act)
    told = invoke("job", job.id, "--data", data).stdout
    facts, first, second, third = told.split("\n\n")
    assert job.id in facts
    assert "state       completed" in facts
    assert "charges     app 1 of 5, resource 1 of 2" in facts
    assert "result      thumbnail.png, image/png, 10 B, SHA-256 " in facts
    assert first.startswith("attempt 1: app_error, exit code 3, after ")
    assert first.splitlines()[0].endswith("charged to app")
    assert "on ThumbnailBackend_IN_0" in first
    assert "  stderr:\n    no such font" in first
    assert second.startswith("attempt 2: killed, signal 9, ")
    assert third.startswith("attempt 3: ok, exit code 0, ")
    assert "  stdout:\n    128x96" in third


def test_a_job_as_json_is_the_jobs_own(data: Path) -> None:
    job = with_stores(data, lambda stores: poisoned(stores, data.parent))
    shown = json.loads(invoke("job", job.id, "--data", data, "--json").stdout)
    assert shown == json.loads(json.dumps(job.to_json()))
    assert [attempt["exit_code"] for attempt in shown["attempts"]] == [3] * 5


def test_what_an_application_printed_cannot_steer_the_terminal(data: Path) -> None:
    async def act(stores: Stores) -> Job:
        return await poisoned(stores, data.parent, stderr="\x1b[2Jgone\x07\ttab\r\nnext\u202e", detail="a\x1b[31m\nb")

    job = with_stores(data, act)
    for command in (["job", job.id], ["jobs"], ["poison", "list"]):
        shown = invoke(*command, "--data", data).stdout
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(shown)
        assert "[31m b" in shown  # on one line
    assert "\ttab\n    next" in invoke("job", job.id, "--data", data).stdout


@pytest.mark.parametrize("unknown", ["01990000-0000-7000-8000-000000000000", "a/b", "", "\x1b[2J"])
def test_an_unknown_job_is_a_sentence(data: Path, unknown: str) -> None:
    make(data, "photo.png")
    told = invoke("job", unknown, "--data", data)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("rolehost: no job has the id")
    assert "\x1b" not in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", [["jobs"], ["job", "x"], ["poison", "list"], ["poison", "purge", "--all"]])
def test_a_data_directory_that_is_not_there_is_a_sentence_and_stays_so(tmp_path: Path, command: list[str]) -> None:
    told = invoke(*command, "--data", tmp_path / "none")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "there is no data directory" in told.stderr
    assert not (tmp_path / "none").exists()


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    told = invoke("jobs", "--data", tmp_path)
    assert told.exit_code == 1
    assert "holds no jobs" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_engine_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_STORAGE", "paper")
    told = invoke("jobs", "--data", tmp_path / "none")
    assert told.exit_code == 1
    assert told.stderr.startswith("rolehost: ")
    assert "ROLEHOST_STORAGE is neither" in told.stderr
    assert "paper" not in told.stderr, "a connection string that is not quite one holds a key"


def test_the_data_directory_comes_from_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = make(data, "photo.png")
    monkeypatch.setenv("ROLEHOST_DATA", str(data))
    assert job.id in invoke("jobs").stdout


def test_reading_changes_nothing(data: Path) -> None:
    (job,) = make(data, "photo.png")
    invoke("jobs", "--data", data)
    invoke("job", job.id, "--data", data)
    now = with_stores(data, lambda stores: JobTable(stores.table(TABLE)).read(job.id))
    assert now is not None
    assert now.version == job.version


def test_the_stores_are_those_of_the_definition_unless_the_environment_names_others(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = make(data, "photo.png")
    monkeypatch.chdir(data.parent)
    Path("service.toml").write_text(
        '[service]\nname = "s"\nstorage = "http://photos.blob.core.windows.net"\n[roles.R]\nentry_point = "m:R"\n'
    )
    shown = invoke("jobs", "--data", data)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "the blob endpoint is not https" in shown.stderr
    with Path("service.toml").open("a") as file:
        file.write("instances = 0\n")
    shown = invoke("jobs", "--data", data)
    assert "service.toml says where the stores are, and is not valid" in shown.stderr, "other stores are no way out"
    monkeypatch.setenv("ROLEHOST_STORAGE", "embedded")
    assert job.id in invoke("jobs", "--data", data).stdout
