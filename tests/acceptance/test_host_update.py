"""`rolehost update` and the watched files, with real processes."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from update_support import Updated, running, until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Updated]:
    with running(tmp_path) as service:
        yield service


def other(service: Updated, greeting: str, instances: int = 1, **more: str | int) -> Path:
    """A definition beside the one that the service was started from."""
    return service.define(greeting, instances=instances, path=service.directory / f"{greeting}.toml", **more)


def test_a_setting_is_changed_without_a_restart(service: Updated) -> None:
    service.define("hello", instances=2)
    service.up_and_ready()
    told = service.done("update", other(service, "salut", instances=2))
    assert "Worker: setting Greeting" in told
    assert "salut" not in told  # a setting may be a secret
    assert f"the next `rolehost up` reads {service.file} again" in told
    for instance in ("Worker_IN_0", "Worker_IN_1"):
        assert service.noted(instance) == ["start:hello", "changing:hello", "changed:salut"]
        assert len(service.pids(instance)) == 1
    assert [each["generation"] for each in service.status()["instances"]] == [2, 2]


def test_the_same_file_again_changes_nothing(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    assert "nothing changes" in service.done("update", service.file)
    assert service.noted() == ["start:hello"]
    assert service.status()["generation"] == 1


def test_a_cancelled_change_restarts_the_instances_domain_by_domain(service: Updated) -> None:
    service.environ["CANCEL"] = "yes"
    service.define("hello", instances=4, domains=2)
    service.up_and_ready()
    watched = service.watch()
    told = service.done("update", other(service, "salut", instances=4, domains=2))
    assert told.index("domain 0: Worker_IN_0, Worker_IN_2") < told.index("domain 1: Worker_IN_1, Worker_IN_3")
    restart = ["start:hello", "changing:hello", "stopping", "on_stop", "start:salut"]
    assert service.noted("Worker_IN_0") == service.noted("Worker_IN_3") == restart
    assert {*service.order("start:salut")[:2]} == {"Worker_IN_0", "Worker_IN_2"}
    service.done("stop")
    watched.end()
    assert max(map(len, watched.down())) == 1
    assert {domain for each in watched.down() for domain in each} == {0, 1}


def test_generations_are_the_owners_alone_and_old_ones_go(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    for greeting in ("salut", "ciao"):
        service.done("update", other(service, greeting))
    files = [*(service.data / "deployment").iterdir()]
    assert [each.name for each in files] == ["3.toml"]
    assert "ciao" in files[0].read_text()
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE((service.data / "control.sock").stat().st_mode) == 0o600


def test_a_killed_bootstrapper_comes_back_with_the_newest_generation(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    service.done("update", other(service, "salut"))
    before = service.facts()
    (role,) = service.pids()
    host = int(Path(f"/proc/{role}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(host, 9)
    service.until_noted("start:salut")
    service.until_ready(2)
    assert service.facts()["endpoints"] == before["endpoints"]
    assert service.facts()["recycles"] == 1


def test_every_problem_of_a_file_is_told_and_nothing_changes(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    bad = other(service, "salut", instances=0, more='[roles.Worker.local_resources.Store]\nsize_in_mb = "big"')
    told = service.refused("update", bad)
    assert "instances" in told
    assert "size_in_mb" in told
    assert service.status()["generation"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"old": "[roles.Worker", "new": "[roles.Renamed"}, 'the role "Worker" can\'t be renamed to "Renamed"'),
        ({"old": "upgrade_domain_count = 5", "new": "upgrade_domain_count = 3"}, "the number of upgrade domains is 5"),
        ({"old": "size_in_mb = 20", "new": "size_in_mb = 10"}, "can't shrink from 20 to 10 MB"),
    ],
)
def test_what_can_not_be_changed_in_place_is_refused_with_its_reason(
    service: Updated, change: dict[str, str], reason: str
) -> None:
    service.define("hello", more="[roles.Worker.local_resources.Store]\nsize_in_mb = 20")
    service.up_and_ready()
    path = service.directory / "other.toml"
    path.write_text(service.file.read_text().replace(change["old"], change["new"]))
    assert reason in service.refused("update", path)
    answer = service.command("update", path, "--json")
    assert answer.returncode == 1
    assert reason in json.loads(answer.stdout)["refused"][0]
    assert service.noted() == ["start:hello"]


def test_what_the_environment_hides_is_told(service: Updated) -> None:
    service.environ |= {"ROLEHOST_SETTING_GREETING": "mine", "ROLEHOST_INSTANCES_WORKER": "2"}
    service.define("hello", instances=1)
    service.up_and_ready()
    told = service.done("update", other(service, "salut", instances=3))
    assert "the environment hides setting Greeting" in told
    assert "the environment decides on the number of instances of Worker" in told
    assert service.noted() == ["start:mine"]
    assert len(service.status()["instances"]) == 2
    assert "ROLEHOST_INSTANCES_WORKER" in service.refused("scale", "Worker", 3)
    mood = other(service, "salut", instances=3, more='[roles.Worker.environment]\nMOOD = "good"')
    for _ in range(2):  # the first one has taken the file's Greeting, hidden as it is
        assert "the environment hides setting Greeting" in service.done("update", mood)
    assert "hides" in service.done("update", service.file)  # back to the beginning
    assert "hides" not in service.done("update", service.file)


def test_another_definition_starts_the_role_again(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    told = service.done("update", other(service, "hello", more='[roles.Worker.environment]\nMOOD = "good"'))
    assert "environment (its instances start again)" in told
    assert service.noted() == ["start:hello", "stopping", "on_stop", "start:hello"]


def test_another_drain_time_holds_for_the_next_stop(tmp_path: Path) -> None:
    slow = """
    class Slow(Worker):
        def on_stop(self):
            time.sleep(600)
    """
    with running(tmp_path, slow) as service:
        service.define(role="Slow")
        process = service.up_and_ready()
        path = service.directory / "other.toml"
        path.write_text(service.file.read_text().replace("drain_seconds = 5", "drain_seconds = 0.5"))
        assert "service: drain_seconds" in service.done("update", path)
        assert len(service.pids()) == 1
        began = time.monotonic()
        process.terminate()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 4


def test_a_manual_update_waits_for_its_caller(service: Updated) -> None:
    service.define("hello", instances=3, domains=3)
    service.up_and_ready()
    assert "--walk" in service.done("update", other(service, "salut", instances=3, domains=3), "--mode", "manual")
    assert service.order("changed:salut") == []
    assert service.status()["walk"] == {"mode": "manual", "generation": 2, "domain": None, "updated": 0, "of": 3}
    service.done("update", "--walk", 1)
    assert service.order("changed:salut") == ["Worker_IN_1"]
    assert "domains that do: 0, 2" in service.refused("update", "--walk", 7)
    service.done("update", "--walk", 0)
    service.done("update", "--walk", 2)
    assert service.order("changed:salut") == ["Worker_IN_1", "Worker_IN_0", "Worker_IN_2"]
    assert service.status()["walk"] is None
    assert "no update waits" in service.refused("update", "--walk", 0)


def test_a_rollback_takes_back_what_was_walked_and_leaves_the_others_alone(service: Updated) -> None:
    service.define("hello", instances=3, domains=3)
    service.up_and_ready()
    service.done("update", other(service, "salut", instances=3, domains=3), "--mode", "manual")
    service.done("update", "--walk", 0)
    service.done("update", "--rollback")
    assert service.noted("Worker_IN_0")[1:] == ["changing:hello", "changed:salut", "changing:salut", "changed:hello"]
    assert service.noted("Worker_IN_1") == service.noted("Worker_IN_2") == ["start:hello"]
    assert {each["generation"] for each in service.status()["instances"]} == {3}
    assert "nothing to roll back" in service.refused("update", "--rollback")


def test_a_rollback_goes_to_what_all_instances_had_last(service: Updated) -> None:
    service.define("hello", instances=2, domains=2)
    service.up_and_ready()
    for greeting in ("salut", "ciao"):  # neither of them is ever whole
        service.done("update", other(service, greeting, instances=2, domains=2), "--mode", "manual")
        service.done("update", "--walk", 0)
    service.done("update", "--rollback")
    assert service.noted("Worker_IN_0")[-1] == "changed:hello"
    assert service.noted("Worker_IN_1") == ["start:hello"]


def test_a_new_update_in_mid_walk_begins_at_the_first_domain_again(service: Updated) -> None:
    service.define("hello", instances=3, domains=3)
    service.up_and_ready()
    service.done("update", other(service, "salut", instances=3, domains=3), "--mode", "manual")
    service.done("update", "--walk", 0)
    service.done("update", "--walk", 1)
    service.done("update", other(service, "ciao", instances=3, domains=3))
    assert service.order("changed:ciao") == ["Worker_IN_0", "Worker_IN_1", "Worker_IN_2"]
    assert service.order("changed:salut") == ["Worker_IN_0", "Worker_IN_1"]


def test_two_updates_that_overlap_never_take_two_domains_down(tmp_path: Path) -> None:
    slow = """
    class Slow(Worker):
        def on_stop(self):
            super().on_stop()
            while os.environ["RoleInstanceID"] == "Worker_IN_1" and not Path("go").exists():
                time.sleep(0.02)
    """
    with running(tmp_path, slow, {"CANCEL": "yes"}) as service:
        definition = partial(other, service, instances=3, domains=3, role="Slow")
        service.file.write_text(definition("hello").read_text())
        service.up_and_ready()
        watched = service.watch()
        service.done("update", definition("salut"), "--no-wait")
        service.until_noted("on_stop", "Worker_IN_1")
        second = service.start("update", str(definition("ciao")))
        until(lambda: service.status()["generation"] == 3, lambda: service.log)
        (tmp_path / "go").touch()
        assert second.wait(30) == 0
        assert service.order("start:ciao")[0] == "Worker_IN_0"
        assert {*service.order("start:ciao")} == {"Worker_IN_0", "Worker_IN_1", "Worker_IN_2"}
        assert "Worker_IN_2" not in service.order("start:salut")
        service.done("stop")
        watched.end()
        assert max(map(len, watched.down())) == 1


def test_an_update_that_keeps_an_instance_from_starting_walks_on_after_the_start_timeout(tmp_path: Path) -> None:
    broken = """
    class Broken(Worker):
        def on_start(self):
            super().on_start()
            if self.greeting == "bad" and os.environ["RoleInstanceID"] == "Worker_IN_0":
                time.sleep(600)
            return True
    """
    with running(tmp_path, broken, {"CANCEL": "yes"}) as service:
        definition = partial(service.define, instances=2, domains=2, service="start_seconds = 2", role="Broken")
        definition("hello")
        service.up_and_ready()
        bad = definition("bad", path=service.directory / "bad.toml")
        answer = service.command("update", bad)
        assert answer.returncode == 1
        assert "going on without Worker_IN_0: not ready" in answer.stdout
        assert list(dict.fromkeys(service.order("start:bad"))) == ["Worker_IN_0", "Worker_IN_1"]
        assert service.events("update.late")[0]["instances"] == ["Worker_IN_0"]


def test_a_watched_file_is_an_update_when_its_link_is_swapped(service: Updated) -> None:
    # As a ConfigMap is mounted: service.toml -> ..data/service.toml, ..data -> a directory with a time stamp.
    for name, greeting in (("..1", "hello"), ("..2", "salut")):
        (service.directory / name).mkdir()
        service.define(greeting, path=service.directory / name / "service.toml")
    (service.directory / "..data").symlink_to("..1")
    service.file.symlink_to("..data/service.toml")
    service.up_and_ready()
    # The first content is looked at anyhow: only a swap after that shows what is looked at.
    for target, greeting in (("..2", "salut"), ("..1", "hello"), ("..2", "salut")):
        heard = service.noted().count(f"changed:{greeting}")
        (service.directory / "..data_tmp").symlink_to(target)
        (service.directory / "..data_tmp").rename(service.directory / "..data")
        until(
            lambda word=f"changed:{greeting}", heard=heard: service.noted().count(word) > heard,  # type: ignore[misc]
            lambda: service.log,
        )
    assert len(service.pids()) == 1
    assert service.events("definition.changed")[0]["changes"]["settings"] == {"Worker": ["Greeting"]}


def test_an_update_that_the_watch_was_faster_with_is_told_all_the_same(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    service.define("salut")
    service.until_noted("changed:salut")
    told = service.done("update", service.file)
    assert "generation 2:\n  Worker: setting Greeting" in told
    assert "every instance that was concerned is ready" in told
    assert "nothing changes" in service.done("update", service.file)


def test_a_watched_file_that_is_not_valid_is_told_and_not_taken(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    service.file.write_text("[service]\nname = 3\n")
    refused = until(lambda: service.events("definition.refused"), lambda: f"the refusal\n{service.log}")
    assert str(service.file) in refused[0]["problems"][0]
    status = json.loads(service.done("status", "--json"))
    assert status["refused"]["problems"] == refused[0]["problems"]
    assert refused[0]["problems"][0] in service.done("status")
    new = service.define("salut", path=service.directory / "service.toml.new")
    new.rename(service.file)  # as editors do it
    service.until_noted("changed:salut")
    assert service.noted() == ["start:hello", "changing:hello", "changed:salut"]
    until(lambda: service.status()["refused"] is None, lambda: service.log)


def test_an_update_is_not_undone_by_files_that_stay_what_they_are(service: Updated) -> None:
    service.define("hello")
    service.up_and_ready()
    service.done("update", other(service, "salut"))
    service.file.write_text("# another content, the same service\n" + service.file.read_text())
    service.file.write_text("[service]\nname = 3\n")
    until(lambda: service.events("definition.refused"), lambda: f"the refusal\n{service.log}")
    service.define("hello")
    until(lambda: service.facts()["state"] == "Ready", lambda: service.log)
    assert service.status()["generation"] == 2
    service.define("ciao")
    service.until_noted("changed:ciao")
    assert service.noted() == ["start:hello", "changing:hello", "changed:salut", "changing:salut", "changed:ciao"]


def test_a_watched_configuration_of_the_old_files_is_taken(service: Updated) -> None:
    namespace = "http://schemas.microsoft.com/ServiceHosting/2008/10/Service"
    (service.directory / "ServiceDefinition.csdef").write_text(
        f"""<ServiceDefinition name="tiny" xmlns="{namespace}Definition"><WorkerRole name="Worker">
        <ConfigurationSettings><Setting name="Greeting"/></ConfigurationSettings>
        <Runtime><EntryPoint><NetFxEntryPoint assemblyName="roles:Worker" targetFrameworkVersion="v4.0"/></EntryPoint>
        </Runtime></WorkerRole></ServiceDefinition>"""
    )

    def configuration(greeting: str, path: Path) -> Path:
        path.write_text(
            f"""<ServiceConfiguration serviceName="tiny" xmlns="{namespace}Configuration"><Role name="Worker">
            <Instances count="1"/><ConfigurationSettings><Setting name="Greeting" value="{greeting}"/>
            </ConfigurationSettings></Role></ServiceConfiguration>"""
        )
        return path

    configuration("hello", service.directory / "ServiceConfiguration.cscfg")
    service.up_and_ready()
    configuration("salut", service.directory / "ServiceConfiguration.cscfg")
    service.until_noted("changed:salut")
    # The old `csrun /update:<deployment>;<configuration>`.
    service.done("update", configuration("ciao", service.directory / "Other.cscfg"))
    assert service.noted()[-1] == "changed:ciao"
    assert len(service.pids()) == 1
