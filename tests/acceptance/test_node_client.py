"""A guest program that knows its host by Microsoft's published Node client alone, as a whole role instance."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_support import TinyService, free_port, is_alive, marked, until
from node_client_support import Guest, lay_out

pytestmark = pytest.mark.acceptance

DEFINITION = """
[roles.Guest]
program = "node guest.js"
[roles.Guest.settings]
Colour = "red"
[roles.Guest.local_resources.Trace]
size_in_mb = 7
clean_on_role_recycle = false
[roles.Guest.internal_endpoints.Orders]
protocol = "tcp"
port = %d
"""


class GuestInstance(TinyService):
    """One instance of the guest's role, with nothing beside it."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        super().__init__(directory, "", DEFINITION % self._port)
        lay_out(directory)

    def begin(self) -> None:
        """Start it, and wait until the guest program serves."""
        self.start_instance("Guest_IN_0")
        until(lambda: list(self.data.glob("resources/Guest_IN_0/**/Trace")), f"its local resource\n{self.stderr}")
        (trace,) = self.data.glob("resources/Guest_IN_0/**/Trace")
        self.guest = Guest(trace, "127.0.0.1", self._port)
        self.guest.until("listening")

    def update(self, old: str, new: str) -> None:
        """Change the definition, and have the instance take it, as the fabric does."""
        self.change(old, new)
        self.fabric.assign(self.assignment(2, "Guest_IN_0"))

    def until_probe(self, code: int) -> dict[str, Any]:
        """What the probe says, once it answers so."""
        until(lambda: self.probe()[0] == code, f"{code} of the probe, not {self.probe()}\n{self.stderr}")
        return self.probe()[1]


@pytest.fixture
def service() -> Iterator[GuestInstance]:
    # Guest programs aren't run as root, and pytest's own directories are closed to others.
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    directory.chmod(0o755)
    service = GuestInstance(directory)
    try:
        service.begin()
        yield service
    finally:
        service.clean_up()
        shutil.rmtree(directory)


def test_the_node_client_as_a_role_sees_its_environment(service: GuestInstance) -> None:
    seen = service.guest.facts()
    assert seen["available"] is True
    assert seen["deployment"] == service.deployment_id
    assert (seen["instance"], seen["role"]) == ("Guest_IN_0", "Guest")
    assert seen["settings"] == {"Colour": "red"}
    assert seen["resources"]["Trace"]["sizeInMB"] == "7"
    assert "DiagnosticStore" in seen["resources"]
    assert seen["endpoints"]["Orders"][0] == "tcp"
    service.until_probe(200)  # ready without ever having taken a lease


def test_the_node_clients_status_lease_takes_the_instance_out_of_rotation_until_it_is_cleared(
    service: GuestInstance,
) -> None:
    service.until_probe(200)
    service.guest.tell("busy", 60)
    assert service.until_probe(503)["state"] == "Busy"
    service.guest.tell("clear")
    service.until_probe(200)


def test_the_node_clients_status_lease_runs_out(service: GuestInstance) -> None:
    service.until_probe(200)
    service.guest.tell("busy", 2)
    service.until_probe(503)
    service.until_probe(200)


def test_the_node_client_accepts_a_change_and_goes_on(service: GuestInstance) -> None:
    service.until_probe(200)
    before = service.guest.facts()["pid"]
    service.update('"red"', '"blue"')
    changed = service.guest.until("changed")
    assert changed["changes"] == [{"type": "ConfigurationSettingChange", "name": "Colour"}]
    assert service.guest.events("changing")[0]["changes"] == changed["changes"]
    seen = service.guest.facts()
    assert (seen["settings"]["Colour"], seen["pid"]) == ("blue", before)
    assert service.probe()[0] == 200


def test_the_node_client_cancels_a_change_and_its_next_life_has_the_new_value(service: GuestInstance) -> None:
    service.until_probe(200)
    before = service.guest.tell("cancel")["pid"]
    service.update('"red"', '"blue"')
    again = service.guest.until("listening", 2)
    assert again["pid"] != before
    assert service.guest.facts()["settings"] == {"Colour": "blue"}
    events = [each["event"] for each in service.guest.events()]
    assert events == ["started", "listening", "changing", "stopping", "started", "listening"]
    assert not is_alive(before)
    service.until_probe(200)


def test_the_node_client_asks_for_a_recycle(service: GuestInstance) -> None:
    service.until_probe(200)
    before = service.guest.facts()["pid"]
    service.guest.tell("recycle")
    assert service.guest.until("listening", 2)["pid"] != before
    assert len(service.guest.events("stopping")) == 1


def test_the_node_client_as_a_role_hears_the_stop(service: GuestInstance) -> None:
    service.until_probe(200)
    code, seconds = service.stop()
    assert code == 0
    assert seconds < 4  # it has said that it stopped: nobody waits for more
    assert [each["event"] for each in service.guest.events()] == ["started", "listening", "stopping"]
    assert marked(f"{service.deployment_id}/") == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_guest_program_that_exits_is_started_again(service: GuestInstance, code: int) -> None:
    service.until_probe(200)
    before = service.guest.tell("exit", code)["pid"]
    assert service.guest.until("listening", 2)["pid"] != before
    service.until_probe(200)
    assert service.guest.events("stopping") == []
