"""A role that ships and can't work: one sentence, no traceback, and pauses that grow. Closed streams; terminals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_support import TinyService, until
from test_cli_processes import on_a_terminal

from support.commands import environ, submitted, with_stores

pytestmark = pytest.mark.acceptance

Make = Callable[..., TinyService]

WORKER = '[roles.Worker]\nentry_point = "rolehost.workers.thumbnail:ThumbnailWorker"\n'


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[TinyService] = []

    def make(roles: str, definition: str = "", **times: float) -> TinyService:
        made.append(TinyService(tmp_path, roles, definition, **times))
        return made[-1]

    yield make
    for service in made:
        service.clean_up()


def crash(service: TinyService) -> str:
    """Why the role says that it crashed."""
    found: list[str] = []

    def told() -> bool:
        lines = [json.loads(line) for line in service.stderr.splitlines() if line.startswith("{")]
        found.extend(line["reason"] for line in lines if line["event"] == "role.crashed" and "reason" in line)
        return bool(found)

    until(told, "role.crashed with its reason")
    return found[0]


def test_a_value_that_does_not_fit_is_one_line(make: Make) -> None:
    service = make("", f'{WORKER}[roles.Worker.settings]\n"Worker.Slots" = "two"\n')
    service.start_instance()
    assert crash(service) == "the setting Worker.Slots must be a number, not 'two'"
    assert service.stop()[0] == 0
    assert "Traceback" not in service.stderr


def test_a_store_that_is_none_is_one_line(make: Make) -> None:
    service = make("", WORKER)
    service.data.mkdir()
    (service.data / "store.db").write_bytes(b"no database" * 1000)
    service.start_instance()
    assert "file is not a database" in crash(service)
    assert service.stop()[0] == 0
    assert "Traceback" not in service.stderr


def test_a_role_s_own_error_shows_where_it_was_raised(make: Make) -> None:
    service = make("""
        class Worker(RoleEntryPoint):
            def on_start(self):
                self.role_environment.get_configuration_setting_value("None")
    """)
    service.start_instance()
    until(lambda: "Traceback" in service.stderr, "the traceback")
    assert service.stop()[0] == 0


OPENS_FIRST = """
class Worker(ServedRole):
    def __init__(self):
        self.opened = asyncio.Event()
    async def serving(self):
        await self.opened.wait()
    async def serve(self, stopping):
        note("serve")
        while not Path("open").exists():
            await asyncio.sleep(0.02)
        if Path("broken").exists():
            raise RoleHostError("the stores can't be opened")
        self.opened.set()
        await stopping.wait()
        note("served")
from rolehost.errors import RoleHostError
"""


def test_a_role_that_opens_first_is_ready_once_it_serves(make: Make) -> None:
    service = make(OPENS_FIRST)
    service.start_instance()
    service.until_words("serve")
    assert service.probe()[0] != 200
    (service.directory / "open").touch()
    service.until_ready()
    assert service.stop()[0] == 0
    assert service.words() == ["serve", "served"]


def test_a_role_that_never_served_was_never_ready(make: Make) -> None:
    service = make(OPENS_FIRST)
    (service.directory / "open").touch()
    (service.directory / "broken").touch()
    service.start_instance()
    service.until_words("serve", "serve", "serve")
    assert crash(service) == "the stores can't be opened"
    assert service.stop()[0] == 0
    assert "role.ready" not in service.stderr
    pauses = [json.loads(line) for line in service.stderr.splitlines() if "pause_seconds" in line]
    assert [each["pause_seconds"] for each in pauses][:2] == [0.2, 0.3]  # 10 s, 15 s of a second that lasts 0.02 s


def test_a_stop_while_a_role_opens_is_an_orderly_one(make: Make) -> None:
    service = make("""
        class Worker(ServedRole):
            async def serving(self):
                await asyncio.sleep(600)
            async def serve(self, stopping):
                note("serve")
                await stopping.wait()
                note("served")
    """)
    service.start_instance()
    service.until_words("serve")
    assert service.stop()[0] == 0
    assert service.words() == ["serve", "served"]
    assert "role.ready" not in service.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_no_traceback(tmp_path: Path, closed: str) -> None:
    data = tmp_path / "data"
    job = with_stores(data, lambda stores: submitted(stores, tmp_path))
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "rolehost", "jobs", "--data", str(data)]
    told = subprocess.run(command, cwd=tmp_path, env=environ(), capture_output=True, text=True, check=False)
    assert told.returncode == 0
    assert told.stderr == ""
    assert (job.id in told.stdout) is (closed in {"2>&-", "<&-"})


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_the_list_fits_the_terminal(tmp_path: Path, columns: int) -> None:
    data = tmp_path / "data"
    name = f"{'long-' * 30}name.png"
    job = with_stores(data, lambda stores: submitted(stores, tmp_path, name))
    shown = on_a_terminal("jobs", "--data", str(data), cwd=tmp_path, columns=columns, NO_COLOR="1")
    heading, row = shown.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert row.startswith(job.id)
    assert ".png" in row
    assert max(len(heading.rstrip()), len(row.rstrip())) <= columns
    assert ("SUBMITTED" in heading) is (columns == 200)
