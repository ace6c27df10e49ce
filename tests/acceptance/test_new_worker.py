"""`rolehost new worker` writes what works as it is: its tests, the check, and jobs in a running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.service import Service

pytestmark = pytest.mark.acceptance

# By a class, by a class with a program, and by configuration alone.
SKELETONS = {
    "shout": [],
    "plain-copy": ["--python", "--program", "cp {source} {target}"],
    "upper": ["--program", "dd if={source} of={target} conv={conv}"],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = Service(tmp_path_factory.mktemp("skeletons"))
    for kind, options in SKELETONS.items():
        answer = service.bare("new", "worker", kind, *options)
        assert answer.returncode == 0, answer.stderr
    return service


def run(service: Service, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=service.directory,
        env=service.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_their_tests_pass(written: Service) -> None:
    run(written, "pytest", "-q", "-p", "no:cacheprovider")


def test_their_code_is_as_linters_and_formatters_want_it(written: Service) -> None:
    run(written, "ruff", "check", "--no-cache", "--isolated", "--extend-select", "I,ANN,UP,B,SIM,PTH,E501")
    run(written, "ruff", "format", "--no-cache", "--isolated", "--check", "--diff")


def test_they_do_jobs(written: Service) -> None:
    checked = written.bare("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (written.directory / "letter.txt").write_text("hello there\n")
    try:
        written.start()
        for kind, expected, options in (
            ("shout", "HELLO THERE\n", []),
            ("plain-copy", "hello there\n", []),
            ("upper", "HELLO THERE\n", ["--parameter", "conv=ucase"]),
        ):
            answer = written.command("submit", "--kind", kind, *options, "letter.txt", "--output", kind)
            assert answer.returncode == 0, answer.stderr
            (result,) = (written.directory / kind).iterdir()
            assert result.read_text() == expected
        form = written.get("/?kind=upper").decode()
        assert "Conv" in form, "what the skeleton declares is in the form"
    finally:
        written.close()


def test_a_folder_without_a_service_gets_one(tmp_path: Path) -> None:
    service = Service(tmp_path)
    assert service.bare("new", "worker", "shout").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "service.toml",
        "shout.py",
        "test_shout.py",
    ]
