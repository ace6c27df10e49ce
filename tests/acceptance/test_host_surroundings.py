from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import Make, TinyService, free_port, services, until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


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


def test_a_role_binds_its_endpoint_in_every_life(make: Make) -> None:
    port = free_port()
    service = make(
        """
        class Worker(ServedRole):
            async def serve(self, stopping):
                endpoint = self.role_environment.current_role_instance.instance_endpoints["Tcp"]
                assert endpoint.protocol == "tcp"
                assert not self.role_environment.is_emulated
                async def answer(reader, writer):
                    writer.write(b"%d" % os.getpid())
                    writer.close()
                async with await asyncio.start_server(answer, *endpoint.ip_endpoint):
                    note("serves")
                    await stopping.wait()
        """,
        f'[roles.Worker]\nentry_point = "roles"\n[roles.Worker.endpoints.Tcp]\nport = {port}',
    )
    service.start_instance()
    for life in (1, 2):
        service.until_words(*["serves"] * life)
        pid = service.role_pid()
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert int(connection.recv(20)) == pid
        assert service.fabric.facts["endpoints"] == {"Tcp": {"protocol": "tcp", "address": "127.0.0.1", "port": port}}
        os.kill(pid, signal.SIGKILL)
    assert service.stop()[0] == 0
