from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.environment import RoleInstance, RoleInstanceEndpoint
from rolehost.host.instance.instance import Instance
from rolehost.host.instance.life import LifeEnd
from rolehost.host.instance.recycling import RecycleReason
from rolehost.host.instance.status import Crash, InstanceState, InstanceStatus, Stage
from rolehost.host.reporting import SilentReporter
from rolehost.host.stopping import StopRequests
from rolehost.service_model import RoleModel
from support.instances import make_plan

CRASH = Crash(reason="broken", stage=Stage.RUN, exit_code=1, stderr="Traceback", at="2026-11-21T00:00:00.000Z")


@pytest.fixture
def status() -> InstanceStatus:
    return InstanceStatus("A_IN_0", "A")


def crash(status: InstanceStatus, *, was_ready: bool, settled: bool = False) -> None:
    status.begin_life()
    status.note_end(CRASH, was_ready=was_ready, settled=settled)
    status.change(InstanceState.RECYCLING, "broken")
    status.recycles += 1


def test_a_first_life_in_the_platform_s_words(status: InstanceStatus) -> None:
    words = []
    for state in InstanceState:
        if state is not InstanceState.RECYCLING:
            status.change(state, "")
            words.append(str(status.word))
    assert words == ["StartingRole", "BusyRole", "ReadyRole", "StoppingRole", "StoppedVM"]


def test_repeated_crashes_after_ready_are_a_cycle_until_a_life_has_lasted(status: InstanceStatus) -> None:
    crash(status, was_ready=True)
    assert status.facts()["status"] == "RestartingRole"
    crash(status, was_ready=True)
    assert status.facts()["status"] == "CyclingRole"
    status.change(InstanceState.STARTING, "")
    assert status.facts()["status"] == "CyclingRole"
    crash(status, was_ready=True, settled=True)
    assert status.facts()["status"] == "RestartingRole"


async def test_a_life_that_lasted_ends_a_crash_loop(status: InstanceStatus, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, RoleModel(name="A", entry_point="m:A"))
    instance = Instance(plan, status, StopRequests(), SilentReporter(), "")
    words = []
    for lasted in (5.0, 5.0, 299.0, 300.0, 5.0):
        instance._note_end(LifeEnd(reason=RecycleReason.CRASHED, crash=CRASH, was_ready=True, lasted=lasted))
        words.append(str(status.word))
    assert words == ["RestartingRole", "CyclingRole", "CyclingRole", "RestartingRole", "CyclingRole"]


def test_an_orderly_recycle_ends_a_cycle(status: InstanceStatus) -> None:
    crash(status, was_ready=True)
    status.note_end(None, was_ready=True, settled=False)
    crash(status, was_ready=True)
    assert status.facts()["status"] == "RestartingRole"


def test_repeated_starts_that_never_get_ready_failed(status: InstanceStatus) -> None:
    crash(status, was_ready=False)
    assert status.facts()["status"] == "RestartingRole"
    crash(status, was_ready=False)
    assert status.facts()["status"] == "FailedStartingRole"
    crash(status, was_ready=True)
    assert status.facts()["status"] == "RestartingRole"


def test_a_hung_role_is_unresponsive_until_its_next_life(status: InstanceStatus) -> None:
    status.hung = True
    status.change(InstanceState.RECYCLING, "")
    assert status.facts()["status"] == "UnresponsiveRole"
    status.begin_life()
    assert status.facts()["status"] == "RestartingRole"


def test_the_facts_hold_it_all_and_a_change_is_told_once(status: InstanceStatus) -> None:
    told = []
    status.on_change = lambda: told.append(status.facts())
    endpoint = RoleInstanceEndpoint("Http", ("127.1.0.1", 8080), "http")
    status.place(RoleInstance("A_IN_0", 1, 2, {"Http": endpoint}))
    status.begin_life()
    status.pid = 7
    for _ in range(2):
        status.change(InstanceState.READY, "The role is ready.")
        status.took(3)
    status.note_end(CRASH, was_ready=True, settled=False)
    assert [facts["generation"] for facts in told] == [0, 3]
    facts = told[-1]
    moments = [facts.pop(name) for name in ("started_at", "ready_at", "heartbeat_at")]
    assert all(moment.endswith("Z") for moment in moments)
    assert facts == {
        "instance": "A_IN_0",
        "role": "A",
        "state": "Ready",
        "status": "ReadyRole",
        "detail": "The role is ready.",
        "generation": 3,
        "recycles": 0,
        "fault_domain": 1,
        "update_domain": 2,
        "pid": 7,
        "endpoints": {"Http": {"protocol": "http", "address": "127.1.0.1", "port": 8080}},
        "last_crash": None,
    }
    assert status.facts()["pid"] is None
    assert status.facts()["last_crash"] == {
        "at": "2026-11-21T00:00:00.000Z",
        "reason": "broken",
        "exit_code": 1,
        "signal": None,
        "stage": "run",
        "stderr": "Traceback",
    }
