from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import Make, TinyService, is_alive, let_others_in, marked, services, until, zombies_of

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


def test_starts_that_fail_wait_longer_each_time_and_leave_the_host_stoppable(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def on_start(self):
                note(time.monotonic())
                return False
    """)
    service.start_instance()
    until(lambda: len(service.words()) >= 4, "four starts")
    assert service.probe()[0] == 503
    pauses = [float(found) for found in re.findall(r'"pause_seconds": ([0-9.]+)', service.stderr)]
    assert pauses[:3] == [0.2, 0.3, 0.45]
    moments = [float(word) for word in service.words()]
    assert moments[3] - moments[2] > 0.45
    code, seconds = service.stop()
    assert (code, seconds < 8) == (0, True)


def test_a_killed_role_process_comes_back_and_leaves_nothing_behind(make: Make) -> None:
    # What it leaves has gone into a session of its own, twice removed, and ignores TERM.
    service = make("""
        STRAY = '''
        import os, signal, time
        signal.signal(15, signal.SIG_IGN)
        os.fork() and os._exit(0)
        os.setsid()
        time.sleep(600)
        '''.replace("        ", "")
        class Worker(RoleEntryPoint):
            def run(self):
                marker = os.environ["ROLEHOST_CHILD"].replace("role", "stray")
                subprocess.run([sys.executable, "-c", STRAY], env={**os.environ, "ROLEHOST_CHILD": marker})
                note("run")
                time.sleep(600)
    """)
    process = service.start_instance()
    service.until_words("run")
    strays = until(lambda: marked(f"{service.deployment_id}/Worker_IN_0/stray"), "a stray")
    first = service.role_pid()
    os.kill(first, signal.SIGKILL)
    service.until_words("run", "run")
    assert not any(is_alive(stray) for stray in strays)
    assert service.role_pid() != first
    assert service.probe("/healthz")[1]["recycles"] == 1
    assert zombies_of(process.pid) == []
    assert service.stop()[0] == 0
    assert marked(f"{service.deployment_id}/") == []


def test_a_role_process_that_is_stopped_is_recycled_after_the_heartbeat_timeout(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_start(self):
                note("on_start")
                time.sleep(2.5)  # longer than the time-out: user code never holds up the heartbeat
                return True
        """,
        heartbeat_seconds=1.5,
    )
    service.start_instance()
    service.until_ready()
    assert service.words() == ["on_start"]
    first = service.role_pid()
    os.kill(first, signal.SIGSTOP)
    service.until_words("on_start", "on_start")
    assert not is_alive(first)
    assert "role.hung" in service.stderr
    assert service.stop()[0] == 0


def test_a_crash_loop_is_cycling_and_says_how_it_crashed(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def run(self):
                print("to stdout")
                raise ArithmeticError("broken in run")
        """,
        recycle_seconds=0.3,
    )
    service.start_instance()
    facts = service.fabric.until(status="CyclingRole", state="Recycling")
    assert facts["detail"].startswith("Role has encountered an error and has stopped. ")
    crash = facts["last_crash"]
    assert (crash["stage"], crash["exit_code"], crash["signal"]) == ("run", 1, None)
    assert crash["reason"] == "The role process ended with exit code 1: ArithmeticError: broken in run."
    assert crash["stderr"].splitlines()[-1] == "ArithmeticError: broken in run"
    assert "to stdout" not in crash["stderr"]
    details = [each["detail"] for each in service.fabric.history]
    assert details.index("Starting role...") < details.index("The role is ready.")
    assert service.fabric.statuses()[:4] == ["StartingRole", "BusyRole", "ReadyRole", "RestartingRole"]
    assert facts["recycles"] >= 1
    assert service.stop()[0] == 0
    assert service.fabric.until(state="Stopped")["status"] == "StoppedVM"


def test_starts_that_fail_are_called_so(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def on_start(self):
                return False
    """)
    service.start_instance()
    facts = service.fabric.until(status="FailedStartingRole")
    assert "OnStart returned False" in facts["detail"]
    assert (facts["last_crash"]["stage"], facts["last_crash"]["exit_code"]) == ("start", 3)
    assert "ReadyRole" not in service.fabric.statuses()
    assert service.stop()[0] == 0


def test_a_hung_role_is_called_unresponsive(make: Make) -> None:
    service = make("class Worker(RoleEntryPoint): pass", heartbeat_seconds=1.0, recycle_seconds=1.0)
    service.start_instance()
    service.until_ready()
    os.kill(service.role_pid(), signal.SIGSTOP)
    service.fabric.until(status="UnresponsiveRole", state="Recycling")
    service.fabric.until(status="ReadyRole", recycles=1)
    assert service.fabric.facts["last_crash"]["reason"] == "The role was killed: it gave no sign of life for 1 s."
    assert service.stop()[0] == 0


def test_a_start_that_takes_too_long_is_cut(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_start(self):
                note("on_start")
                if len(Path(os.environ["TRACE"]).read_text().split()) == 1:
                    time.sleep(600)
                return True
            def on_stop(self):
                note("on_stop")
        """,
        start_seconds=3,
    )
    service.start_instance()
    service.until_ready()
    assert service.words() == ["on_start", "on_start"]
    crash = service.fabric.facts["last_crash"]
    assert crash["reason"] == "The role was killed: its start took longer than 3 s."
    assert crash["stage"] == "start"
    recycles = service.fabric.facts["recycles"]
    time.sleep(3.5)  # what counts is the time until it is ready, and then no more
    assert (service.fabric.facts["recycles"], service.fabric.facts["state"]) == (recycles, "Ready")
    assert service.stop()[0] == 0


TASKS = """
[roles.Worker]
entry_point = "roles:Worker"
[[roles.Worker.startup]]
command = "first.sh"
[[roles.Worker.startup]]
command = "second.sh 'a b'"
"""


def with_tasks(make: Make, roles: str, first: str, **times: float) -> TinyService:
    service = make(roles, TASKS, **times)
    service.trace.chmod(0o666)
    for name, does in (("first", first), ("second", "true")):
        script = service.directory / f"{name}.sh"
        script.write_text(f"#!/bin/sh\necho {name} >> {service.trace}\n{does}\n")
        script.chmod(0o755)
    let_others_in(service.directory)
    return service


def test_every_recycle_runs_every_startup_task_again(make: Make) -> None:
    service = with_tasks(
        make,
        """
        class Worker(RoleEntryPoint):
            def on_start(self):
                note("on_start")
            def run(self):
                note("run")
                self.role_environment.request_recycle()
                time.sleep(600)
        """,
        "true",
    )
    service.start_instance()
    life = ["first", "second", "on_start", "run"]
    service.until_words(*life, *life, *life)
    assert service.words()[:8] == [*life, *life]
    assert service.stop()[0] == 0


def test_a_background_task_is_asked_to_end_with_each_life(make: Make) -> None:
    service = with_tasks(
        make,
        """
        class Worker(RoleEntryPoint):
            def run(self):
                trace = Path(os.environ["TRACE"])
                lives = trace.read_text().split().count("run") + 1
                while trace.read_text().split().count("trapped") < lives:
                    time.sleep(0.02)
                note("run")
                if lives == 2:
                    time.sleep(600)
        """,
        "true",
    )
    definition, script = service.directory / "service.toml", service.directory / "first.sh"
    definition.write_text(definition.read_text().replace('"first.sh"', '"first.sh"\ntype = "background"'))
    trace = service.trace
    does = f"trap 'echo ended >> {trace}; exit' TERM\necho trapped >> {trace}\nwhile :; do sleep 0.05; done"
    script.write_text(f"#!/bin/sh\n{does}\n")
    service.start_instance()
    service.until_words("run", "ended", "run")
    assert service.stop()[0] == 0
    assert service.words().count("ended") == 2


def test_a_startup_task_that_fails_keeps_the_role_from_starting_and_says_why(make: Make) -> None:
    service = with_tasks(make, "class Worker(RoleEntryPoint): pass", "sleep 0.3; echo no space >&2; exit 7")
    service.start_instance()
    facts = service.fabric.until(status="FailedStartingRole")
    details = [each["detail"] for each in service.fabric.history]
    assert "Waiting for role to start... System startup tasks are running." in details
    assert set(service.words()) == {"first"}
    crash = facts["last_crash"]
    assert (crash["stage"], crash["exit_code"], crash["stderr"]) == ("startup task", 7, "no space")
    assert "first.sh" in crash["reason"]
    assert "7" in facts["detail"]
    assert service.probe()[0] == 503
    assert service.stop()[0] == 0


def test_startup_tasks_count_into_the_time_of_a_start(make: Make) -> None:
    service = with_tasks(make, "class Worker(RoleEntryPoint): pass", "sleep 600", start_seconds=1)
    service.start_instance()
    crash: dict[str, str] = until(lambda: service.fabric.facts.get("last_crash") or {}, "a crash")
    assert (crash["stage"], crash["reason"]) == ("startup task", "Its startup tasks took longer than 1 s.")
    service.until_words("first", "first")
    assert service.stop()[0] == 0
    assert marked(f"{service.deployment_id}/") == []


def test_a_stop_during_a_startup_task_ends_the_task(make: Make) -> None:
    service = with_tasks(make, "class Worker(RoleEntryPoint): pass", "sleep 600")
    service.start_instance()
    service.until_words("first")
    code, seconds = service.stop()
    assert (code, seconds < 6) == (0, True)
    assert service.words() == ["first"]
    assert marked(f"{service.deployment_id}/") == []


REASONS = """
class Worker(RoleEntryPoint):
    def run(self):
        {does}
        time.sleep(600)
"""


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("return", "run returned"),
        ("self.role_environment.request_recycle()", "recycle requested"),
        ("raise OSError", "crashed"),
        ("os._exit(0)", "crashed"),
        ("os.kill(os.getpid(), 9)", "crashed"),
    ],
)
def test_a_recycle_has_its_reason(make: Make, does: str, reason: str) -> None:
    service = make(REASONS.format(does=does))
    service.start_instance()
    recycled = until(lambda: [e for e in service.fabric.events if e["name"] == "instance.recycled"], "a recycle")
    assert recycled[0]["facts"]["reason"] == reason
    assert service.stop()[0] == 0


@pytest.mark.parametrize(("backoff", "pauses"), [("service_fabric", [0.2, 0.3, 0.45]), ("none", [0.0, 0.0, 0.0])])
def test_the_pauses_are_chosen_in_the_definition(make: Make, backoff: str, pauses: list[float]) -> None:
    service = make("class Worker(RoleEntryPoint):\n    def run(self): note('run')\n", recycle_backoff=backoff)
    service.start_instance()
    service.until_words("run", "run", "run", "run")
    assert [float(found) for found in re.findall(r'"pause_seconds": ([0-9.]+)', service.stderr)][:3] == pauses
    assert service.stop()[0] == 0


def test_what_the_role_started_ends_with_every_life(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def run(self):
                child = subprocess.Popen(["sleep", "600"], start_new_session=True)
                note(child.pid)
                self.role_environment.request_recycle()
                time.sleep(600)
    """)
    service.start_instance()
    until(lambda: len(service.words()) >= 2, "the second life")
    first = int(service.words()[0])
    assert not is_alive(first)
    assert service.stop()[0] == 0
    assert not any(is_alive(int(word)) for word in service.words())


def test_a_local_resource_over_its_size_recycles_the_role_and_says_so(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def run(self):
                note("run")
                root = self.role_environment.get_local_resource("Small").root_path
                if len(Path(os.environ["TRACE"]).read_text().split()) == 1:
                    Path(root, "big").write_bytes(b"x" * 3_000_000)
                time.sleep(600)
            def on_stop(self):
                note("on_stop")
        """,
        '[roles.Worker]\nentry_point = "roles:Worker"\n[roles.Worker.local_resources.Small]\nsize_in_mb = 1',
    )
    service.start_instance()
    service.until_words("run", "on_stop", "run")
    crash = service.fabric.facts["last_crash"]
    assert crash["reason"].startswith('The local resource "Small" is over its limit: ')
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled == ["local resource over its size"]
    assert service.stop()[0] == 0
