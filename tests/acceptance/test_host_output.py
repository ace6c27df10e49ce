"""What a role prints: on our own streams, in a file for each run, and in the way of nobody."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import Make, let_others_in, services, until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from services(tmp_path)


PRINTS = """
class Worker(RoleEntryPoint):
    def on_start(self):
        print("from the role, without a flush")
        print("and its errors", file=sys.stderr)
        note("printed")
"""


def test_output_is_seen_and_kept(make: Make) -> None:
    service = make(PRINTS)
    service.environ.pop("PYTHONUNBUFFERED", None)
    service.start_instance()
    service.until_words("printed")
    until(lambda: "from the role, without a flush\n" in service.stdout, "its stdout")
    until(lambda: "and its errors\n" in service.stderr, "its stderr")
    os.kill(service.role_pid(), signal.SIGKILL)
    service.until_words("printed", "printed")
    ended = until(lambda: [each for each in service.fabric.outputs if each["ended_at"]], "a run's end")[0]
    begun = [each for each in service.fabric.outputs if each["run"] != ended["run"]]
    assert begun
    assert (ended["instance"], ended["kind"], ended["name"]) == ("Worker_IN_0", "role", "Worker")
    assert ended["exit_code"] is None
    path = Path(ended["path"])
    assert path.parent == service.data / "logs" / "Worker_IN_0"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "from the role, without a flush\n" in path.read_text()
    assert "and its errors\n" in path.read_text()
    assert service.stop()[0] == 0
    assert len(list(path.parent.iterdir())) == 2


def test_startup_tasks_have_their_own_files(make: Make) -> None:
    task = '[[roles.Worker.startup]]\ncommand = "echo hello"'
    service = make(PRINTS, f'[roles.Worker]\nentry_point = "roles:Worker"\n{task}')
    let_others_in(service.directory)
    service.start_instance()
    service.until_words("printed")
    ended = until(lambda: [e for e in service.fabric.outputs if e["kind"] == "task" and e["ended_at"]], "its end")[0]
    assert (ended["name"], ended["exit_code"]) == ("echo hello", 0)
    assert Path(ended["path"]).read_text() == "hello\n"
    assert "hello\n" in service.stdout
    assert service.stop()[0] == 0


MUCH = """
class Worker(RoleEntryPoint):
    def on_start(self):
        line = "x" * 999
        for _ in range(20_000):
            print(line)
        print("the last line")
        note("printed")
"""


def test_a_role_that_prints_much_is_held_up_by_nobody_who_does_not_read(make: Make) -> None:
    service = make(MUCH)
    reading, writing = os.pipe()
    service.stdout_to = writing
    try:
        service.start_instance()
        service.until_words("printed")
        service.until_ready()
        os.kill(service.role_pid(), signal.SIGKILL)
        path = Path(until(lambda: [e for e in service.fabric.outputs if e["ended_at"]], "a run's end")[0]["path"])
        assert path.read_text().endswith("the last line\n")
        assert path.stat().st_size < 3_000_000
        code, seconds = service.stop()
        assert (code, seconds < 8) == (0, True)
    finally:
        os.close(reading)
        os.close(writing)


def test_a_closed_stdout_breaks_nothing(make: Make) -> None:
    service = make(PRINTS)
    reading, writing = os.pipe()
    os.close(reading)
    service.stdout_to = writing
    service.start_instance()
    os.close(writing)
    service.until_ready()
    path = Path(service.fabric.outputs[0]["path"])
    until(lambda: "from the role, without a flush\n" in path.read_text(), "its output in the file")
    assert service.stop()[0] == 0


def test_a_role_s_last_lines_are_told_with_its_crash(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def run(self):
                for number in range(2000):
                    print("line", number, file=sys.stderr)
                sys.stderr.write("no newline at the end")
                os._exit(9)
    """)
    service.start_instance()
    crash = until(lambda: service.fabric.facts.get("last_crash") or {}, "the crash")
    lines = crash["stderr"].splitlines()
    assert lines[-2:] == ["line 1999", "no newline at the end"]
    assert 1000 < len(crash["stderr"]) <= 4096
    assert (crash["exit_code"], crash["stage"]) == (9, "run")
    assert service.stop()[0] == 0
