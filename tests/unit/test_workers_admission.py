"""A worker whose disk is full claims nothing, and goes on by itself once there is room."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from rolehost.telemetry import subscribe
from rolehost.workers import admission
from rolehost.workers.admission import Admission


class Disk(NamedTuple):
    total: int
    used: int
    free: int


FLOOR = 100 << 20


async def test_claiming_pauses_below_the_floor_and_resumes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, told = [FLOOR], list[str]()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(0, 0, free[0]))
    monkeypatch.setattr(admission, "LOOK_EVERY", 0.01)
    stop = subscribe(lambda event, facts: told.append(f"{event}: {facts.get('why', '')}"))
    try:
        door = Admission(tmp_path, FLOOR)
        await door.granted()
        free[0] = FLOOR - 1
        waiting = asyncio.create_task(door.granted())
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        free[0] = FLOOR
        async with asyncio.timeout(5):
            await waiting
    finally:
        stop()
    assert told == [f"worker.paused: the disk of {tmp_path} has 100 MB free, and 100 MB are needed", "worker.resumed: "]


async def test_a_directory_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        await Admission(tmp_path / "gone", 1).granted()


async def test_claiming_pauses_while_descriptors_run_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LOOK_EVERY", 0.01)
    told = list[str]()
    stop = subscribe(lambda event, facts: told.append(f"{event}: {facts.get('why', '')}"))
    door = Admission(tmp_path, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        await door.granted()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - admission._descriptors_left() + 40, hard))
        while admission._descriptors_left() >= admission.DESCRIPTORS:
            taken.append(os.dup(0))
        waiting = asyncio.create_task(door.granted())
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        os.close(taken.pop())
        async with asyncio.timeout(5):
            await waiting
    finally:
        stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert told == ["worker.paused: the process may open 15 more files, and 16 are needed", "worker.resumed: "]


def test_older_kernels_have_their_descriptors_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(20):
        (tmp_path / str(number)).touch()

    class Uncounted(type(tmp_path)):  # type: ignore[misc]  # the class of this system's paths
        def stat(self, **_: object) -> os.stat_result:
            return os.stat_result([0] * 10)

    monkeypatch.setattr(admission, "_OPEN", Uncounted(tmp_path))
    assert admission._descriptors_left() == most - 20 + 1
    monkeypatch.setattr(admission, "_OPEN", Uncounted(tmp_path / "gone"))
    assert admission._descriptors_left() == 1 << 62
