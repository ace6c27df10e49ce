"""Programs that read the asset as their standard input, or whose standard output is the result."""

# ruff: noqa: ASYNC240 - small files of the tests' own

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.environment import LocalResource
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.processes import Child, ChildIdentity, Redirects, WarmStarts
from rolehost.service_model.worker_reading import read_worker
from rolehost.testing import Ran, run_once
from rolehost.workers import scratch_limit
from rolehost.workers.configured import ConfiguredWorker
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.progress import PatternProgress, ProgressSpec, ResultProgress
from rolehost.workers.scratch import Scratch
from rolehost.workers.scratch_limit import ScratchLimit
from support.console_apps import outcome, worker
from support.descriptors import loud_stdin
from support.jobs import CONTENT, Bench, open_bench, until

ENV = {"PATH": os.environ["PATH"]}
BOTH = {"stdin": "source", "stdout": "target"}
STREAMS: dict[str, Any] = {"reads_stdin": True, "writes_stdout": True}
NOBODY = ChildIdentity(65534, 65534) if os.geteuid() == 0 else ChildIdentity()
EVERY_BYTE = bytes(range(256)) * 1000


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    tmp_path.chmod(0o711)
    async with open_bench(tmp_path, lease=30.0) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


def ran(source: Path, *program: str, **table: Any) -> Ran:
    """One attempt of a worker by configuration."""
    declared = read_worker({"kind": "told", "program": list(program), "result_name": "told.bin", **table})
    return run_once(ConfiguredWorker(declared), source)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(EVERY_BYTE)
    return path


async def content(bench: Bench, job: Job) -> bytes:
    assert job.result is not None, job.reason
    return b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])


def descriptors() -> set[str]:
    """What this process has open, by name."""
    links = Path("/proc/self/fd").iterdir()
    return {link.readlink().name for link in links if link.is_symlink()}


def test_a_filter_needs_neither_source_nor_target(source: Path) -> None:
    done = ran(source, "tr", r"\000-\377", r"\001-\377\000", **BOTH)
    assert done.ok, done
    assert done.result_bytes == bytes((each + 1) % 256 for each in range(256)) * 1000
    assert (done.stdout, done.stderr) == ("", "")


def test_either_stream_alone(source: Path) -> None:
    into = ran(source, "sh", "-c", 'echo printed; exec cat >"$0"', "{target}", stdin="source")
    assert (into.result_bytes, into.stdout) == (EVERY_BYTE, "printed\n")
    assert ran(source, "cat", "{source}", stdout="target").result_bytes == EVERY_BYTE


@pytest.mark.parametrize("table", [{}, {"stdout": "target"}])
def test_stdin_is_empty_unless_it_is_the_source(source: Path, table: dict[str, str]) -> None:
    to = "" if table else '>"$1"'
    with loud_stdin():
        done = ran(source, "sh", "-c", f"(cat; echo end) {to}", "{source}", *([] if table else ["{target}"]), **table)
    assert done.result_bytes == b"end\n"


async def test_half_a_result_of_a_program_that_fails_is_none(bench: Bench) -> None:
    script = "head -c 4; echo no licence >&2; exit 1"
    job = await outcome(bench, worker(bench, "sh", "-c", script, **STREAMS))
    assert (job.state, job.result, job.charges) == (JobState.QUEUED, None, Charges(app=1))
    assert job.reason == "sh exited with code 1: no licence"
    assert await bench.blobs("results/") == []
    await bench.process(worker(bench, "cat", **STREAMS).attempt)  # and the next attempt begins with nothing
    assert await content(bench, await bench.row(job.id)) == CONTENT


@pytest.mark.parametrize(
    ("script", "table", "told"),
    [
        ("exit 0", {}, "its result is empty"),
        ("echo x", {"result_type": "image/png"}, "not image/png"),
        ("echo x", {"verify": ["grep", "-q", "y", "{result}"]}, "did not pass its verification"),
        ("echo x; rm {}; ln -s /etc/passwd {}", {}, "is no regular file"),
    ],
)
def test_a_printed_result_is_held_to_the_contract(source: Path, script: str, table: dict[str, Any], told: str) -> None:
    done = ran(source, "sh", "-c", script.replace("{}", "{scratch}/target.bin"), **BOTH, **table)
    assert (done.end, done.result) == (End.BAD_OUTPUT, None)
    assert told in done.detail


def test_what_looks_at_the_result_is_not_redirected(source: Path) -> None:
    """Else its output would be the result, or its beginning would be taken for the asset."""
    look = 'echo looked; test -z "$(cat)" && cmp -s "$0" "$1"'
    done = ran(source, "cat", verify=["sh", "-c", look, "{source}", "{result}"], **BOTH)
    assert done.ok, done
    assert done.result_bytes == EVERY_BYTE


def test_a_file_limit_holds_for_a_printed_result(source: Path) -> None:
    done = ran(source, "head", "-c", "3000000", "/dev/zero", **BOTH, limits={"file_mb": 1})
    assert (done.end, done.result) == (End.KILLED, None)


async def test_a_program_that_floods_its_output_is_stopped_by_the_scratch_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_limit, "_LOOK_EVERY", 0.05)
    app = worker(bench, "sh", "-c", "head -c 4000000 /dev/zero; sleep 60", **STREAMS)
    limit = ScratchLimit(LocalResource("Scratch", f"{bench.root}/", 2))
    job = await bench.submit()
    async with asyncio.timeout(20):
        await process_message(bench.desk, await bench.receive(), app.attempt, root=bench.root, limit=limit)
    (attempt,) = (await bench.row(job.id)).attempts
    assert attempt.end is End.KILLED
    assert 'the local resource "Scratch" has 2 MB' in attempt.detail


async def test_a_growing_result_is_a_sign_of_life(bench: Bench) -> None:
    """Of a program that takes no processor time worth counting, and says nothing else."""
    slow = "import os, time\nfor _ in range(10):\n    os.write(1, b'x')\n    time.sleep(0.3)"
    job = await outcome(bench, worker(bench, "{python}", "-c", slow, **STREAMS, stall=1.5))
    assert await content(bench, job) == b"x" * 10
    job = await outcome(bench, worker(bench, "sh", "-c", "echo x; exec sleep 60", **STREAMS, stall=0.4))
    assert [attempt.end for attempt in job.attempts] == [End.STALLED]


async def test_progress_is_the_size_of_what_is_printed(bench: Bench) -> None:
    job, percent = await measured(bench, "head -c 50 /dev/zero", ResultProgress(100))
    assert percent == 50
    assert await content(bench, job) == bytes(50)


async def test_stderr_is_still_captured_and_tells_of_progress(bench: Bench) -> None:
    pattern = PatternProgress(re.compile(r"(?P<percent>\d+)%"))
    job, percent = await measured(bench, "echo 90%; echo 40% >&2", pattern)
    assert percent == 40, "what is printed is the result"
    assert await content(bench, job) == b"90%\n"


async def measured(bench: Bench, script: str, progress: ProgressSpec) -> tuple[Job, float]:
    """The row after an attempt that ended when its progress was seen, and that progress."""
    seen = bench.folder / "seen"
    waiting = f"{script}; until [ -e {seen} ]; do sleep 0.05; done"
    app = worker(bench, "sh", "-c", waiting, progress=progress, timeout=20, **STREAMS)
    places: list[Scratch] = []

    async def attempt(spec: JobSpec, place: Scratch) -> Outcome:
        places.append(place)
        return await app.attempt(spec, place)

    async def is_seen() -> bool:
        return bool(places and places[0].meter.now and places[0].meter.now.percent)

    job = await bench.submit()
    task = asyncio.create_task(bench.process(attempt))
    await until(is_seen)
    seen.touch()
    await task
    assert places[0].meter.now
    return await bench.row(job.id), places[0].meter.now.percent


async def test_what_would_start_warm_starts_cold(bench: Bench) -> None:
    script = bench.folder / "script.py"
    script.write_text(
        "import os, sys\n"
        "parent = open(f'/proc/{os.getppid()}/cmdline').read()\n"
        "print('warm_server' in parent, sys.stdin.read())\n"
    )
    app = worker(bench, "{python}", str(script), warm_imports=(), **STREAMS)
    await app.prepare(bench.root)
    assert app._warm is None
    app.identity = None
    app._warm = WarmStarts(str(script), (), env={}, marker="test-redirects/warm", identity=None)
    assert await content(bench, await outcome(bench, app)) == b"False " + CONTENT + b"\n"


def test_an_app_has_no_redirects_unless_it_wants_them() -> None:
    source, target = Path("/s"), Path("/t")
    assert ConsoleApp(["p"]).redirects(source, target) is None
    assert ConsoleApp(["p"], reads_stdin=True).redirects(source, target) == Redirects(source, None)
    assert ConsoleApp(["p"], writes_stdout=True).redirects(source, target) == Redirects(None, target)


async def spawned(folder: Path, redirects: Redirects, script: str, who: ChildIdentity | None = NOBODY) -> Child:
    argv = ["sh", "-c", script]
    marker = f"test-redirects/{os.getpid()}"
    return await Child.spawn(argv, env=ENV, cwd=folder, marker=marker, identity=who, redirects=redirects)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory of the child's user's, with an asset of theirs, as an attempt has it."""
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    (folder / "source").write_bytes(b"one")
    for path in (folder, folder / "source"):
        if NOBODY.uid is not None:
            os.chown(path, NOBODY.uid, NOBODY.gid or -1)
    return folder


async def test_the_child_s_user_owns_what_it_prints_to(shared: Path) -> None:
    """As programs want it that open /dev/stdout by its name; and the source can't be written through its stdin."""
    redirects = Redirects(shared / "source", shared / "target")
    child = await spawned(shared, redirects, "cat >/dev/stdout; echo two >&0; stat -c %u%a target >&2")
    assert {"source", "target"} & descriptors() == set(), "they are closed here at once"
    assert (await child.wait()).code == 0, child.stderr.text()
    assert (shared / "target").read_bytes() == b"one"
    assert (shared / "source").read_bytes() == b"one"
    assert child.stderr.text().splitlines()[-1] == f"{NOBODY.uid or os.geteuid()}600"
    assert child.stdout.total == 0


async def test_a_child_gets_no_other_descriptor(shared: Path) -> None:
    redirects = Redirects(shared / "source", shared / "target")
    child = await spawned(shared, redirects, "ls /proc/self/fd >&2")
    await child.wait()
    assert len(child.stderr.text().split()) == 4, "three streams, and the one of ls"


@pytest.mark.parametrize("kind", ["link", "dangling", "file", "fifo"])
async def test_nothing_that_is_there_is_written_to(shared: Path, kind: str) -> None:
    """Others who run as the same user could have put it there."""
    secret, target = shared.parent / "secret", shared / "target"
    secret.write_text("kept")
    match kind:
        case "link":
            target.symlink_to(secret)
        case "dangling":
            target.symlink_to(shared.parent / "new")
        case "file":
            target.hardlink_to(secret)
        case _:
            os.mkfifo(target)
    before = descriptors()
    with pytest.raises(FileExistsError):
        await spawned(shared, Redirects(shared / "source", target), "echo taken")
    assert (secret.read_text(), (shared.parent / "new").exists()) == ("kept", False)
    assert descriptors() == before


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
async def test_only_a_regular_file_is_read(shared: Path, kind: str) -> None:
    source = shared / "source"
    source.unlink()
    match kind:
        case "link":
            source.symlink_to("/etc/passwd")
        case "fifo":
            os.mkfifo(source)
        case "folder":
            source.mkdir()
        case _:
            pass
    if kind != "missing" and NOBODY.uid is not None:
        os.chown(source, NOBODY.uid, -1, follow_symlinks=False)
    before = descriptors()
    with pytest.raises(OSError, match="source"):
        await spawned(shared, Redirects(source, shared / "target"), "cat")
    assert descriptors() == before
    assert not (shared / "target").exists()


async def test_a_file_of_another_user_s_is_not_read_for_the_child(shared: Path) -> None:
    """A hard link looks like the asset, and we may read more than the child."""
    other = ChildIdentity((NOBODY.uid or os.geteuid()) + 1)
    with pytest.raises(PermissionError, match="another user"):
        await spawned(shared, Redirects(shared / "source"), "cat", other)


async def test_a_job_whose_asset_was_exchanged_is_no_fault_of_the_program(bench: Bench) -> None:
    app = worker(bench, "cat", **STREAMS)

    async def attempt(spec: JobSpec, place: Scratch) -> Outcome:
        place.source.unlink()
        place.source.symlink_to("/etc/passwd")
        return await app.attempt(spec, place)

    job = await bench.submit()
    await bench.process(attempt)
    row = await bench.row(job.id)
    assert ([each.end for each in row.attempts], row.charges.app) == ([End.STORE_ERROR], 0)


async def test_a_program_that_can_t_start_leaves_no_descriptor(shared: Path) -> None:
    before = descriptors()
    for number in range(3):
        with pytest.raises(OSError, match="Argument list too long"):
            await spawned(shared, Redirects(shared / "source", shared / f"target{number}"), "x" * 200_000)
    assert descriptors() == before
