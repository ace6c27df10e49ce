"""`rolehost check` and `rolehost up` on the old service's own files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rolehost.errors import ServiceModelError
from rolehost.service_model import examine, load
from support.cloud_service import CSCFG, CSDEF, Copy
from support.commands import environ, invoke, start

PYTHON_ROLES = "cloud_service_pairs/python_roles"
PLUG_INS = "cloud_service_pairs/plug_ins"


def test_a_pair_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Copy(tmp_path).directory)
    told = invoke("check")
    assert told.exit_code == 0
    assert f"{tmp_path}/service/{CSDEF} is valid: service ThumbnailCloudService, 2 roles, " in told.stdout
    assert f"{CSDEF}:9: warning: N08: " in told.stdout
    assert "bin/frontend --bind-from-role" in told.stdout
    document = json.loads(invoke("check", "--json").stdout)
    assert (document["valid"], document["problems"]) == (True, [])
    assert [role["program"] for role in document["roles"]] == ["", "bin/frontend --bind-from-role"]
    assert f"{CSDEF}:9: " in document["warnings"][0]


def test_the_native_definition_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Copy(tmp_path).directory)
    Path("service.toml").write_text('[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n')
    assert "service s, 1 role\n" in invoke("check", "--no-load").stdout


def test_every_problem_and_every_warning_is_told(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, 'sizeInMB="512"', 'sizeInMB="0"')
    service.change(CSCFG, 'count="4"', 'count="0"')
    definition = service.directory / CSDEF
    told = invoke("check", "--definition", definition, "--configuration", service.directory / CSCFG)
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    size, count = service.line_of(CSDEF, 'sizeInMB="0"'), service.line_of(CSCFG, 'count="0"')
    assert lines[0].startswith(f"{definition}:{size}: M09: ")
    assert lines[1].startswith(f"{service.directory / CSCFG}:{count}: M24: ")
    assert all(": warning: " in line for line in lines[2:])
    assert told.stderr == "rolehost: the service definition is not valid: 2 problems\n"
    document = json.loads(invoke("check", "--definition", definition, "--json").stdout)
    assert (document["valid"], document["problems"], document["warnings"]) == (False, lines[:2], lines[2:])


def test_among_configurations_one_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Copy(tmp_path, PLUG_INS).directory)
    told = invoke("check")
    assert told.exit_code == 1
    assert f"there is more than one .cscfg: {CSCFG}, ServiceConfiguration.Local.cscfg; name one with" in told.stdout
    assert invoke("check", "--configuration", CSCFG).exit_code == 0
    monkeypatch.setenv("ROLEHOST_CONFIGURATION", "ServiceConfiguration.Local.cscfg")
    (web, _) = json.loads(invoke("check", "--json").stdout)["roles"]
    assert (web["name"], web["instances"]) == ("Shop.Web", 1)


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Copy(tmp_path)
    monkeypatch.chdir(service.directory)
    told = invoke("check", "--definition", CSCFG)
    assert "M01: this is a configuration: name the definition" in told.stdout
    Path(CSCFG).unlink()
    assert "N00: there is no configuration (*.cscfg) beside it" in invoke("check").stdout
    Path("Second.csdef").write_text("")
    assert f"N00: there is more than one .csdef: Second.csdef, {CSDEF}" in invoke("check").stdout


def test_the_environment_goes_over_a_pair_too(tmp_path: Path) -> None:
    service = Copy(tmp_path, PYTHON_ROLES)
    examined = service.examine(ROLEHOST_SETTING_BEACON__TEXT="there", ROLEHOST_INSTANCES_BEACON="1")
    assert examined.model is not None
    role = examined.model.roles["Beacon"]
    assert role.settings == {"Beacon.Text": "there"}
    assert (role.instances, list(role.masked)) == (1, ["Beacon.Text"])
    (problem,) = service.examine(ROLEHOST_INSTANCES_BEACON="x").errors
    assert problem.code == "M24"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ('[entry_points]\nBecon = "a:B"', "M07", 'no role "Becon"; did you mean "Beacon"?'),
        ('[entry_points]\nBeacon = "a b"', "M20", '"a b" is no "module:Class"'),
        ("[entry_points]\nBeacon = 1", "N06", 'needs "entry_point", a text'),
        ('Beacon = "a:B"', "N01", "one table, [entry_points]"),
        ("[entry", "N01", "this is no TOML"),
    ],
)
def test_the_mapping_is_checked(tmp_path: Path, text: str, code: str, told: str) -> None:
    service = Copy(tmp_path, PYTHON_ROLES)
    (service.directory / "entry_points.toml").write_text(text)
    (problem,) = service.examine().errors
    assert problem.code == code
    assert problem.file == str(service.directory / "entry_points.toml")
    assert told in problem.sentence


def test_roles_of_a_pair_are_loaded_where_that_is_asked_for(tmp_path: Path) -> None:
    service = Copy(tmp_path, PYTHON_ROLES)
    command = [sys.executable, "-m", "rolehost", "check", "--load"]
    told = subprocess.run(command, cwd=service.directory, env=environ(), check=False, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout
    (service.directory / "beacons/worker.py").unlink()
    told = subprocess.run(command, cwd=service.directory, env=environ(), check=False, capture_output=True, text=True)
    assert told.returncode == 1
    assert 'Beacon: "beacons.worker:Beacon"' in told.stdout


def test_what_nothing_can_be_started_for_is_refused_at_the_start(tmp_path: Path) -> None:
    service = Copy(tmp_path, PLUG_INS)
    with pytest.raises(ServiceModelError) as caught:
        load(service.directory / "Shop.csdef", {"ROLEHOST_CONFIGURATION": CSCFG})
    web, mailer = (service.line_of("Shop.csdef", f'name="Shop.{role}"') for role in ("Web", "Mailer"))
    assert [problem.replace(f"{service.directory}/", "") for problem in caught.value.problems] == [
        f'Shop.csdef:{web}: N10: the role "Shop.Web" has no Python entry point: nothing can be started for it',
        f'Shop.csdef:{mailer}: N10: the role "Shop.Mailer" has no Python entry point: nothing can be started for it',
    ]


def test_check_tells_what_cant_be_started(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    (service.directory / "bin/frontend").unlink()
    (service.directory / "startup/log_agent.sh").chmod(0o644)
    (service.directory / "startup/flush_journal.sh").write_bytes(b"#!/bin/sh\r\n")
    service.change(CSDEF, "startup/install_codecs.sh --once", "startup\\install.cmd")
    told = invoke("check", "--definition", service.directory / CSDEF).stdout.replace(f"{service.directory}/", "")
    back, front = "ThumbnailBackend", "ThumbnailFrontend"
    for text, expected in (
        ("startup/log_agent.sh", f"N15: {back}: a startup task can't be started: startup/log_agent.sh is not exec"),
        ("startup/flush_journal.sh", f"N15: {back}: a startup task can't be started: startup/flush_journal.sh has the"),
        (
            "install.cmd",
            f"N15: {back}: a startup task can't be started: startup\\install.cmd is a batch file of Windows",
        ),
        ("bin/frontend", f"N15: {front}: the program can't be started: bin/frontend is not in approot"),
        (
            "<Content ",
            'N10: the contents "tools" of the role "ThumbnailBackend" are missing: there is no directory dist',
        ),
    ):
        assert f"{CSDEF}:{service.line_of(CSDEF, text)}: warning: {expected}" in told
    assert "N15" not in invoke("check", "--no-load", "--definition", service.directory / CSDEF).stdout


def test_programs_are_looked_for_where_approot_will_have_them(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    contents = service.directory / "dist/thumbnailer"
    contents.mkdir(parents=True)
    for old, place in (
        ("startup/log_agent.sh", contents / "agent.sh"),
        ("startup/install_codecs.sh", service.directory / "ThumbnailBackend/install.sh"),
        ("bin/frontend", service.directory / "approot/guest"),
    ):
        place.parent.mkdir(exist_ok=True)
        (service.directory / old).rename(place)
    service.change(CSDEF, "startup/log_agent.sh", "tools\\agent.sh -q")
    service.change(CSDEF, "startup/install_codecs.sh", "install.sh")
    service.change(CSDEF, "bin/frontend", "guest")
    told = invoke("check", "--definition", service.directory / CSDEF).stdout
    assert not [line for line in told.splitlines() if ": N1" in line]


def in_a_process_of_its_own(service: Copy) -> list[str]:
    command = [sys.executable, "-m", "rolehost", "check"]
    told = subprocess.run(command, cwd=service.directory, env=environ(), check=False, capture_output=True, text=True)
    return told.stdout.splitlines()


def test_what_a_role_of_a_pair_lacks_has_the_files_line(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    worker = service.directory / "thumbnail_backend/worker.py"
    worker.write_text(
        "from rolehost.workers.queue_worker import QueueWorker\nclass WorkerRole(QueueWorker):\n    kind = ''\n"
    )
    service.change(CSDEF, '"App.TimeoutSeconds"', '"Worker.Sloots"')
    service.change(CSCFG, '"App.TimeoutSeconds"', '"Worker.Sloots"')
    told = in_a_process_of_its_own(service)
    entry, setting = service.line_of(CSDEF, "<NetFxEntryPoint"), service.line_of(CSCFG, "Sloots")
    assert told[0].startswith(f"{CSDEF}:{entry}: N13: ThumbnailBackend: WorkerRole names no `kind`")
    assert any(line.startswith(f'{CSCFG}:{setting}: N12: ThumbnailBackend: there is no setting "W') for line in told)
    worker.unlink()
    told = in_a_process_of_its_own(service)
    assert told[0].startswith(f'{CSDEF}:{entry}: N11: ThumbnailBackend: "thumbnail_backend.worker:WorkerRole"')


def test_a_pair_with_python_roles_runs(tmp_path: Path) -> None:
    service = Copy(tmp_path, PYTHON_ROLES)
    running = start("up", "--data", tmp_path / "data", cwd=service.directory)
    try:
        traces = [tmp_path / f"data/resources/Beacon_IN_{number}/Log/trace" for number in range(2)]
        deadline = time.monotonic() + 30
        while not all(trace.is_file() and trace.read_text() for trace in traces):
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=30)
    assert [trace.read_text() for trace in traces] == [f"Beacon_IN_{n}: here I am, green" for n in range(2)]
    assert "definition.not_run" not in told
    assert running.returncode == 0


def test_the_xml_library_is_loaded_for_xml_only(tmp_path: Path) -> None:
    service = Copy(tmp_path, PYTHON_ROLES)
    (service.directory / "service.toml").write_text('[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n')
    program = "import sys; from rolehost.service_model import load; load(None, {}); print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(
        command, cwd=service.directory, env=environ(), check=True, capture_output=True, text=True
    ).stdout.split()
    assert "rolehost.service_model.native" in loaded
    assert "rolehost.service_model.markup" not in loaded
    assert not any(name.partition(".")[0] == "lxml" for name in loaded)
    assert examine(service.directory / CSDEF, {}).errors == ()
