"""A front end whose stores do not answer, or whose disk is full, says so through its instance's status."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import StoreUnavailableError
from rolehost.frontend import readiness
from rolehost.frontend.readiness import Readiness
from support.front_end import until


class Jobs:
    """Answers, or doesn't."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked = 0

    async def counts(self) -> dict[str, int]:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return {}


class Told:
    """The host's side of an environment: what the instance says of itself."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def report_trouble(self, reason: str, seconds: float) -> None:
        assert seconds > readiness.LOOK_EVERY
        if self.said[-1:] != [reason]:
            self.said.append(reason)


async def test_stores_that_do_not_answer_make_it_busy_until_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "LOOK_EVERY", 0.01)
    jobs: Any = Jobs()
    told: Any = Told()
    async with Readiness(jobs, tmp_path, floor=1).watched(told):
        await until(lambda: jobs.asked > 3)
        assert told.said == []
        jobs.fault = StoreUnavailableError("connection refused")
        await until(lambda: told.said)
        jobs.fault = None
        await until(lambda: told.said[-1] == "")
    assert told.said == ["degraded: the stores do not answer: connection refused", ""]


async def test_one_error_is_a_hiccup_and_silence_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: Any = Jobs()
    looking = Readiness(jobs, tmp_path, floor=1)
    jobs.fault = StoreUnavailableError("reset")
    assert await looking.look() == ""
    jobs.fault = None
    assert await looking.look() == ""
    monkeypatch.setattr(readiness, "PATIENCE", 0.01)
    monkeypatch.setattr(jobs, "counts", lambda: asyncio.sleep(30))
    assert [await looking.look() for _ in range(2)] == ["", "degraded: the stores do not answer: no answer"]


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    jobs: Any = Jobs()
    assert "free, and" in await Readiness(jobs, tmp_path, floor=1 << 60).look()
    assert "can't be used" in await Readiness(jobs, tmp_path / "gone").look()
