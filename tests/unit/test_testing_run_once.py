"""`run_once`: one attempt, by the real path, in this process."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rolehost
from rolehost import BadInputError, ConsoleApp, ConsoleAppWorker, JobSpec, QueueWorker, Scratch, ThumbnailWorker
from rolehost.errors import (
    InvalidParameterError,
    NotAPictureError,
    RoleEnvironmentError,
    RoleHostError,
    ServiceModelError,
    UnsupportedTypeError,
)
from rolehost.testing import Faults, RecordedApp, Recording, run_once, run_once_async, worker_in
from rolehost.workers.console_app import standard_values
from support.commands import environ, picture


class Counting(QueueWorker):
    """What a user would write; it reads its settings in two ways."""

    kind = "counting"

    def process(self, job: JobSpec, scratch: Scratch) -> Path:
        try:
            words = scratch.source.read_text().split()
        except UnicodeDecodeError:
            raise BadInputError(f"{job.source.name} is no text") from None
        unit = self.role_environment.get_setting("Counting.Unit")
        same = rolehost.role_environment.get_setting("Counting.Unit")
        result = scratch.folder / "count.txt"
        result.write_text(f"{len(words)} {unit} {same} {sorted(job.parameters.items())}")
        return result


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text("hello there\n")
    return path


def test_a_job_that_is_done(letter: Path) -> None:
    ran = run_once(
        Counting,
        letter,
        parameters={"deep": True, "level": 2.0, "none": None},
        settings={"Counting.Unit": "words"},
        name="a.txt",
    )
    assert (ran.ok, ran.state, ran.end, ran.detail) == (True, "completed", "ok", "")
    assert ran.result_text == "2 words words [('deep', 'true'), ('level', '2')]"
    assert ran.result is not None
    assert (ran.result.name, ran.result_name, ran.result_type) == ("count.txt", "count.txt", "application/octet-stream")
    assert (ran.job.source.name, ran.job.attempts) == ("a.txt", (ran.attempt,))
    assert letter.read_text() == "hello there\n"


def test_a_job_whose_input_is_at_fault(tmp_path: Path) -> None:
    noise = tmp_path / "noise.bin"
    noise.write_bytes(bytes(range(128, 256)))
    ran = run_once(Counting, noise)
    assert (ran.ok, ran.state, ran.end, ran.detail) == (False, "failed", "bad_input", "noise.bin is no text")
    assert ran.result is None
    with pytest.raises(LookupError, match=r"no result.*noise\.bin is no text"):
        ran.result_bytes.decode()


def test_a_job_that_fails_is_tried_once_and_tells_what_it_printed(letter: Path) -> None:
    class Failing(ConsoleAppWorker):
        kind = "failing"
        app = ConsoleApp(("{python}", "-c", "import sys; print('x' * 9000); sys.exit('no licence')"))

    ran = run_once(Failing, letter)
    assert (ran.state, ran.end, ran.exit_code, ran.stderr) == ("queued", "app_error", 1, "no licence\n")
    assert ran.stdout == "x" * 9000 + "\n", "all of it, not what the row keeps"
    assert len(ran.job.attempts) == 1
    assert "no licence" in repr(ran)


def test_an_application_is_run_as_in_a_service(letter: Path) -> None:
    """Its environment is the allow-list with the role's variables, and `{approot}` has what is beside the module."""
    show = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    find = "assert os.path.samefile(sys.argv[2], sys.argv[3])"

    class Showing(ConsoleAppWorker):
        kind = "showing"
        app = ConsoleApp(
            ("{python}", "-c", f"{show}; {find}", "{target}", "{approot}/test_testing_run_once.py", __file__)
        )

        def result_type(self, job: JobSpec) -> str:
            del job
            return "application/json"

    before = dict(os.environ)
    ran = run_once(Showing(), letter, environment={"OMP_THREAD_LIMIT": "1"})
    assert ran.ok, ran
    assert os.environ == before
    for told in ('"OMP_THREAD_LIMIT": "1"', '"RoleName": "Showing"', '"RoleInstanceID": "Showing_IN_0"'):
        assert told in ran.result_text
    assert "PYTEST_CURRENT_TEST" not in ran.result_text
    assert not rolehost.role_environment.is_available


def test_settings_count(letter: Path) -> None:
    class Slow(ConsoleAppWorker):
        kind = "slow"
        app = ConsoleApp(("sleep", "60"))

    ran = run_once(Slow, letter, settings={"Worker.TimeoutSeconds": "0.2"})
    assert (ran.end, ran.exit_code) == ("timeout", -15)
    with pytest.raises(RoleEnvironmentError, match="must be a number"):
        run_once(Slow, letter, settings={"Worker.TimeoutSeconds": "soon"})


def test_what_would_not_be_accepted_is_said_by_its_exception(letter: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAPictureError):
        run_once(ThumbnailWorker, letter)
    with pytest.raises(InvalidParameterError, match="size must be"):
        run_once(ThumbnailWorker, picture(tmp_path / "photo.png"), parameters={"size": "Huge"})


def test_the_worker_that_ships(tmp_path: Path) -> None:
    ran = run_once(ThumbnailWorker, picture(tmp_path / "photo.png", (400, 300)), parameters={"size": "Small"})
    assert (ran.end, ran.result_name, ran.result_type) == ("ok", "photo-small.png", "image/png")
    assert ran.result_bytes.startswith(b"\x89PNG")


class Prepared(QueueWorker):
    """Prepares in `on_start` and cleans up in `on_stop`, as a role does."""

    kind = "prepared"
    said: bool | None = True

    def __init__(self) -> None:
        self.life = [rolehost.role_environment.is_available]

    def on_start(self) -> bool:
        self.life.append(Path(self.role_environment.get_local_resource("Models").root_path).is_dir())
        return self.said  # type: ignore[return-value] # people forget it

    async def process(self, job: JobSpec, scratch: Scratch) -> Path:
        del job
        self.life.append(asyncio.get_running_loop() is not self.loop)
        return scratch.source

    def on_stop(self) -> None:
        self.life.append(True)

    loop: asyncio.AbstractEventLoop | None = None


async def test_in_a_coroutine_and_with_the_role_s_life_around_it(letter: Path, tmp_path: Path) -> None:
    worker = Prepared()
    worker.loop = asyncio.get_running_loop()
    ran = await run_once_async(worker, letter, local_resources={"Models": tmp_path / "models"})
    assert ran.ok, ran
    assert worker.life == [False, True, True, True]
    worker.said = None
    assert (await run_once_async(worker, letter, local_resources={"Models": tmp_path / "models"})).ok
    worker.said = False
    with pytest.raises(RoleHostError, match="on_start said False"):
        await run_once_async(worker, letter, local_resources={"Models": tmp_path / "models"})


async def test_a_coroutine_is_told_what_to_await(letter: Path) -> None:
    with pytest.raises(RuntimeError, match="in a coroutine, await run_once_async"):
        run_once(Counting, letter)


async def test_runs_of_one_process_take_turns(letter: Path) -> None:
    units = ["words", "terms", "tokens"]
    runs = [run_once_async(Counting, letter, settings={"Counting.Unit": unit}) for unit in units]
    told = [ran.result_text.split()[1:3] for ran in await asyncio.gather(*runs)]
    assert told == [[unit, unit] for unit in units], "the process's own role environment is each one's in turn"
    assert "RoleRoot" not in os.environ


def test_a_folder_of_the_test_s_own_keeps_everything(letter: Path, tmp_path: Path) -> None:
    results = [run_once(Counting, letter, folder=tmp_path / "runs").result for _ in range(2)]
    assert [path and path.parent.name for path in results] == ["result", "result-2"]
    assert list((tmp_path / "runs" / "scratch").iterdir()) == []


def test_without_one_nothing_is_left(letter: Path) -> None:
    ran = run_once(Counting, letter)
    assert ran.result is not None
    folder = ran.result.parent.parent
    assert folder.is_dir()
    del ran
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("call", "state", "end"),
    [("blobs.put", "completed", "ok"), ("blobs.download", "queued", "store_error"), ("jobs.write", "running", None)],
)
def test_faults_of_the_stores(letter: Path, call: str, state: str, end: str | None) -> None:
    faults = Faults()
    if call == "jobs.write":
        faults.lose_answer(call, times=None)
        faults.refuse("jobs.read", times=None)
    else:
        faults.refuse(call)
    ran = run_once(Counting, letter, faults=faults)
    assert (ran.state, ran.end) == (state, end)
    assert faults.fired


def test_progress_is_told(letter: Path) -> None:
    class Talking(ConsoleAppWorker):
        kind = "talking"
        app = ConsoleApp(("sh", "-c", "for n in 10 40 30 90; do echo at $n; done; sleep 0.6; cp {source} {target}"))

        def parse_progress(self, line: str) -> float | None:
            return float(line.split()[1])

    class Reporting(QueueWorker):
        kind = "reporting"

        def process(self, job: JobSpec, scratch: Scratch) -> Path:
            del job
            for percent in (25, 50, 100):
                scratch.report(percent)
            return scratch.source

    assert run_once(Talking, letter).progress == (10, 40, 90)
    assert run_once(Reporting, letter).progress == (25, 50, 99.9)
    assert run_once(Counting, letter).progress == ()


DEFINITION = """
[service]
name = "texts"

[roles.Counter]
entry_point = "counting_beside:Counter"
[roles.Counter.settings]
"Counting.Unit" = "words"
[roles.Counter.environment]
OMP_THREAD_LIMIT = "1"

[roles.Copier.worker]
kind = "copy"
program = ["sh", "{approot}/copy.sh", "{source}", "{target}", "{times}"]
accepts = ["text/plain"]
[roles.Copier.worker.parameters.times]
type = "integer"
most = 3
default = 1

[roles.Guest]
program = "sleep 60"
"""
BESIDE = """
import os
from rolehost import QueueWorker

class Counter(QueueWorker):
    kind = "counting-beside"

    def process(self, job, scratch):
        result = scratch.folder / "told.txt"
        unit = self.role_environment.get_setting("Counting.Unit")
        result.write_text(f"{unit} {os.environ['OMP_THREAD_LIMIT']} {os.environ['RoleInstanceID']}")
        return result
"""


@pytest.fixture
def definition(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "counting_beside.py").write_text(BESIDE)
    (tmp_path / "copy.sh").write_text('for each in $(seq "$3"); do cat "$1"; done > "$2"\n')
    path = tmp_path / "service.toml"
    path.write_text(DEFINITION)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop("counting_beside", None)


def test_a_role_of_a_definition(definition: Path, letter: Path) -> None:
    role = worker_in(definition, "Counter")
    assert run_once(role, letter).result_text == "words 1 Counter_IN_0"
    assert run_once(role, letter, settings={"Counting.Unit": "terms"}).result_text == "terms 1 Counter_IN_0"


def test_a_worker_by_configuration(definition: Path, letter: Path) -> None:
    role = worker_in(definition, "Copier")
    assert run_once(role, letter).result_text == "hello there\n"
    assert run_once(role, letter, parameters={"times": 3}).result_text == "hello there\n" * 3
    with pytest.raises(InvalidParameterError, match="times must be a whole number up to 3, not 4"):
        run_once(role, letter, parameters={"times": 4})
    with pytest.raises(UnsupportedTypeError):
        run_once(role, picture(definition.with_name("photo.png")))
    program = RecordedApp(definition.with_name("other"), Recording(result="other"), result=3)
    assert run_once(role, letter, program=program).result_text == "other"
    assert program.calls[0].arguments[-1] == "1"
    assert run_once(role, letter).result_text == "hello there\n", "for that run only"


def test_approot_is_that_of_the_service(definition: Path, letter: Path) -> None:
    """Its folders `approot` and of the role's name lie over it, and its contents where they are put."""
    files = {"approot/copy.sh": 'cat "$4" "$5" >"$2"', "Copier/more": "more ", "built/tool": "tool"}
    for name, text in files.items():
        (definition.parent / name).parent.mkdir()
        (definition.parent / name).write_text(text)
    told = definition.read_text().replace('"{times}"]', '"{times}", "{approot}/more", "{approot}/tools/tool"]')
    definition.write_text(f'{told}[roles.Copier.contents]\ntools = "built"\n')
    assert run_once(worker_in(definition, "Copier"), letter).result_text == "more tool"


def test_a_class_finds_its_files_when_it_starts(letter: Path) -> None:
    class Starting(QueueWorker):
        kind = "starting"

        def on_start(self) -> bool:
            return (Path(standard_values(os.environ)["approot"]) / Path(__file__).name).exists()

        def process(self, job: JobSpec, scratch: Scratch) -> Path:
            del job
            return scratch.source

    assert run_once(Starting, letter).ok


def test_what_is_no_worker_is_said(definition: Path) -> None:
    with pytest.raises(ServiceModelError, match="has no role 'Copy', but Counter, Copier, Guest"):
        worker_in(definition, "Copy")
    with pytest.raises(ServiceModelError, match=r"'Guest' of service\.toml is no worker"):
        worker_in(definition, "Guest")


def test_only_a_program_is_stood_in_for(letter: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Counting runs no program"):
        run_once(Counting, letter, program=RecordedApp(tmp_path / "app"))


def test_it_needs_nothing_of_the_tests_and_no_pytest() -> None:
    """Users import it from an installed package."""
    program = [sys.executable, "-P", "-c", "import sys, rolehost.testing; print(*sys.modules)"]
    done = subprocess.run(program, check=True, capture_output=True, text=True, env=environ())
    assert not {"pytest", "_pytest", "support"} & set(done.stdout.split())
