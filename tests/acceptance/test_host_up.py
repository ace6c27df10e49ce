from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import TinyService, children, is_alive, marked, signal_again_and_again, until, zombies_of

pytestmark = pytest.mark.acceptance

ROLES = """
class Front(ServedRole):
    async def serve(self, stopping):
        endpoint = self.role_environment.current_role_instance.instance_endpoints["Http"]
        note(f"public:{json.loads(os.environ['ROLEHOST_PUBLIC'])['Http']}")
        async def answer(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n%d" % os.getpid())
            await writer.drain()
            writer.close()
        assert self.role_environment.is_emulated
        async with await asyncio.start_server(answer, *endpoint.ip_endpoint):
            await stopping.wait()
            note("front_drained")

class Back(RoleEntryPoint):
    def run(self):
        marker = os.environ["ROLEHOST_CHILD"].replace("role", "job")
        self.app = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sleep", "600"], start_new_session=True,
                                    env={**os.environ, "ROLEHOST_CHILD": marker})
        note(f"app:{self.app.pid}")
        time.sleep(600)
    def on_stop(self):
        note("back_on_stop")
        while Path("hang").exists():
            time.sleep(0.05)
"""

DEFINITION = """
[roles.Front]
entry_point = "roles:Front"
[roles.Front.endpoints.Http]
protocol = "http"
port = 8080
[roles.Back]
entry_point = "roles:Back"
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TinyService]:
    service = TinyService(tmp_path, ROLES, DEFINITION, drain_seconds=2)
    yield service
    service.clean_up()


def url(service: TinyService, lines: int = 1) -> str:
    """The address that `up` wrote, once it has."""
    until(lambda: service.stdout.count("\n") >= lines, f"the address\n{service.stderr}")
    found = re.fullmatch(
        r"rolehost listening on (http://127\.0\.0\.1:\d+)\n", service.stdout.splitlines(keepends=True)[-1]
    )
    assert found, service.stdout
    return found[1]


def served_by(address: str) -> int:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own http address
        return int(answer.read())


def until_ready_at(service: TinyService, port: int) -> None:
    until(lambda: service.probe(port=port)[0] == 200, f"ready\n{service.stderr}")


def until_ended(*pids: int) -> None:
    until(lambda: not any(map(is_alive, pids)), f"the end of {pids}")


def app_pid(service: TinyService) -> int:
    started = until(lambda: [word for word in service.words() if word.startswith("app:")], "the console application")
    return int(started[-1].partition(":")[2])


def bootstrapper_of(service: TinyService, instance: str) -> int:
    return marked(f"{service.deployment_id}/{instance}/bootstrapper")[0]


def probe_port_of(pid: int) -> int:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return int(arguments[arguments.index(b"--probe-port") + 1])


def test_it_says_where_it_listens_and_stops_in_order(service: TinyService) -> None:
    service.start_up()
    address = url(service)
    assert served_by(address) == service.role_pid("Front_IN_0/role")
    assert f"public:{address.removeprefix('http://')}" in service.words()
    app = app_pid(service)
    code, seconds = service.stop()
    assert (code, seconds < 4) == (0, True)
    assert {"front_drained", "back_on_stop"} <= set(service.words())
    assert service.stdout.count("\n") == 1
    assert not is_alive(app)
    assert marked(f"{service.deployment_id}/") == []


def test_a_hung_role_is_cut_short_within_the_drain_time_and_a_second_signal_cuts_at_once(service: TinyService) -> None:
    (service.directory / "hang").touch()
    service.start_up()
    url(service)
    service.until_words("app:" + str(app_pid(service)))
    code, seconds = service.stop()
    assert code == 0
    assert 1.8 < seconds < 4
    service.environ["ROLEHOST_DRAIN_SECONDS"] = "30"
    assert marked(f"{service.deployment_id}/") == []
    process = service.start_up()
    url(service, 2)
    until(lambda: sum(word.startswith("app:") for word in service.words()) == 2, "the second life")
    process.send_signal(signal.SIGTERM)
    until(lambda: service.words().count("back_on_stop") == 2, "the stop")
    signal_again_and_again(process, signal.SIGINT)
    assert process.returncode == 0
    assert marked(f"{service.deployment_id}/") == []


def test_the_port_is_held_while_the_front_end_is_killed(service: TinyService) -> None:
    service.start_up()
    address = url(service)
    first = served_by(address)
    os.kill(first, signal.SIGKILL)
    # Reaped, not only a zombie: while one of its threads is still dying, its port takes connections.
    until(lambda: not Path(f"/proc/{first}").exists(), "the end of the front end")
    assert served_by(address) != first  # the connection waited for the next one
    assert service.stop()[0] == 0


def test_a_killed_bootstrapper_takes_all_with_it_and_comes_back_on_its_ports(service: TinyService) -> None:
    process = service.start_up()
    address = url(service)
    for instance, role in (("Front_IN_0", "Front"), ("Back_IN_0", "Back")):
        bootstrapper = bootstrapper_of(service, instance)
        port = probe_port_of(bootstrapper)
        until_ready_at(service, port)
        role_pid = service.role_pid(f"{instance}/role")
        apps = [app_pid(service)] if role == "Back" else []
        os.kill(bootstrapper, signal.SIGKILL)
        until_ended(role_pid, *apps)
        until_ready_at(service, port)
        assert bootstrapper_of(service, instance) != bootstrapper
    assert served_by(address) == service.role_pid("Front_IN_0/role")
    assert service.stdout.count("\n") == 1
    assert zombies_of(process.pid) == []
    assert service.stop()[0] == 0


def test_a_killed_up_leaves_nothing_and_the_next_one_starts(service: TinyService) -> None:
    process = service.start_up()
    address = url(service)
    app = app_pid(service)
    process.kill()
    process.wait()
    until(lambda: marked(f"{service.deployment_id}/") == [] and not is_alive(app), "nothing left")
    port = int(address.rpartition(":")[2])
    service.start_up(port)
    assert url(service, 2) == address
    assert served_by(address) == service.role_pid("Front_IN_0/role")
    assert service.stop()[0] == 0


def test_what_outlived_a_killed_up_is_ended_by_the_next_one(service: TinyService) -> None:
    service.start_up()
    url(service)
    # Of an instance that this service has no more: its own host can't see to it.
    (service.data / "resources" / "Back_IN_5").mkdir()
    marker = f"{service.deployment_id}/Back_IN_5/job-detached"
    service.stop(signal.SIGKILL)
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, "ROLEHOST_CHILD": marker}, start_new_session=True)
    try:
        service.start_up()
        assert left.wait(10) == -signal.SIGKILL
        url(service, 2)
        assert service.stop()[0] == 0
    finally:
        left.kill()


def test_a_second_up_on_the_same_data_is_refused(service: TinyService) -> None:
    first = service.start_up()
    url(service)
    assert service.start_up().wait(10) == 1
    assert f"is in use by another `rolehost up` (process {first.pid})" in service.stderr
    assert first.poll() is None
    assert children(first.pid)


def test_a_port_in_use_is_a_clear_error(service: TinyService) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert service.start_up(port).wait(10) == 1
    assert f"can't listen on 127.0.0.1 port {port}: Address already in use" in service.stderr
    assert service.stdout == ""
