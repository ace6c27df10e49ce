"""The desk: search, messages without a job, replays that are made once, and what an interruption leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.errors import (
    AlreadyReplayedError,
    InvalidParameterError,
    NotFoundError,
    StoreFullError,
    StoreUnavailableError,
    UnknownJobError,
)
from rolehost.jobs.job import End, Job, JobState, new_id
from rolehost.jobs.poison import Kin, Pace, PoisonDesk, Sort, Step, Wanted, parse_age, parse_rate
from rolehost.jobs.poison.entries import from_letter_id, letter_id
from rolehost.jobs.replays import REPLAYS
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores
from support.jobs import Bench, open_bench, succeed, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


@pytest.fixture
def desk(bench: Bench) -> PoisonDesk:
    return PoisonDesk(bench.stores)


async def poisoned(bench: Bench, detail: str = "it is hopeless", **asked: str) -> Job:
    job = await bench.submit(**asked)
    await bench.end_once(End.POISON_NOW, detail, stderr=f"stderr says: {detail}")
    return await bench.row(job.id)


async def failed(bench: Bench, detail: str = "no picture") -> Job:
    job = await bench.submit()
    await bench.end_once(End.BAD_INPUT, detail)
    return await bench.row(job.id)


async def set_aside(stores: Stores, body: str, message_id: str, reason: str = "malformed") -> None:
    """A dead letter as workers make it of a message that they can't use."""
    queue = stores.queue("work-jobs")
    await queue.put(body, message_id=message_id)
    (message,) = await queue.receive(1, hide=30)
    await queue.dead_letter(message, reason=reason, description=f"why {reason}")


async def found(desk: PoisonDesk, **wanted: object) -> list[str]:
    page = await desk.list(Wanted(**wanted))  # type: ignore[arg-type] # by name
    assert page.cursor is None
    return [entry.id for entry in page.entries]


async def aged(bench: Bench, job: Job, days: float) -> None:
    """As if it had been set aside so long ago."""
    row = await bench.inner.table(TABLE).read(job.id)
    assert row is not None
    then = clock.iso(clock.now() - timedelta(days=days))
    await bench.inner.table(TABLE).write(job.id, row.version, {"finished_at": then})


async def test_search_by_each_of_its_fields(bench: Bench, desk: PoisonDesk) -> None:
    fonts = await poisoned(bench, "no such FONT: Arial")
    disk = await poisoned(bench, "spindle broken", name="holiday.tif")
    bad = await failed(bench)
    await aged(bench, fonts, 8)
    assert await found(desk) == [disk.id, fonts.id]
    assert await found(desk, text="such font") == [fonts.id]
    assert await found(desk, text="HOLIDAY") == [disk.id]
    assert await found(desk, text="stderr says") == [disk.id, fonts.id]
    assert await found(desk, reason="stderr says") == []
    assert await found(desk, reason="spindle") == [disk.id]
    assert await found(desk, cause="poison_now") == [disk.id, fonts.id]
    assert await found(desk, cause="app") == []
    assert await found(desk, kind="work", state=None) == [disk.id, fonts.id, bad.id]
    assert await found(desk, kind="other") == []
    assert await found(desk, state=JobState.FAILED, cause="bad_input") == [bad.id]
    assert await found(desk, older=timedelta(days=7)) == [fonts.id]
    assert await found(desk, newer=timedelta(days=7)) == [disk.id]


async def test_pages_hold_everything_once_whatever_their_size(bench: Bench, desk: PoisonDesk) -> None:
    await set_aside(bench.inner, "not json", "noise-1")
    await set_aside(bench.inner, "nor this", "noise-2")
    jobs = [await poisoned(bench) for _ in range(7)]  # their letters come last, and are no entries
    everything = [job.id for job in reversed(jobs)] + [letter_id("work-jobs", f"noise-{number}") for number in (1, 2)]
    for limit in (1, 2, 3, 7, 8, 9, 50):
        page = await desk.list(limit=limit)
        seen = [entry.id for entry in page.entries]
        while page.cursor and len(seen) <= len(everything):
            page = await desk.list(limit=limit, cursor=page.cursor)
            assert 0 < len(page.entries) <= limit
            seen += [entry.id for entry in page.entries]
        assert seen == everything
        assert (page.looked_at, page.total) == (16, 16)  # 7 rows, their 7 messages, and 2 more


async def test_a_page_goes_on_though_what_it_ended_at_is_gone(bench: Bench, desk: PoisonDesk) -> None:
    jobs = [await poisoned(bench) for _ in range(4)]
    page = await desk.list(limit=2)
    for entry in page.entries:
        await desk.purge(entry.id)
    rest = await desk.list(limit=5, cursor=page.cursor)
    assert [entry.id for entry in rest.entries] == [jobs[1].id, jobs[0].id]


async def test_a_bounded_search_says_how_far_it_came_and_goes_on(bench: Bench, desk: PoisonDesk) -> None:
    first = await poisoned(bench, "the one")
    for _ in range(5):
        await poisoned(bench)
    page = await desk.list(Wanted(text="the one"), look_at=2)
    assert (page.entries, page.looked_at, page.total) == ([], 2, 12)
    page = await desk.list(Wanted(text="the one"), look_at=2, cursor=page.cursor)
    assert (page.entries, page.looked_at) == ([], 4)
    page = await desk.list(Wanted(text="the one"), cursor=page.cursor)
    assert [entry.id for entry in page.entries] == [first.id]
    assert page.cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "²", "W10", "WyIxIl0", "bnVsbA", "\ud800"])
async def test_a_cursor_that_no_list_gave(desk: PoisonDesk, cursor: str) -> None:
    with pytest.raises(InvalidParameterError, match="cursor"):
        await desk.list(cursor=cursor)


async def test_a_cursor_is_good_for_its_own_order(bench: Bench, desk: PoisonDesk) -> None:
    for _ in range(3):
        await poisoned(bench)
    page = await desk.list(limit=1)
    with pytest.raises(InvalidParameterError, match="cursor"):
        await desk.list(limit=1, cursor=page.cursor, newest_first=False)


async def test_messages_without_a_job_are_shown_purged_and_not_replayed(bench: Bench, desk: PoisonDesk) -> None:
    gone, done = new_id(), await bench.submit()
    await bench.process(succeed)
    await set_aside(bench.inner, WakeUp(job=gone).encode(), f"{gone}:0", "orphan")
    await set_aside(bench.inner, "{noise", "n", "malformed")
    await set_aside(bench.inner, WakeUp(job=done.id).encode(), f"{done.id}:0", "MaxDeliveryCountExceeded")
    page = await desk.list()
    assert [(entry.sort, entry.cause, entry.kind) for entry in page.entries] == [
        (Sort.ORPHAN, "orphan", "work"),
        (Sort.MALFORMED, "malformed", "work"),
        (Sort.STRAY, "MaxDeliveryCountExceeded", "work"),
    ]
    assert await found(desk, cause="orphan") == [page.entries[0].id]
    assert await found(desk, text="{NOISE") == [page.entries[1].id]
    assert await found(desk, older=timedelta()) == [], "a message doesn't say when"
    for entry in page.entries:
        known = await desk.entry(entry.id)
        assert known.letter is not None
        with pytest.raises(InvalidParameterError, match="can't be replayed"):
            await desk.replay(entry.id)
        with pytest.raises(InvalidParameterError, match="can't be replayed"):
            await desk.would_replay(entry.id)
        await desk.purge(entry.id)
        with pytest.raises(UnknownJobError):
            await desk.entry(entry.id)
    assert await bench.counts() == (0, 0, 0)
    assert (await bench.row(done.id)).state is JobState.COMPLETED


async def test_the_message_of_a_purged_job_is_found_behind_more_than_a_thousand(bench: Bench, desk: PoisonDesk) -> None:
    queue = bench.inner.queue("work-jobs")
    for start in range(0, 1100, 32):
        await asyncio.gather(*(queue.put("noise", message_id=f"n-{start + number}") for number in range(32)))
        for message in await queue.receive(32, hide=30):
            await queue.dead_letter(message, reason="malformed")
    before = (await bench.counts())[2]
    job = await poisoned(bench)
    assert [entry.id for entry in (await desk.list(limit=1)).entries] == [job.id]
    await desk.purge(job.id)
    assert (await bench.counts())[2] == before
    last = letter_id("work-jobs", "n-1099")
    assert (await desk.entry(last)).sort is Sort.MALFORMED
    assert len([each async for each in desk.ids(Wanted(cause="malformed"))]) == before


@pytest.mark.parametrize(
    "text",
    [
        "m-",
        "m-x",
        "m-\u00b2",
        letter_id("other", "x"),
        letter_id("A-jobs", "x"),
        "m-" + "A" * 9,
        "01a1fd0e-642a-79f4-9ac7-2614ab6e155f",
    ],
)
async def test_ids_of_no_entry(desk: PoisonDesk, text: str) -> None:
    assert from_letter_id(text) is None
    with pytest.raises(UnknownJobError):
        await desk.entry(text)


async def test_what_was_replayed_leaves_the_desk_and_is_not_replayed_again(bench: Bench, desk: PoisonDesk) -> None:
    old, other = await poisoned(bench), await poisoned(bench)
    new = await desk.replay(old.id)
    assert await found(desk) == [other.id]
    assert await found(desk, replayed=True) == [old.id]
    assert await found(desk, replayed=None) == [other.id, old.id]
    with pytest.raises(AlreadyReplayedError, match=f"as {new.id}"):
        await desk.replay(old.id)
    assert await bench.counts() == (1, 0, 2)
    again = await desk.replay(old.id, again=True)
    assert [replay.job for replay in (await desk.entry(old.id)).replays] == [new.id, again.id]
    assert await bench.row(old.id) == old, "its row never changes"


async def test_the_chain_of_origins_and_replays(bench: Bench, desk: PoisonDesk) -> None:
    first = await poisoned(bench)
    second = await desk.replay(first.id)
    await bench.end_once(End.POISON_NOW, "again")
    third = await desk.replay(second.id)
    kin = await desk.provenance(await bench.row(third.id))
    assert kin.origins == (Kin(second.id, JobState.POISONED), Kin(first.id, JobState.POISONED))
    assert (await desk.provenance(await bench.row(second.id))).replays == (Kin(third.id, JobState.QUEUED),)
    await desk.purge(second.id)
    kin = await desk.provenance(await bench.row(third.id))
    assert kin.origins == (Kin(second.id, None),), "a chain ends where a job was removed"
    assert (await desk.provenance(await bench.row(first.id))).replays == (Kin(second.id, None),)
    assert await bench.inner.table(REPLAYS).read(second.id) is None


@pytest.mark.parametrize("lose", [False, True])
@pytest.mark.parametrize("call", ["replays.*", "jobs.read", "blobs.put", "blobs.download", "submit"])
async def test_a_replay_that_was_cut_off_anywhere_is_finished_as_one_job(
    bench: Bench, call: str, *, lose: bool
) -> None:
    at = 1
    while True:  # at the first such call, at the second, ... until there is none
        old = await poisoned(bench)
        bench.faults.clear()
        bench.faults.fired.clear()
        (bench.faults.lose_answer if lose else bench.faults.refuse)(call, at=at)
        desk = PoisonDesk(bench.stores)
        cut = False
        try:
            await desk.replay(old.id)
        except StoreUnavailableError:
            cut = True
        bench.faults.clear()
        steps = [step async for step in desk.replay_each([e async for e in desk.ids(Wanted())], pace=Pace())]
        assert [step.refused for step in steps if step.refused] == []
        jobs = (await JobTable(bench.inner.table(TABLE)).list(limit=100)).jobs
        assert len([job for job in jobs if job.spec.origin == old.id]) == 1
        assert len((await desk.entry(old.id)).replays) == 1
        if not bench.faults.fired:
            assert not cut
            assert at > 1
            return
        at += 1
        await bench.process(succeed)


async def test_a_full_store_takes_no_input_away_that_another_may_have_submitted(bench: Bench, desk: PoisonDesk) -> None:
    old = await poisoned(bench)
    bench.faults.refuse("submit", error=StoreFullError)
    with pytest.raises(StoreFullError):
        await desk.replay(old.id)
    copies = [name for name in await bench.blobs("inputs/") if old.id not in name]
    assert len(copies) == 1
    new = await desk.replay(old.id)
    assert new.spec.source.blob == copies[0]


async def test_two_that_replay_at_once_make_one_job(bench: Bench) -> None:
    old = await poisoned(bench)
    answers = await asyncio.gather(*(PoisonDesk(bench.stores).replay(old.id) for _ in range(8)), return_exceptions=True)
    made = {answer.id for answer in answers if isinstance(answer, Job)}
    assert len(made) == 1
    assert {type(answer) for answer in answers} <= {Job, AlreadyReplayedError}
    assert await bench.counts() == (1, 0, 1)


async def test_a_reservation_that_is_too_old_to_be_finished_gets_another_id(bench: Bench, desk: PoisonDesk) -> None:
    old = await poisoned(bench)
    stale = {"reserved": new_id(), "reserved_at": clock.iso(clock.now() - timedelta(hours=30))}
    await bench.inner.table(REPLAYS).insert(old.id, stale)
    assert await found(desk) == [old.id]
    assert (await desk.replay(old.id)).id != stale["reserved"]


async def test_a_replay_without_its_input_is_refused_and_stays_on_the_desk(bench: Bench, desk: PoisonDesk) -> None:
    old, good = await poisoned(bench), await poisoned(bench)
    await bench.inner.blobs.delete(old.spec.source.blob)
    with pytest.raises(NotFoundError):
        await desk.would_replay(old.id)
    steps = [step async for step in desk.replay_each([old.id, good.id], pace=Pace())]
    assert [bool(step.refused) for step in steps] == [True, False]
    assert await found(desk) == [old.id]


async def test_a_dry_run_changes_nothing_and_says_what_the_run_then_does(bench: Bench, desk: PoisonDesk) -> None:
    old, done = await poisoned(bench), await poisoned(bench)
    await set_aside(bench.inner, "noise", "n")
    await desk.replay(done.id)
    ids = [old.id, done.id, letter_id("work-jobs", "n"), new_id()]
    bench.faults.calls.clear()
    replays = [step async for step in desk.replay_each(ids, pace=Pace(), dry_run=True)]
    purges = [step async for step in desk.purge_each(ids, dry_run=True)]
    written = [call for call in bench.faults.calls if call.rpartition(".")[2] not in {"read", "list", "facts", "dead"}]
    assert written == []
    assert [bool(step.refused) for step in replays] == [False, True, True, True]
    assert [bool(step.refused) for step in purges] == [False, False, False, True]
    assert [bool(step.refused) async for step in desk.replay_each(ids, pace=Pace())] == [False, True, True, True]


async def test_an_interruption_lets_the_one_in_hand_be_finished(bench: Bench) -> None:
    jobs = [await poisoned(bench) for _ in range(3)]
    bench.faults.delay("submit", 0.3)
    steps: list[Step] = []

    async def replay() -> None:
        desk = PoisonDesk(bench.stores)
        async with aclosing(desk.replay_each([job.id for job in jobs], pace=Pace())) as going:
            async for step in going:
                steps.append(step)  # noqa: PERF401 - what was told before the interruption counts

    bench.faults.calls.clear()
    task = asyncio.create_task(replay())

    async def submitting() -> bool:
        return "submit" in bench.faults.calls

    await until(submitting)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    desk = PoisonDesk(bench.inner)
    assert [step.id for step in steps] == [jobs[0].id], "it is told, too"
    assert len((await desk.entry(jobs[0].id)).replays) == 1
    assert await bench.counts() == (1, 0, 3)
    rest = [each async for each in desk.ids(Wanted(jobs_only=True))]
    assert rest == [jobs[1].id, jobs[2].id]


async def test_a_store_that_does_not_answer_ends_the_run(bench: Bench, desk: PoisonDesk) -> None:
    jobs = [await poisoned(bench) for _ in range(3)]
    bench.faults.refuse("submit", at=2)
    with pytest.raises(StoreUnavailableError):
        assert [step async for step in desk.replay_each([job.id for job in jobs], pace=Pace())] == []
    assert len([each async for each in desk.ids(Wanted())]) == 2


async def test_a_pace_is_kept_and_holds_no_burst_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", sleep)
    pace = Pace(4)
    for _ in range(3):
        await pace.turn()
    now[0] += 10  # one took long
    await pace.turn()
    await pace.turn()
    assert slept == [0.25, 0.25, 0.25]
    free = Pace()
    await free.turn()
    await free.turn()
    assert len(slept) == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("36h", 129_600), ("7d", 604_800), ("1d12h", 129_600), ("0s", 0)]
)
def test_ages(text: str, seconds: int) -> None:
    assert parse_age(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "-1d", "1h1d", "²d", "999999d", "7D"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="must be an age"):
        parse_age(text)


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5), ("5", 5), ("30/min", 0.5), ("90/h", 0.025), ("0.5/s", 0.5)])
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0/s", "5/day", "/s", "-1/s", "²/s", "1e9/s", "nan"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="must be a rate"):
        parse_rate(text)
