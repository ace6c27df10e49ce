"""The limits of local resources: what counts, what is too much, and who gets time to make room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.host.instance import quotas
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.quotas import MEGABYTE, Overflow, QuotaWatch
from rolehost.processes import disk_usage as measuring
from rolehost.processes.disk_usage import disk_usage
from rolehost.service_model import LocalStorage, RoleModel
from rolehost.telemetry import subscribe
from support.instances import make_plan, prepared


def fill(path: Path, megabytes: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(os.urandom(int(megabytes * MEGABYTE)))
        file.flush()
        os.fsync(file.fileno())  # what is not on the disk yet may not be allocated yet
    return path


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Little time, and the events."""
    monkeypatch.setattr(quotas, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(quotas, "_PATIENCE", 1.0)
    events: list[tuple[str, dict[str, Any]]] = []
    unsubscribe = subscribe(lambda event, facts: events.append((event, facts)))
    yield events
    unsubscribe()


def plan_with(place: Path, *storages: LocalStorage) -> InstancePlan:
    resources = {each.name: each for each in storages}
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A", local_resources=resources))
    prepared(plan)
    return plan


async def looked(plan: InstancePlan) -> QuotaWatch:
    """A watch that has had its first look, which no event tells of."""
    watch = QuotaWatch(plan)
    for storage in plan.storages.values():
        assert await watch._look(storage) is None
    return watch


def work_of(plan: InstancePlan, name: str = "Work") -> Path:
    return plan.data.resource(plan.instance_id, name)


async def test_what_is_allocated_counts_once_wherever_it_lies(tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere" / "big", 3)
    root = tmp_path / "root"
    before = (await disk_usage(fill(root / "a" / "deep" / "er" / "one", 1).parents[3])).total()
    assert MEGABYTE <= before < 1.2 * MEGABYTE
    (root / "a" / "again").hardlink_to(root / "a" / "deep" / "er" / "one")
    (root / "b").mkdir()
    (root / "b" / "again").hardlink_to(root / "a" / "deep" / "er" / "one")
    (root / "link").symlink_to(elsewhere)
    (root / "folder").symlink_to(elsewhere.parent)
    with (root / "holes").open("wb") as sparse:
        sparse.truncate(50 * MEGABYTE)
    assert (await disk_usage(root)).total() < before + 0.1 * MEGABYTE
    fill(root / "c" / "two", 2)
    sizes = await disk_usage(root)
    assert 2 * MEGABYTE <= sizes["c"] < 2.1 * MEGABYTE
    assert sizes.total() > before + 2 * MEGABYTE
    assert (await disk_usage(tmp_path / "nowhere")).total() == 0


async def test_a_large_tree_is_measured_in_slices_with_rests_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2000):
        (tmp_path / str(number)).touch()
    whole = await disk_usage(tmp_path)
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(clock, "sleep", rest)
    monkeypatch.setattr(measuring, "_SLICE_SECONDS", 0.0002)
    assert await disk_usage(tmp_path) == whole
    assert len(rests) >= 2
    assert all(seconds >= 9 * 0.0002 for seconds in rests)


async def test_a_resource_beyond_its_limit_is_told_with_its_numbers(
    tmp_path: Path, patience: list[tuple[str, dict[str, Any]]]
) -> None:
    plan = plan_with(tmp_path, LocalStorage(name="Small", size_in_mb=1), LocalStorage(name="Work", size_in_mb=2))
    fill(work_of(plan) / "a", 1.5)
    watch = asyncio.create_task(QuotaWatch(plan).over())
    assert not (await asyncio.wait([watch], timeout=1.5))[0]
    fill(work_of(plan) / "b", 1)
    overflow = await asyncio.wait_for(watch, 10)
    assert (overflow.name, overflow.limit) == ("Work", 2 * MEGABYTE)
    assert 2.5 * MEGABYTE <= overflow.used < 2.7 * MEGABYTE
    assert str(overflow).startswith('the local resource "Work" is over its limit: 2.5 MB of 2 MB')
    assert not [event for event, _ in patience if event == "resource.over_at_start"]


async def test_a_role_that_makes_room_itself_in_time_goes_on(
    tmp_path: Path, patience: list[tuple[str, dict[str, Any]]]
) -> None:
    del patience
    plan = plan_with(tmp_path, LocalStorage(name="Work", size_in_mb=1))
    watch = asyncio.create_task(QuotaWatch(plan).over())
    for _ in range(5):
        path = fill(work_of(plan) / "a", 1.5)
        assert not (await asyncio.wait([watch], timeout=0.25))[0]
        path.unlink()
        assert not (await asyncio.wait([watch], timeout=0.25))[0]
    watch.cancel()


async def test_a_kept_resource_that_was_too_large_already_may_not_grow(
    tmp_path: Path, patience: list[tuple[str, dict[str, Any]]]
) -> None:
    plan = plan_with(tmp_path, LocalStorage(name="Work", size_in_mb=1, clean_on_role_recycle=False))
    fill(work_of(plan) / "a", 2)
    prepared(plan)
    watch = asyncio.create_task((await looked(plan)).over())
    assert not (await asyncio.wait([watch], timeout=1.5))[0]
    told = [facts for event, facts in patience if event == "resource.over_at_start"]
    assert [facts["instance"] for facts in told] == ["A_IN_0"]
    assert "2.0 MB of 1 MB" in told[0]["reason"]
    fill(work_of(plan) / "b", 0.5)
    overflow = await asyncio.wait_for(watch, 10)
    assert (overflow.name, overflow.limit) == ("Work", MEGABYTE)


async def test_a_kept_resource_that_shrank_may_not_grow_again(
    tmp_path: Path, patience: list[tuple[str, dict[str, Any]]]
) -> None:
    del patience
    plan = plan_with(tmp_path, LocalStorage(name="Work", size_in_mb=1, clean_on_role_recycle=False))
    fill(work_of(plan) / "a", 3)
    watch = await looked(plan)
    fill(work_of(plan) / "a", 0.5)
    for storage in plan.storages.values():
        assert await watch._look(storage) is None
    fill(work_of(plan) / "a", 2)
    assert (await asyncio.wait_for(watch.over(), 10)).name == "Work"


async def test_the_diagnostic_store_has_a_limit_too(
    tmp_path: Path, patience: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    del patience
    plan = plan_with(tmp_path)
    monkeypatch.setattr(quotas, "MEGABYTE", 256)  # 4096 of these are one
    fill(work_of(plan, "DiagnosticStore") / "a", 0.5)
    watch = await looked(plan)
    fill(work_of(plan, "DiagnosticStore") / "b", 1)
    assert (await asyncio.wait_for(watch.over(), 10)).name == "DiagnosticStore"


def test_an_overflow_in_words() -> None:
    told = str(Overflow("Work", 3 * MEGABYTE + 1, 2 * MEGABYTE))
    assert told == 'the local resource "Work" is over its limit: 3.0 MB of 2 MB'
