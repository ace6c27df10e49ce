"""Another generation for a running instance: told to the role, or a start anew."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from host_support import Make, TinyService, marked, services, until

from rolehost.environment import Role, RoleInstance
from rolehost.host.assignment import Topology

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


FOLLOWS = """
class Worker(RoleEntryPoint):
    def on_start(self):
        environment = self.role_environment
        note(f"start:{environment.get_configuration_setting_value('Mood')}")
        def changing(e):
            note(f"changing:{environment.get_configuration_setting_value('Mood')}")
            e.cancel = Path("cancel").exists()
        def changed(e):
            note(f"changed:{environment.get_configuration_setting_value('Mood')}")
            note("peers:" + ",".join(each.id for each in environment.roles["Worker"].instances))
            note("thumbprints:" + ",".join(each[-4:] for each in self.thumbprints()))
        def stopping(e):
            note("stopping")
        def simultaneously(e):
            note("simultaneously")
        environment.changing += changing
        environment.changed += changed
        environment.stopping += stopping
        environment.simultaneous_changed += simultaneously
        return True
    def thumbprints(self):
        return [each.thumbprint for each in self.role_environment._snapshot.certificates.values()]
    def on_stop(self):
        note("on_stop")
"""

WAITS = """
def until_there(name):
    while not Path(name).exists():
        time.sleep(0.01)
"""

DEFINITION = """
[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
Mood = "calm"
[roles.Worker.internal_endpoints.Talk]
protocol = "tcp"
"""


def start(make: Make, definition: str = DEFINITION, roles: str = FOLLOWS) -> TinyService:
    service = make(roles, definition)
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    return service


def lives(service: TinyService) -> int:
    return sum(word.startswith("start:") for word in service.words())


def test_another_setting_is_told_to_the_running_role(make: Make) -> None:
    service = start(make)
    pid = service.fabric.facts["pid"]
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2, pid=pid)
    service.until_words("start:calm", "changing:calm", "changed:merry")
    assert service.stop()[0] == 0
    assert service.words()[-2:] == ["stopping", "on_stop"]
    assert service.words().count("on_stop") == 1


def test_a_generation_without_a_difference_is_taken_silently(make: Make) -> None:
    service = start(make)
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2)
    assert service.words() == ["start:calm"]
    assert service.stop()[0] == 0


def test_a_change_that_is_cancelled_recycles_into_the_new_values(make: Make) -> None:
    service = start(make)
    (service.directory / "cancel").touch()
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2, recycles=1)
    assert service.words() == ["start:calm", "changing:calm", "stopping", "on_stop", "start:merry"]
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled == ["change cancelled"]
    # It had not taken the new generation before it started again.
    assert {facts["generation"] for facts in service.fabric.history if facts["recycles"] == 0} == {0, 1}
    assert service.stop()[0] == 0


def test_the_times_of_the_definition_reach_the_role(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_start(self):
                self.role_environment.status_check += lambda e: note("check")
                self.role_environment.changing += lambda e: time.sleep(600)
                return True
        """,
        DEFINITION,
        status_check_seconds=0.2,
        changing_seconds=0.5,
    )
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    until(lambda: service.words()[:2] == ["check", "check"], "two checks")
    service.change('Mood = "calm"', 'Mood = "merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2, recycles=1)
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled == ["change cancelled"]
    assert service.stop()[0] == 0


def test_another_definition_starts_it_anew_in_order(make: Make) -> None:
    service = start(make)
    service.change('entry_point = "roles:Worker"', 'entry_point = "roles:Worker"\nenvironment = { NEW = "yes" }')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2, recycles=1)
    assert service.words() == ["start:calm", "stopping", "on_stop", "start:calm"]
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled == ["updated"]
    assert service.fabric.facts["last_crash"] is None
    assert service.stop()[0] == 0


def test_a_change_that_cannot_be_read_is_refused_and_the_old_goes_on(make: Make) -> None:
    service = start(make)
    service.change('"calm"', '"merry"')
    assignment = service.assignment(2)
    assert assignment.model is not None
    assignment.model.write_text("no toml")
    service.fabric.assign(assignment)
    until(lambda: [e for e in service.fabric.events if e["name"] == "assignment.refused"], "the refusal")
    assert service.fabric.facts["generation"] == 1
    service.fabric.assign(service.assignment(3))
    service.fabric.until(state="Ready", generation=3)
    assert service.stop()[0] == 0


def with_peers(topology: Topology, *numbers: int) -> Mapping[str, Role]:
    peers = [RoleInstance(f"Worker_IN_{number}", 1, 1) for number in numbers]
    return MappingProxyType({"Worker": Role("Worker", (*topology["Worker"].instances, *peers))})


def test_another_topology_is_told_to_the_running_role(make: Make) -> None:
    service = start(make)
    assignment = service.assignment(2)
    service.fabric.assign(service.assignment(2, topology=with_peers(assignment.topology, 1, 2)))
    service.until_words("start:calm", "changed:calm", "peers:Worker_IN_0,Worker_IN_1,Worker_IN_2")
    service.fabric.assign(service.assignment(3, topology=with_peers(assignment.topology, 1), simultaneous=True))
    service.until_words("changed:calm", "simultaneously")
    service.fabric.until(generation=3, recycles=0)
    assert service.words().count("changed:calm") == 1
    assert service.stop()[0] == 0


def certificate(service: TinyService, text: bytes) -> str:
    """Something that looks like a certificate, installed; the answer is its thumbprint."""
    der = b"\x30" + bytes([len(text)]) + text
    directory = service.directory / "certificates" / "Tls"
    directory.mkdir(parents=True, exist_ok=True)
    body = base64.encodebytes(der).decode()
    thumbprint = hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
    path = directory / f"{thumbprint}.pem"
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    return thumbprint


def test_a_certificate_that_is_installed_is_told_and_a_fresh_one_starts_it_anew(make: Make) -> None:
    service = make(FOLLOWS)
    first, second = certificate(service, b"first"), certificate(service, b"second")
    with (service.directory / "service.toml").open("a") as definition:
        definition.write(
            f'\n[roles.Worker.settings]\nMood = "calm"\n[roles.Worker.certificates.Tls]\nthumbprint = "{first}"\n'
        )
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    service.change(first, second)
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2)
    service.until_words("start:calm", f"thumbprints:{second[-4:]}")
    assert lives(service) == 1
    third = certificate(service, b"third")
    service.change(second, third)
    service.fabric.assign(service.assignment(3))
    service.fabric.until(state="Ready", generation=3, recycles=1)
    assert service.words()[-3:] == ["stopping", "on_stop", "start:calm"]
    recycled = [each["facts"]["reason"] for each in service.fabric.events if each["name"] == "instance.recycled"]
    assert recycled == ["environment changed"]
    assert service.stop()[0] == 0


def test_a_definition_that_comes_during_a_pause_is_tried_at_once(make: Make) -> None:
    service = make(
        """
        class Worker(RoleEntryPoint):
            def on_start(self):
                mood = self.role_environment.get_configuration_setting_value("Mood")
                note(mood)
                return mood == "merry"
        """,
        DEFINITION,
        recycle_seconds=10,
    )
    service.start_instance()
    until(lambda: "instance.recycled" in service.stderr, "a pause, of 100 s")
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2)
    assert service.words()[-1] == "merry"
    assert service.stop()[0] == 0


def broken(service: TinyService, thumbprint: str) -> Path:
    """Spoil the file of a certificate."""
    path = service.directory / "certificates" / "Tls" / f"{thumbprint}.pem"
    path.write_text("no PEM file")
    return path


def with_certificate(service: TinyService, thumbprint: str) -> None:
    with (service.directory / "service.toml").open("a") as definition:
        definition.write(f'\n[roles.Worker.certificates.Tls]\nthumbprint = "{thumbprint}"\n')


def test_a_change_that_cannot_be_told_is_refused_and_the_next_one_is_taken(make: Make) -> None:
    service = make(FOLLOWS, DEFINITION)
    thumbprint = certificate(service, b"first")
    with_certificate(service, thumbprint)
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    path = broken(service, thumbprint)
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    refused = until(lambda: [e for e in service.fabric.events if e["name"] == "assignment.refused"], "the refusal")
    assert refused[0]["facts"]["generation"] == 2
    assert path.name in refused[0]["facts"]["reason"]
    until(lambda: path.name in service.fabric.facts["detail"], "the reason in the facts")
    assert service.fabric.facts["generation"] == 1
    certificate(service, b"first")
    service.fabric.assign(service.assignment(3))
    service.fabric.until(state="Ready", generation=3, recycles=0, detail="The role is ready.")
    assert service.words()[:3] == ["start:calm", "changing:calm", "changed:merry"]
    assert service.stop()[0] == 0


def test_a_certificate_that_is_broken_at_the_start_is_a_failed_start_that_says_why(make: Make) -> None:
    service = make(FOLLOWS, DEFINITION)
    thumbprint = certificate(service, b"first")
    with_certificate(service, thumbprint)
    path = broken(service, thumbprint)
    service.start_instance()
    crash = service.fabric.until(status="FailedStartingRole")["last_crash"]
    assert crash["stage"] == "start"
    assert path.name in crash["reason"]
    certificate(service, b"first")
    service.fabric.until(state="Ready", generation=1)
    assert service.stop()[0] == 0


def test_a_host_that_can_hear_no_orders_any_more_ends(make: Make) -> None:
    service = start(make)
    service.fabric.send({"assign": {}})
    assert service.process is not None
    assert service.process.wait(10) not in {0, None}
    until(lambda: marked(f"{service.deployment_id}/") == [], "the role's end")


def test_a_change_that_the_role_has_taken_does_not_shorten_the_pause_after_a_crash(make: Make) -> None:
    crashes = FOLLOWS.replace(
        "def on_stop", "def run(self):\n        until_there('crash')\n        os._exit(3)\n    def on_stop"
    )
    service = make(crashes + WAITS, DEFINITION, recycle_seconds=1)
    service.start_instance()
    service.fabric.until(state="Ready", generation=1)
    service.change('"calm"', '"merry"')
    service.fabric.assign(service.assignment(2))
    service.fabric.until(state="Ready", generation=2)
    (service.directory / "crash").touch()
    until(lambda: "instance.recycled" in service.stderr, "the crash")
    began = time.monotonic()
    (service.directory / "crash").unlink()
    service.until_words("start:calm", "start:merry")
    assert time.monotonic() - began > 0.8
    assert service.stop()[0] == 0
