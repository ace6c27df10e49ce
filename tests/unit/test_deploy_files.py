"""Rules of the image and of compose.yaml that no linter knows. (The linters run in `make check`.)"""

from __future__ import annotations

import re
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def dockerfile() -> str:
    """The Dockerfile without comments, each instruction on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "compose.yaml")["services"]
    assert set(found) == {"front-end", "worker", "first-key", "azurite"}
    return found


def test_image_installs_only_what_is_locked(dockerfile: str) -> None:
    installs = re.findall(r"pip install ([^&\n]*)", dockerfile)
    assert len(installs) == 3
    for options in installs:
        assert {"--require-hashes", "--only-binary=:all:"} <= set(options.split()) or "--no-index" in options


def test_image_runs_as_an_ordinary_user(dockerfile: str) -> None:
    assert re.findall(r"^USER (.*)$", dockerfile, flags=re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^VOLUME (.*)$", dockerfile, flags=re.MULTILINE) == ["/data"]


def test_image_says_what_it_is(dockerfile: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', dockerfile))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "licenses": project["license"],
    }


def test_image_takes_any_command_of_rolehost(dockerfile: str) -> None:
    assert re.findall(r"^ENTRYPOINT (.*)$", dockerfile, flags=re.MULTILINE) == ['["rolehost"]']
    assert re.findall(r"^CMD (.*)$", dockerfile, flags=re.MULTILINE) == ['["up", "--host", "0.0.0.0"]']
    assert re.findall(r"^STOPSIGNAL (.*)$", dockerfile, flags=re.MULTILINE) == ["SIGTERM"]


def test_build_context_has_what_the_image_copies(dockerfile: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, flags=re.MULTILINE):
        for name in shlex.split(line):
            assert (ROOT / name).exists()
            assert f"!{name.split('/')[0]}" in ignore


def test_no_linter_rule_is_switched_off(dockerfile: str) -> None:
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(YAML(typ="safe").load(ROOT / ".hadolint.yaml")) == {"failure-threshold"}
    assert dockerfile.startswith("ARG BASE=python:3.11-slim\n")


def test_compose_gives_containers_no_more_than_they_need(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the folder inside the container
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


def test_compose_waits_for_the_drain(services: dict[str, dict[str, Any]]) -> None:
    """A drain takes 25 s at most, and a container is killed 10 s after SIGTERM where nothing else is said."""
    assert {services[name]["stop_grace_period"] for name in ("front-end", "worker")} == {"40s"}


def test_compose_is_closed_to_other_machines(services: dict[str, dict[str, Any]]) -> None:
    published = [each for service in services.values() for each in service.get("ports", [])]
    assert published == ["127.0.0.1:8080:8080"]


def test_compose_makes_a_key_before_the_front_end_starts(services: dict[str, dict[str, Any]]) -> None:
    first = services["first-key"]
    assert first["command"] == ["key", "new", "first", "--role", "operate", "--unless-any"]
    assert first["restart"] == "no"
    assert first["volumes"] == services["front-end"]["volumes"] == ["front-end:/data"]
    assert services["front-end"]["depends_on"]["first-key"]["condition"] == "service_completed_successfully"


def test_compose_scales_its_workers(services: dict[str, dict[str, Any]]) -> None:
    """No port and no name of its own: `--scale worker=3` makes three."""
    worker = services["worker"]
    assert not {"ports", "container_name", "volumes"} & worker.keys()
    assert worker["environment"] == services["front-end"]["environment"]


def test_ci_runs_what_the_readme_names() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert "make test" in script.read_text(encoding="utf-8")
