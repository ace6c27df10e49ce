"""Step 4: a console application, run as it is. The applications here are scripts that know nothing of rolehost."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.processes import MARKER, ChildIdentity
from rolehost.workers.console_app import ConsoleApp, allowed_environment, fill, standard_values
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.processing import process_message
from support.console_apps import outcome, shell, worker
from support.descriptors import loud_stdin
from support.jobs import CONTENT, KIND, Bench, claimed, open_bench, until

DUMP = "import json, os, sys; json.dump({'argv': sys.argv[3:], 'env': dict(os.environ)}, open(sys.argv[1], 'w'))"

HOSTILE = "a b; rm -rf $HOME `id` *"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


async def dumped(bench: Bench, *template: str, **more: Any) -> dict[str, Any]:
    """The arguments and the environment that an application got."""
    given = {"n": HOSTILE, "opt": ""}
    job = await outcome(bench, worker(bench, "{python}", "-c", DUMP, "{target}", "--", *template, **more), given=given)
    assert job.result is not None, job.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])
    told: dict[str, Any] = json.loads(content)
    return told


async def test_arguments_are_filled_in_and_no_shell_sees_them(bench: Bench) -> None:
    template = ("{n}", "x={n}=x", "$HOME", "*", "; exit 7", "`id`", "$(id)", "{opt}", "{not a name}", "{}", "a\nb")
    got = (await dumped(bench, *template))["argv"]
    assert got == [
        HOSTILE,
        f"x={HOSTILE}=x",
        "$HOME",
        "*",
        "; exit 7",
        "`id`",
        "$(id)",
        "",
        "{not a name}",
        "{}",
        "a\nb",
    ]


async def test_paths_are_generated_and_absolute(bench: Bench) -> None:
    source, target, scratch, approot = (await dumped(bench, "{source}", "{target}", "{scratch}", "{approot}"))["argv"]
    assert Path(source).parent == Path(target).parent == Path(scratch)
    assert Path(scratch).parent == bench.root
    assert (Path(source).name, Path(target).name) == ("source", "target.bin")
    assert Path(approot).is_absolute()


@pytest.mark.parametrize("name", ["python", "approot", "source", "target", "scratch"])
async def test_what_a_client_submits_never_says_which_program_runs(bench: Bench, name: str) -> None:
    app = worker(bench, "{python}", "-c", DUMP, "{target}", "--", f"{{{name}}}")
    job = await outcome(bench, app, given={name: "/bin/false"})
    assert job.result is not None, job.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])
    assert b"/bin/false" not in content


def test_a_placeholder_that_names_nothing_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"\{speed\}"):
        fill(["{speed}"], {"n": 1})


async def test_a_template_that_does_not_fit_the_job_is_charged_in_words(bench: Bench) -> None:
    job = await outcome(bench, worker(bench, "{python}", "{speed}"))
    assert ([attempt.end for attempt in job.attempts], job.charges) == ([End.APP_ERROR], Charges(app=1))
    assert "{speed}" in job.reason


async def test_the_environment_is_the_allow_list_exactly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    given = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TRACEPARENT": "00-1-2-3",
        "RoleRoot": standard_root(),
        "RoleName": "R",
        "RoleInstanceID": "R_IN_0",
        "RdRoleId": "R_IN_0",
        "RoleDeploymentID": "d",
        "MAGICK_THREADS": "1",
    }
    kept_from_it = {
        "WaRuntimeEndpoint": "unix:/canary",
        "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=canary",
        "ROLEHOST_DATA": "/canary",
        "ROLEHOST_PROBE": "canary",
        "LD_PRELOAD": "",
        "PYTHONPATH": "/canary",
        "SECRET": "canary",
        "HOME": "/canary",
        "TMPDIR": tempfile.gettempdir(),
    }
    declared = {"ROLEHOST_ROLE_VARIABLES": json.dumps(["MAGICK_THREADS", "NOT_SET"])}
    for name, value in (given | kept_from_it | declared).items():
        monkeypatch.setenv(name, value)
    got = (await dumped(bench, environment={"EXTRA": "1"}))["env"]
    own = {"HOME", "TMPDIR", "TEMP", "TMP"}
    assert {name for name in got if name not in {"LC_CTYPE", "PWD", "SHLVL", "_"}} == {*given, *own, "EXTRA", MARKER}
    assert got.pop("TRACEPARENT") != given.pop("TRACEPARENT"), "the attempt's place in the trace, not the role's"
    assert {name: got[name] for name in given} == given
    assert {Path(got[name]).parent for name in own} == {bench.root}
    assert "canary" not in json.dumps(got)


def standard_root() -> str:
    return str(Path(standard_values({})["approot"]).parent)


def test_variables_that_are_not_set_are_not_made_up(tmp_path: Path) -> None:
    assert set(allowed_environment({}, tmp_path)) == {"HOME", "TMPDIR", "TEMP", "TMP"}


async def test_stdin_is_empty(bench: Bench) -> None:
    with loud_stdin():
        job = await outcome(bench, shell(bench, 'cat > "$2"; wc -c < "$2" > "$2.n"; mv "$2.n" "$2"'))
    assert job.result is not None, job.reason
    assert b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)]).strip() == b"0"


async def test_an_application_that_makes_its_result_completes_the_job(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, 'cp "$1" "$2"; echo out; echo err >&2'), name="photo.jpg")
    assert job.state is JobState.COMPLETED
    assert job.result is not None
    assert (job.result.name, job.result.size) == ("photo.jpg", len(CONTENT))
    assert job.result.blob.endswith("/result.jpg")
    (attempt,) = job.attempts
    assert (attempt.exit_code, attempt.stdout, attempt.stderr) == (0, "out\n", "err\n")


async def test_it_runs_in_a_session_of_its_own_in_its_scratch(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, 'ps -o sid= -p $$ > "$2"; echo $$ >> "$2"; pwd'))
    assert job.result is not None, job.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])
    session, pid = content.split()
    assert session == pid
    assert job.attempts[0].stdout == ".\n"


@pytest.mark.parametrize(
    ("script", "end", "state", "code", "said"),
    [
        ("echo 'cannot open' >&2; exit 3", End.APP_ERROR, "queued", 3, "application exited with code 3: cannot open"),
        ("exit 3", End.APP_ERROR, "queued", 3, "application exited with code 3"),
        ("echo broken >&2; exit 65", End.BAD_INPUT, "failed", 65, "application exited with code 65: broken"),
        ("kill -9 $$", End.KILLED, "queued", -9, "application was ended by signal 9"),
        ("kill -11 $$", End.KILLED, "queued", -11, "application was ended by signal 11"),
        ("exit 0", End.BAD_OUTPUT, "queued", 0, "application exited with code 0, but left no result"),
        (': > "$2"', End.BAD_OUTPUT, "queued", 0, "but its result is empty"),
        ('ln -s /etc/passwd "$2"', End.BAD_OUTPUT, "queued", 0, "but its result is no regular file"),
        ('mkdir "$2"', End.BAD_OUTPUT, "queued", 0, "but its result is no regular file"),
        ('echo "reading $1: bad" >&2; exit 1', End.APP_ERROR, "queued", 1, "code 1: reading cat.bin: bad"),
        ('echo "$TMPDIR/x.tmp in $TMPDIR" >&2; exit 1', End.APP_ERROR, "queued", 1, "code 1: x.tmp in ."),
    ],
)
async def test_an_exit_is_judged(  # noqa: PLR0917 - one line of the table each
    bench: Bench, script: str, end: End, state: str, code: int, said: str
) -> None:
    job = await outcome(bench, shell(bench, script, bad_input_exit_codes={65}), name="cat.bin")
    (attempt,) = job.attempts
    assert (attempt.end, job.state, attempt.exit_code) == (end, state, code)
    assert said in job.reason
    assert str(bench.root) not in json.dumps([job.reason, attempt.stdout, attempt.stderr])


async def test_a_picture_that_its_application_locked_is_no_fault_of_the_stores(bench: Bench) -> None:
    """Read nevertheless, by root; else its own fault, never tried again for ever."""
    app = shell(bench, 'echo whole > "$2"; chmod 0 "$2"')
    job = await outcome(bench, app, name="cat.png", content=b"\x89PNG\r\n\x1a\n" + bytes(40))
    assert [attempt.end for attempt in job.attempts] == [End.BAD_OUTPUT], job.reason


async def test_no_exit_code_is_bad_input_by_itself(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, "exit 65"))
    assert [attempt.end for attempt in job.attempts] == [End.APP_ERROR]


async def test_a_program_that_is_missing_is_named(bench: Bench) -> None:
    job = await outcome(bench, worker(bench, "/nowhere/converter", "{source}"))
    assert [attempt.end for attempt in job.attempts] == [End.APP_ERROR]
    assert "/nowhere/converter" in job.reason


async def test_a_name_that_no_file_system_takes_is_only_shown(bench: Bench) -> None:
    name = "a." + "é" * 200
    job = await outcome(bench, shell(bench, 'cp "$1" "$2"'), name=name)
    assert job.result is not None, job.reason
    assert job.result.name == name


async def test_output_is_kept_to_its_head_and_tail(bench: Bench) -> None:
    bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, output=10_000))
    job = await outcome(bench, shell(bench, "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo last; exit 1"))
    (attempt,) = job.attempts
    assert attempt.stdout.startswith("first\n")
    assert attempt.stdout.endswith("last\n")
    kept = b"".join([piece async for piece in bench.inner.blobs.stream(attempt.log)])
    assert len(kept) < 11_000
    assert b"bytes left out" in kept


def processes(path: Path) -> Sequence[int]:
    """The processes that an application named in a file."""
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def gone(pids: Sequence[int]) -> bool:
    """Whether none of them lives; the dead wait for whoever is the machine's reaper."""
    return not any(alive(Path(f"/proc/{pid}/stat")) for pid in pids)


def alive(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stubborn(pids: Path) -> str:
    """A script that ignores TERM, with a child that does so too."""
    return f"trap '' TERM\nsleep 60 &\necho $! $$ > {pids}.new; mv {pids}.new {pids}\nwait; wait; sleep 60"


async def test_a_timeout_ends_the_whole_tree(bench: Bench) -> None:
    pids = bench.folder / "pids"
    job = await outcome(bench, shell(bench, stubborn(pids), timeout=0.5))
    (attempt,) = job.attempts
    assert (attempt.end, job.charges) == (End.TIMEOUT, Charges(app=1))
    assert job.reason == "application was stopped: it ran longer than its timeout"
    assert len(processes(pids)) == 2
    assert await gone(processes(pids))


async def test_a_timeout_asks_before_it_kills(bench: Bench) -> None:
    """What ends in order within the grace has the time to tidy up; it timed out all the same."""
    bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, term_grace=5.0, lease=60.0))
    tidied = bench.folder / "tidied"
    script = f"trap 'touch {tidied}; kill $!; exit 0' TERM\nsleep 60 & wait"
    job = await outcome(bench, shell(bench, script, timeout=0.4))
    assert [attempt.end for attempt in job.attempts] == [End.TIMEOUT]
    assert tidied.exists()


async def running(bench: Bench, app: ConsoleAppWorker, pids: Path) -> tuple[Job, asyncio.Task[None]]:
    job = await bench.submit()
    task = asyncio.create_task(bench.process(app.attempt))
    await until(lambda: begun(pids))
    return job, task


async def begun(pids: Path) -> bool:
    return bool(processes(pids))


async def test_a_drain_ends_the_tree_and_gives_the_job_back(bench: Bench) -> None:
    pids = bench.folder / "pids"
    job, task = await running(bench, shell(bench, stubborn(pids)), pids)
    bench.desk.interrupt.set()
    await asyncio.wait_for(task, 3)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.DRAINED], Charges())
    assert await gone(processes(pids))
    assert await bench.counts() == (1, 0, 0)


async def test_a_lost_lease_ends_the_tree(tmp_path: Path) -> None:
    async with open_bench(tmp_path, lease=0.6) as bench:
        pids = bench.folder / "pids"
        job, task = await running(bench, shell(bench, stubborn(pids)), pids)
        await claimed(bench.other(), await bench.row(job.id))
        row = await bench.row(job.id)
        await asyncio.wait_for(task, 3)
        assert await bench.row(job.id) == row
        assert await gone(processes(pids))


async def test_a_lease_that_ran_out_leaves_no_time_for_a_grace(tmp_path: Path) -> None:
    """The margin is for the kill: a grace would take all of it, and the application would outlive the lease."""
    async with open_bench(tmp_path, lease=1.5) as bench:
        heard = bench.folder / "heard"
        pids = bench.folder / "pids"
        script = f"trap 'echo TERM >> {heard}; exit 1' TERM; echo $$ > {pids}; while :; do sleep 0.05; done"
        _, task = await running(bench, shell(bench, script), pids)
        bench.faults.refuse("jobs.write", times=None)
        await until(lambda: told(bench, "lease.lost"))
        bench.faults.clear()
        await asyncio.wait_for(task, 3)
        assert await gone(processes(pids))
        assert not heard.exists()


async def told(bench: Bench, event: str) -> bool:
    return bool(bench.told(event))


async def test_what_a_finished_application_leaves_behind_is_ended(bench: Bench) -> None:
    pids = bench.folder / "pids"
    script = f'setsid sleep 60 & echo $! > {pids}; cp "$1" "$2"'
    job = await outcome(bench, shell(bench, script))
    assert job.state is JobState.COMPLETED
    await until(lambda: gone(processes(pids)), within=3)


async def test_an_application_of_another_user_can_read_its_asset_and_write_its_result(bench: Bench) -> None:
    """As root: nobody's. Else our own user's, which is what the worker would choose, too."""
    identity = ChildIdentity(65534, 65534) if os.getuid() == 0 else ChildIdentity()
    app = worker(bench, "/bin/sh", "-c", 'id -u > "$1"; cat "$0" >> "$1"', "{source}", "{target}", identity=identity)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o711)  # noqa: PTH101, S103 - every user can enter it
        job = await bench.submit()
        await process_message(bench.desk, await bench.receive(), app.attempt, root=Path(place), identity=identity)
        assert os.listdir(place) == []  # noqa: PTH208 - names are enough
    row = await bench.row(job.id)
    assert row.result is not None, row.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(row.result.blob)])
    assert content == f"{identity.uid or os.getuid()}\n".encode() + CONTENT


async def test_an_application_is_called_by_its_name() -> None:
    assert ConsoleApp(("{python}", "{approot}/legacy_bin/thumbnail", "{source}")).name == "thumbnail"
    assert ConsoleApp(("/usr/bin/convert", "{source}")).name == "convert"
    assert ConsoleApp(("ffmpeg",)).name == "ffmpeg"


async def test_a_command_of_the_workers_own_is_asked_for_each_job(bench: Bench) -> None:
    class Worker(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp(("/bin/false",))

        def command(self, job: JobSpec) -> Sequence[str]:
            return ("/bin/cp", job.parameters["from"], "{target}")

    made = Worker()
    made._settings = bench.desk.settings
    job = await outcome(bench, made, given={"from": "/etc/hostname"})
    assert job.state is JobState.COMPLETED, job.reason


async def test_what_a_subclass_says_of_a_job_never_stops_the_loop(bench: Bench) -> None:
    """A slow `result_name` would hold up every renewal of the process."""
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    class Slow(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp(("cp", "{source}", "{target}"))

        def result_name(self, job: JobSpec) -> str:
            time.sleep(0.5)
            return job.source.name

    beating = asyncio.create_task(beat())
    try:
        await bench.submit()
        await bench.process(Slow().attempt)
    finally:
        beating.cancel()
    assert max(later - earlier for earlier, later in pairwise(beats)) < 0.4
