"""A recorded console application: it plays what it is told to, and remembers how it was called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rolehost import ConsoleApp, ConsoleAppWorker, ThumbnailWorker
from rolehost.testing import RecordedApp, Recording, Said, Stream, run_once
from support.commands import ROOT, picture


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text("hello there\n")
    return path


def call(app: RecordedApp, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([app, *arguments], capture_output=True, check=False, env={**os.environ, **more})


def test_it_plays_one_recording_after_the_other_and_repeats_the_last(tmp_path: Path) -> None:
    app = RecordedApp(
        tmp_path / "render", Recording(exit_code=75, stderr="no licence\n"), Recording(stdout=b"\xff done")
    )
    first, second, third = (call(app) for _ in range(3))
    assert (first.returncode, first.stdout, first.stderr) == (75, b"", b"no licence\n")
    assert [(each.returncode, each.stdout, each.stderr) for each in (second, third)] == [(0, b"\xff done", b"")] * 2
    assert len(app.calls) == 3


def test_without_a_recording_it_does_nothing_well(tmp_path: Path) -> None:
    done = call(RecordedApp(tmp_path / "nothing"), "a", "b")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (tmp_path / "b").exists()


def test_it_remembers_how_it_was_called(tmp_path: Path, letter: Path) -> None:
    app = RecordedApp(tmp_path / "a folder" / "it's")
    arguments = (str(letter), "", "two words", "a\nline", "$HOME `id` *", "-n")
    call(app, *arguments, DECLARED="as\nit is")
    (seen,) = app.calls
    assert (seen.argv[0], seen.arguments) == (str(app), arguments)
    assert seen.environment["DECLARED"] == "as\nit is"
    assert seen.cwd == Path.cwd()
    assert seen.files == {str(letter): b"hello there\n"}


@pytest.mark.parametrize(
    ("which", "arguments"),
    [
        (-1, ["in", "{}"]),
        (2, ["in", "{}", "last"]),
        (-2, ["in", "{}", "last"]),
        ("-o", ["in", "-o", "{}", "last"]),
        ("of={target}", ["if=in", "of={}", "conv=ucase"]),
        ("-o{target}.part", ["in", "-o{}.part"]),
    ],
)
def test_it_leaves_its_result_where_it_is_told_to(tmp_path: Path, which: int | str, arguments: list[str]) -> None:
    app = RecordedApp(tmp_path / "make", Recording(result=b"made"), result=which)
    target = tmp_path / "the target"
    assert call(app, *(each.format(target) for each in arguments)).returncode == 0
    assert target.read_bytes() == b"made"


def test_there_is_no_argument_nought(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="counts the arguments from 1"):
        RecordedApp(tmp_path / "make", Recording(result=b"made"), result=0)


def test_what_no_process_ends_with_is_no_recording() -> None:
    ends: list[dict[str, Any]] = [{"exit_code": 256}, {"exit_code": -1}, {"signal": 65}, {"signal": -9}]
    for end in ends:
        with pytest.raises(ValueError, match="no process ends with"):
            Recording(**end)


def test_what_a_recorded_program_leaves_behind_is_not_waited_for() -> None:
    began = time.monotonic()
    assert Recording.of(["sh", "-c", "echo made; sleep 60 &"]).played()[-1] == Said(b"made\n")
    assert time.monotonic() - began < 30


def test_pauses_and_a_growing_result(tmp_path: Path) -> None:
    steps = ("10%\r", Said(b"a", Stream.RESULT), 0.4, Said(b"b", Stream.RESULT), Said(b"hm", Stream.STDERR), "100%\n")
    slow = RecordedApp(tmp_path / "slow", Recording(steps=steps, exit_code=3))
    quick = RecordedApp(tmp_path / "quick", Recording(steps=steps, exit_code=3).faster(100))
    seconds = []
    for app in (slow, quick):
        began = time.monotonic()
        done = call(app, tmp_path / f"{app.path.name}.out")
        seconds.append(time.monotonic() - began)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"10%\r100%\n", b"hm")
        assert (tmp_path / f"{app.path.name}.out").read_bytes() == b"ab"
    assert seconds[0] > 0.4, "the pause was made"
    assert seconds[1] < seconds[0]


def test_it_dies_of_signals(tmp_path: Path) -> None:
    assert call(RecordedApp(tmp_path / "crash", Recording(signal=signal.SIGSEGV))).returncode == -signal.SIGSEGV


def test_calls_at_the_same_time_get_numbers_of_their_own(tmp_path: Path) -> None:
    app = RecordedApp(tmp_path / "app", *(Recording(stdout=str(number)) for number in range(8)))
    with ThreadPoolExecutor(8) as pool:
        said = sorted(done.stdout for done in pool.map(lambda number: call(app, str(number)), range(8)))
    assert said == [str(number).encode() for number in range(8)]
    assert sorted(each.arguments for each in app.calls) == [(str(number),) for number in range(8)]


def test_a_worker_runs_it_as_the_program_that_it_stands_for(tmp_path: Path, letter: Path) -> None:
    class Shouting(ConsoleAppWorker):
        kind = "shout"
        app = ConsoleApp(("shout-it", "if={source}", "of={target}", "{level}"))

    app = RecordedApp(tmp_path / "shout-it", Recording(stderr="1 file\n", result="HELLO THERE\n"), result="of={target}")
    with app.on_path():
        ran = run_once(Shouting, letter, parameters={"level": 9})
    assert (ran.end, ran.result_text, ran.stderr) == ("ok", "HELLO THERE\n", "1 file\n")
    (seen,) = app.calls
    assert (len(seen.arguments), seen.arguments[2]) == (3, "9")
    assert list(seen.files.values()) == [], "dd's form of an argument names no file by itself"
    assert seen.environment["HOME"] == str(seen.cwd)
    missing = run_once(Shouting, letter, parameters={"level": 9})
    assert "shout-it" in missing.detail
    assert missing.end == "app_error"


def test_who_does_not_listen_is_killed(tmp_path: Path, letter: Path) -> None:
    app = RecordedApp(tmp_path / "deaf", Recording(steps=(30.0,), ignores_term=True))

    class Deaf(ConsoleAppWorker):
        kind = "deaf"

    Deaf.app = ConsoleApp((str(app),))
    began = time.monotonic()
    ran = run_once(Deaf, letter, settings={"Worker.TimeoutSeconds": "0.2", "Worker.TermGraceSeconds": "0.2"})
    assert (ran.end, ran.exit_code) == ("timeout", -signal.SIGKILL)
    assert time.monotonic() - began < 20


def test_a_real_program_s_run_is_recorded_and_replayed(tmp_path: Path) -> None:
    photo, target = picture(tmp_path / "photo.png", (400, 300)), tmp_path / "small.png"
    program: list[str | Path] = [sys.executable, ROOT / "legacy_bin" / "thumbnail", photo, target, "Small"]
    Recording.of(program, result=target).save(tmp_path / "thumbnail.json")
    played = Recording.load(tmp_path / "thumbnail.json")

    class Replayed(ThumbnailWorker):
        app = ConsoleApp((str(RecordedApp(tmp_path / "thumbnail", played, result=2)), "{source}", "{target}", "{size}"))

    real, replayed = run_once(ThumbnailWorker, photo, parameters={"size": "Small"}), run_once(Replayed, photo)
    assert replayed.ok, replayed
    assert replayed.result_bytes == real.result_bytes == target.read_bytes()
    assert replayed.stdout == real.stdout


def test_a_recording_keeps_streams_pauses_and_the_end(tmp_path: Path) -> None:
    script = "echo one; sleep 0.2; printf '\\377' >&2; kill -9 $$"
    recorded = Recording.of([shutil.which("sh") or "sh", "-c", script], result=tmp_path / "none")
    recorded.save(tmp_path / "run.json")
    again = Recording.load(tmp_path / "run.json")
    assert again.played() == recorded.played()
    said = [each for each in again.played() if isinstance(each, Said)]
    assert said == [Said(b"one\n"), Said(b"\xff", Stream.STDERR)]
    assert sum(each for each in again.played() if isinstance(each, float)) > 0.19
    assert (again.exit_code, again.signal, again.result) == (0, signal.SIGKILL, None)


def test_a_recording_of_what_does_not_end_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        Recording.of(["sleep", "60"], cwd=tmp_path, timeout=0.1)
