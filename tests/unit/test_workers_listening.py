"""What an application prints, on its way to a parser: nothing of it slows the application, and no parser ends a job."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolehost.jobs.job import End, Job, JobSpec
from rolehost.user_code import UserCode
from rolehost.workers import listening
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.listening import MOST_HEARD, Heard, Listener, OwnParser
from rolehost.workers.outcome import Outcome
from rolehost.workers.progress import KeyValueProgress, Meter, PatternProgress, ProgressSpec, ResultProgress
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.scratch import Scratch
from support.console_apps import shell, worker
from support.jobs import KIND, Bench, open_bench, until

PERCENT = PatternProgress(re.compile(r"(?P<percent>[\d.]+)%"))
READ = 65536
LINES = {b"frame %d of 99999" % number for number in range(60_000)}
STREAM = b"\r".join(LINES) + b"\r"


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(listening, "LISTEN_EVERY", 0.02)
    tmp_path.chmod(0o711)  # noqa: ASYNC240 - a call of microseconds
    async with open_bench(tmp_path) as bench:
        yield bench


@asynccontextmanager
async def listener(spec: ProgressSpec, meter: Meter, errors: list[Exception]) -> AsyncIterator[Listener]:
    heard = Listener(spec, meter, result=Path(), source=100, user_code=UserCode(), failed=errors.append)
    task = asyncio.create_task(heard.listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait([task])


async def at(meter: Meter, percent: float) -> None:
    async def there() -> bool:
        return meter.now is not None and meter.now.percent == percent

    await until(there)


async def ran(bench: Bench, made: QueueWorker, *steps: float, **more: Any) -> Job:
    """A job whose application is met at each of these percents, and goes on when it is seen that the worker knows."""
    job = await bench.submit(**more)

    async def attempt(spec: JobSpec, scratch: Scratch) -> Outcome:
        running = asyncio.create_task(made.attempt(spec, scratch))
        for number, percent in enumerate(steps):
            await at(scratch.meter, percent)
            (bench.folder / f"go-{number}").touch()
        return await running

    await bench.process(attempt, 30)
    return await bench.row(job.id)


def steps(*commands: str, folder: Path) -> str:
    """A script that goes on from step to step when it is told to."""
    wait = f'while [ ! -e "{folder}/go-%d" ]; do sleep 0.02; done'
    lines = [f"{command}\n{wait % number}" for number, command in enumerate(commands)]
    return "\n".join([*lines, 'cp "$1" "$2"'])


async def test_both_streams_tell_as_they_come_with_carriage_returns(bench: Bench) -> None:
    script = steps(
        r"printf ' 10%%\r 20%%\r'", r"printf '\r[####   ] 35.5%%\r' >&2", r"printf '80%%\r\n'", folder=bench.folder
    )
    app = shell(bench, script, progress=PERCENT)
    job = await ran(bench, app, 20.0, 35.5, 80.0)
    assert (job.state, job.progress) == ("completed", None)
    assert job.attempts[0].stdout == " 10%\r 20%\r80%\r\n", "what is kept of the output is what it was"


async def test_each_run_has_a_parser_of_its_own(bench: Bench) -> None:
    """A total that another run told is nothing to go by."""
    pattern = PatternProgress(re.compile(r"total (?P<total>\d+)|frame (?P<done>\d+)"))
    app = shell(bench, steps("echo total 50; echo frame 25", folder=bench.folder), progress=pattern)
    await ran(bench, app, 50.0)
    job = await bench.submit()
    seen: list[Meter] = []

    async def attempt(spec: JobSpec, scratch: Scratch) -> Outcome:
        seen.append(scratch.meter)
        return await shell(bench, 'echo frame 25; sleep 0.3; cp "$1" "$2"', progress=pattern).attempt(spec, scratch)

    await bench.process(attempt)
    assert (await bench.row(job.id)).state == "completed"
    assert seen[0].now is None


async def test_the_growing_result_tells(bench: Bench) -> None:
    script = steps('head -c 50 /dev/zero > "$2"', 'head -c 100 /dev/zero > "$2"', folder=bench.folder)
    app = shell(bench, script, progress=ResultProgress(of_source=2))
    assert (await ran(bench, app, 25.0, 50.0, content=bytes(100))).state == "completed"


async def test_a_warm_start_tells_too(bench: Bench) -> None:
    script = bench.folder / "app" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import os, sys, time\n"
        "print('30%', end='\\r', flush=True)\n"
        f"while not os.path.exists({str(bench.folder / 'go-0')!r}): time.sleep(0.02)\n"
        "open(sys.argv[1], 'w').write(open(f'/proc/{os.getppid()}/cmdline').read())\n"
    )
    made = worker(bench, "{python}", str(script), "{target}", progress=PERCENT, warm_imports=("json",))
    await made.prepare(bench.root)
    try:
        assert made._warm is not None
        async with asyncio.timeout(30):
            assert await made._warm.ready()
        job = await ran(bench, made, 30.0)
    finally:
        if made._warm is not None:
            await made._warm.close()
    assert job.result is not None, job.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])
    assert b"warm_server.py" in content


class Own(ConsoleAppWorker):
    """Ten lines of a user's."""

    kind = KIND
    threads: set[threading.Thread] = set()  # noqa: RUF012 - of this test

    def parse_progress(self, line: str) -> float | None:
        self.threads.add(threading.current_thread())
        word, number = line.split()
        return 10 * float(number) if word == "step" else None


def own(bench: Bench, made: ConsoleAppWorker, script: str) -> ConsoleAppWorker:
    plain = shell(bench, script)
    type(made).app = plain.app
    made.role_environment, made._settings = plain.role_environment, plain._settings
    return made


async def test_a_method_of_ones_own_runs_off_the_loop_and_its_exceptions_cost_a_line(bench: Bench) -> None:
    script = steps("echo step 1; echo what; echo step many; echo noise 7; echo step 2", folder=bench.folder)
    job = await ran(bench, own(bench, Own(), script), 20.0)
    assert job.state == "completed"
    assert threading.main_thread() not in Own.threads
    told = bench.told("progress.failed")
    assert [each["kind"] for each in told] == [KIND], "once, not for every line"
    assert "ValueError" in told[0]["why"]


class PerJob(ConsoleAppWorker):
    """Learns from the job what there is to do."""

    kind = KIND

    async def progress(self, job: JobSpec, scratch: Scratch) -> ProgressSpec | None:
        assert scratch.source.exists()
        return KeyValueProgress("out_time_us", float(job.parameters["microseconds"]))


async def test_a_job_says_what_its_total_is(bench: Bench) -> None:
    made = own(bench, PerJob(), steps("echo out_time_us=500; echo progress=continue", folder=bench.folder))
    assert (await ran(bench, made, 25.0, given={"microseconds": "2000"})).state == "completed"


async def test_a_probe_that_fails_costs_the_progress_alone(bench: Bench) -> None:
    made = own(bench, PerJob(), 'echo out_time_us=500; cp "$1" "$2"')
    assert (await ran(bench, made, given={})).state == "completed"
    assert "KeyError" in bench.told("progress.failed")[0]["why"]


class Hung(ConsoleAppWorker):
    """Its parser never answers."""

    kind = KIND
    asked = 0
    released = threading.Event()

    def parse_progress(self, line: str) -> float | None:
        del line
        type(self).asked += 1
        self.released.wait()
        return None


async def test_a_parser_that_hangs_holds_up_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application writes many times what pipes hold, and ends; the next job's parser isn't asked at all."""
    monkeypatch.setattr(listening, "STUCK_AFTER", 0.0)
    made = own(bench, Hung(), 'echo 1; sleep 0.2; head -c 20000000 /dev/zero; cp "$1" "$2"')
    try:
        for _ in range(2):
            assert (await ran(bench, made)).state == "completed"
        assert Hung.asked == 1
        assert len(bench.told("progress.stuck")) == 1
    finally:
        Hung.released.set()


async def test_a_stopped_applications_reason_says_how_far_it_had_come(bench: Bench) -> None:
    app = shell(bench, "echo 42.7%; sleep 60", progress=PERCENT, timeout=1.0)
    job = await ran(bench, app)
    assert job.attempts[0].end is End.TIMEOUT
    assert "it had come to 42 %" in job.attempts[0].detail


async def test_the_users_own_process_reports(bench: Bench) -> None:
    nonsense: Any = "much"

    class Reports(QueueWorker):
        kind = KIND

        def process(self, job: JobSpec, scratch: Scratch) -> Path:
            del job
            for percent in range(101):
                scratch.report(percent / 2)
            scratch.report(nonsense)
            go = bench.folder / "go-0"
            while not go.exists():
                threading.Event().wait(0.02)
            return scratch.source

    assert (await ran(bench, Reports(), 50.0)).state == "completed"


async def test_a_bar_along_one_line_is_seen_before_the_line_ends() -> None:
    meter = Meter()
    spec = PatternProgress(re.compile(r"(?P<percent>\d+)\.\.\."), unfinished=True)
    async with listener(spec, meter, []) as heard:
        heard.hear("stdout", b"0...10...2")
        await at(meter, 10.0)
        heard.hear("stdout", b"0...30...")
        await at(meter, 30.0)


async def test_what_is_no_percent_is_told_of() -> None:
    meter, errors = Meter(), list[Exception]()
    answers = iter(["much", None, 12])

    def read(_line: str) -> Any:
        return next(answers)

    async with listener(OwnParser(read), meter, errors) as heard:
        heard.hear("stderr", b"a\nb\nc\n")
        await at(meter, 12.0)
    assert [type(error) for error in errors] == [TypeError]


async def test_code_that_exits_ends_no_listening() -> None:
    meter, errors = Meter(), list[Exception]()

    def read(line: str) -> float:
        return float(line) if line != "exit" else leave()

    def leave() -> Never:
        raise SystemExit(3)

    async with listener(OwnParser(read), meter, errors) as heard:
        heard.hear("stdout", b"exit\n")

        async def told() -> bool:
            return bool(errors)

        await until(told)
        heard.hear("stdout", b"7\n")
        await at(meter, 7.0)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 3 * READ), max_size=6))
def test_memory_is_bounded_and_what_is_left_out_makes_no_number(sizes: list[int]) -> None:
    """A parser that is late sees whole lines only, whatever was cut."""
    heard = Heard()
    position = 0
    for size in sizes:
        for start in range(position, position + size, READ):
            heard.add(STREAM[start : min(start + READ, position + size)])
            assert len(heard._data) <= MOST_HEARD + 1
        position += size
    seen = list(heard.lines(heard.take(), unfinished=False))
    assert {line.encode() for line in seen} <= LINES
    assert len(seen) >= min(position, MOST_HEARD) // 30


def test_the_first_and_the_last_lines_are_there() -> None:
    heard = Heard()
    heard.add(b"total 7\n")
    for number in range(200):
        heard.add(b"%d " % number + b"x" * 60_000 + b"\n")
    heard.add(b"done 7\n")
    seen = list(heard.lines(heard.take(), unfinished=False))
    assert (seen[0], seen[-1]) == ("total 7", "done 7")


def test_an_application_says_it_as_data() -> None:
    assert ConsoleApp(("cjpeg",), progress=PERCENT).progress is PERCENT
