from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import Make, is_alive, services, until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


TRACED = """
class Worker(RoleEntryPoint):
    def on_start(self):
        note("on_start")
        def stopping(e):
            note("stopping")
        self.role_environment.stopping += stopping
        while not Path("go").exists():
            time.sleep(0.01)
        return True

    def run(self):
        note("run")
        while True:
            if Path("tick").exists():
                note("tick")
            time.sleep(0.02)

    def on_stop(self):
        note("on_stop")
        Path("tick").touch()
        time.sleep(0.2)
        note("on_stop_done")
"""


def test_life_in_order_and_probes_on_the_way(make: Make) -> None:
    service = make(TRACED)
    service.start_instance()
    service.until_words("on_start")
    until(lambda: service.probe()[1].get("state") == "Busy", "busy")
    assert service.probe("/readyz")[0] == 503
    assert service.probe("/healthz")[0] == 200
    assert "run" not in service.words()
    (service.directory / "go").touch()
    service.until_ready()
    service.until_words("on_start", "run")
    assert service.probe("/healthz")[1]["state"] == "Ready"
    code, seconds = service.stop()
    assert code == 0
    assert seconds < 4
    words = service.words()
    assert [word for word in words if word != "tick"] == ["on_start", "run", "stopping", "on_stop", "on_stop_done"]
    # The original never interrupts Run: it goes on while OnStop is called.
    assert "tick" in words[words.index("on_stop") : words.index("on_stop_done")]


def test_sigint_acts_as_sigterm_and_a_stop_during_on_start_skips_run(make: Make) -> None:
    service = make(TRACED)
    service.start_instance()
    service.until_words("on_start")
    assert service.process is not None
    service.process.send_signal(signal.SIGINT)
    until(lambda: service.probe()[1].get("state") == "Stopping", "stopping")
    time.sleep(0.3)  # until the role has heard it, too: nothing tells of that while it starts
    (service.directory / "go").touch()
    assert service.process.wait(10) == 0
    assert [word for word in service.words() if word != "tick"] == ["on_start", "stopping", "on_stop", "on_stop_done"]


def test_run_that_returns_recycles_in_order(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def on_start(self):
                note("on_start")
                def stopping(e):
                    note("stopping")
                self.role_environment.stopping += stopping
                return True
            def run(self):
                note("run")
            def on_stop(self):
                note("on_stop")
    """)
    service.start_instance()
    life = ("on_start", "run", "stopping", "on_stop")
    service.until_words(*life, *life, *life)
    assert service.words()[:8] == [*life, *life]
    assert service.stop()[0] == 0
    assert "its run returned" in service.stderr


@pytest.mark.parametrize("hook", ["on_start", "run", "on_stop"])
def test_an_exception_ends_the_process_without_stopping_or_on_stop(make: Make, hook: str) -> None:
    service = make(f"""
        class Worker(RoleEntryPoint):
            def on_start(self):
                def stopping(e):
                    note("stopping")
                self.role_environment.stopping += stopping
                return self.step("on_start")
            def run(self):
                self.step("run")
                self.role_environment.request_recycle()
                time.sleep(60)
            def on_stop(self):
                self.step("on_stop")
                note("on_stop_done")
            def step(self, name):
                note(name)
                if name == {hook!r}:
                    raise ArithmeticError("broken in " + name)
                return True
    """)
    service.start_instance()
    service.until_words("on_start", "on_start")
    words = service.words()
    life = {"on_start": ["on_start"], "run": ["on_start", "run"], "on_stop": ["on_start", "run", "stopping", "on_stop"]}
    assert words[: len(life[hook]) + 1] == [*life[hook], "on_start"]
    assert f"ArithmeticError: broken in {hook}" in service.stderr
    assert service.stop()[0] == 0


def test_coroutines_run_on_a_loop_of_their_own(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            async def on_start(self):
                self.loop = asyncio.get_running_loop()
                note("on_start")
                return True
            async def run(self):
                assert asyncio.get_running_loop() is self.loop
                assert threading.current_thread() is not threading.main_thread()
                time.sleep(2.5)  # rude, and without effect on the heartbeat
                note("run")
                await asyncio.sleep(600)
            async def on_stop(self):
                note("on_stop")
        """,
        heartbeat_seconds=1.5,
    )
    service.start_instance()
    service.until_words("on_start", "run")
    assert service.stop()[0] == 0
    assert service.words() == ["on_start", "run", "on_stop"]


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        ("nowhere:Worker", 'there is no module "nowhere"'),
        ("roles:Wroker", 'has no "Wroker"'),
        ("roles:Path", "does not derive from rolehost.RoleEntryPoint"),
        ("broken:Worker", "importing broken failed: ZeroDivisionError"),
    ],
)
def test_a_role_that_cannot_be_loaded_says_why(make: Make, entry_point: str, reason: str) -> None:
    service = make("", f'[roles.Worker]\nentry_point = "{entry_point}"')
    (service.directory / "broken.py").write_text("1 / 0\n")
    service.start_instance()
    until(lambda: reason in service.stderr, reason)
    assert service.stop()[0] == 0


def test_one_instance_has_one_host(make: Make) -> None:
    service = make("class Worker(RoleEntryPoint): pass")
    first = service.start_instance()
    service.until_ready()
    began = time.monotonic()
    assert service.start_instance().wait(20) == 1
    assert time.monotonic() - began < 10
    assert f"Worker_IN_0 is already run by process {first.pid}" in service.stderr


def test_a_module_alone_names_the_first_entry_point_that_it_defines(make: Make) -> None:
    service = make(
        """
        class First(RoleEntryPoint):
            def run(self):
                note("first")
                time.sleep(600)
        class Second(First):
            def run(self):
                note("second")
                time.sleep(600)
        """,
        '[roles.Worker]\nentry_point = "roles"',
    )
    service.start_instance()
    service.until_words("first")
    assert service.words() == ["first"]
    assert service.stop()[0] == 0


def test_on_start_false_ends_the_process_without_stopping_or_on_stop(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def on_start(self):
                def stopping(e):
                    note("stopping")
                self.role_environment.stopping += stopping
                note("on_start")
                return len(Path(os.environ["TRACE"]).read_text().split()) > 1
            def run(self):
                note("run")
                time.sleep(600)
            def on_stop(self):
                note("on_stop")
    """)
    service.start_instance()
    service.until_words("on_start", "on_start", "run")
    assert service.words() == ["on_start", "on_start", "run"]
    assert service.stop()[0] == 0
    assert service.words()[3:] == ["stopping", "on_stop"]


def test_a_host_that_is_killed_is_no_orderly_stop(make: Make) -> None:
    """A reboot of the machine, or its loss: nobody is told, and the next host starts it again."""
    service = make(TRACED)
    (service.directory / "go").touch()
    process = service.start_instance()
    service.until_words("run")
    pid = service.role_pid()
    process.kill()
    process.wait()
    until(lambda: not is_alive(pid), "the role's end")
    service.start_instance()
    service.until_words("run", "run")
    assert service.words() == ["on_start", "run"] * 2
    assert service.stop()[0] == 0
