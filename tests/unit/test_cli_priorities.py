"""`rolehost submit --priority` and `--group`, and what `rolehost check --connect` says of the queues of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.commands import invoke, picture
from support.service_bus import QueueOptions, StandIn

QUEUE = "thumbnail-jobs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ROLEHOST_STORAGE", "ROLEHOST_QUEUE", "ROLEHOST_DATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("1.png", "2.png", "3.png"):
        picture(tmp_path / name)


def submitted(*arguments: str) -> list[dict[str, Any]]:
    told = invoke("submit", *arguments, "--json")
    assert told.exit_code == 0, told.output
    jobs: list[dict[str, Any]] = json.loads(told.stdout)["jobs"]
    return jobs


def test_a_priority_is_told_where_it_is_not_the_usual_one() -> None:
    (low,) = submitted("1.png", "--priority", "low")
    (usual,) = submitted("1.png", "--priority", "normal")
    assert low["priority"] == "low"
    assert "priority" not in usual
    assert "priority    low\n" in invoke("job", low["id"]).stdout
    assert "priority" not in invoke("job", usual["id"]).stdout
    assert invoke("submit", "1.png", "--priority", "urgent").exit_code == 2


def test_a_group_is_refused_where_it_can_not_be_kept_in_order() -> None:
    told = invoke("submit", "1.png", "--group", "red")
    assert told.exit_code == 1
    assert "that needs queues on Azure Service Bus" in told.stderr
    assert invoke("submit", "1.png", "--group", "red", "--batch", "b").exit_code == 2
    assert invoke("submit", "1.png", "--group", "x" * 129).exit_code == 2


def test_the_files_of_a_group_are_submitted_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn(makes_queues=QueueOptions()) as bus:
        monkeypatch.setenv("ROLEHOST_QUEUE", bus.connection_string)
        jobs = submitted("2.png", "3.png", "1.png", "--group", "red")
        assert {job["group"] for job in jobs} == {"red"}
        assert [job["source"]["name"] for job in sorted(jobs, key=lambda job: job["id"])] == ["2.png", "3.png", "1.png"]
        waiting = bus.broker.queues[f"{QUEUE}-ordered"].messages
        assert [message.session for _, message in sorted(waiting.items())] == ["red"] * 3
        assert [str(message.id) for _, message in sorted(waiting.items())] == [f"{job['id']}:0" for job in jobs]
        assert "group       red\n" in invoke("job", jobs[0]["id"]).stdout


def test_a_service_does_without_the_queues_of_levels_that_it_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    options = QueueOptions(max_delivery_count=1000)
    with StandIn({QUEUE: options, f"{QUEUE}-high": options, f"{QUEUE}-ordered": options}) as bus:
        monkeypatch.setenv("ROLEHOST_QUEUE", bus.connection_string)
        told = invoke("check", "--connect", "--json", "--no-load")
        assert told.exit_code == 0, told.output
        document = json.loads(told.stdout)
        assert not document["problems"]
        missing = [each for each in document["warnings"] if f"{QUEUE}-low" in each]
        assert len(missing) == 1
        assert any(f"{QUEUE}-ordered" in each for each in document["warnings"])  # it has no sessions
        assert not any(f"{QUEUE}-high" in each for each in document["warnings"])
