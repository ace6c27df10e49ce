"""The warm server's life: what it leaves behind, what happens when it dies, and what a stop ends."""

# ruff: noqa: ASYNC240, ASYNC220 - small files, and a process that has to be owned by nobody

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.processes import Child, Exit, WarmStarts, become_subreaper, lineage, procfs, warm, warm_channel
from rolehost.telemetry import subscribe
from support.warm import ENV, is_server, spoken, warm_starts

MARK = f"test-warm-job/{os.getpid()}"

QUICK = "import os, sys\nprint(os.getppid())"
SLEEPS = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
# Leaves its session and its parent, ignores TERM, and keeps stdout open.
LEAVES = """\
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("stray", os.getpid(), flush=True)
        time.sleep(60)
    os._exit(0)
os.wait()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
print("hears", flush=True)
if len(sys.argv) > 1:
    sys.exit(3)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def no_zombies() -> Iterator[None]:
    become_subreaper()
    yield
    assert not [pid for pid in procfs.children() if (found := procfs.process(pid)) and found.zombie]
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    unsubscribe = subscribe(lambda event, facts: events.append((event, facts)))
    yield events
    unsubscribe()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(code: str) -> str:
        script = tmp_path / "app" / "script"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/usr/bin/env python3\n{code}\n")
        return str(script)

    return write


async def spawn(starts: WarmStarts, script: str, *arguments: str, name: str = "a") -> Child:
    """A job that is really warm."""
    server = starts.server_pid
    child = await starts.spawn([sys.executable, script, *arguments], env=ENV, cwd=Path("/"), marker=f"{MARK}/{name}")
    found = procfs.process(child.pid)
    assert found is not None
    assert found.parent == server
    return child


async def printed(child: Child, text: str) -> list[str]:
    async with asyncio.timeout(20):
        while text not in child.stdout.text() or not child.stdout.text().endswith("\n"):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)
    return child.stdout.text().split()


async def stray_of(child: Child) -> int:
    """What `LEAVES` left; it hears TERM again by now."""
    await printed(child, "hears")
    words = await printed(child, "stray")
    return int(words[words.index("stray") + 1])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the kernel's tables have no event
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    found = procfs.process(pid)
    return found is not None and not found.zombie


def children_of(pid: int | None) -> list[procfs.Process]:
    return [each for each in procfs.processes().values() if each.parent == pid]


def readable(pid: int | str | None) -> bool:
    return os.access(f"/proc/{pid}/fd", os.R_OK)


def resident(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_200_jobs_leave_no_zombie_no_descriptor_and_no_memory(written: Callable[[str], str]) -> None:
    script = written("print('x' * 100_000)")
    async with warm_starts(script) as starts:

        async def jobs(count: int) -> tuple[list[int], int]:
            for _ in range(count // 4):
                await asyncio.gather(*(spoken(starts, script, must_be_warm=True) for _ in range(4)))
            # The server's are closed to its own user, too; only root may look.
            fds = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", starts.server_pid) if readable(pid)]
            return fds, resident(starts.server_pid)

        before = await jobs(20)
        server = starts.server_pid
        after = await jobs(200)
        assert starts.server_pid == server
        assert after[0] == before[0]
        assert after[1] - before[1] < 512 * 1024
        assert children_of(server) == []


async def test_a_stop_ends_a_grandchild_that_left_and_is_deaf(written: Callable[[str], str]) -> None:
    script = written(LEAVES)
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        stray = await stray_of(child)
        begin = time.monotonic()
        assert await child.stop(grace=0.5) == Exit(None, signal.SIGTERM)
        assert 0.5 <= time.monotonic() - begin < 2.5
        assert not alive(stray)
        assert await child.stop() == Exit(None, signal.SIGTERM)
        assert children_of(starts.server_pid) == []


async def test_what_a_clean_exit_left_behind_is_gone_when_wait_returns(written: Callable[[str], str]) -> None:
    script = written(LEAVES)
    async with warm_starts(script) as starts:
        neighbour = await spawn(starts, script, name="neighbour")
        other = await stray_of(neighbour)
        child = await spawn(starts, script, "exit")
        stray = await stray_of(child)
        assert await child.wait() == Exit(3)
        assert not alive(stray)
        assert alive(other)
        await neighbour.stop(0)
        assert not alive(other)


async def test_a_stray_without_any_mark_is_ended_although_the_server_is_older(written: Callable[[str], str]) -> None:
    hides = "import subprocess\nsubprocess.Popen(['/usr/bin/env', '-i', '/usr/bin/setsid', '/bin/sleep', '60'])\n"
    script = written(f"{hides}import time\ntime.sleep(0.3)")
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        await until(lambda: [each for each in children_of(child.pid) if each.session == each.pid])
        stray = children_of(child.pid)[0].pid
        assert await child.wait() == Exit(0)
        assert not alive(stray)


async def test_a_killed_job_is_told_as_killed_and_its_neighbour_goes_on(written: Callable[[str], str]) -> None:
    script = written(SLEEPS)
    async with warm_starts(script) as starts:
        child, neighbour = [await spawn(starts, script, name=name) for name in "ab"]
        os.kill(child.pid, signal.SIGKILL)
        assert await child.wait() == Exit(None, signal.SIGKILL)
        await printed(neighbour, "ready")
        neighbour.kill()
        assert await neighbour.wait() == Exit(None, signal.SIGKILL)


async def test_when_the_server_is_killed_its_jobs_are_ended_and_nobody_is_blamed(
    written: Callable[[str], str], told: list[tuple[str, dict[str, Any]]]
) -> None:
    script = written(LEAVES)
    async with warm_starts(script) as starts:
        children = [await spawn(starts, script, name=name) for name in "ab"]
        strays = [await stray_of(child) for child in children]
        old = starts.server_pid
        assert old is not None
        os.kill(old, signal.SIGKILL)
        for child in children:
            async with asyncio.timeout(5):
                with pytest.raises(ChildProcessError, match="warm server has ended"):
                    await child.wait()
            assert await child.stop() == Exit(None, None)
        assert not [pid for pid in strays + [child.pid for child in children] if alive(pid)]
        assert not [pid for pid in [child.pid for child in children] if procfs.process(pid)], "zombies"
        await until(lambda: starts.server_pid not in {None, old})
        await (await spawn(starts, script)).stop(0)
    assert [event for event, _ in told if event.startswith("warm.")] == ["warm.started", "warm.ended", "warm.started"]


async def test_a_job_that_outlives_the_kernels_signal_is_ended_when_the_server_dies(
    written: Callable[[str], str],
) -> None:
    script = written(f"import ctypes\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n{SLEEPS}")
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        await printed(child, "ready")
        os.kill(starts.server_pid or 0, signal.SIGKILL)
        async with asyncio.timeout(5):
            with pytest.raises(ChildProcessError):
                await child.wait()
        assert procfs.process(child.pid) is None


async def test_a_server_that_is_silent_is_ended(written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = written(SLEEPS)
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        await printed(child, "ready")
        old = starts.server_pid or 0
        monkeypatch.setattr(warm_channel, "_ANSWER_SECONDS", 0.3)
        os.kill(old, signal.SIGSTOP)
        async with asyncio.timeout(10):
            with pytest.raises(ChildProcessError, match="does not answer"):
                await starts.spawn([sys.executable, script], env=ENV, cwd=Path("/"), marker=f"{MARK}/b")
            with pytest.raises(ChildProcessError):
                await child.wait()
        assert not alive(old)


async def test_a_module_that_is_not_there_means_cold_starts(
    written: Callable[[str], str], told: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_BACK_OFF", 0.001)
    script = written(QUICK)
    starts = WarmStarts(script, ["no_such_module"], env=ENV, marker=f"{MARK}/", identity=None)
    starts.start()
    async with asyncio.timeout(30):
        assert not await starts.ready()
    assert await spoken(starts, script) == f"{os.getpid()}\n"
    ended = [facts for event, facts in told if event == "warm.ended"]
    assert [facts["failures"] for facts in ended] == [1, 2, 3, 4, 5]
    assert ended[0]["why"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert told[-1] == ("warm.given_up", {"script": script, "failures": 5})
    await starts.close()


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "a thread"),
        ("print(end='')\nraise SystemExit('not here')", "not here"),
    ],
)
async def test_a_module_that_a_fork_could_not_have_means_cold_starts(
    written: Callable[[str], str], told: list[tuple[str, dict[str, Any]]], module: str, why: str
) -> None:
    script = written(QUICK)
    Path(script).with_name("helper.py").write_text(module)
    starts = WarmStarts(script, ["helper"], env=ENV, marker=f"{MARK}/", identity=None)
    starts.start()
    await until(lambda: [event for event, _ in told if event == "warm.ended"])
    assert why in told[0][1]["why"]
    await starts.close()


async def test_a_module_named_as_one_of_pythons_own_means_cold_starts(
    written: Callable[[str], str], told: list[tuple[str, dict[str, Any]]]
) -> None:
    script = written("import socket\nprint(socket.__name__, socket.__file__)")
    Path(script).with_name("socket.py").write_text("")
    starts = WarmStarts(script, [], env=ENV, marker=f"{MARK}/", identity=None)
    starts.start()
    await until(lambda: [event for event, _ in told if event == "warm.ended"])
    assert str(Path(script).parent) in await spoken(starts, script)
    await starts.close()


async def test_after_its_time_a_server_is_replaced_and_its_last_job_not_disturbed(
    written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, dict[str, Any]]]
) -> None:
    monkeypatch.setattr(warm, "MOST_JOBS", 3)
    script = written(
        "import sys, time, os\nprint('ready', flush=True)\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)"
    )
    go = Path(script).with_name("go")
    async with warm_starts(script) as starts:
        old = starts.server_pid
        children = [await spawn(starts, script, str(go), name=str(number)) for number in range(3)]
        assert await starts.ready()
        assert starts.server_pid not in {None, old}
        children.append(await spawn(starts, script, str(go), name="3"))
        for child in children:
            await printed(child, "ready")
        assert alive(old or 0)
        go.touch()
        assert [await child.wait() for child in children] == [Exit(0)] * 4
        await until(lambda: procfs.process(old or 0) is None)
    assert [event for event, _ in told] == ["warm.started"] * 2


async def test_a_cancelled_spawn_leaves_no_job(written: Callable[[str], str]) -> None:
    script = written(SLEEPS)
    async with warm_starts(script) as starts:
        server = starts.server_pid
        for turns in range(4):
            task = asyncio.create_task(spawn(starts, script, name=f"cancelled-{turns}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        # Answers come in order: all forks are known now. Its marker is its own, as each job's is: who sweeps after the
        # others ends whatever has theirs.
        child = await spawn(starts, script, name="kept")
        await until(lambda: [each.pid for each in children_of(server)] == [child.pid])
        await child.stop(0)
        assert starts.server_pid == server


async def test_a_working_directory_that_is_gone_is_told_as_at_a_cold_start(written: Callable[[str], str]) -> None:
    script = written(QUICK)
    async with warm_starts(script) as starts:
        with pytest.raises(Exception, match="working directory"):
            await starts.spawn([sys.executable, script], env=ENV, cwd=Path("/no/such"), marker=f"{MARK}/a")
        assert await spoken(starts, script, must_be_warm=True)


async def test_the_servers_memory_is_closed_to_jobs_and_a_jobs_own_is_not(written: Callable[[str], str]) -> None:
    script = written(f"import os\nprint(os.stat('/proc/self/mem').st_uid == os.getuid(), flush=True)\n{SLEEPS}")
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        assert (await printed(child, "ready"))[0] == "True"
        status = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
        assert f"ROLEHOST_CHILD={MARK}/a".encode() in status
        assert not [each for each in status if b"WARM_ROOM" in each]
        await child.stop(0)


ROLE = """\
import asyncio, sys
from pathlib import Path
from rolehost.processes import WarmStarts
async def main():
    env = {{"PATH": "/usr/bin:/bin"}}
    starts = WarmStarts({script!r}, [], env=env, marker={marker!r}, identity=None)
    starts.start()
    assert await starts.ready()
    child = await starts.spawn([sys.executable, {script!r}], env=env, cwd=Path("/"), marker={marker!r} + "job")
    while "ready" not in child.stdout.text():
        await asyncio.sleep(0.01)
    print(starts.server_pid, child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
async def role(written: Callable[[str], str]) -> AsyncIterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process as a role's, with a server and a job; and the pids of these two."""
    code = ROLE.format(script=written(SLEEPS), marker=f"{MARK}/role/")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    line = await asyncio.to_thread(process.stdout.readline)
    yield process, [int(pid) for pid in line.split()]
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_when_the_role_process_ends_nothing_is_left(
    role: tuple[subprocess.Popen[str], list[int]], number: int
) -> None:
    process, pids = role
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    process.send_signal(number)
    await until(lambda: not [pid for pid in pids if alive(pid)])
    said = (await asyncio.to_thread(process.communicate))[1]
    for pid in pids:  # orphans came to us
        if (found := procfs.process(pid)) and found.parent == os.getpid():
            os.waitpid(pid, 0)  # noqa: ASYNC222 - they are dead
    if number == signal.SIGINT:  # asyncio complains about what was not tidied up
        assert said.splitlines()[-1] == "KeyboardInterrupt"
        assert "retrieved" not in said


async def test_closing_ends_the_server_and_what_runs(written: Callable[[str], str]) -> None:
    script = written(SLEEPS)
    async with warm_starts(script) as starts:
        child = await spawn(starts, script)
        await printed(child, "ready")
        await starts.close()
        with pytest.raises(ChildProcessError):
            await child.wait()
        assert not [each for each in procfs.processes() if is_server(each)]
        assert await spoken(starts, written(QUICK)) == f"{os.getpid()}\n"
