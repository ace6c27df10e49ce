"""How far a job has come, on the command line: a bar in its story, in the list, and while somebody waits for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from rolehost import clock
from rolehost.cli.display import Bar, Display, Lines, bar, show_job, shown_progress
from rolehost.cli.waiting import Waiting
from rolehost.jobs.job import Charges, End, Job
from rolehost.jobs.table import TABLE, Claim, JobTable, new_token
from rolehost.stores import Stores
from support.commands import ended, invoke, submitted, with_stores


async def claimed(stores: Stores, job: Job) -> Claim:
    facts = {"number": 1, "charges": Charges(), "instance": "Worker_IN_0", "lease": 60.0, "token": new_token()}
    return await JobTable(stores.table(TABLE)).claim(job.spec, job.version, **facts)  # type: ignore[arg-type]


async def running(stores: Stores, folder: Path, percent: float, eta: float | None) -> Job:
    jobs = JobTable(stores.table(TABLE))
    job = await submitted(stores, folder)
    await jobs.tell_progress(await claimed(stores, job), {"percent": percent, "eta_seconds": eta})
    found = await jobs.read(job.id)
    assert found is not None
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def made(data: Path, percent: float = 43.2, eta: float | None = 12) -> Job:
    return with_stores(data, lambda stores: running(stores, data.parent, percent, eta))


@pytest.mark.parametrize(
    ("percent", "eta", "told"),
    [
        (43.2, 12, "43.2 %, about 12 s left"),
        (5, None, "5 %"),
        (0, 754, "0 %, about 12 min 34 s left"),
        (99.9, 7261, "99.9 %, about 2 h 1 min left"),
    ],
)
def test_it_is_told_in_words(data: Path, percent: float, eta: float | None, told: str) -> None:
    job = made(data, percent, eta)
    assert shown_progress(job) == told
    assert shown_progress(replace(job, progress=None)) == ""


def test_a_bar_has_a_width() -> None:
    assert [bar(percent, 10) for percent in (0, 43.2, 99.9)] == ["[..........]", "[####......]", "[##########]"]


def test_the_story_and_the_list_show_it(data: Path) -> None:
    job = made(data)
    assert (
        f"progress    [{'#' * 13}{'.' * 17}] 43.2 %, about 12 s left\n" in invoke("job", job.id, "--data", data).stdout
    )
    assert "43.2 %, about 12 s left" in invoke("jobs", "--data", data).stdout
    assert json.loads(invoke("job", job.id, "--json", "--data", data).stdout)["progress"] == job.progress


class Told(Lines):
    """A display that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, float | None, str]] = []

    def show_share(self, phase: str, percent: float | None, told: str) -> None:
        self.all.append((phase, percent, told))


@pytest.fixture
async def stores(data: Path) -> AsyncIterator[Stores]:
    from rolehost.host.paths import DataDirectory  # noqa: PLC0415
    from rolehost.stores.connect import connect  # noqa: PLC0415

    DataDirectory.at(data)
    async with connect({"ROLEHOST_DATA": str(data)}) as opened:
        yield opened


async def test_who_waits_for_one_job_sees_how_far_it_comes(stores: Stores, tmp_path: Path) -> None:
    jobs, told, counted = JobTable(stores.table(TABLE)), Told(), list[int]()
    job = await submitted(stores, tmp_path)
    waiting = asyncio.create_task(Waiting(jobs, [job.id], counted.append, partial(show_job, told)).run(60))

    async def seen(*expected: object) -> None:
        deadline = time.monotonic() + 20
        while not told.all or told.all[-1] != expected:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    await seen("queued", None, "")
    claim = await claimed(stores, job)
    await seen("running", None, "")
    claim = await jobs.tell_progress(claim, {"percent": 7.5, "eta_seconds": None})
    await seen("running", 7.5, "7.5 %")
    await jobs.retry(claim, replace(claim.attempt, ended_at=clock.now(), end=End.DRAINED), retries_at=None)
    await seen("queued", None, "")
    again = await jobs.read(job.id)
    assert again is not None
    await jobs.cancel(again)
    assert await waiting
    assert counted == [1]


async def test_who_waits_for_several_is_told_of_their_number_only(stores: Stores, tmp_path: Path) -> None:
    jobs, told, counted = JobTable(stores.table(TABLE)), Told(), list[int]()
    ids = [(await submitted(stores, tmp_path, f"{number}.png")).id for number in range(2)]
    found = await jobs.read(ids[0])
    assert found is not None
    await jobs.cancel(found)
    assert not await Waiting(jobs, ids, counted.append, partial(show_job, told)).run(0.3)
    assert (set(counted), told.all) == ({1}, [])


def test_lines_tell_of_one_job_now_and_then(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    job, lines = made(data), Lines()
    for second in range(5):
        now[0] = second
        show_job(lines, replace(job, progress={"percent": 10.0 * second, "eta_seconds": None}))
    assert capsys.readouterr().err == "running: 20 %\nrunning: 40 %\n"


def test_a_terminal_has_a_bar(data: Path) -> None:
    with Bar() as made_bar:
        shown: Display = made_bar
        show_job(shown, made(data))
        console = Console(width=100, no_color=True, legacy_windows=False)
        with console.capture() as captured:
            console.print(made_bar._progress)
    assert "43.2 %, about 12 s left" in captured.get()


def test_watching_ends_with_the_job(data: Path) -> None:
    async def act(stores: Stores) -> Job:
        return await ended(stores, await submitted(stores, data.parent), End.OK, exit_code=0)

    job = with_stores(data, act)
    told = invoke("job", job.id, "--watch", "--data", data)
    assert told.exit_code == 0
    assert "state       completed" in told.stdout
