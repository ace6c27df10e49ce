from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from host_support import Make, TinyService, is_alive, let_others_in, marked, services, signal_again_and_again

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


def test_a_hung_on_stop_is_killed_at_the_deadline(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_stop(self):
                note(os.getpid())
                time.sleep(600)
        """,
        drain_seconds=1,
    )
    service.start_instance()
    service.until_ready()
    code, seconds = service.stop()
    assert code == 0
    assert 0.9 < seconds < 3
    assert not is_alive(int(service.words()[0]))


def test_a_recycle_has_a_deadline_too(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def run(self):
                note("run")
            def on_stop(self):
                time.sleep(600)
        """,
        on_stop_seconds=0.5,
    )
    service.start_instance()
    service.until_words("run", "run")
    assert service.stop(signal.SIGTERM)[0] == 0


def test_a_second_signal_ends_it_at_once(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_stop(self):
                note("on_stop")
                time.sleep(600)
    """,
        drain_seconds=30,
    )
    process = service.start_instance()
    service.until_ready()
    process.send_signal(signal.SIGTERM)
    service.until_words("on_stop")
    signal_again_and_again(process)
    assert process.returncode == 0


def test_signals_that_come_together_are_one_request(make: Make) -> None:
    """A service manager signals every process of the tree, and `up` tells its bootstrappers besides."""
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_stop(self):
                time.sleep(1.5)
                note("put_away")
    """,
        drain_seconds=30,
    )
    process = service.start_instance()
    service.until_ready()
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert service.words() == ["put_away"]


def test_a_stop_during_a_recycle_shortens_its_deadline(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def run(self):
                self.role_environment.request_recycle()
                time.sleep(600)
            def on_stop(self):
                note("on_stop")
                time.sleep(600)
        """,
        drain_seconds=0.5,
        on_stop_seconds=60,
    )
    service.start_instance()
    service.until_words("on_stop")
    code, seconds = service.stop()
    assert (code, seconds < 8) == (0, True)


def test_a_served_role_drains_before_on_stop_and_knows_its_deadline(make: Make) -> None:
    service = make("""
        class Worker(ServedRole):
            async def serve(self, stopping):
                assert threading.current_thread() is threading.main_thread()
                note("serve")
                await stopping.wait()
                assert 3 < self.stop_deadline - time.monotonic() <= 5
                await asyncio.sleep(0.2)
                note("drained")
            def on_stop(self):
                note("on_stop")
    """)
    service.start_instance()
    service.until_words("serve")
    assert service.stop()[0] == 0
    assert service.words() == ["serve", "drained", "on_stop"]


HANGS = """
class Worker(RoleEntryPoint):
    def on_start(self):
        def stopping(e):
            note("stopping")
        self.role_environment.stopping += stopping
        return True
    def on_stop(self):
        note("on_stop")
        while not Path("go").exists():
            time.sleep(0.02)
        note("on_stop_done")
"""


def test_a_stop_by_the_user_waits_without_limit(make: Make) -> None:
    service = make(HANGS, drain_seconds=0.5, on_stop_seconds=0.5)
    process = service.start_instance()
    service.until_ready()
    service.fabric.stop(None)
    service.until_words("stopping", "on_stop")
    service.fabric.until(state="Stopping", status="StoppingRole")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)  # four times the other limits
    (service.directory / "go").touch()
    assert process.wait(10) == 0
    assert service.words() == ["stopping", "on_stop", "on_stop_done"]
    assert "role.killed" not in service.stderr


def test_a_stop_by_the_user_may_have_a_limit_and_a_signal_gives_the_drain_time(make: Make) -> None:
    service = make(HANGS, drain_seconds=0.5)
    process = service.start_instance()
    service.until_ready()
    began = time.monotonic()
    service.fabric.stop(0.7)
    assert process.wait(10) == 0
    assert 0.6 < time.monotonic() - began < 4
    process = service.start_instance()
    service.until_ready()
    service.fabric.stop(None)
    service.until_words("on_stop", "on_stop")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert "on_stop_done" not in service.words()


def test_a_host_that_is_left_alone_stops_in_order(make: Make) -> None:
    service = make(HANGS)
    process = service.start_instance()
    service.until_ready()
    (service.directory / "go").touch()
    service.fabric.hang_up()
    assert process.wait(10) == 0
    assert service.words() == ["stopping", "on_stop", "on_stop_done"]


def test_a_hung_role_is_noticed_while_it_stops_without_limit(make: Make) -> None:
    service = make(HANGS, heartbeat_seconds=1.0)
    process = service.start_instance()
    service.until_ready()
    pid = service.role_pid()
    service.fabric.stop(None)
    service.until_words("on_stop")
    os.kill(pid, signal.SIGSTOP)
    assert process.wait(20) == 0
    assert not is_alive(pid)
    assert service.fabric.facts["last_crash"]["stage"] == "stop"


FOREGROUND = """
[roles.Worker]
entry_point = "roles:Worker"
[[roles.Worker.startup]]
command = "long.sh"
type = "foreground"
"""


def with_foreground_task(make: Make, roles: str, **times: float) -> TinyService:
    """A foreground task that goes on until there is a file `end`."""
    service = make(roles, FOREGROUND, **times)
    script = f"""#!/bin/sh
        echo task_began >> {service.trace}
        trap 'exit 9' TERM
        while [ ! -e {service.directory}/end ]; do sleep 0.05; done
        echo task_ended >> {service.trace}
    """
    (service.directory / "long.sh").write_text(textwrap.dedent(script))
    (service.directory / "long.sh").chmod(0o755)
    service.trace.chmod(0o666)
    let_others_in(service.directory)
    return service


def test_a_stop_waits_for_a_foreground_task(make: Make) -> None:
    service = with_foreground_task(make, HANGS, drain_seconds=30)
    process = service.start_instance()
    service.until_ready()
    service.until_words("task_began")
    (service.directory / "go").touch()
    process.send_signal(signal.SIGTERM)
    service.fabric.until(detail="Waiting for foreground startup tasks to end.")
    assert process.poll() is None
    assert service.words() == ["task_began", "stopping", "on_stop", "on_stop_done"]
    (service.directory / "end").touch()
    assert process.wait(10) == 0
    assert service.words()[-1] == "task_ended"


def test_a_recycle_waits_for_a_foreground_task(make: Make) -> None:
    service = with_foreground_task(make, "class Worker(RoleEntryPoint):\n    def run(self): note('run')\n")
    service.start_instance()
    service.until_words("task_began", "run")
    service.fabric.until(detail="Waiting for foreground startup tasks to end.", recycles=0)
    (service.directory / "end").touch()
    service.until_words("task_ended", "task_began", "run")
    assert service.stop()[0] == 0


def test_a_foreground_task_is_not_waited_for_beyond_the_deadline(make: Make) -> None:
    service = with_foreground_task(make, HANGS, drain_seconds=1)
    service.start_instance()
    service.until_ready()
    service.until_words("task_began")
    (service.directory / "go").touch()
    code, seconds = service.stop()
    assert (code, "task_ended" in service.words()) == (0, False)
    assert 0.9 < seconds < 5
    assert marked(f"{service.deployment_id}/") == []


def test_a_crash_waits_for_a_foreground_task_and_takes_no_requests_meanwhile(make: Make) -> None:
    roles = "class Worker(RoleEntryPoint):\n    def run(self):\n        note('run')\n        os._exit(5)\n"
    service = with_foreground_task(make, roles)
    service.start_instance()
    facts = service.fabric.until(detail="Waiting for foreground startup tasks to end.")
    assert (facts["state"], service.probe("/readyz")[0]) == ("Recycling", 503)
    (service.directory / "end").touch()
    service.until_words("task_ended", "task_began", "run")
    assert service.stop()[0] == 0


def test_a_stop_before_the_role_starts_has_its_deadline_too(make: Make) -> None:
    service = with_foreground_task(make, HANGS, drain_seconds=1, on_stop_seconds=60)
    with (service.directory / "service.toml").open("a") as definition:
        definition.write('[[roles.Worker.startup]]\ncommand = "sleep 600"\n')
    service.start_instance()
    service.until_words("task_began")
    code, seconds = service.stop()
    assert (code, seconds < 8) == (0, True)
    assert service.words() == ["task_began"]


LEAVES = """
class Worker(RoleEntryPoint):
    def on_start(self):
        def stopping(e):
            note(f"stopping:{time.time()}")
        self.role_environment.stopping += stopping
        return True
    def run(self):
        while not Path("recycle").exists():
            time.sleep(0.01)
        Path("recycle").unlink()
        self.role_environment.request_recycle()
        time.sleep(600)
"""


def test_a_role_is_told_to_stop_once_those_who_send_requests_had_time_to_hear_of_it(make: Make) -> None:
    service = make(LEAVES)
    service.start_instance()
    service.fabric.until(state="Ready")
    (service.directory / "recycle").touch()
    service.fabric.until(state="Ready", recycles=1)
    left = next(facts["heartbeat_at"] for facts in service.fabric.history if facts["state"] == "Stopping")
    told = float(service.words()[0].partition(":")[2])
    assert told - datetime.fromisoformat(left).timestamp() > 0.045
    assert service.stop()[0] == 0
