"""`rolehost scale`, instance counts of an update, and what the others hear of it, with real processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from update_support import Updated, free_port, running, until

pytestmark = pytest.mark.acceptance

# Who sees whom, and a port of its own that answers with the instance's name.
ROLES = """
import json, socket
from rolehost.environment import TopologyChange

class Peer(Worker):
    def on_start(self):
        env = self.role_environment
        env.changing += lambda e: note(f"changing:{len(self.peers)}:{self.kinds(e)}")
        env.changed += lambda e: note(f"changed:{len(self.peers)}:{self.kinds(e)}:{self.greeting}")
        env.simultaneous_changing += lambda e: note(f"at_once_changing:{len(self.peers)}")
        env.simultaneous_changed += lambda e: note(f"at_once_changed:{len(self.peers)}:{self.greeting}")
        note(f"start:{len(self.peers)}")
        return True
    def kinds(self, e):
        return "+".join(type(each).__name__.removesuffix("Change") for each in e.changes)
    @property
    def peers(self):
        return self.role_environment.roles["Worker"].instances
    def run(self):
        endpoint = self.role_environment.current_role_instance.instance_endpoints["Echo"]
        with socket.create_server(endpoint.ip_endpoint) as listening:
            while True:
                with listening.accept()[0] as connection:
                    connection.sendall(os.environ["RoleInstanceID"].encode())
"""

LINGERING = """
class Lingering(Peer):
    def on_stop(self):
        super().on_stop()
        while not Path("go").exists():
            time.sleep(0.02)
"""

ENDPOINTS = """
[roles.Worker.internal_endpoints.Inner]
protocol = "tcp"
[roles.Worker.endpoints.Echo]
protocol = "tcp"
port = {port}
local_port = 9000
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Updated]:
    with running(tmp_path, ROLES) as service:
        yield service


def answering(port: int, tries: int = 12) -> set[str]:
    """Which instances answer on the public port."""
    found = set()
    for _ in range(tries):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            found.add(connection.makefile().read())
    return found


def test_scaling_up_and_down(service: Updated) -> None:
    port = free_port()
    service.define(instances=2, role="Peer", more=ENDPOINTS.format(port=port))
    service.up_and_ready()
    assert answering(port) == {"Worker_IN_0", "Worker_IN_1"}
    before = service.pids("Worker_IN_0") | service.pids("Worker_IN_1")
    assert "from 2 to 4 instances" in service.done("scale", "Worker", 4)
    assert service.noted("Worker_IN_3") == ["start:4"]
    for instance in ("Worker_IN_0", "Worker_IN_1"):
        assert service.noted(instance) == ["start:2", "changing:2:Topology", "changed:4:Topology:hello"]
    until(lambda: answering(port) == {f"Worker_IN_{n}" for n in range(4)}, lambda: "all four answer")

    assert "from 4 to 1 instances" in service.done("scale", "Worker", 1)
    assert [each["instance"] for each in service.status()["instances"]] == ["Worker_IN_0"]
    assert service.noted("Worker_IN_3")[-1] == "on_stop"
    assert service.noted("Worker_IN_0")[-2:] == ["changing:4:Topology", "changed:1:Topology:hello"]
    assert answering(port) == {"Worker_IN_0"}
    assert service.pids("Worker_IN_0") < before  # nobody who stayed was started again


def test_scaling_right_after_an_update_of_the_watched_file_stays(service: Updated) -> None:
    """The watch sees the file a moment later; it says nothing new, and must not take the scaling back."""
    service.define(instances=1)
    service.up_and_ready()
    service.define("good day", instances=1)
    service.done("update", service.file, "--no-wait")
    service.done("scale", "Worker", 2)
    service.define("good evening", instances=2)
    service.until_noted("changed:good evening")
    assert [each["instance"] for each in service.status()["instances"]] == ["Worker_IN_0", "Worker_IN_1"]
    assert service.status()["generation"] == 4


def test_an_instance_that_leaves_gets_no_more_connections(tmp_path: Path) -> None:
    with running(tmp_path, ROLES + LINGERING) as service:
        port = free_port()
        service.define(instances=2, role="Lingering", more=ENDPOINTS.format(port=port))
        service.up_and_ready()
        assert answering(port) == {"Worker_IN_0", "Worker_IN_1"}
        service.done("scale", "Worker", 1, "--no-wait")
        service.until_noted("on_stop", "Worker_IN_1")
        assert service.facts("Worker_IN_1")["state"] == "Stopping"
        assert answering(port) == {"Worker_IN_0"}
        (tmp_path / "go").touch()
        until(lambda: len(service.status()["instances"]) == 1, lambda: service.log)


def test_the_topology_goes_from_instance_to_instance(service: Updated) -> None:
    service.define(instances=3, domains=1, role="Peer", more=ENDPOINTS.format(port=free_port()))
    service.up_and_ready()
    told = service.done("scale", "Worker", 4)
    for number in range(3):
        assert f"domain 0: Worker_IN_{number}\n" in told
    lines = [line.split() for line in service.trace.read_text().splitlines()]
    heard = [instance for instance, _, word in lines if word == "changing:3:Topology"]
    assert heard == ["Worker_IN_0", "Worker_IN_1", "Worker_IN_2"]


def test_a_role_without_internal_endpoints_hears_nothing_of_the_topology(service: Updated) -> None:
    more = ENDPOINTS.format(port=free_port()).partition("[roles.Worker.endpoints")
    service.define(instances=2, role="Peer", more="[roles.Worker.endpoints" + more[2])
    service.up_and_ready()
    told = service.done("scale", "Worker", 3)
    assert "new in domain 2: Worker_IN_2\n" in told
    assert "Worker_IN_0" not in told
    assert service.noted("Worker_IN_0") == ["start:1"]
    assert {each["generation"] for each in service.status()["instances"]} == {2}


def test_blast_tells_all_at_once_and_walks_the_settings_after_it(service: Updated) -> None:
    blast = 'topology_change_discovery = "Blast"'
    more = ENDPOINTS.format(port=free_port())
    definition = partial(service.define, role="Peer", domains=2, more=more, service=blast)
    definition(instances=2)
    service.up_and_ready()
    told = service.done("scale", "Worker", 3)
    assert "new in domain 0: Worker_IN_2\n" in told
    assert "Worker_IN_0" not in told
    first = ["start:2", "at_once_changing:2", "at_once_changed:3:hello"]
    assert service.noted("Worker_IN_0") == service.noted("Worker_IN_1") == first
    told = service.done("update", definition("salut", instances=4, path=service.directory / "new.toml"))
    assert told.index("domain 0: Worker_IN_0, Worker_IN_2") < told.index("domain 1: Worker_IN_1")
    then = ["at_once_changing:3", "at_once_changed:4:hello", "changing:4:ConfigurationSetting"]
    assert service.noted("Worker_IN_1") == [*first, *then, "changed:4:ConfigurationSetting:salut"]


def test_an_update_with_fewer_instances_and_another_setting(service: Updated) -> None:
    definition = partial(service.define, role="Peer", domains=2, more=ENDPOINTS.format(port=free_port()))
    definition(instances=4)
    service.up_and_ready()
    watched = service.watch()
    told = service.done("update", definition("salut", instances=2, path=service.directory / "new.toml"))
    assert "from 4 to 2 instances" in told
    assert [each["instance"] for each in service.status()["instances"]] == ["Worker_IN_0", "Worker_IN_1"]
    for instance in ("Worker_IN_0", "Worker_IN_1"):
        assert service.noted(instance)[-1].startswith("changed:2:")
        assert service.noted(instance)[-1].endswith(":salut")
        assert len(service.pids(instance)) == 1
    for instance in ("Worker_IN_2", "Worker_IN_3"):
        assert service.noted(instance)[-1] == "on_stop"
    service.done("stop")
    watched.end()
    assert all(each["walk"]["of"] == 2 for each in watched.documents if each["walk"])


def test_a_change_of_the_count_takes_one_domain_down_at_a_time(tmp_path: Path) -> None:
    with running(tmp_path, ROLES, {"CANCEL": "yes"}) as service:
        definition = partial(service.define, role="Peer", domains=3, more=ENDPOINTS.format(port=free_port()))
        definition(instances=2)
        service.up_and_ready()
        watched = service.watch()
        told = service.done("update", definition("salut", instances=6, path=service.directory / "new.toml"))
        assert told.index("new in domain 2: Worker_IN_2, Worker_IN_5") < told.index("\ndomain 0: Worker_IN_0")
        told = service.done("update", definition("ciao", instances=1, path=service.directory / "new.toml"))
        assert told.index("\ndomain 0: Worker_IN_0") < told.index("leaving domain 0: Worker_IN_3")
        assert told.index("leaving domain 0: ") < told.index("leaving domain 1: Worker_IN_1, Worker_IN_4")
        assert service.noted("Worker_IN_5")[-1] == "on_stop"
        service.done("stop")
        watched.end()
        assert {len(down) for down in watched.down()} <= {0, 1}
        assert {domain for down in watched.down() for domain in down} == {0, 1, 2}


def test_by_hand_instances_come_and_go_with_their_domain(service: Updated) -> None:
    definition = partial(service.define, domains=3, path=service.directory / "new.toml")
    service.file.write_text(definition(instances=2).read_text())
    service.up_and_ready()
    service.done("update", definition(instances=4), "--mode", "manual")
    assert service.status()["walk"] == {"mode": "manual", "generation": 2, "domain": None, "updated": 2, "of": 4}
    service.done("update", "--walk", 2)
    assert [each["instance"] for each in service.status()["instances"]] == [f"Worker_IN_{n}" for n in range(3)]
    service.done("update", "--rollback")
    assert [each["instance"] for each in service.status()["instances"]] == ["Worker_IN_0", "Worker_IN_1"]
    assert service.noted("Worker_IN_3") == []


def test_counts_that_can_not_be_are_refused(service: Updated) -> None:
    ranged = (
        '[roles.Worker.instance_input_endpoints.Each]\nprotocol = "tcp"\nlocal_port = 9001\npublic_ports = [{}, {}]'
    )
    port = free_port()
    more = ENDPOINTS.format(port=free_port()) + ranged.format(port, port + 1)
    service.define(instances=2, role="Peer", more=more)
    service.up_and_ready()
    assert "Each" in service.refused("scale", "Worker", 3)
    assert "a number of instances is from 1" in service.refused("scale", "Worker", 0)
    assert 'no role "Wroker"; it has Worker' in service.refused("scale", "Wroker", 1)
    assert service.status()["generation"] == 1


def test_an_instance_that_will_not_go_is_ended_at_the_deadline(tmp_path: Path) -> None:
    stubborn = """
    class Stubborn(Worker):
        def on_stop(self):
            super().on_stop()
            time.sleep(600)
    """
    with running(tmp_path, stubborn) as service:
        service.define(instances=2, role="Stubborn")
        service.file.write_text(service.file.read_text().replace("on_stop_seconds = 5", "on_stop_seconds = 1"))
        process = service.up_and_ready()
        service.done("scale", "Worker", 1)
        assert service.noted("Worker_IN_1")[-1] == "on_stop"
        assert [each["instance"] for each in service.status()["instances"]] == ["Worker_IN_0"]
        process.terminate()
        assert process.wait(30) == 0
