"""Step 1: what is accepted is durable and will be worked on; what is refused leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import (
    InvalidParameterError,
    KeyInFlightError,
    KeyReusedError,
    LimitExceededError,
    NotAPictureError,
    StoreFullError,
    StoreUnavailableError,
    SubmissionError,
)
from rolehost.jobs.job import JobState
from rolehost.jobs.submission import KEYS, Submitter
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores.connect import connect
from support.jobs import CONTENT, Bench, open_bench, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


async def nothing_is_stored(bench: Bench) -> bool:
    rows = [await bench.inner.table(name).list() for name in ("jobs", KEYS)]
    return not any(page.rows for page in rows) and not await bench.blobs("") and await bench.counts() == (0, 0, 0)


async def test_an_accepted_job_is_a_row_and_a_message_and_its_input(bench: Bench) -> None:
    job = await bench.submitter.submit(bench.asked(given={"n": "1"}, name="x/asset.bin", batch="b"))
    row = await bench.row(job.id)
    assert (row.state, row.version, row.spec.parameters) == (JobState.QUEUED, job.version, {"n": "1"})
    assert (row.spec.source.name, row.spec.source.size, row.spec.batch) == ("asset.bin", len(CONTENT), "b")
    woken = WakeUp.decode((await bench.receive()).body)
    assert (woken.job, woken.version, woken.attempt, woken.seen) == (job.id, job.version, 0, None)
    assert woken.spec is not None
    assert woken.spec.source == row.spec.source
    assert await bench.blobs("") == [row.spec.source.blob]


async def test_an_accepted_job_is_there_after_a_restart(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        job = await bench.submitter.submit(bench.asked())
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as stores:
        assert await stores.table("jobs").read(job.id) is not None
        assert (await stores.queue("work-jobs").counts()).visible == 1
        assert (await stores.blobs.facts(job.spec.source.blob)).size == len(CONTENT)


async def test_a_file_that_is_ours_to_take_is_taken_and_another_stays(bench: Bench) -> None:
    taken, kept = bench.asked(consume=True), bench.asked()
    await bench.submitter.submit(taken)
    await bench.submitter.submit(kept)
    assert taken.path is not None
    assert kept.path is not None
    assert (taken.path.exists(), kept.path.exists()) == (False, True)


@pytest.mark.parametrize(
    ("content", "more", "error"),
    [
        (b"", {}, InvalidParameterError),
        (b"", {"key": "k"}, InvalidParameterError),
        (b"text", {"kind": "thumbnail"}, NotAPictureError),
        (b"text", {"kind": "No Kind"}, InvalidParameterError),
        (b"GIF89a", {"kind": "thumbnail", "given": {"size": "Huge"}, "key": "k"}, InvalidParameterError),
        (b"text", {"key": ""}, InvalidParameterError),
        (b"text", {"key": "x" * 256}, InvalidParameterError),
        (b"text", {"key": "tab\t"}, InvalidParameterError),
        (b"text", {"key": "ümlaut"}, InvalidParameterError),
        (b"text", {"given": {"half": "\ud800"}}, InvalidParameterError),
        (b"text", {"given": {"long": "x" * 70_000}}, LimitExceededError),
    ],
)
async def test_what_is_refused_stores_nothing(
    bench: Bench, content: bytes, more: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await bench.submitter.submit(bench.asked(content, **more))
    assert await nothing_is_stored(bench)


async def test_a_full_disk_leaves_no_input_behind(bench: Bench) -> None:
    bench.faults.refuse("submit", error=StoreFullError)
    with pytest.raises(StoreFullError):
        await bench.submitter.submit(bench.asked())
    assert await nothing_is_stored(bench)


async def test_a_lost_answer_is_looked_up_in_the_row(bench: Bench) -> None:
    bench.faults.lose_answer("submit")
    job = await bench.submitter.submit(bench.asked())
    assert bench.faults.fired == ["submit"]
    assert (await bench.row(job.id)).version == job.version
    assert await bench.counts() == (1, 0, 0)


async def test_no_answer_and_no_row_is_told_to_the_client(bench: Bench) -> None:
    bench.faults.refuse("submit")
    with pytest.raises(StoreUnavailableError):
        await bench.submitter.submit(bench.asked())


async def test_the_same_key_and_body_is_the_same_job(bench: Bench) -> None:
    submitter = bench.submitter
    first = await submitter.submit(bench.asked(key="k"))
    again = await submitter.submit(bench.asked(key="k"))
    elsewhere = await Submitter(bench.inner).submit(bench.asked(key="k"))
    assert first.id == again.id == elsewhere.id
    assert await bench.counts() == (1, 0, 0)
    other = await submitter.submit(bench.asked(key="another"))
    assert other.id != first.id


@pytest.mark.parametrize("more", [{"content": b"other"}, {"given": {"n": "2"}}, {"name": "other.bin"}, {"batch": "b"}])
async def test_the_same_key_with_another_body_is_refused(bench: Bench, more: dict[str, Any]) -> None:
    await bench.submitter.submit(bench.asked(key="k"))
    with pytest.raises(KeyReusedError):
        await bench.submitter.submit(bench.asked(**more, key="k"))
    assert len((await bench.inner.table("jobs").list()).rows) == 1


async def test_a_refused_request_does_not_use_up_its_key(bench: Bench) -> None:
    with pytest.raises(SubmissionError):
        await bench.submitter.submit(bench.asked(b"", key="k"))
    accepted = await bench.submitter.submit(bench.asked(key="k"))
    assert accepted.state is JobState.QUEUED


async def test_fifty_requests_at_once_with_one_key_make_one_job(bench: Bench) -> None:
    here, there = bench.submitter, Submitter(bench.inner)
    asked = bench.asked(key="k")
    answers = await asyncio.gather(
        *((here if n % 2 else there).submit(asked) for n in range(50)), return_exceptions=True
    )
    made = {answer.id for answer in answers if not isinstance(answer, BaseException)}
    others = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(made) == 1
    assert all(isinstance(answer, KeyInFlightError) for answer in others)
    assert (await here.submit(asked)).id in made
    assert await bench.counts() == (1, 0, 0)


async def test_a_request_in_flight_is_told_apart_from_one_that_is_done(bench: Bench) -> None:
    submitter = bench.submitter
    bench.faults.delay("blobs.put", 0.5)
    first = asyncio.create_task(submitter.submit(bench.asked(key="k")))
    await until(lambda: called(bench, "blobs.put"))
    for other in (submitter, bench.submitter):  # the same process, and another
        with pytest.raises(KeyInFlightError):
            await other.submit(bench.asked(key="k"))
    assert (await first).id == (await submitter.submit(bench.asked(key="k"))).id


async def called(bench: Bench, call: str) -> bool:
    return call in bench.faults.calls


@pytest.mark.parametrize("call", ["blobs.put", "submit"])
@pytest.mark.parametrize("how", ["refuse", "lose_answer"])
async def test_a_repeated_request_finishes_what_an_interrupted_one_began(bench: Bench, call: str, how: str) -> None:
    """At each step, with the call applied or not: one job, one message, one input."""
    submitter = bench.submitter
    getattr(bench.faults, how)(call)
    asked = bench.asked(key="k")
    try:
        first = (await submitter.submit(asked)).id
    except StoreUnavailableError:
        first = None
    job = await submitter.submit(asked)
    assert first in {None, job.id}
    assert await bench.counts() == (1, 0, 0)
    assert await bench.blobs("") == [job.spec.source.blob]


async def test_the_record_of_a_crashed_owner_is_finished_by_another(bench: Bench) -> None:
    bench.faults.refuse("submit")
    asked = bench.asked(key="k")
    with pytest.raises(StoreUnavailableError):
        await bench.submitter.submit(asked)
    (record,) = (await bench.inner.table(KEYS).list()).rows
    with pytest.raises(KeyInFlightError):
        await bench.submitter.submit(asked)
    await age(bench, timedelta(seconds=11))
    job = await bench.submitter.submit(asked)
    assert job.id == record.fields["job"]
    assert await bench.counts() == (1, 0, 0)


async def age(bench: Bench, by: timedelta) -> None:
    """Make the record of the only key older."""
    (record,) = (await bench.inner.table(KEYS).list()).rows
    await bench.inner.table(KEYS).write(record.key, record.version, {"made_at": clock.iso(clock.now() - by)})


async def test_a_key_is_kept_for_a_day(bench: Bench) -> None:
    first = await bench.submitter.submit(bench.asked(key="k"))
    await age(bench, timedelta(hours=23, minutes=59))
    assert (await bench.submitter.submit(bench.asked(key="k"))).id == first.id
    await age(bench, timedelta(hours=24, minutes=1))
    later = await bench.submitter.submit(bench.asked(b"another body", key="k"))
    assert later.id != first.id
    assert (await bench.row(first.id)).state is JobState.QUEUED


async def test_keys_are_not_kept_in_clear(bench: Bench) -> None:
    await bench.submitter.submit(bench.asked(key="secret-canary"))
    (record,) = (await bench.inner.table(KEYS).list()).rows
    assert "secret-canary" not in json.dumps([record.key, dict(record.fields)])


async def test_a_link_is_no_asset(bench: Bench) -> None:
    asked = bench.asked()
    link = bench.folder / "link"
    assert asked.path is not None
    os.symlink(asked.path, link)  # noqa: PTH211 - the text form reads the right way round
    with pytest.raises(SubmissionError):
        await bench.submitter.submit(bench.asked(path=link))
    assert await nothing_is_stored(bench)


async def test_a_late_refusal_does_not_take_the_input_of_the_job_that_another_process_placed(bench: Bench) -> None:
    """Under one key two processes place one job: the one that fails must leave what the other one's row names."""
    asked = bench.asked(key="k")
    bench.faults.delay("submit", 0.5)
    bench.faults.refuse("submit", at=1, error=StoreFullError)
    late = asyncio.create_task(bench.submitter.submit(asked))
    await until(lambda: called(bench, "submit"))
    await age(bench, timedelta(seconds=11))
    job = await Submitter(bench.inner).submit(asked)
    with pytest.raises(StoreFullError):
        await late
    assert await bench.blobs("") == [job.spec.source.blob]


async def test_a_parameter_that_no_program_can_be_given_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidParameterError, match="NUL"):
        await bench.submitter.submit(bench.asked(given={"name": "a\0b"}))
    assert await nothing_is_stored(bench)
