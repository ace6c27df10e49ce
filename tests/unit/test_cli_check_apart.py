"""`rolehost check` in a process of its own: its answer, whatever the role's module does there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rolehost.cli.check_apart import check_apart
from support.service import ROOT

DEFINITION = '[service]\nname = "tiny"\n[roles.Worker]\nentry_point = "apart:Worker"\n'
FINE = "from rolehost import RoleEntryPoint\nclass Worker(RoleEntryPoint):\n    pass\n"


async def checked(directory: Path, module: str, within: float = 60.0) -> str:
    """The problems of a service whose only module is this."""
    (directory / "apart.py").write_text(module + FINE)
    (directory / "service.toml").write_text(DEFINITION)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return "\n".join(await check_apart(directory / "service.toml", None, environ, within=within))


async def test_a_module_that_can_be_imported_is_no_problem_and_stays_out_of_this_process(tmp_path: Path) -> None:
    assert await checked(tmp_path, "print('noise')\n") == ""
    assert "apart" not in sys.modules


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("import colours_of_old\n", "No module named 'colours_of_old'"),
        ("raise SystemExit(3)\n", "its module ends the process"),
        ("import os, sys\nsys.stderr.write('gone')\nsys.stderr.flush()\nos._exit(3)\n", "the check has failed: gone"),
        ("import os\nos.kill(os.getpid(), 9)\n", "signal 9"),
    ],
)
async def test_a_module_that_can_not_be_imported_is_told(tmp_path: Path, module: str, told: str) -> None:
    assert told in await checked(tmp_path, module)


async def test_a_module_that_does_not_come_to_an_end_is_told_in_time(tmp_path: Path) -> None:
    assert "took longer than 1 s" in await checked(tmp_path, "import time\ntime.sleep(600)\n", within=1.0)
