"""`rolehost runs` and `rolehost job --output`: what was printed, from the stores alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rolehost.host.directory.runs import RunRecords
from rolehost.jobs.job import End
from rolehost.stores import Stores
from support.commands import ended, invoke, submitted, with_stores


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def keep(data: Path, text: str = "printed\n", **more: Any) -> None:
    """A run as an instance has told it."""
    log = data.parent / "run.log"
    log.write_text(text)
    facts = {
        "run": "r1",
        "instance": "Role_IN_0",
        "kind": "task",
        "name": "prepare.sh --fast",
        "path": str(log),
        "started_at": "2026-11-21T10:00:00.000Z",
        "ended_at": "2026-11-21T10:00:02.500Z",
        "exit_code": 0,
    }

    async def act(stores: Stores) -> None:
        await RunRecords(stores).keep(facts | more, "")

    with_stores(data, act)


def test_runs_are_listed_newest_first_with_their_status(data: Path) -> None:
    keep(data)
    keep(data, run="r2", started_at="2026-11-21T11:00:00.000Z", exit_code=3)
    keep(data, run="r3", started_at="2026-11-21T12:00:00.000Z", ended_at=None, exit_code=None, instance="Role_IN_1")
    shown = invoke("runs", "--data", data)
    assert shown.exit_code == 0
    heading, *rows = shown.stdout.splitlines()
    assert heading.split() == ["RUN", "INSTANCE", "KIND", "STATUS", "STARTED", "TOOK", "EXIT", "NAME"]
    assert [row.split()[:4] for row in rows] == [
        ["r3", "Role_IN_1", "task", "NeverFinished"],
        ["r2", "Role_IN_0", "task", "CompletedFailed"],
        ["r1", "Role_IN_0", "task", "CompletedSuccess"],
    ]
    assert "2.50 s" in rows[2]
    assert rows[2].endswith("prepare.sh --fast")
    assert len(invoke("runs", "Role_IN_1", "--data", data).stdout.splitlines()) == 2


def test_runs_as_json(data: Path) -> None:
    keep(data)
    (run,) = json.loads(invoke("runs", "--data", data, "--json").stdout)["runs"]
    assert (run["run"], run["instance"], run["status"], run["exit_code"]) == ("r1", "Role_IN_0", "CompletedSuccess", 0)


def test_the_output_of_a_run_is_printed_and_moves_no_terminal(data: Path) -> None:
    keep(data, "one\n\x1b[2Jtwo\n")
    (data.parent / "run.log").unlink()
    shown = invoke("runs", "--output", "r1", "--data", data)
    assert (shown.exit_code, shown.stdout) == (0, "one\n\N{REPLACEMENT CHARACTER}[2Jtwo\n")


def test_a_run_that_is_not_there_or_not_only_one(data: Path) -> None:
    keep(data)
    keep(data, instance="Role_IN_1")
    assert "no run has the id r9" in invoke("runs", "--output", "r9", "--data", data).stderr
    assert "name the instance" in invoke("runs", "--output", "r1", "--data", data).stderr
    assert invoke("runs", "Role_IN_1", "--output", "r1", "--data", data).stdout == "printed\n"


def test_the_output_of_an_attempt_is_printed(data: Path) -> None:
    async def act(stores: Stores) -> str:
        job = await submitted(stores, data.parent)
        job = await ended(stores, job, End.APP_ERROR, stdout="first try\n", exit_code=3)
        return (await ended(stores, job, End.APP_ERROR, stdout="second try\n", stderr="no\n", exit_code=3)).id

    job = with_stores(data, act)
    last = invoke("job", job, "--output", "--data", data)
    assert (last.exit_code, last.stdout) == (0, "--- stdout\nsecond try\n--- stderr\nno\n")
    assert invoke("job", job, "--output", "1", "--data", data).stdout == "--- stdout\nfirst try\n"
    assert "no attempt 7" in invoke("job", job, "--output", "7", "--data", data).stderr
    assert invoke("job", job, "7", "--data", data).exit_code == 2
