from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_support import TinyService, free_port, is_alive, marked, signal_again_and_again, until, zombies_of

pytestmark = pytest.mark.acceptance

Make = Callable[..., TinyService]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[TinyService] = []

    def make(roles: str, definition: str = "", **times: float) -> TinyService:
        made.append(TinyService(tmp_path, roles, definition, **times))
        return made[-1]

    yield make
    for service in made:
        service.clean_up()


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


def test_by_itself_it_binds_the_role_s_port_and_holds_it(make: Make) -> None:
    port = free_port()
    service = make(
        """
        class Worker(ServedRole):
            async def serve(self, stopping):
                listening = socket.socket(fileno=json.loads(os.environ["ROLEHOST_LISTEN"])["Tcp"])
                endpoint = self.role_environment.current_role_instance.instance_endpoints["Tcp"]
                assert (endpoint.protocol, endpoint.ip_endpoint) == ("tcp", listening.getsockname())
                assert not self.role_environment.is_emulated
                async def answer(reader, writer):
                    writer.write(b"%d" % os.getpid())
                    writer.close()
                async with await asyncio.start_server(answer, sock=listening):
                    await stopping.wait()
        """,
        f'[roles.Worker]\nentry_point = "roles"\n[roles.Worker.endpoints.Tcp]\nport = {port}',
    )
    service.start_instance()
    service.until_ready()
    first = service.role_pid()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert (int(connection.recv(20)) == first) is is_alive(first)
        if is_alive(first):
            os.kill(first, signal.SIGKILL)
            until(lambda: not is_alive(first), "its end")
    assert service.stop()[0] == 0


SURROUNDINGS = """
class Worker(RoleEntryPoint):
    def on_start(self):
        environment = self.role_environment
        note("start")
        names = ["RoleRoot", "RoleName", "RoleInstanceID", "RdRoleId", "RoleDeploymentID", "TMPDIR", "TEMP", "TMP",
                 "ROLEHOST_DATA", "ROLEHOST_PROBE", "ROLEHOST_ROLE_VARIABLES", "ROLEHOST_DRAIN_SECONDS", "DECLARED"]
        facts = {name: os.environ[name] for name in names}
        facts["endpoint"] = os.environ["WaRuntimeEndpoint"]
        facts["available"] = environment.is_available
        facts["emulated"] = environment.is_emulated
        facts["deployment"] = environment.deployment_id
        facts["instance"] = environment.current_role_instance.id
        facts["roles"] = list(environment.roles)
        facts["setting"] = environment.get_configuration_setting_value("Greeting")
        facts["overridden"] = environment.get_configuration_setting_value("Worker.Slots")
        for name in ("Kept", "Cleaned"):
            root = environment.get_local_resource(name).root_path
            facts[name] = [root, os.listdir(root)]
            Path(root, "left").touch()
        facts["temp"] = os.listdir(os.environ["TMPDIR"])
        Path(os.environ["TMPDIR"], "left").touch()
        Path(f"facts-{len(Path(os.environ['TRACE']).read_text().split())}").write_text(json.dumps(facts))
        return True
"""

SURROUNDED = """
[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
Greeting = "a < b & \\"c\\"\\n\\tü"
"Worker.Slots" = 2
[roles.Worker.environment]
DECLARED = "yes"
[roles.Worker.local_resources.Kept]
clean_on_role_recycle = false
[roles.Worker.local_resources.Cleaned]
size_in_mb = 7
"""


def test_what_a_role_finds_around_it(make: Make) -> None:
    service = make(SURROUNDINGS, SURROUNDED)
    service.environ["ROLEHOST_SETTING_worker__SLOTS"] = "9"
    service.start_instance()
    service.until_ready()
    os.kill(service.role_pid(), signal.SIGKILL)
    first = _facts(service, 1)
    second = _facts(service, 2)
    instance = service.data / "resources" / "Worker_IN_0"
    assert first["RoleName"] == "Worker"
    assert first["RoleInstanceID"] == first["RdRoleId"] == first["instance"] == "Worker_IN_0"
    assert first["RoleDeploymentID"] == first["deployment"] == service.deployment_id == second["deployment"]
    assert Path(str(first["RoleRoot"]), "approot").is_dir()
    assert first["TMPDIR"] == first["TEMP"] == first["TMP"] == str(instance / "RoleTemp")
    assert first["ROLEHOST_DATA"] == str(service.data)
    assert first["ROLEHOST_PROBE"] == f"127.0.0.1:{service.probe_port}"
    assert (first["ROLEHOST_ROLE_VARIABLES"], first["DECLARED"]) == ('["DECLARED"]', "yes")
    assert first["ROLEHOST_DRAIN_SECONDS"] == "5"
    assert (first["available"], first["roles"]) == (True, ["Worker"])
    assert (first["setting"], first["overridden"]) == ('a < b & "c"\n\tü', "9")
    assert (first["Kept"], second["Kept"]) == ([f"{instance}/Kept/", []], [f"{instance}/Kept/", ["left"]])
    assert (first["Cleaned"], second["Cleaned"]) == ([f"{instance}/Cleaned/", []], [f"{instance}/Cleaned/", []])
    assert second["temp"] == []
    private = Path(str(second["endpoint"])).parent
    assert private.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in private.iterdir()} == {0o600}
    assert service.stop()[0] == 0
    assert not private.exists()


def _facts(service: TinyService, number: int) -> dict[str, object]:
    path = service.directory / f"facts-{number}"
    until(lambda: path.exists() and path.read_text(), f"life {number}\n{service.stderr}")
    return dict(json.loads(path.read_text()))


def test_the_data_directory_keeps_others_out(make: Make) -> None:
    service = make("class Worker(RoleEntryPoint): pass")
    service.start_instance()
    service.until_ready()
    modes = {name: (service.data / name).stat().st_mode & 0o777 for name in (".", "blobs", "bells", "resources")}
    assert modes == {".": 0o711, "blobs": 0o700, "bells": 0o700, "resources": 0o711}
    assert service.stop()[0] == 0


def test_one_instance_has_one_host(make: Make) -> None:
    service = make("class Worker(RoleEntryPoint): pass")
    first = service.start_instance()
    service.until_ready()
    began = time.monotonic()
    assert service.start_instance().wait(20) == 1
    assert time.monotonic() - began < 10
    assert f"Worker_IN_0 is already run by process {first.pid}" in service.stderr
