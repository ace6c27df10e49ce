from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rolehost.host.instance import run_logs
from rolehost.host.instance.last_lines import last_lines, last_said
from rolehost.host.instance.own_streams import Lines, OwnStreams
from rolehost.host.instance.run_logs import KEPT_RUNS, RunLogs
from rolehost.host.reporting import SilentReporter
from rolehost.processes import Child, Output
from rolehost.telemetry.logs import prettied


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def output(self, facts: Any) -> None:
        self.outputs.append(facts)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class Nowhere(OwnStreams):
    def write(self, stream: str, data: bytes) -> None:
        """Tests print nothing."""


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bytes]]:
    """Our stdout is a pipe meanwhile; the function reads what is in it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def read() -> bytes:
        try:
            return os.read(reading, 65536)
        except BlockingIOError:
            return b""

    with os.fdopen(writing, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield read
    os.close(reading)


async def test_the_output_of_a_run_is_kept_in_a_file_of_its_own(tmp_path: Path) -> None:
    heard = Heard()
    logs = RunLogs(tmp_path, "A_IN_0", heard, Nowhere())
    log = logs.begin("task", "prepare.sh now")
    argv = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); print('no end', end='')"]
    child = await Child.spawn(argv, env={}, cwd=tmp_path, marker="test/logs", on_output=log.add)
    end = await child.wait()
    log.end(end.code)
    log.end(end.code)
    await log.complete.wait()
    begun, ended = heard.outputs
    assert ended["path"] == str(tmp_path / "logs" / "A_IN_0" / f"{ended['run']}.log")
    assert (mode(log.path), mode(log.path.parent)) == (0o600, 0o700)
    text = log.path.read_text()
    assert "out\n" in text
    assert "err\n" in text
    assert text.endswith("no end")
    assert (begun["exit_code"], begun["ended_at"], ended["exit_code"]) == (None, None, 0)
    assert (ended["kind"], ended["name"], ended["instance"]) == ("task", "prepare.sh now", "A_IN_0")
    assert ended["ended_at"] >= ended["started_at"] == begun["started_at"]


async def test_a_long_output_keeps_its_head_and_its_tail(tmp_path: Path) -> None:
    log = RunLogs(tmp_path, "A_IN_0", Heard(), Nowhere()).begin("role", "A")
    log.add("stdout", b"the first line\n")
    for _ in range(100):
        log.add("stdout", b"x" * 99_999 + b"\n")
    log.add("stdout", b"the last line")
    log.end(0)
    await log.complete.wait()
    text = log.path.read_text()
    assert text.startswith("the first line\n")
    assert text.endswith("\nthe last line")
    assert "bytes left out" in text
    assert len(text) < 2_000_000


async def test_what_is_printed_can_be_read_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_logs, "WRITE_EVERY", 0.0)
    log = RunLogs(tmp_path, "A_IN_0", Heard(), Nowhere()).begin("role", "A")
    log.add("stdout", b"so far\n")
    await asyncio.sleep(0.05)
    assert log.path.read_text() == "so far\n"
    log.end(0)


async def test_old_runs_go_and_open_ones_stay(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path, "A_IN_0", Heard(), Nowhere())
    first = logs.begin("role", "A")
    for _ in range(2 * KEPT_RUNS):
        log = logs.begin("task", "x")
        log.end(0)
        await log.complete.wait()
    kept = list(first.path.parent.iterdir())
    assert first.path in kept
    assert len(kept) == KEPT_RUNS + 1
    await logs.close()


async def test_the_last_write_of_a_log_holds_up_nobody_and_is_told_once_it_is_made(tmp_path: Path) -> None:
    heard = Heard()
    logs = RunLogs(tmp_path, "A_IN_0", heard, Nowhere())
    log = logs.begin("role", "A")
    log.add("stdout", b"the end\n")
    log.path.unlink()
    os.mkfifo(log.path)  # as slow as a disk can be: to open it waits for a reader
    log.end(0)
    async with asyncio.timeout(10):
        await asyncio.sleep(0.05)
        assert not log.complete.is_set()
        assert [facts["ended_at"] for facts in heard.outputs] == [None]
        assert await asyncio.to_thread(log.path.read_text) == "the end\n"
        await log.complete.wait()
    assert heard.outputs[-1]["exit_code"] == 0


async def test_what_is_printed_before_a_close_is_in_the_file_after_it(tmp_path: Path) -> None:
    heard = Heard()
    logs = RunLogs(tmp_path, "A_IN_0", heard, Nowhere())
    ended, going_on = logs.begin("task", "x"), logs.begin("role", "A")
    for log in (ended, going_on):
        log.add("stdout", b"x" * 500_000 + b"\nno line end")
    ended.end(0)
    await logs.close()
    for log in (ended, going_on):
        assert log.path.read_text().endswith("\nno line end")
    assert sorted(facts["kind"] for facts in heard.outputs if facts["ended_at"]) == ["role", "task"]


async def test_a_disk_that_takes_nothing_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    log = RunLogs(tmp_path, "A_IN_0", Heard(), Nowhere()).begin("role", "A")
    log.add("stderr", b"text\n")
    log.end(1)


def test_whole_lines_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    with piped(monkeypatch) as read:
        streams = OwnStreams()
        for piece in (b"one\ntw", b"o\n", b"three"):
            streams.write("stdout", lines.whole(piece))
        streams.write("stdout", lines.rest())
        assert streams.flush(5)
        assert read() == b"one\ntwo\nthree"
    assert (lines.whole(b"12%\r34"), lines.rest()) == (b"12%\r", b"34")
    assert len(lines.whole(b"x" * 10_000)) == 10_000


def test_a_reader_that_does_not_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with piped(monkeypatch) as read:
        streams = OwnStreams(room=200_000)
        for number in range(1000):
            streams.write("stdout", b"%06d%s\n" % (number, b"x" * 993))
        assert not streams.flush(0)
        while not streams.flush(0.05):
            read()
        streams.write("stdout", b"the end\n")
        assert streams.flush(5)
        said = read()
        assert b"bytes left out: nobody reads fast enough ...]\nthe end\n" in said


def test_a_stdout_that_is_closed_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", None)
        streams = OwnStreams()
        streams.write("stderr", b"text\n")
        streams.write("stdout", b"text\n")
        assert streams.flush(5)


def test_the_last_lines_are_those_that_a_person_needs() -> None:
    output = Output(65536)
    output.add(b"x" * 200_000)
    output.add(b"\nTraceback (most recent call last):\nArithmeticError: broken\n")
    output.add(b'{"event": "role.crashed", "level": "info"}\n')
    said = last_lines(output).splitlines()
    assert said[-2:] == ["Traceback (most recent call last):", "ArithmeticError: broken"]
    assert len(last_lines(output).encode()) <= 4096
    colourful = Output(65536)
    colourful.add(b"\x1b[1;31mbroken\x1b[0m\n")
    assert last_lines(colourful) == last_said(colourful) == "broken"
    only = Output(65536)
    only.add(b'{"event": "role.crashed", "reason": "no store"}\n')
    assert "no store" in last_lines(only)
    assert last_lines(Output(100)) == ""


def test_log_lines_of_a_role_are_pretty_on_a_terminal() -> None:
    """They come through a pipe as JSON; what isn't ours stays as it was written."""
    line = b'{"pid": 7, "event": "role.ready", "level": "info", "timestamp": "2026-11-21T03:42:15.891687Z"}\n'
    shown = prettied(b'hello {"event":\n' + line + b'{"event": broken\n').decode()
    assert "role.ready" in shown
    assert '"event": "role.ready"' not in shown
    assert shown.startswith('hello {"event":\n')
    assert shown.endswith('{"event": broken\n')
