"""Children, with real processes: how they start, what they print, how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import ProgramNotFoundError
from rolehost.processes import MARKER, Child, ChildIdentity, Exit, Output, tree
from support.descriptors import loud_stdin

PATH = os.environ["PATH"]
MARK = f"test-processes/{os.getpid()}"


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    yield
    assert not tree.live
    assert not zombies()


def zombies() -> list[str]:
    rows = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "stat=,pid=,args="], capture_output=True, text=True, check=False
    )
    return [row for row in rows.stdout.splitlines() if row.startswith("Z")]


async def spawn(
    argv: str | Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = Path("/"), **options: Any
) -> Child:
    line = ["sh", "-c", argv] if isinstance(argv, str) else argv
    return await Child.spawn(line, env={"PATH": PATH} if env is None else env, cwd=cwd, marker=MARK, **options)


async def run(argv: str | Sequence[str], **options: Any) -> tuple[Exit, str]:
    child = await spawn(argv, **options)
    async with asyncio.timeout(30):
        return await child.wait(), child.stdout.text()


async def printed(child: Child, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in child.stdout.text():  # noqa: ASYNC110 - an Output has no event
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("chain", [False, True])
async def test_exit_code_and_both_streams_are_told(*, chain: bool) -> None:
    child = await spawn("echo out; echo err >&2; exit 3", die_with_us=chain)
    assert await child.wait() == Exit(3)
    assert (child.stdout.text(), child.stderr.text()) == ("out\n", "err\n")
    assert (child.stdout.total, child.stdout.truncated) == (4, False)


async def test_a_signal_is_told_as_a_signal() -> None:
    assert (await run("kill -SEGV $$"))[0] == Exit(None, signal.SIGSEGV)


async def test_stdin_is_empty_and_the_session_its_own(tmp_path: Path) -> None:
    with loud_stdin():
        _, text = await run("cat; pwd; ps -o sid= -p $$; echo $$", cwd=tmp_path)
    cwd, session, pid = text.split()
    assert cwd == str(tmp_path)
    assert session == pid


async def test_environment_is_what_was_given_and_the_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    _, text = await run(["/usr/bin/env"], env={"A": "1"}, identity=ChildIdentity())
    assert sorted(text.splitlines()) == ["A=1", f"{MARKER}={MARK}"]


async def test_only_the_descriptors_passed_are_inherited() -> None:
    ours, theirs = os.pipe()
    stranger = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(stranger, True)  # noqa: FBT003 - positional only
    try:
        _, text = await run("ls /proc/self/fd", pass_fds=[theirs])
    finally:
        for each in (ours, theirs, stranger):
            os.close(each)
    assert {"0", "1", "2", str(theirs)} <= set(text.split())
    assert str(stranger) not in text.split()
    assert str(ours) not in text.split()


async def test_signals_ignored_or_blocked_by_us_are_heard_by_the_child() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        _, text = await run(["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"])
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    ours = sum(1 << (number - 1) for number in signal.valid_signals())  # 32 and 33 are the C library's own
    assert [int(line.split()[1], 16) & ours for line in text.splitlines()] == [0, 0]


async def test_output_of_200_mb_is_counted_in_bounded_memory() -> None:
    size = 200 * 1024 * 1024
    code = f"""if True:
        import os
        os.write(1, b'first')
        for _ in range({size} // 65536): os.write(1, b'x' * 65536)
        os.write(1, b'last')"""
    before = resident()
    child = await spawn([sys.executable, "-c", code], capture=64 * 1024)
    async with asyncio.timeout(60):
        assert await child.wait() == Exit(0)
    assert child.stdout.total == size + 9
    assert child.stdout.truncated
    text = child.stdout.text()
    assert text.startswith("firstxxx")
    assert text.endswith("xxxlast")
    assert f"[... {size + 9 - 64 * 1024} bytes left out ...]" in text
    assert resident() - before < 16 * 1024 * 1024


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("sizes", [[1] * 100, [7] * 15, [100], [3, 90, 7], [10, 10], [16], [17]])
def test_head_and_tail_are_right_however_the_bytes_arrive(sizes: list[int]) -> None:
    everything = bytes(65 + i % 26 for i in range(sum(sizes)))
    output = Output(16)
    rest = everything
    for size in sizes:
        output.add(rest[:size])
        rest = rest[size:]
    if len(everything) <= 16:
        assert output.text() == everything.decode()
    else:
        head, _, tail = output.text().split("\n")
        assert (head.encode(), tail.encode()) == (everything[:8], everything[-8:])
    assert output.total == len(everything)


def test_text_can_be_limited_and_is_never_an_error() -> None:
    output = Output(1000)
    output.add(b"0123456789\xff")
    assert output.text() == "0123456789�"
    assert output.text(4) == "01\n[... 7 bytes left out ...]\n9�"


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/etc/passwd", "/"])
async def test_a_program_that_is_none_is_told_before_the_start(program: str) -> None:
    with pytest.raises(ProgramNotFoundError, match=program):
        await spawn([program])


async def test_a_missing_working_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFoundError, match="working directory"):
        await spawn(["true"], cwd=tmp_path / "gone")


async def test_a_program_without_its_interpreter_is_not_taken_for_an_exit_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    end, _ = await run([str(script)])
    assert end.exec_error is not None
    assert str(script) in end.exec_error
    with pytest.raises(ProgramNotFoundError, match="script"):
        await run([str(script)], die_with_us=False)


async def test_exit_127_of_the_program_itself_is_its_own() -> None:
    assert (await run("exit 127"))[0] == Exit(127)


async def test_a_child_that_hears_term_gets_its_grace() -> None:
    child = await spawn("trap 'sleep 0.3; echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    await printed(child, "ready")
    assert await child.stop(grace=20) == Exit(7)
    assert child.stdout.text().endswith("bye\n")
    assert await child.stop() == Exit(7)


async def test_a_child_that_is_deaf_to_term_is_killed_after_the_grace() -> None:
    child = await spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await printed(child, "ready")
    begin = time.monotonic()
    assert await child.stop(grace=0.3) == Exit(None, signal.SIGKILL)
    assert 0.3 <= time.monotonic() - begin < 2.3


async def test_a_stopped_child_is_ended_too() -> None:
    child = await spawn("echo ready; kill -STOP $$; sleep 60")
    await printed(child, "ready")
    assert await child.stop(grace=10) == Exit(None, signal.SIGTERM)


async def test_a_second_stop_shortens_the_grace_of_the_first() -> None:
    child = await spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await printed(child, "ready")
    first = asyncio.create_task(child.stop(grace=60))
    await asyncio.sleep(0)
    assert await child.stop(grace=0) == Exit(None, signal.SIGKILL)
    assert await first == Exit(None, signal.SIGKILL)


async def test_kill_is_at_once() -> None:
    child = await spawn(["sleep", "60"])
    child.kill()
    assert await child.wait() == Exit(None, signal.SIGKILL)


async def test_a_cancelled_wait_leaves_a_child_that_can_be_stopped() -> None:
    child = await spawn(["sleep", "60"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.wait()
    assert await child.stop() == Exit(None, signal.SIGTERM)


async def test_a_cancelled_stop_kills_at_once() -> None:
    child = await spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await printed(child, "ready")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await child.stop(grace=60)
    async with asyncio.timeout(5):
        assert await child.wait() == Exit(None, signal.SIGKILL)


def test_a_finally_block_still_stops_it_while_the_loop_is_being_closed() -> None:
    ends = []

    async def work() -> None:
        child = await spawn("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")
        try:
            await printed(child, "ready")
            await child.wait()
        finally:
            ends.append(await child.stop(grace=20))

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.3)
        assert not task.done()

    asyncio.run(main())
    assert ends == [Exit(5)]


async def test_without_pidfd_a_thread_notices_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert await run("echo a; exit 4") == (Exit(4), "a\n")


async def test_a_status_that_someone_else_took_is_never_a_success() -> None:
    child = await spawn("exit 3", die_with_us=False)
    os.waitpid(child.pid, 0)  # noqa: ASYNC222 - the very thing that other code should not do
    assert await child.wait() == Exit(None, None)


async def test_a_child_closes_all_it_opened() -> None:
    await run(["true"])
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths
    for _ in range(20):
        await run(["true"])
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208 - the same


async def test_inherited_streams_are_not_captured() -> None:
    child = await spawn(["true"], capture=None)
    assert await child.wait() == Exit(0)
    assert (child.stdout.total, child.stdout.text()) == (0, "")
