"""What a role's environment says under a real host: by itself, and where the whole service is on one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import TinyService, until

pytestmark = pytest.mark.acceptance

TELLING = """
class Worker(RoleEntryPoint):
    def run(self):
        environment = self.role_environment
        own = environment.current_role_instance
        work = environment.get_local_resource("Work")
        try:
            environment.get_local_resource("Play")
        except RoleEnvironmentError as error:
            missing = "does not exist" in str(error)
        note("|".join(map(str, [
            environment.is_available,
            environment.is_emulated,
            environment.deployment_id,
            own.id == os.environ["RoleInstanceID"],
            environment.deployment_id == os.environ["RoleDeploymentID"],
            environment.roles[os.environ["RoleName"]].instances == (own,),
            environment.get_configuration_setting_value("Colour"),
            work.root_path.endswith("/") and os.path.isdir(work.root_path) and work.maximum_size_in_megabytes,
            missing,
            own.instance_endpoints == {} or own.instance_endpoints["In"].public_ip_endpoint,
        ])))
        super().run()
"""
DEFINITION = """[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
Colour = "red"
[roles.Worker.local_resources.Work]
size_in_mb = 7
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TinyService]:
    service = TinyService(tmp_path, f"from rolehost.errors import RoleEnvironmentError\n{TELLING}", DEFINITION)
    yield service
    service.clean_up()


def told(service: TinyService, lives: int) -> list[list[str]]:
    until(lambda: len(service.words()) >= lives, f"{lives} lives\n{service.stderr}")
    return [line.split("|") for line in service.words()]


def test_by_itself_nothing_is_emulated_and_the_deployment_outlives_a_recycle(service: TinyService) -> None:
    process = service.start_instance()
    first = told(service, 1)[0]
    assert first == ["True", "False", service.deployment_id, *["True"] * 3, "red", "7", "True", "True"]
    service.until_ready()
    os.kill(service.role_pid(), signal.SIGKILL)
    assert told(service, 2)[1] == first
    process.terminate()
    assert process.wait(10) == 0


def test_where_the_whole_service_is_on_one_machine_it_is_emulated(service: TinyService) -> None:
    service.start_up("-")
    assert told(service, 1)[0][:2] == ["True", "True"]
    assert service.stop()[0] == 0
