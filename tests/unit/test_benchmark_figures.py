"""The benchmark's own arithmetic: what a request was, whose processor time counts, and ratios."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import cpu, figures
from benchmarks.emulator import DELETED, AccessLog

SPIN = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
WITH_CHILD = (
    f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}]); print('done', flush=True); input()"
)


def line(request: str, status: int) -> str:
    return f'127.0.0.1 - - [21/Nov/2026:08:00:58 +0000] "{request} HTTP/1.1" {status} -\n'


@pytest.mark.parametrize(
    ("request_line", "status", "name"),
    [
        ("GET /account/noop-jobs/messages?numofmessages=32&visibilitytimeout=60", 200, "receive"),
        ("GET /account/noop-jobs/messages?peekonly=true", 200, "peek"),
        ("POST /account/noop-jobs/messages?messagettl=-1", 201, "put message"),
        ("PUT /account/noop-jobs/messages/c405?popreceipt=MjFO&visibilitytimeout=60", 204, "other of a message"),
        ("DELETE /account/noop-jobs/messages/c405?popreceipt=MjFO", 204, DELETED),
        ("DELETE /account/noop-jobs/messages/c405?popreceipt=MjFO", 404, "other of a message"),
        ("POST /account/$batch", 202, "table transaction"),
        ("POST /account/Tables", 201, "table POST"),
        ("GET /account/jobs(PartitionKey='d',RowKey='ak')", 200, "table GET"),
        ("PUT /account/rolehost/inputs/a/b", 201, "blob PUT"),
        ("PUT /account/rolehost?restype=container", 201, "queue or container PUT"),
        ("GET /account/?comp=list", 200, "queue or container GET"),
    ],
)
def test_a_request_is_known_by_its_line(tmp_path: Path, request_line: str, status: int, name: str) -> None:
    path = tmp_path / "access.log"
    path.write_text(line(request_line, status))
    assert AccessLog(path).read() == {name: 1}


def test_a_log_is_read_on_from_where_it_was_and_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    whole = line("POST /account/$batch", 202)
    path.write_text("Azurite Blob service is starting\n" + whole + whole[:60])
    log = AccessLog(path)
    assert log.read().total() == 1
    with path.open("a") as more:
        more.write(whole[60:] + whole)
    assert log.read() == {"table transaction": 3}


def test_processor_time_of_children_that_have_ended_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", WITH_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert cpu.seconds(process.pid) >= 0.2
        process.communicate(b"\n")
    assert cpu.seconds(process.pid) == 0


def test_a_frozen_tree_does_nothing_and_goes_on_after_it() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as process:
        try:
            _soon(lambda: len(_states(process.pid)) == 2)
            with cpu.frozen(process.pid):
                _soon(lambda: set(_states(process.pid)) == {"T"})
            _soon(lambda: "T" not in _states(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_ratios_are_paired_by_round() -> None:
    assert figures.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == "2.00 [1.00-3.00]"


def _states(root: int) -> list[str]:
    """The state of a process and of its children."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if root in {int(path.parent.name), int(parent)}:
            found.append(state)
    return found


def _soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
