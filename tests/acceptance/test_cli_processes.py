"""The command as a process of its own: the service, a worker that works, signals, pipes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from rolehost.jobs.job import Job
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import environ, picture, poisoned, start, submitted, with_stores

pytestmark = pytest.mark.acceptance

DEFINITION = """
[service]
name = "thumbnails"
drain_seconds = 5
[roles.Front]
entry_point = "front:Front"
[roles.Front.endpoints.Http]
protocol = "http"
port = 8080
[roles.ThumbnailBackend]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
[roles.ThumbnailBackend.local_resources.Scratch]
size_in_mb = 100
"""
FRONT = """
from rolehost.entrypoint import RoleEntryPoint

class Front(RoleEntryPoint):
    pass
"""
Process = subprocess.Popen[str]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that an unprivileged console application may pass through, other than pytest's own."""
    with tempfile.TemporaryDirectory(prefix="rolehost-cli-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a command in the directory of the test's service; what is left of it in the end is killed."""
    (tmp_path / "service.toml").write_text(DEFINITION)
    (tmp_path / "front.py").write_text(FRONT)
    processes: list[Process] = []

    def begin(*arguments: str | Path, **variables: str) -> Process:
        processes.append(start(*arguments, cwd=tmp_path, **variables))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=20)
            finally:
                process.kill()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / ".rolehost"


def listening(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def told_on_stderr(process: Process, words: str) -> str:
    """Read stderr up to the line that holds these words."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if words in line:
            return seen
    raise AssertionError(seen)


def all_jobs(data: Path) -> list[Job]:
    async def act(stores: Stores) -> list[Job]:
        return list((await JobTable(stores.table(TABLE)).list()).jobs)

    return with_stores(data, act)


def test_up_writes_one_line_to_stdout_logs_json_to_stderr_and_stops_in_order(run: Callable[..., Process]) -> None:
    service = run("up", "--port", "0")
    line = listening(service)
    assert re.fullmatch(r"rolehost listening on http://127\.0\.0\.1:[1-9][0-9]*\n", line)
    service.send_signal(signal.SIGTERM)
    out, err = service.communicate(timeout=20)
    assert (service.returncode, out) == (0, "")
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert {"service.started", "role.ready", "service.stopped"} <= set(events)


def test_pictures_are_submitted_worked_on_and_fetched(run: Callable[..., Process], tmp_path: Path) -> None:
    listening(run("up", "--port", "0"))
    for number in range(3):
        picture(tmp_path / "in" / f"{number}.jpg", (640, 480))
    whole = picture(tmp_path / "in" / "cut.jpg", (640, 480)).read_bytes()
    (tmp_path / "in" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    client = run("submit", "in", "--size", "100x100", "--output", "out", "--timeout", "60")
    out, err = client.communicate(timeout=90)
    assert client.returncode == 1, err
    states = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert states == {"in/cut.jpg": "failed"} | {f"in/{number}.jpg": "completed" for number in range(3)}
    assert "in/text.jpg was refused: " in err
    assert "no service is running" not in err
    assert err.splitlines()[-1] == "4 submitted, 1 refused, 3 completed, 1 failed"
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as thumbnail:
            assert thumbnail.size == (100, 75)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_run_is_one_instance_and_stops_in_order(run: Callable[..., Process], tmp_path: Path, data: Path) -> None:
    instance = run("run", "ThumbnailBackend", "--instance", "2")
    told_on_stderr(instance, "role.ready")
    picture(tmp_path / "photo.png")
    client = run("submit", "photo.png", "--timeout", "60")
    out, err = client.communicate(timeout=90)
    assert (client.returncode, out.split()[1]) == (0, "completed"), err
    assert [job.attempts[0].instance for job in all_jobs(data)] == ["ThumbnailBackend_IN_2"]
    instance.send_signal(signal.SIGTERM)
    out, _ = instance.communicate(timeout=20)
    assert (instance.returncode, out) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "Nobody"], 'the service has no role "Nobody"'),
        (["up", "--definition", "none.toml"], "there is no such file"),
        (["up", "--data", "service.toml/data"], "can't be used"),
        (["run", "ThumbnailBackend", "--data", "service.toml/data"], "can't be used"),
    ],
)
def test_what_cannot_start_says_why_in_a_sentence(
    run: Callable[..., Process], arguments: list[str], words: str
) -> None:
    process = run(*arguments)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("how", [{"arguments": ["--verbose"]}, {"ROLEHOST_DEBUG": "1"}])
def test_the_traceback_is_there_for_who_asks(run: Callable[..., Process], how: dict[str, object]) -> None:
    variables = {name: str(value) for name, value in how.items() if name != "arguments"}
    arguments = how.get("arguments", [])
    assert isinstance(arguments, list)
    process = run("run", "Nobody", *arguments, **variables)
    assert "Traceback" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


def test_control_c_while_waiting_leaves_the_jobs_and_says_so(
    run: Callable[..., Process], tmp_path: Path, data: Path
) -> None:
    picture(tmp_path / "photo.png")
    client = run("submit", "photo.png", "--wait")
    told_on_stderr(client, "no service is running")
    client.send_signal(signal.SIGINT)
    out, err = client.communicate(timeout=30)
    assert (client.returncode, out) == (130, "")
    assert "interrupted; 1 job goes on" in err
    assert "Traceback" not in err
    assert [job.state for job in all_jobs(data)] == ["queued"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(
    run: Callable[..., Process], tmp_path: Path, data: Path, unbuffered: str
) -> None:
    with_stores(data, lambda stores: submitted(stores, tmp_path))
    variables = environ(PYTHONUNBUFFERED=unbuffered)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rolehost", "jobs"]
    told = subprocess.run(
        command, cwd=tmp_path, env=variables, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert told.stderr == ""
    assert told.returncode == 1
    assert run("jobs").communicate(timeout=30)[0] != ""


def on_a_terminal(*arguments: str, cwd: Path, columns: int = 100, **variables: str) -> str:
    """What a terminal shows."""
    ours, theirs = pty.openpty()
    sizes = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "rolehost", *arguments]
    process = subprocess.Popen(command, cwd=cwd, env=environ(**sizes, **variables), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the terminal's way of saying that nobody writes any more
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode()


def test_a_terminal_shows_colours_unless_they_are_not_wanted(tmp_path: Path, data: Path) -> None:
    job = with_stores(data, lambda stores: poisoned(stores, tmp_path))
    shown = on_a_terminal("jobs", cwd=tmp_path, columns=60)
    assert job.id in shown
    assert "\x1b[31mpoisoned" in shown
    assert "\x1b[3" not in on_a_terminal("jobs", cwd=tmp_path, NO_COLOR="1")


def test_a_terminal_shows_a_bar_while_waiting(tmp_path: Path) -> None:
    picture(tmp_path / "photo.png")
    shown = on_a_terminal("submit", "photo.png", "--timeout", "0.5", cwd=tmp_path)
    assert "queued" in shown
    assert "\u2501" in shown
    assert "1 of 1 jobs have not ended" in shown


def test_many_submit_at_once_into_a_directory_that_is_not_there_yet(
    run: Callable[..., Process], tmp_path: Path, data: Path
) -> None:
    picture(tmp_path / "photo.png")
    clients = [run("submit", "photo.png") for _ in range(4)]
    for client in clients:
        _, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
    assert len(all_jobs(data)) == 4


def test_help_comes_at_once(run: Callable[..., Process]) -> None:
    async def best() -> float:
        took = []
        for _ in range(5):
            began = time.monotonic()
            await asyncio.to_thread(lambda: run("--help").communicate(timeout=30))
            took.append(time.monotonic() - began)
        return min(took)

    assert asyncio.run(best()) < 1.5
