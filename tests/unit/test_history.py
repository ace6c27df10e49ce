"""The checker of histories sees each kind of fault, and nothing where there is none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.history import check, main

BLOB = "results/a/2-t/result"


def a_history() -> list[dict[str, Any]]:
    lost = {"number": 1, "started_at": "2026-11-21T00:00:10Z", "end": "worker_lost", "instance": "W_IN_0"}
    done = {"number": 2, "started_at": "2026-11-21T00:01:20Z", "end": "ok", "instance": "W_IN_1"}
    job = {"id": "a", "state": "completed", "charges": {"app": 0, "resource": 0, "lost": 1}, "attempts": [lost, done]}
    return [
        {"event": "asked", "job": "a", "at": 0},
        {"event": "accepted", "job": "a", "at": 0},
        {"event": "killed", "instance": "W_IN_0", "what": "role", "at": 1795219230.0 - 10},
        {"event": "row", "job": {**job, "result": {"sha256": "f00"}}, "blob": BLOB, "at": 2},
        {"event": "left", "results": {BLOB: "f00"}, "dead": [], "scratch": [], "processes": [], "at": 3},
    ]


def test_a_sound_history_is_sound() -> None:
    figures = check(a_history())
    assert figures.sound, list(figures.lines())
    assert figures.ran["completed"] == 1
    assert figures.recovery["measured"] == 1


def test_recovery_counts_from_a_death_and_anew_from_a_kill_of_the_whole_service() -> None:
    history = a_history()
    began = datetime.fromisoformat("2026-11-21T00:00:10Z").timestamp()
    history[2]["at"] = began + 5
    assert check(history).recovery["p99"] == 65
    history.insert(3, {"event": "killed", "instance": "W_IN_1", "what": "role", "at": began + 20})
    assert check(history).recovery["p99"] == 65
    history.insert(4, {"event": "killed", "instance": "W_IN_1", "what": "up", "at": began + 30})
    assert check(history).recovery["p99"] == 40


def test_a_job_that_retention_took_leaves_a_sound_history() -> None:
    history = a_history()
    history.insert(4, {"event": "removed", "job": "a", "at": 2})
    history[-1]["results"] = {}
    assert check(history).sound


def lose(history: list[dict[str, Any]]) -> None:
    history[3]["job"]["state"] = "running"


def invent(history: list[dict[str, Any]]) -> None:
    history[:2] = []


def rewrite(history: list[dict[str, Any]]) -> None:
    again = copy.deepcopy(history[3])
    again["blob"] = "results/a/3-t/result"
    history.insert(4, again)
    history[-1]["results"] = {again["blob"]: "f00"}


def damage(history: list[dict[str, Any]]) -> None:
    history[-1]["results"][BLOB] = "bad"


def overcharge(history: list[dict[str, Any]]) -> None:
    history[3]["job"]["charges"]["lost"] = 4


def leave_open(history: list[dict[str, Any]]) -> None:
    history[3]["job"]["attempts"][1]["end"] = None


def keep_from_the_poison_queue(history: list[dict[str, Any]]) -> None:
    history[3]["job"]["state"] = "poisoned"


def leave_a_blob(history: list[dict[str, Any]]) -> None:
    history[-1]["results"]["results/a/1-x/result"] = "bar"


def go_before_the_end(history: list[dict[str, Any]]) -> None:
    del history[-1]


def say_something_else(history: list[dict[str, Any]]) -> None:
    history.insert(3, {"event": "paused", "at": 1})


def remove_an_open_job(history: list[dict[str, Any]]) -> None:
    history[3]["job"]["state"] = "queued"
    history.insert(4, {"event": "removed", "job": "a", "at": 2})


def keep_a_removed_jobs_result(history: list[dict[str, Any]]) -> None:
    history.insert(4, {"event": "removed", "job": "a", "at": 2})


def leave_a_process(history: list[dict[str, Any]]) -> None:
    history[-1]["processes"] = ["4711"]


@pytest.mark.parametrize(
    ("spoil", "figure"),
    [
        (lose, "lost"),
        (invent, "unexpected"),
        (rewrite, "rewritten"),
        (damage, "broken"),
        (overcharge, "overcharged"),
        (leave_open, "unended"),
        (keep_from_the_poison_queue, "unburied"),
        (leave_a_blob, "orphans"),
        (leave_a_process, "orphans"),
        (remove_an_open_job, "lost"),
        (keep_a_removed_jobs_result, "orphans"),
        (go_before_the_end, "unseen"),
        (say_something_else, "unseen"),
    ],
)
def test_each_fault_is_seen(
    spoil: Callable[[list[dict[str, Any]]], None], figure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = a_history()
    spoil(history)
    assert getattr(check(history), figure)
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in history))
    assert main([str(path)]) == 1
    assert f"{figure}: 1" in capsys.readouterr().out


@pytest.mark.parametrize("torn", ['{"event": "row", "jo', "null", "", "\x00\x00"])
def test_a_line_that_is_cut_off_hides_nothing_of_what_follows(
    torn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = a_history()
    rewrite(history)
    lines = [json.dumps(event) for event in history]
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join([*lines[:4], torn, *lines[4:]]) + "\n")
    assert main([str(path)]) == 1
    told = capsys.readouterr().out
    assert "rewritten: 1 a" in told
    assert "unseen: 1 5:torn" in told


def test_an_empty_history_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("")
    assert main([str(path)]) == 1
