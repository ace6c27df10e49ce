"""`rolehost run`: one instance in its container, with its own number, files and peers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_support import Make, TinyService, services, until

from support.directory import helpers_of

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


FOLLOWS = """
class Worker(RoleEntryPoint):
    def on_start(self):
        environment = self.role_environment
        note(environment.current_role_instance.id)
        note(f"start:{environment.get_configuration_setting_value('Mood')}")
        def changed(e):
            note(f"changed:{environment.get_configuration_setting_value('Mood')}")
            note("peers:" + ",".join(each.id for each in environment.roles["Worker"].instances))
        environment.changed += changed
        return True
"""

DEFINITION = """
[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
Mood = "calm"
"""


def container(make: Make, roles: str = FOLLOWS, definition: str = DEFINITION) -> TinyService:
    service = make(roles, definition)
    # Nobody's metadata service, and nobody's patience.
    service.environ |= {"ROLEHOST_IMDS": "http://127.0.0.1:9", "ROLEHOST_UPDATE_SPREAD_SECONDS": "0"}
    return service


def facts(service: TinyService) -> dict[str, Any]:
    return service.probe("/healthz")[1]


def until_generation(service: TinyService, generation: int) -> None:
    def taken() -> bool:
        now = facts(service)
        return now.get("state") == "Ready" and now["generation"] == generation

    until(taken, f"generation {generation}\n{service.stderr}")


def test_it_lives_without_a_fabric(make: Make) -> None:
    service = container(make)
    service.start_run()
    service.until_ready()
    service.until_words("Worker_IN_0", "start:calm")
    assert facts(service)["instance"] == "Worker_IN_0"
    code, seconds = service.stop()
    assert (code, seconds < 8) == (0, True)


def test_each_takes_the_lowest_free_number_and_keeps_it_through_recycles(make: Make) -> None:
    service = container(make)
    first = service.start_run()
    service.until_ready()
    first_port = service.probe_port
    second = service.start_run()
    service.until_ready()
    assert facts(service)["instance"] == "Worker_IN_1"
    os.kill(service.role_pid("Worker_IN_1/role"), signal.SIGKILL)
    until(lambda: facts(service)["recycles"] == 1, "the recycle")
    service.until_ready()
    assert facts(service)["instance"] == "Worker_IN_1"
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    assert service.probe(port=first_port)[0] == 0
    service.start_run()
    service.until_ready()
    assert facts(service)["instance"] == "Worker_IN_0"
    assert service.stop()[0] == 0
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 0


def test_a_number_may_be_given(make: Make) -> None:
    service = container(make)
    service.start_run("--instance", "7")
    service.until_ready()
    assert facts(service)["instance"] == "Worker_IN_7"
    assert service.stop()[0] == 0


def test_a_changed_file_is_applied_without_a_restart(make: Make) -> None:
    service = container(make)
    service.start_run()
    until_generation(service, 1)
    service.change('"calm"', '"merry"')
    service.until_words("start:calm", "changed:merry")
    until_generation(service, 2)
    assert facts(service)["recycles"] == 0
    assert service.stop()[0] == 0


def test_a_mounted_config_map_is_swapped_and_a_broken_one_is_reported(make: Make) -> None:
    service = container(make)
    text = (service.directory / "service.toml").read_text()
    mount = service.directory / "mount"

    def swap(version: str, content: str) -> None:
        """As a kubelet does: a new directory, and one link that is renamed over the old one."""
        (mount / version).mkdir(parents=True)
        (mount / version / "service.toml").write_text(content)
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").rename(mount / "..data")

    swap("..1", text)
    (mount / "service.toml").symlink_to("..data/service.toml")
    (mount / "roles.py").symlink_to("../roles.py")
    service.start_run("--definition", str(mount / "service.toml"))
    until_generation(service, 1)
    swap("..2", text.replace('"calm"', "calm without quotes"))
    until(lambda: "assignment.refused" in service.stderr, "the report")
    until(lambda: "The changed definition is refused: " in facts(service)["detail"], "the reason in the status")
    assert facts(service)["generation"] == 1
    swap("..3", text.replace("[roles.Worker", "[roles.Renamed"))
    until(lambda: "can't be renamed" in service.stderr, "the refusal")
    assert service.probe()[0] == 200
    swap("..4", text.replace('"calm"', '"merry"'))
    service.until_words("start:calm", "changed:merry")
    assert (facts(service)["detail"], facts(service)["recycles"]) == ("The role is ready.", 0)
    assert service.stop()[0] == 0


def test_what_the_environment_masks_is_reported(make: Make) -> None:
    service = container(make)
    service.environ["ROLEHOST_SETTING_MOOD"] = "fixed"
    service.start_run()
    until_generation(service, 1)
    service.change('"calm"', '"merry"')
    until(lambda: "assignment.masked" in service.stderr, "the report")
    assert '"Mood"' in service.stderr
    assert "changed:" not in " ".join(service.words())
    assert service.stop()[0] == 0


def test_an_update_waits_for_a_random_time(make: Make) -> None:
    service = container(make)
    service.environ["ROLEHOST_UPDATE_SPREAD_SECONDS"] = "100000"
    service.start_run()
    until_generation(service, 1)
    service.change('"calm"', '"merry"')
    told = r'"seconds": ([0-9.]+), "event": "assignment.changed"'
    (seconds,) = until(lambda: re.findall(told, service.stderr), "the change")
    assert 0 < float(seconds) < 100_000
    assert facts(service)["generation"] == 1
    assert service.stop()[0] == 0
    service.environ["ROLEHOST_UPDATE_SPREAD_SECONDS"] = "soon"
    assert service.start_run().wait(20) == 1
    assert "ROLEHOST_UPDATE_SPREAD_SECONDS is a number of seconds, not 'soon'" in service.stderr


def test_peers_are_found_and_told(make: Make) -> None:
    definition = DEFINITION + '[roles.Worker.internal_endpoints.Talk]\nprotocol = "tcp"\n'
    service = container(make, definition=definition)
    first = service.start_run()
    service.until_ready()
    service.start_run()
    service.until_ready()
    until(lambda: "peers:Worker_IN_0,Worker_IN_1" in service.words(), f"the peers\n{service.stderr}", 30)
    assert service.stop()[0] == 0
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0


def test_nothing_starts_before_there_is_a_number(make: Make) -> None:
    service = container(make)
    service.data.mkdir()
    (service.data / "store.db").mkdir()  # a store that can't be opened
    process = service.start_run()
    until(lambda: facts(service).get("detail") == "Waiting for an instance number.", "the wait")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert service.probe("/readyz")[0] == 503
    assert service.words() == []
    assert service.stop()[0] == 0


def test_a_given_number_is_waited_for_while_the_store_is_away(make: Make) -> None:
    service = container(make)
    service.data.mkdir()
    (service.data / "store.db").mkdir()
    process = service.start_run("--instance", "3")
    until(lambda: "directory.store_unavailable" in service.stderr, "the report")
    assert facts(service)["detail"] == "Waiting for the instance number 3."
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert service.words() == []
    (service.data / "store.db").rmdir()
    service.until_ready()
    service.until_words("Worker_IN_3", "start:calm")
    assert service.stop()[0] == 0


def test_a_given_number_is_waited_for_while_another_holds_it(make: Make) -> None:
    service = container(make)
    service.environ["ROLEHOST_VERBOSE"] = "1"
    first = service.start_run("--instance", "3")
    service.until_ready()
    second = service.start_run("--instance", "3")
    until(lambda: "directory.number_held" in service.stderr, "the report")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    assert facts(service)["detail"] == "Waiting for the instance number 3."
    assert service.words().count("start:calm") == 1
    assert service.probe("/readyz")[0] == 503
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    service.until_ready()
    assert service.words().count("start:calm") == 2
    assert service.stop()[0] == 0


def test_a_store_that_goes_away_stops_no_role(make: Make) -> None:
    service = container(make)
    process = service.start_run("--instance", "3")
    service.until_ready()
    service.until_words("Worker_IN_3", "start:calm")
    for file in service.data.glob("store.db*"):
        file.unlink()
    (service.data / "store.db").mkdir()
    (helper,) = helpers_of(process.pid)
    os.kill(helper, signal.SIGKILL)
    os.kill(service.role_pid("Worker_IN_3/role"), signal.SIGKILL)
    service.until_words("start:calm", "start:calm")
    assert service.stop()[0] == 0


def test_what_can_not_begin_says_why(make: Make) -> None:
    service = container(make)
    assert service.start_run(role="Nobody").wait(20) == 1
    assert 'the service has no role "Nobody"; it has Worker' in service.stderr
