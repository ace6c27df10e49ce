"""The README is true: its files are written and run, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rolehost.jobs.job import JobState
from support.service import ROOT, Service

pytestmark = pytest.mark.acceptance

README = (ROOT / "README.md").read_text()
FILES = dict(re.findall(r"```\w+ file=(\S+)\n(.*?)```", README, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """The README's files in an empty directory."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    return Service(tmp_path)


def test_the_worker_of_the_readme_does_its_job(service: Service) -> None:
    (service.directory / "letter.txt").write_text("hello there\n")
    checked = service.bare("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    try:
        service.start(front_end=False)
        (submit,) = [line.split()[1:] for line in COMMANDS if line.startswith("rolehost submit --kind")]
        answer = service.command(*submit)
        assert answer.returncode == 0, answer.stderr
        assert (service.directory / "loud" / "letter.txt").read_text() == "HELLO THERE\n"
    finally:
        service.close()


def test_every_command_of_the_readme_is_understood(service: Service) -> None:
    for line in COMMANDS:
        words = line.split()
        if words[0] == "rolehost":
            helped = service.bare(*[word for word in words[1:3] if re.fullmatch("[a-z]+", word)], "--help")
            assert helped.returncode == 0, line
            for option in re.findall(r"--[a-z]+", line):
                assert option in helped.stdout, f"{option} of {line!r}"
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


def test_every_setting_and_variable_exists_and_is_told() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "rolehost").rglob("*.py"))
    page = (ROOT / "docs" / "settings.md").read_text()
    others = "".join((ROOT / "docs" / name).read_text() for name in re.findall(r"\]\((\w+\.md)\)", page))
    for name in re.findall(r"^\| `((?:Worker|Frontend)\.\w+)` \|", page, re.MULTILINE):
        assert f'"{name}"' in sources, name
    for name in re.findall(r"^\| `(ROLEHOST_[A-Z_]+)", page, re.MULTILINE):
        short = name.removeprefix("ROLEHOST_")
        assert any(each in sources for each in (name, short, short.lower())), name
    for name in re.findall(r'"((?:Worker|Frontend|Recovery|Retention|Telemetry|Webhooks|Sources)\.[A-Z]\w+)"', sources):
        assert f"`{name}`" in page + others, f"{name} is not documented"


def test_the_readme_has_every_state_of_a_job() -> None:
    states = re.findall(r"^\| `([a-z]+)` \|", README, re.MULTILINE)
    assert states == [state.value for state in JobState]


def test_the_built_in_service_listens_on_port_8080() -> None:
    assert "http://127.0.0.1:8080" in README
    built_in = (ROOT / "rolehost" / "service_model" / "builtin.py").read_text()
    assert "port = 8080" in built_in
