"""A console application that is called with too little says what is missing; and how people call an application."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rolehost.host.paths import role_root
from rolehost.workers.console_app import ConsoleApp


@pytest.mark.parametrize(
    ("program", "arguments", "missing"),
    [
        ("thumbnail", [], "SOURCE, TARGET, (Small | Medium | Large | Custom WIDTH HEIGHT)"),
        ("thumbnail", ["a.png", "b.png"], "(Small | Medium | Large | Custom WIDTH HEIGHT)"),
        ("transcode", ["a.png"], "TARGET, FORMAT"),
    ],
)
def test_what_is_missing_is_named_with_the_usage(program: str, arguments: list[str], missing: str) -> None:
    command = [sys.executable, str(role_root() / "approot" / "legacy_bin" / program), *arguments]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    assert told.returncode == 64
    first, second = told.stderr.splitlines()
    assert first == f"{program}: arguments: {len(arguments)} of them are here, missing: {missing}"
    assert second.startswith(f"{program}: usage: {program} SOURCE TARGET ")


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/usr/bin/convert", "{source}"], "convert"),
        (["{python}", "{approot}/legacy_bin/thumbnail", "{source}"], "thumbnail"),
        (["{python}", "-u", "-X", "dev", "{approot}/tool.py", "{source}"], "tool.py"),
        (["{python}", "-I", "-c", "print(1)", "{source}"], "python"),
        (["{python}", "-m", "films.encode", "{source}"], "films.encode"),
        (["{python}"], "python"),
    ],
)
def test_the_name_of_an_application(argv: list[str], name: str) -> None:
    assert ConsoleApp(argv).name == name
