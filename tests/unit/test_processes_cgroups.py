"""Control groups of applications: limited, found and killed as one; and what is done where there are none."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.jobs.job import End
from rolehost.processes import Cgroups, Child, become_subreaper, cgroups, containment, lineage, procfs, tree
from rolehost.workers.watchdog import Limits
from support.console_apps import outcome, shell, worker
from support.jobs import Bench, open_bench, succeed
from support.stores import until

GRACE = 0.3
LIMIT = 60
# Bounded, so that it harms nobody where nothing limits it: deaf to TERM, each in a session of its own.
MANY = "for n in $(seq 150); do (setsid sh -c \"trap '' TERM; echo x >> {log}; sleep 600\" &) ; done; sleep 600"
# Each of its processes starts two more, for ever; nothing but a limit holds it.
BOMB = (
    "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n"
    "    try:\n        if os.fork() == 0 and os.getpid() % 2:\n            os.setsid()\n    except OSError:\n"
    "        time.sleep(0.01)\n"
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=30.0, term_grace=GRACE, retry_base=600.0, retry_max=600.0) as bench:
        yield bench


@pytest.fixture(autouse=True)
async def subreaper() -> AsyncIterator[None]:
    """As a role process is."""
    become_subreaper()
    yield
    await until(no_zombie_is_left, within=5)
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def groups() -> Iterator[Cgroups | None]:
    """None where this machine has none for us: then each test shows what is done without."""
    found = Cgroups.find()
    yield found
    if found:
        bases = list(found._bases)
        found.close()
        assert [base for base in bases if base.exists()] == []


def no_zombie_is_left() -> bool:
    left = [pid for pid in procfs.children() if (found := procfs.process(pid)) and found.zombie]
    for pid in left:
        os.waitpid(pid, os.WNOHANG)
    return not left


def marked(marker: str) -> list[int]:
    """Living processes that carry a marker."""
    table = procfs.processes()
    return [pid for pid, each in table.items() if not each.zombie and marker in (procfs.marker(pid) or "")]


@pytest.mark.parametrize("grouped", [True, False])
async def test_more_processes_than_the_limit_are_refused_or_end_the_application(
    bench: Bench, groups: Cgroups | None, *, grouped: bool
) -> None:
    log = bench.folder / "log"
    log.touch(0o666)
    log.chmod(0o666)
    app = shell(bench, MANY.format(log=log), timeout=3.0 if grouped else 20.0, limits=Limits(processes=LIMIT))
    app._groups = groups if grouped else None
    job = await outcome(bench, app)
    (attempt,) = job.attempts
    if app._groups and app._groups.limits:
        assert log.read_text().count("x") < LIMIT
    else:
        assert attempt.end is End.KILLED
        assert "its limit is 60" in attempt.detail
    assert marked(job.id) == []


async def test_a_group_is_killed_in_one_step(
    bench: Bench, groups: Cgroups | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if groups is None or not groups.kills:
        return
    line = ["sh", "-c", "trap '' TERM; for n in 1 2 3 4 5; do setsid sleep 600 & done; wait"]
    child = await Child.spawn(line, env=dict(os.environ), cwd=bench.folder, marker="step/1")
    child.contain(groups, 100)
    try:
        await until(lambda: _most(groups) == 6, within=10)
        known = marked("step/1")
        with monkeypatch.context() as blind:  # only the kernel knows then who they are
            blind.setattr(tree, "members", lambda _: [])
            blind.setattr(tree, "_orphans", list)
            blind.setattr(os, "killpg", lambda *_: None)
            child.kill()
            await until(lambda: all(pid not in marked("step/1") for pid in known), within=5)
        await until(lambda: marked("step/1") == [], within=5)
    finally:
        ended = await child.stop(grace=0)
    assert ended.signal == signal.SIGKILL


async def test_a_kernel_that_refuses_is_told_once_and_not_asked_again(
    bench: Bench, groups: Cgroups | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if groups is None:
        return
    asked: list[int] = []

    def refuse(_: cgroups.Cgroup, pid: int) -> None:
        asked.append(pid)
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(cgroups.Cgroup, "join", refuse)
    app = shell(bench, 'sleep 0.2; cp "$1" "$2"', limits=Limits(processes=LIMIT))
    app._groups = groups
    for _ in range(2):
        assert (await outcome(bench, app)).state == "completed"
    assert len(asked) == len(bench.told("child.not_contained")) == 1


async def test_a_worker_that_stops_leaves_no_group(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_DATA", str(bench.folder / "data"))
    app = shell(bench, 'cp "$1" "$2"')
    app.role_environment = RoleEnvironment.for_testing(local_resources={"Scratch": bench.root})
    stopping = asyncio.Event()
    serving = asyncio.create_task(app.serve(stopping))
    await app.serving()
    bases = list(app._groups._bases) if app._groups else []
    (told,) = bench.told("worker.contains")
    assert told["how"] == cgroups.told(app._groups)
    stopping.set()
    await serving
    assert [base for base in bases if base.exists()] == []


async def test_a_fork_bomb_is_held_and_gone_in_time_and_others_are_unhurt(bench: Bench, groups: Cgroups | None) -> None:
    if not (groups and groups.limits):
        assert cgroups.told(groups).endswith(("can be made here", "killed in one step", "they are killed"))
        return  # nothing would hold it: the test above shows what is done then
    app = worker(bench, sys.executable, "-c", BOMB, timeout=1.5, limits=Limits(processes=LIMIT))
    app._groups = groups
    bomb = asyncio.create_task(outcome(bench, app))
    await until(lambda: bool(groups._bases) and _most(groups) >= LIMIT - 1, within=20)
    quiet = await bench.submit()
    since = time.monotonic()
    await bench.process(succeed)
    assert (await bench.row(quiet.id)).state == "completed"
    job = await bomb
    assert time.monotonic() - since < 1.5 + GRACE + 2
    assert job.attempts[0].end is End.TIMEOUT
    assert marked(job.id) == []


def _most(groups: Cgroups) -> int:
    """How many processes the fullest group has."""
    found = [cgroups._pids(folder) for base in groups._bases for folder in base.iterdir() if folder.is_dir()]
    return max((len(pids) for pids in found), default=0)


async def test_what_was_started_before_the_group_was_there_is_brought_in(
    bench: Bench, groups: Cgroups | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if groups is None:
        return
    monkeypatch.setattr(containment, "FIRST_MOMENTS", 1.0)
    line = ["sh", "-c", "(setsid sleep 600 &); sleep 600 & sleep 600 & wait"]
    child = await Child.spawn(line, env=dict(os.environ), cwd=bench.folder, marker="early/1")
    child.contain(groups)
    try:
        await until(lambda: len(marked("early/1")) == 4, within=10)
        assert _most(groups) == 0
        await until(lambda: _most(groups) == 4, within=10)
    finally:
        await child.stop(grace=0)
    assert marked("early/1") == []


async def test_an_ordinary_job_is_over_before_anything_is_done(
    bench: Bench, groups: Cgroups | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    if groups:
        monkeypatch.setattr(groups, "new", lambda: made.append(1))
    app = shell(bench, 'cp "$1" "$2"')
    app._groups = groups
    assert (await outcome(bench, app)).state == "completed"
    assert made == []


async def test_a_group_that_the_dead_left_is_killed_and_removed(groups: Cgroups | None) -> None:
    if groups is None or not groups.kills:
        return
    code = (
        "import os, subprocess\nfrom rolehost.processes import Cgroups\ngroups = Cgroups.find()\n"
        "child = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL)\ngroups.new().join(child.pid)\n"
        "print(child.pid, *groups._bases, flush=True)\nos._exit(9)\n"
    )
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await dead.communicate()
    pid, *bases = said.decode().split()
    assert bases

    def gone() -> bool:
        no_zombie_is_left()
        late = Cgroups.find()
        if late:
            late.close()
        return procfs.process(int(pid)) is None and not any(Path(base).exists() for base in bases)

    await until(gone, within=10)


def test_without_a_writable_group_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "none")
    assert Cgroups.find() is None
    assert "no control group" in cgroups.told(None)


def test_our_own_group_is_found_below_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts, ours = tmp_path / "mounts", tmp_path / "ours"
    place = tmp_path / "cgroup"
    inside = place / "service"
    inside.mkdir(parents=True)
    (inside / "cgroup.procs").touch()
    mounts.write_text(
        f"29 23 0:26 /container {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        f"30 23 0:27 / {tmp_path / 'memory'} rw - cgroup cgroup rw,memory\n"
    )
    ours.write_text("5:memory:/elsewhere\n0::/container/service\n")
    monkeypatch.setattr(cgroups, "_MOUNTS", mounts)
    monkeypatch.setattr(cgroups, "_OURS", ours)
    assert list(cgroups._writable()) == [inside]
    ours.write_text("0::/other\n")
    assert list(cgroups._writable()) == []
