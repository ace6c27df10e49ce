"""A child in a PID namespace of its own, where this machine lets us; elsewhere it runs without, and that is told."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.processes import Child, ChildIdentity, Exit, become_subreaper, lineage, procfs, with_own_pids
from rolehost.processes.unprivileged import _refusal
from support.console_apps import shell
from support.jobs import Bench, open_bench
from support.stores import until

NOBODY = ChildIdentity(65534, 65534) if os.geteuid() == 0 else ChildIdentity()
TELLS = "import os; print(os.getpid() < 10, len([n for n in os.listdir('/proc') if n.isdigit()]) < 6, os.getuid())"


@cache
def reason() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid() != 0:
        return "it takes root"
    return asyncio.run(_refusal(["true"], Path("/"), replace(NOBODY, own_pids=True))) or ""


REFUSED = reason()
IDENTITY = replace(NOBODY, own_pids=not REFUSED)


@pytest.fixture(autouse=True)
async def subreaper() -> AsyncIterator[None]:
    become_subreaper()
    yield
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


async def spawn(*argv: str, marker: str = "ns/1") -> Child:
    return await Child.spawn(argv, env=dict(os.environ), cwd=Path("/"), marker=marker, identity=IDENTITY)


async def test_it_sees_only_its_own_and_keeps_its_identity() -> None:
    child = await spawn("/usr/bin/env", "python3", "-c", TELLS) if not REFUSED else await spawn("true")
    assert (await child.wait()).code == 0
    if not REFUSED:
        assert child.stdout.text().split() == ["True", "True", "65534"]


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("exit 0", Exit(0)),
        ("exit 7", Exit(7)),
        ("kill -SEGV $$", Exit(None, signal.SIGSEGV)),
        ("kill -TERM $$", Exit(None, signal.SIGTERM)),
    ],
)
async def test_its_end_is_told_as_ever(script: str, ended: Exit) -> None:
    assert await (await spawn("sh", "-c", script)).wait() == ended


async def test_term_reaches_what_does_not_handle_it() -> None:
    child = await spawn("sh", "-c", "echo up; exec sleep 600")
    try:
        await until(lambda: "up" in child.stdout.text())
    finally:
        since = time.monotonic()
        ended = await child.stop(grace=10)
    assert ended.signal == signal.SIGTERM
    assert time.monotonic() - since < 5


async def test_all_that_it_started_dies_with_it() -> None:
    deaf = "trap '' TERM; (setsid env -i PATH=\"$PATH\" sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' &)"
    child = await spawn("sh", "-c", f"{deaf}; echo up; while :; do sleep 0.1; done")
    try:
        await until(lambda: child.usage().processes >= (2 if REFUSED else 5))
    finally:
        ended = await child.stop(grace=0.2)
    assert ended.signal == signal.SIGKILL
    assert [each for each in procfs.processes().values() if each.session == child.pid and not each.zombie] == []


@pytest.fixture
def program() -> Iterator[Path]:
    """Executable for everyone, but its interpreter is missing."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    made = folder / "program"
    made.write_text("#!/there/is/none\n")
    made.chmod(0o755)
    yield made
    made.unlink()
    folder.rmdir()


async def test_a_program_that_cannot_be_executed_is_told(program: Path) -> None:
    ended = await (await spawn(str(program))).wait()
    assert ended.exec_error is not None
    assert "No such file" in ended.exec_error


async def test_where_there_can_be_none_that_is_told_and_the_identity_stays(bench: Bench) -> None:
    assert await with_own_pids(NOBODY, ["false"], Path("/")) == NOBODY
    assert bench.told("child.shares_pids")
    assert not NOBODY.own_pids


@pytest.mark.parametrize("wanted", ["true", "false"])
async def test_the_setting_decides(bench: Bench, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("ROLEHOST_DATA", str(bench.folder / "data"))
    made: Any = shell(bench, 'cp "$1" "$2"')
    settings = {"Worker.PidNamespace": wanted, "Worker.DiskFloorBytes": "0"}
    made.role_environment = RoleEnvironment.for_testing(settings=settings, local_resources={"Scratch": bench.root})
    bench.folder.chmod(0o755)
    job = await bench.submit()
    stopping = asyncio.Event()
    serving = asyncio.create_task(made.serve(stopping))
    try:
        await made.serving()
        assert made.identity.own_pids is (wanted == "true" and not REFUSED)
        deadline = time.monotonic() + 10
        while (await bench.row(job.id)).state != "completed":
            assert time.monotonic() < deadline, (await bench.row(job.id)).attempts
            await asyncio.sleep(0.01)
    finally:
        stopping.set()
        await serving
