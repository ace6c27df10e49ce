"""Guest programs that refuse a change, and never took a lease: the walk waits for them all the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_support import TinyService, until
from node_client_support import Guest, lay_out

from rolehost import clock
from support.status import status_of

pytestmark = pytest.mark.acceptance

DEFINITION = """
[roles.Guest]
program = "node guest.js"
instances = 3
[roles.Guest.settings]
Colour = "red"
[roles.Guest.local_resources.Trace]
clean_on_role_recycle = false
[roles.Guest.internal_endpoints.Orders]
protocol = "tcp"
"""


class GuestService(TinyService):
    """Three instances of the guest's role, each a domain."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "", DEFINITION, upgrade_domain_count=3)
        lay_out(directory)

    def rolehost(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-P", "-m", "rolehost", *arguments, "--data", str(self.data)]
        return subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=60, check=False)

    def instances(self) -> list[dict[str, Any]]:
        """What the service says of them; nothing before it says anything."""
        return list(status_of(self.data).get("instances", []))

    def guests(self) -> list[Guest]:
        """Its instances, once all of them are ready."""
        ready = ["Ready"] * 3
        until(lambda: [each["state"] for each in self.instances()] == ready, f"three guests\n{self.stderr}", 40)
        found = []
        for each in self.instances():
            (trace,) = self.data.glob(f"resources/{each['instance']}/**/Trace")
            orders = each["endpoints"]["Orders"]
            found.append(Guest(trace, orders["address"], orders["port"]))
            found[-1].until("listening")
        return found


@pytest.fixture
def service() -> Iterator[GuestService]:
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    directory.chmod(0o755)
    service = GuestService(directory)
    try:
        service.start_up("-")
        yield service
    finally:
        service.clean_up()
        shutil.rmtree(directory)


def test_node_clients_that_cancel_are_recycled_one_domain_after_the_other(service: GuestService) -> None:
    guests = service.guests()
    for guest in guests:
        guest.tell("cancel")
    changed = service.directory / "changed.toml"
    changed.write_text((service.directory / "service.toml").read_text().replace('"red"', '"blue"'))
    told = service.rolehost("update", str(changed))
    assert told.returncode == 0, told.stderr
    for guest in guests:
        guest.until("listening", 2)
    # A guest that takes no lease is ready when its process starts.
    back = [clock.from_iso(each["ready_at"]).timestamp() for each in service.instances()]
    refused = [guest.until("changing")["at"] for guest in guests]
    assert refused[0] < back[0] <= refused[1] < back[1] <= refused[2] < back[2]
    assert {guest.facts()["settings"]["Colour"] for guest in guests} == {"blue"}
