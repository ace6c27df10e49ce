from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.errors import ServiceModelError
from rolehost.service_model import ServiceModel, load

MINIMAL = """
[service]
name = "s"
[roles.Worker]
entry_point = "m:C"
"""

VARIABLE_FORM = "up to 255 characters, no spaces, no control characters, no ="


def read(tmp_path: Path, text: str, **environ: str) -> ServiceModel:
    path = tmp_path / "service.toml"
    path.write_text(text)
    return load(path, environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """What is wrong, without the directory's name."""
    with pytest.raises(ServiceModelError) as caught:
        read(tmp_path, text, **environ)
    return [problem.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def test_without_a_definition_the_built_in_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = load(None, {})
    assert (model.name, model.source, model.drain_seconds) == ("thumbnails", None, 25)
    assert list(model.roles) == ["ThumbnailFrontend", "ThumbnailBackend"]
    assert model.roles["ThumbnailFrontend"].endpoints["Http"].port == 8080
    assert model.roles["ThumbnailBackend"].entry_point == "rolehost.workers.thumbnail:ThumbnailWorker"
    assert model.roles["ThumbnailBackend"].local_resources["Scratch"].size_in_mb == 2048


def test_a_definition_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    model = load(None, {})
    assert (model.name, model.source, model.directory) == ("s", tmp_path / "service.toml", tmp_path)
    assert load(None, {}, built_in=True).name == "thumbnails"


def test_every_part_is_read(tmp_path: Path) -> None:
    text = """
    [service]
    name = "s"
    drain_seconds = 3.5
    [roles.A]
    entry_point = "a.b:C"
    instances = 3
    [roles.A.settings]
    "Worker.Slots" = 2
    Worker.Pause = 0.5
    Flag = true
    Text = "x"
    [roles.A.local_resources.Scratch]
    size_in_mb = 7
    clean_on_role_recycle = false
    [roles.A.local_resources.Other]
    [roles.A.endpoints.Tcp]
    protocol = "tcp"
    port = 99
    [roles.A.environment]
    THREADS = 4
    """
    model = read(tmp_path, text)
    role = model.roles["A"]
    assert model.drain_seconds == 3.5
    assert role.instance_ids() == ("A_IN_0", "A_IN_1", "A_IN_2")
    assert role.settings == {"Worker.Slots": "2", "Worker.Pause": "0.5", "Flag": "true", "Text": "x"}
    scratch, other, diagnostics = role.local_resources.values()
    assert (scratch.name, scratch.size_in_mb, scratch.clean_on_role_recycle) == ("Scratch", 7, False)
    assert (other.size_in_mb, other.clean_on_role_recycle) == (100, True)
    assert (diagnostics.name, diagnostics.size_in_mb, diagnostics.clean_on_role_recycle) == (
        "DiagnosticStore",
        4096,
        False,
    )
    assert (role.endpoints["Tcp"].protocol, role.endpoints["Tcp"].port) == ("tcp", 99)
    assert role.environment == {"THREADS": "4"}
    with pytest.raises(TypeError):
        role.settings["Flag"] = "false"  # type: ignore[index]


def test_all_problems_are_told_with_their_lines_and_suggestions(tmp_path: Path) -> None:
    text = """[service]
name = "s"
drain_second = 3
[roles.A]
entry_point = "a b"
instanses = 3
instances = 0
[roles.A.local_resources.Scratch]
size_in_mb = "7"
clean_on_role_recycle = 1
[roles.A.endpoints.Http]
protocol = "sctp"
port = 70000
[roles.A.environment]
ROLEHOST_DATA = "x"
"9 =" = "x"
[roles."B C"]
[role.C]
"""
    found = problems(tmp_path, text)
    for expected in (
        'service.toml:3: M28: unknown key "drain_second" in [service]; did you mean "drain_seconds"?',
        'service.toml:5: M20: "a b" is no "module:Class"',
        'service.toml:6: M28: unknown key "instanses" in [roles.A]; did you mean "instances"?',
        "service.toml:7: M24: instances is a whole number from 1 to 1000, not 0",
        "service.toml:9: M09: size_in_mb is a whole number from 1 to 2147483648, not '7'",
        "service.toml:10: N04: clean_on_role_recycle is true or false",
        'service.toml:12: M21: a protocol is http, https, udp or tcp, not "sctp"',
        "service.toml:13: M10: port is a whole number from 1 to 65535, not 70000",
        'service.toml:15: N03: the host sets the variable "ROLEHOST_DATA" itself',
        f'service.toml:16: N05: "9 =" is no name in roles.A.environment: allowed are {VARIABLE_FORM}',
        'service.toml:17: N05: "B C" is no name in roles: allowed are letters, digits, . - and _, none of . - first',
        'service.toml:17: N06: roles.B C needs "entry_point", a text',
        'service.toml:18: M28: unknown key "role" at the top; did you mean "roles"?',
    ):
        assert expected in found
    assert len(found) == 13


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[service]\nname = ", "service.toml:2: N01: this is no TOML"),
        ('[service]\nname = "s"', "M04: a service has 1 to 25 roles, this one has 0"),
        (MINIMAL + "[roles.worker]\nentry_point = 'm:D'", 'M08: "worker" and "Worker" differ in case only'),
        (MINIMAL + "[roles.Worker.local_resources.roletemp]", "N03: the local resource"),
        (MINIMAL + "[roles.Worker.endpoints.Http]", 'M10: the endpoint "Http" needs a port'),
        (MINIMAL + '[roles.Worker.settings]\nX = "\\u0000"', "N02: the value of"),
        (MINIMAL + "[roles.Worker.settings]\nX = [1]", 'N04: the value of "X" is text, a number, true or false'),
        (MINIMAL + "[roles.Worker.endpoints]\nHttp = 80", 'N04: "roles.Worker.endpoints.Http" is a table'),
        (MINIMAL.replace('"s"', '"s"\nrecycle_seconds = -1'), "N04: recycle_seconds is a number of seconds above 0"),
        (
            MINIMAL + "[roles.Worker.endpoints]\nA = {port = 80}\nB = {port = 80}",
            'service.toml:8: M11: port 80 is already that of "Worker", endpoint "A"',
        ),
    ],
)
def test_each_rule(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, text)), problems(tmp_path, text)


def test_a_missing_or_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ServiceModelError, match="there is no such file"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ServiceModelError, match="can't be read"):
        load(tmp_path / "binary.toml", {})


def test_the_environment_goes_over_the_definition(tmp_path: Path) -> None:
    text = MINIMAL + '[roles.Worker.settings]\n"Worker.Slots" = 2\nOther = 1\n[roles.B-x]\nentry_point = "m:D"'
    model = read(
        tmp_path,
        text,
        ROLEHOST_SETTING_WORKER__SLOTS="7",
        ROLEHOST_SETTING_Jobs__Queue="q",
        ROLEHOST_INSTANCES_worker="2",
        ROLEHOST_INSTANCES_B_X="3",
        ROLEHOST_DRAIN_SECONDS="0.5",
    )
    worker, other = model.roles.values()
    assert worker.settings == {"Worker.Slots": "7", "Other": "1", "Jobs.Queue": "q"}
    assert worker.masked == {"Worker.Slots": "2"}
    assert worker.undeclared == {"Jobs.Queue"}
    assert worker.declared_settings() == {"Worker.Slots": "2", "Other": "1"}
    assert (worker.instances, other.instances) == (2, 3)
    assert model.drain_seconds == 0.5


def test_bad_variables_are_problems_too(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        MINIMAL,
        ROLEHOST_INSTANCES_WORKERS="2",
        ROLEHOST_INSTANCES_WORKER="none",
        ROLEHOST_RECYCLE_SECONDS="soon",
        ROLEHOST_SETTING_X="\x01",
        ROLEHOST_SETTING_="x",
    )
    assert found == [
        'ROLEHOST_INSTANCES_WORKERS: M07: the service has no such role; did you mean "Worker"?',
        "ROLEHOST_INSTANCES_WORKER: M24: a number of instances is from 1 to 1000, not 'none'",
        'ROLEHOST_SETTING_X: N02: the value of "X" holds characters that can\'t be passed to a role',
        'ROLEHOST_SETTING_: N05: "" is no name of a setting',
        "ROLEHOST_RECYCLE_SECONDS: N04: this is a number of seconds above 0, at most 2147483647, not 'soon'",
    ]
