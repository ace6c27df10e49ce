"""`rolehost check`, `--version`, `--help`: what needs no stores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rolehost._version import __version__
from support.commands import ROOT, environ, invoke

GOOD = """
[service]
name = "films"
[roles.Encoder]
entry_point = "films:Encoder"
instances = 3
[roles.Encoder.settings]
"Worker.Slots" = "2"
"""
BAD = """
[service]
name = "films"
[roles.Encoder]
instances = 0
entry_pint = "films:Encoder"
[roles.Encoder.endpoints.Http]
protocol = "http"
port = 99999
"""
# What makes a command slow to start; the commands that need it import it themselves.
HEAVY = {"azure", "PIL", "fastapi", "pydantic", "rich", "sqlite3", "starlette", "structlog", "uvicorn"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_built_in_service_is_valid() -> None:
    told = invoke("check")
    assert told.exit_code == 0
    assert "ThumbnailFrontend" in told.stdout
    assert "ThumbnailBackend" in told.stdout


def test_a_good_definition_is_told_back() -> None:
    Path("service.toml").write_text(GOOD)
    told = invoke("check", "--no-load")
    assert told.exit_code == 0
    assert "service films, 1 role\n" in told.stdout
    assert told.stdout.splitlines()[-1].split() == ["Encoder", "3", "films:Encoder", "Worker.Slots"]
    (role,) = json.loads(invoke("check", "--no-load", "--json").stdout)["roles"]
    assert (role["name"], role["instances"], role["settings"]) == ("Encoder", 3, ["Worker.Slots"])


def test_every_problem_is_told() -> None:
    Path("broken.toml").write_text(BAD)
    told = invoke("check", "--definition", "broken.toml")
    assert told.exit_code == 1
    assert [line for line in told.stdout.splitlines() if not line.startswith("broken.toml:")] == []
    for word in ("entry_pint", "instances", "port"):
        assert word in told.stdout
    numbers = [int(line.split(":")[1]) for line in told.stdout.splitlines()]
    assert numbers == sorted(numbers)
    assert "problems" in told.stderr
    document = json.loads(invoke("check", "--definition", "broken.toml", "--json").stdout)
    assert document == {"valid": False, "problems": told.stdout.splitlines()}


def test_a_variable_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_INSTANCES_THUMBNAILBACKEND", "many")
    told = invoke("check")
    assert told.exit_code == 1
    assert "many" in told.stdout


def test_a_definition_that_is_not_there() -> None:
    told = invoke("check", "--definition", "none.toml")
    assert told.exit_code == 1
    assert "there is no such file" in told.stdout


def test_roles_are_loaded_unless_that_is_not_wanted(tmp_path: Path) -> None:
    Path("service.toml").write_text(GOOD)
    assert invoke("check", "--no-load").exit_code == 0
    told = invoke("check")
    assert told.exit_code == 1
    assert 'Encoder: "films:Encoder": there is no module "films"' in told.stdout
    (tmp_path / "films.py").write_text("from rolehost.entrypoint import RoleEntryPoint as Encoder")
    command = [sys.executable, "-m", "rolehost", "check"]
    assert subprocess.run(command, env=environ(), check=False, capture_output=True).returncode == 0


def test_the_version() -> None:
    assert invoke("--version").stdout == f"rolehost {__version__}\n"


def test_help_names_every_command() -> None:
    told = invoke("--help").stdout
    for command in ("up", "run", "submit", "jobs", "job", "poison", "check", "convert"):
        assert f"\n  {command} " in told
        assert invoke(command, "--help").exit_code == 0


@pytest.mark.parametrize("arguments", [["sbumit"], ["jobs", "--stat"], ["job"], ["submit"], ["up", "--port", "http"]])
def test_a_mistyped_command_is_a_usage_error(arguments: list[str]) -> None:
    told = invoke(*arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "Usage: rolehost" in told.stderr


def test_the_command_line_loads_nothing_heavy_to_begin_with() -> None:
    program = "import sys, rolehost.cli.application; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, env=environ(), check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & HEAVY == set()


def test_what_starts_a_service_loads_no_web_framework() -> None:
    parts = "rolehost.cli.application, rolehost.cli.front_end_checks, rolehost.cli.key, rolehost.host.fabric.fabric"
    command = [sys.executable, "-c", f"import sys, {parts}; print(*sys.modules)"]
    loaded = subprocess.run(command, cwd=ROOT, env=environ(), check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & {*HEAVY, "aiohttp", "jwt", "starlette"} == set()


def test_a_bootstrapper_by_run_loads_nothing_of_the_command_line() -> None:
    program = "import sys, rolehost.cli.instance; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=ROOT, env=environ(), check=True, capture_output=True, text=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & {"typer", "click", "PIL", "azure", "fastapi"} == set()
    assert "rolehost.cli.application" not in loaded.split()
