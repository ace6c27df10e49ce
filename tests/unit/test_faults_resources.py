"""Too little disk and too few descriptors, for real: nothing that was accepted is lost, and work goes on by itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@cache
def namespace() -> tuple[str, ...]:
    """How to get a mount namespace here; nothing where nobody gives us one."""
    ways = (("unshare", "--mount", "--"), ("unshare", "--user", "--map-root-user", "--mount", "--"))
    for way in ways:
        line = [*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(line, check=False, capture_output=True).returncode == 0:
            return way
    return ()


async def run(scenario: str, folder: Path) -> dict[str, Any]:
    line = [*namespace(), sys.executable, "-m", "support.tight", scenario, str(folder)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    child = await asyncio.create_subprocess_exec(*line, env=env, cwd=TESTS, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(90):
            said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0
    answer: dict[str, Any] = json.loads(said)
    return answer


async def test_a_full_file_system_answers_507_keeps_what_it_took_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    seen = await run("database", tmp_path)
    assert seen["refused_with"] == 507
    assert seen["accepted"] > 3
    assert seen.get("row_refused", "StoreFullError") == "StoreFullError", "of the database itself, too"
    assert seen["readable"] == seen["accepted"]
    assert seen["integrity"] == "ok"
    assert seen["afterwards"] == 202
    assert seen["jobs"] == seen["accepted"] + 1


async def test_a_full_scratch_file_system_charges_nothing_and_claiming_waits_for_room(tmp_path: Path) -> None:
    seen = await run("scratch", tmp_path)
    assert seen["ends"] == ["disk_full"]
    assert seen["charges"] == {"app": 0, "resource": 0, "lost": 0}
    assert seen["waited"]
    assert seen["resumed"]
    assert seen["left"] == []


async def test_with_64_descriptors_claiming_pauses_and_every_job_completes_uncharged(tmp_path: Path) -> None:
    seen = await run("descriptors", tmp_path)
    assert not seen["claimed_without"]
    assert "the process may open " in seen["why"]
    assert seen["resumed"]
    assert seen["charges"] == []
    assert seen["left"] == []
