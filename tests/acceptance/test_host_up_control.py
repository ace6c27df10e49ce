"""`rolehost status` and `rolehost stop`, and the socket behind them, with real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from update_support import Updated, running, until

pytestmark = pytest.mark.acceptance

CRASHING = """
import sys
class Crashing(Worker):
    def on_start(self):
        if os.environ["RoleInstanceID"] == "Worker_IN_1":
            print("no such colour: blurple", file=sys.stderr)
            raise ValueError("the paint is out")
        return super().on_start()
"""

SLOW_TO_STOP = """
class Slow(Worker):
    def on_stop(self):
        super().on_stop()
        while not Path("go").exists():
            time.sleep(0.02)
        note("stopped")
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Updated]:
    with running(tmp_path) as service:
        yield service


def test_the_status_for_people_and_as_json(tmp_path: Path) -> None:
    with running(tmp_path, CRASHING) as service:
        service.define(instances=2, role="Crashing")
        service.up()
        until(lambda: service.status() and service.facts("Worker_IN_1")["last_crash"], lambda: service.log)
        until(lambda: service.facts()["state"] == "Ready", lambda: service.log)
        told = service.done("status").splitlines()
        assert re.fullmatch(r"tiny, generation 1, \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", told[0])
        assert told[1].split() == ["INSTANCE", "STATE", "STATUS", "DOMAIN", "UPTIME", "HEARTBEAT", "RECYCLES", "DETAIL"]
        assert re.match(r"Worker_IN_0 +Ready +ReadyRole +0 +\d+ s +\d+ s ago +0 +\S", told[2])
        crash = next(index for index, line in enumerate(told) if line.startswith("Worker_IN_1: last crash "))
        assert "(start, exit code 1)" in told[crash]
        assert "    no such colour: blurple" in told[crash:]
        document = json.loads(service.done("status", "--json"))
        assert document["service"] == "tiny"
        assert document["deployment"] == (service.data / "deployment-id").read_text()
        assert document["walk"] is None
        facts = document["instances"][1]
        assert facts["last_crash"]["exit_code"] == 1
        assert "the paint is out" in facts["last_crash"]["stderr"]


def test_watching_shows_every_change_of_an_instance(service: Updated) -> None:
    service.define("hello", instances=2, domains=2)
    service.up_and_ready()
    watched = service.watch()
    (role,) = service.pids("Worker_IN_1")
    os.kill(int(role), signal.SIGKILL)
    watched.until(
        lambda each: each["instances"][1]["state"] == "Ready" and each["instances"][1]["recycles"] == 1, "ready again"
    )
    service.done("stop")
    watched.end()
    states = [each["instances"][1]["state"] for each in watched.documents]
    seen = [state for before, state in zip(["", *states], states, strict=False) if state != before]
    assert [state for state in seen if state != "Busy"][:4] == ["Ready", "Recycling", "Starting", "Ready"]
    assert seen[-1] == "Stopped"
    times = [each["at"] for each in watched.documents]
    assert times == sorted(times)
    assert "the service has stopped" in (service.directory / "watch.log").read_text()


def test_watching_for_people_writes_the_table_again(service: Updated) -> None:
    service.define()
    service.up_and_ready()
    process = service.start("status", "--watch", output="seen")
    until(lambda: (service.directory / "seen").read_text().count("Worker_IN_0") == 1, lambda: "the table")
    service.done("stop")
    assert process.wait(30) == 0
    assert (service.directory / "seen").read_text().count("\nINSTANCE") > 1


def test_a_stop_by_the_user_has_no_limit(tmp_path: Path) -> None:
    with running(tmp_path, SLOW_TO_STOP) as service:
        service.define(role="Slow")
        service.file.write_text(re.sub(r"(drain|on_stop)_seconds = 5", r"\1_seconds = 0.5", service.file.read_text()))
        process = service.up_and_ready()
        stopping = service.start("stop")
        service.until_noted("on_stop")
        until(lambda: service.facts()["state"] == "Stopping", lambda: service.log)
        time.sleep(2.5)  # longer than either limit and what is added to it: nothing must happen
        assert process.poll() is None
        assert stopping.poll() is None
        assert "the service is stopping" in service.refused("scale", "Worker", 2)
        (service.directory / "go").touch()
        assert stopping.wait(30) == 0
        assert process.wait(30) == 0
        assert service.noted()[-1] == "stopped"


def test_a_stop_leaves_nothing_but_events_in_the_log(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()
    watched = service.watch()
    service.done("stop")
    watched.end()
    assert process.wait(30) == 0
    assert [line for line in service.log.splitlines() if not line.startswith('{"')] == []


def test_a_file_that_is_still_being_read_when_the_service_stops_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, SLOW_TO_STOP) as service:
        service.define(role="Slow")
        process = service.up_and_ready()
        slow = tmp_path / "slow.toml"
        os.mkfifo(slow)
        update = service.start("update", str(slow), output="update")
        with slow.open("w") as writing:  # it is being read
            service.start("stop")
            service.until_noted("on_stop")
            writing.write(service.file.read_text().replace("instances = 1", "instances = 2"))
        assert update.wait(30) == 1
        assert "the service is stopping" in (tmp_path / "update").read_text()
        (tmp_path / "go").touch()
        assert process.wait(30) == 0
        assert service.noted("Worker_IN_1") == []


def test_a_host_that_hangs_is_ended_and_started_again(service: Updated) -> None:
    service.define(service="heartbeat_seconds = 1")
    process = service.up_and_ready()
    watched = service.watch()
    os.kill(host_of(service), signal.SIGSTOP)
    watched.until(lambda each: each["instances"][0]["state"] == "Recycling", "it isn't taken for ready any more")
    watched.until(lambda each: each["instances"][0]["recycles"] == 1, "it is started again")
    until(lambda: service.facts()["state"] == "Ready", lambda: service.log)
    assert [each["instance"] for each in service.events("instance.host_silent")] == ["Worker_IN_0"]
    assert len(service.pids()) == 2
    service.done("stop")
    assert process.wait(30) == 0


def test_the_runs_of_a_killed_host_never_finished(service: Updated) -> None:
    service.define()
    service.up_and_ready()
    until(lambda: statuses(service) == ["Running"], lambda: str(statuses(service)))
    os.kill(host_of(service), signal.SIGKILL)
    until(lambda: len(service.pids()) == 2, lambda: service.log)
    until(lambda: statuses(service) == ["Running", "NeverFinished"], lambda: str(statuses(service)))
    service.done("stop")
    until(lambda: statuses(service) == ["CompletedSuccess", "NeverFinished"], lambda: str(statuses(service)))


def test_a_killed_host_is_a_crash_that_its_next_life_shows(service: Updated) -> None:
    service.define()
    service.up_and_ready()
    os.kill(host_of(service), signal.SIGKILL)
    until(lambda: service.facts()["recycles"] == 1 and service.facts()["state"] == "Ready", lambda: service.log)
    crash = service.facts()["last_crash"]
    assert (crash["stage"], crash["signal"]) == ("host", signal.SIGKILL)
    assert "last crash" in (told := service.done("status"))
    assert "The instance's host was ended by signal 9 (SIGKILL), and with it the role." in " ".join(told.split())


def test_a_host_that_hangs_is_ended_by_a_stop_without_limit_once_its_role_had_time(tmp_path: Path) -> None:
    with running(tmp_path, SLOW_TO_STOP) as service:
        service.define(role="Slow", service="heartbeat_seconds = 1")
        process = service.up_and_ready()
        stopping = service.start("stop")
        service.until_noted("on_stop")
        os.kill(host_of(service), signal.SIGSTOP)
        assert stopping.wait(60) == 0
        assert process.wait(30) == 0
        assert [each["instance"] for each in service.events("instance.host_silent")] == ["Worker_IN_0"]
        assert sockets_of(service) == []


def test_a_host_that_is_killed_leaves_no_sockets(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()
    assert len(sockets_of(service)) == 1
    os.kill(host_of(service), signal.SIGSTOP)
    service.done("stop", "--within", "0.5")
    assert process.wait(30) == 0
    assert sockets_of(service) == []


def statuses(service: Updated) -> list[str]:
    """The words for the role's runs, the newest first."""
    return [each["status"] for each in json.loads(service.done("runs", "--json"))["runs"]]


def host_of(service: Updated) -> int:
    """The bootstrapper of the one role process that has left a trace."""
    (role,) = service.pids()
    return int(Path(f"/proc/{role}/stat").read_text().rpartition(")")[2].split()[1])


def sockets_of(service: Updated) -> list[Path]:
    """The directories of runtime channels."""
    deployment = (service.data / "deployment-id").read_text()
    return list(Path(tempfile.gettempdir()).glob(f"rolehost-{deployment[:8]}-*"))


def test_a_stop_within_so_many_seconds_ends_what_takes_longer(tmp_path: Path) -> None:
    with running(tmp_path, SLOW_TO_STOP) as service:
        service.define(role="Slow")
        process = service.up_and_ready()
        began = time.monotonic()
        service.done("stop", "--within", 1)
        assert 1 < time.monotonic() - began < 4.5
        assert process.wait(30) == 0
        assert service.noted()[-1] == "on_stop"


def test_a_signal_after_a_stop_without_limit_sets_the_drain_time(tmp_path: Path) -> None:
    with running(tmp_path, SLOW_TO_STOP) as service:
        service.define(role="Slow")
        service.file.write_text(re.sub(r"drain_seconds = 5", "drain_seconds = 1", service.file.read_text()))
        process = service.up_and_ready()
        service.start("stop")
        service.until_noted("on_stop")
        process.terminate()
        assert process.wait(4) == 0


def test_without_a_service_every_command_says_so(service: Updated) -> None:
    for command in (["status"], ["stop"], ["update", "x.toml"], ["scale", "Worker", "2"], ["status", "--watch"]):
        answer = service.command(*command)
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert answer.stderr.startswith(f"rolehost: no service runs on the data directory {service.data}: ")
    assert service.command("update").returncode == 2


def test_after_the_end_the_status_shows_what_the_instances_left(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()
    until(lambda: "directory.number_taken" in service.log, lambda: service.log)
    service.done("stop")
    assert process.wait(30) == 0
    answer = service.command("status", "--json")
    assert answer.returncode == 0
    assert "no service runs" in answer.stderr
    (facts,) = json.loads(answer.stdout)["instances"]
    assert (facts["instance"], facts["state"]) == ("Worker_IN_0", "Stopped")


def test_a_directory_helper_that_is_killed_harms_nobody(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()

    def helper() -> int:
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return next((int(pid) for pid in found if b"directory_process" in Path(f"/proc/{pid}/cmdline").read_bytes()), 0)

    before = until(helper, lambda: "the helper")
    os.kill(before, signal.SIGKILL)
    until(lambda: helper() not in {0, before}, lambda: f"another helper\n{service.log}")
    assert service.facts()["recycles"] == 0
    service.done("stop")
    assert process.wait(30) == 0


def test_a_service_whose_path_is_too_long_for_a_socket_is_controlled_all_the_same(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 25) / ("longer" * 10)
    directory.mkdir(parents=True)
    with running(directory) as service:
        service.define()
        process = service.up_and_ready()
        assert service.facts()["state"] == "Ready"
        service.done("stop")
        assert process.wait(30) == 0
        assert not (service.data / "control.sock").exists()


def test_a_killed_service_leaves_no_socket_in_the_way(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()
    process.kill()
    process.wait()
    assert "no service runs" in service.command("stop").stderr
    service.up_and_ready()
    assert service.facts()["state"] == "Ready"
