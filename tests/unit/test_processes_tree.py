"""What a child leaves behind: found, ended and reaped, and nobody else's touched."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolehost.processes import MARKER, Child, ChildIdentity, Exit, become_subreaper, end_strays, lineage, procfs, tree
from rolehost.telemetry import subscribe

ENV = {"PATH": os.environ["PATH"]}
MARK = f"test-tree/{os.getpid()}"

# Forks twice into a session of its own, ignores TERM and keeps stdout and stderr open. `env -i` hides its marker.
STRAY = "(trap '' TERM; setsid {wrap} sh -c 'trap \"\" TERM; echo stray $$; while :; do sleep 0.1; done' &)"


@pytest.fixture(params=["subreaper", "not a subreaper"])
def adoption(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways orphans can go; without adoption a stray that hides all its marks is out of reach."""
    if request.param == "subreaper":
        become_subreaper()
    yield request.param
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def zombies() -> list[int]:
    return [pid for pid in procfs.children() if (found := procfs.process(pid)) and found.zombie]


@pytest.fixture
def subreaper() -> Iterator[None]:
    become_subreaper()
    yield
    # What was killed a moment ago may die only now; the host's processes reap such orphans when they are told of them.
    deadline = time.monotonic() + 2
    while (left := zombies()) and time.monotonic() < deadline:
        for pid in left:
            if (gone := procfs.process(pid)) and pid != gone.session:
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    assert not zombies()
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


async def spawn(script: str, name: str = "a", identity: ChildIdentity | None = None) -> Child:
    return await Child.spawn(["sh", "-c", script], env=ENV, cwd=Path("/"), marker=f"{MARK}/{name}", identity=identity)


async def stray_pid(child: Child) -> int:
    async with asyncio.timeout(20):
        while (words := child.stdout.text().split())[:1] != ["stray"]:  # noqa: ASYNC110 - an Output has no event
            await asyncio.sleep(0.005)
    return int(words[1])


def start(*argv: str, new_session: bool = True, marker: str | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv, env={**os.environ, **({MARKER: marker} if marker else {})}, start_new_session=new_session
    )


def alive(pid: int) -> bool:
    found = procfs.process(pid)
    return found is not None and not found.zombie


async def test_a_grandchild_that_left_and_is_deaf_and_holds_the_pipes_is_gone_in_time(adoption: str) -> None:
    child = await spawn("trap '' TERM; " + STRAY.format(wrap="") + "; while :; do sleep 0.1; done")
    pid = await stray_pid(child)
    begin = time.monotonic()
    assert await child.stop(grace=0.5) == Exit(None, signal.SIGKILL), adoption
    assert 0.5 <= time.monotonic() - begin < 2.5
    assert not alive(pid)


async def test_what_a_clean_exit_left_behind_is_gone_when_wait_returns(adoption: str) -> None:
    told: list[str] = []
    unsubscribe = subscribe(lambda event, _: told.append(event))
    child = await spawn(STRAY.format(wrap="") + "; sleep 0.3; exit 0")
    pid = await stray_pid(child)
    async with asyncio.timeout(3):
        assert await child.wait() == Exit(0), adoption
    unsubscribe()
    assert not alive(pid)
    assert procfs.process(pid) is None or adoption != "subreaper"
    assert told == ["child.strays_ended"]


@pytest.mark.usefixtures("subreaper")
async def test_a_stray_without_marker_and_session_is_gone_too() -> None:
    child = await spawn(STRAY.format(wrap='env -i PATH="$PATH"') + "; sleep 0.3")
    pid = await stray_pid(child)
    assert await child.wait() == Exit(0)
    assert not alive(pid)


@pytest.mark.usefixtures("subreaper")
@pytest.mark.parametrize("wrap", ["", 'env -i PATH="$PATH"'])
async def test_a_neighbours_grandchild_survives_and_ends_with_its_own(wrap: str) -> None:
    neighbour = await spawn(STRAY.format(wrap=wrap) + "; while :; do sleep 0.1; done", "neighbour")
    pid = await stray_pid(neighbour)
    for grace in (None, 0.0):
        child = await spawn(STRAY.format(wrap="") + "; exit 0", "b")
        await (child.wait() if grace is None else child.stop(grace))
    assert alive(pid)
    assert alive(neighbour.pid)
    await neighbour.stop(0)
    assert not alive(pid)


@pytest.mark.usefixtures("subreaper")
async def test_nobodys_stray_is_ended_once_no_child_is_old_enough_to_own_it() -> None:
    owner = await spawn(STRAY.format(wrap='env -i PATH="$PATH"') + "; sleep 0.2", "owner")
    elder = await spawn("sleep 60", "elder")
    pid = await stray_pid(owner)
    await owner.wait()
    younger = await spawn("sleep 60", "younger")
    await elder.stop()
    await (await spawn("true", "c")).wait()
    assert not alive(pid)
    await younger.stop()


@pytest.mark.usefixtures("subreaper")
async def test_a_process_that_other_code_here_started_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARKER, f"{MARK}/ourselves")
    others = [start("sleep", "60", new_session=False), start("sleep", "60")]
    ended = start("sh", "-c", "exit 3")
    try:
        await (await spawn("sleep 0.2")).wait()
        await (await spawn("sleep 60")).stop()
        assert [each.poll() for each in others] == [None, None]
        assert ended.wait() == 3
    finally:
        for each in others:
            each.kill()
            each.wait()


@pytest.mark.usefixtures("subreaper")
async def test_what_a_stop_leaves_gets_the_grace_too(tmp_path: Path) -> None:
    note = tmp_path / "note"
    worker = f'trap "sleep 0.3; echo saved > {note}; exit" TERM; echo stray $$; while :; do sleep 0.05; done'
    child = await spawn(f"(setsid sh -c '{worker}' &); while :; do sleep 0.1; done")
    await stray_pid(child)
    await child.stop(grace=20)
    assert note.read_text() == "saved\n"


@pytest.mark.usefixtures("subreaper")
async def test_many_children_at_once_keep_their_own_exits() -> None:
    running = [await spawn(f"(setsid sleep 60 &); exit {code}", str(code)) for code in range(20)]
    ends = await asyncio.gather(*(child.wait() for child in running))
    assert [end.code for end in ends] == list(range(20))
    assert not [pid for pid in procfs.processes() if (procfs.marker(pid) or "").startswith(MARK)]


@pytest.mark.usefixtures("subreaper")
async def test_kill_takes_the_whole_tree() -> None:
    child = await spawn(STRAY.format(wrap="") + "; while :; do sleep 0.1; done")
    pid = await stray_pid(child)
    child.kill()
    async with asyncio.timeout(2):
        await child.wait()
    assert not alive(pid)


async def test_a_pipe_held_by_someone_out_of_reach_does_not_hang_wait() -> None:
    # The holder is ours, not the child's: it got the pipe from /proc, so no sweep may end it.
    child = await spawn("echo stray $$; sleep 0.4; exit 0")
    pid = await stray_pid(child)
    holder = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
    try:
        async with asyncio.timeout(4):
            assert await child.wait() == Exit(0)
    finally:
        os.close(holder)


async def test_end_strays_finds_them_by_the_beginning_of_their_marker() -> None:
    left = [start("sleep", "60", marker=f"{MARK}/gone/{name}") for name in ("a", "b")]
    other = start("sleep", "60", marker=f"{MARK}/kept")
    live = await spawn("sleep 60", "gone/live")
    waits = [asyncio.create_task(asyncio.to_thread(each.wait)) for each in left]
    try:
        assert await end_strays(f"{MARK}/gone") == 2
        # 0: the package was the first to learn of an end, and subprocess then knows no code.
        assert {await each for each in waits} <= {-signal.SIGKILL, 0}
        assert other.poll() is None
        assert alive(live.pid)
    finally:
        other.kill()
        other.wait()
        await live.stop()


async def test_end_strays_ends_descendants_that_are_not_known() -> None:
    known, unknown = (start("sleep", "60") for _ in range(2))
    wait = asyncio.create_task(asyncio.to_thread(unknown.wait))
    try:
        others = [pid for pid in procfs.children() if pid != unknown.pid]
        assert await end_strays(f"{MARK}/none", others) == 1
        assert await wait == -signal.SIGKILL
        assert known.poll() is None
    finally:
        known.kill()
        known.wait()


async def test_end_strays_refuses_to_name_everything() -> None:
    with pytest.raises(ValueError, match="empty prefix"):
        await end_strays("")


async def test_a_normal_exit_costs_no_look_at_the_whole_machine(
    monkeypatch: pytest.MonkeyPatch, subreaper: None
) -> None:
    assert subreaper is None
    neighbour = await spawn("sleep 60", "neighbour")
    with monkeypatch.context() as patch:
        patch.setattr(procfs, "processes", lambda: pytest.fail("it looked"))
        assert await (await spawn("exit 0")).wait() == Exit(0)
    await neighbour.stop()


def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from rolehost.processes import Child\n"
        "async def main():\n"
        "    child = await Child.spawn(['sleep', '60'], env=os.environ, cwd=pathlib.Path('/'), marker=sys.argv[1])\n"
        "    while pathlib.Path(f'/proc/{child.pid}/comm').read_text() != 'sleep\\n': await asyncio.sleep(0.01)\n"
        "    print(child.pid, flush=True)\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, f"{MARK}/{tmp_path.name}"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not alive(pid))


def test_a_process_dies_with_its_parent_also_when_the_parent_is_gone_already() -> None:
    code = (
        "import os, sys, time\n"
        "from rolehost.processes import die_with_parent\n"
        "die_with_parent(int(sys.argv[1]))\n"
        "print('lives', flush=True)\n"
    )
    ours = subprocess.run([sys.executable, "-c", code, str(os.getpid())], capture_output=True, text=True, check=False)
    assert (ours.returncode, ours.stdout) == (0, "lives\n")
    orphan = subprocess.run([sys.executable, "-c", code, "999999"], capture_output=True, text=True, check=False)
    assert (orphan.returncode, orphan.stdout) == (1, "")


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_live_after_all_this() -> None:
    assert not tree.live
