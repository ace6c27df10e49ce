from __future__ import annotations

import pytest

from rolehost.host.instance.recycling import KuduPauses, RecyclePauses, RecycleReason, ServiceFabricPauses, pauses_of
from rolehost.service_model import RecycleBackoff


def test_pauses_of_an_instance_that_had_been_ready() -> None:
    pauses = RecyclePauses()
    assert [pauses.after(was_ready=True, lasted=5) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert pauses.after(was_ready=True, lasted=301) == 1
    assert pauses.after(was_ready=True, lasted=5) == 2


def test_pauses_of_starts_that_never_reach_ready() -> None:
    pauses = RecyclePauses()
    series = [pauses.after(was_ready=False, lasted=5) for _ in range(40)]
    assert series[:4] == [10, 15, 22.5, 33.75]
    assert max(series) == series[-1] == 3600
    assert pauses.after(was_ready=True, lasted=5) == 1
    assert pauses.after(was_ready=False, lasted=5) == 10
    assert RecyclePauses(0.01).after(was_ready=False, lasted=5) == pytest.approx(0.1)


def test_service_fabric_s_pauses_grow_until_a_life_lasted_five_minutes() -> None:
    pauses = ServiceFabricPauses()
    assert [pauses.after(was_ready=True, lasted=5) for _ in range(4)] == [10, 15, 22.5, 33.75]
    assert pauses.after(was_ready=True, lasted=299) == pytest.approx(50.625)
    assert pauses.after(was_ready=True, lasted=300) == 10
    assert max(pauses.after(was_ready=False, lasted=1000) for _ in range(40)) == 3600


def test_kudu_s_pause_is_a_minute_or_none() -> None:
    pauses = KuduPauses()
    assert [pauses.after(was_ready=True, lasted=119.9) for _ in range(3)] == [60, 60, 60]
    assert pauses.after(was_ready=True, lasted=120) == 0
    assert pauses.after(was_ready=False, lasted=3) == 60


def test_every_back_off_of_the_model_has_its_pauses() -> None:
    firsts = {str(each): pauses_of(each, 1.0).after(was_ready=True, lasted=5) for each in RecycleBackoff}
    assert firsts == {"rolehost": 1, "service_fabric": 10, "kudu": 60, "none": 0}


def test_only_what_the_role_can_be_told_of_is_orderly() -> None:
    unannounced = {each.name for each in RecycleReason if not each.is_orderly}
    assert unannounced == {"CRASHED", "HUNG", "START_TIMED_OUT", "TASK_FAILED", "NOT_STARTED"}
