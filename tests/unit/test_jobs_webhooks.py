"""Webhooks over real stores and a real receiver: owed by the row, delivered at least once, under one id, signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.jobs import webhooks as module
from rolehost.jobs.cancellation import cancel
from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.table import TABLE
from rolehost.jobs.webhook_deliveries import delivery_of
from rolehost.jobs.webhooks import Webhooks
from support.jobs import Bench, open_bench, succeed, until
from support.receiver import KEY, Receiver, receiver
from support.webhooks import nothing_owed, owed, said, standing, swept, told_by_worker, waiting

OTHER_KEY = bytes(range(40))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as there:
        yield there


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test can wait for."""
    monkeypatch.setattr(module, "PAUSES", (0.05,) * 6)


async def ends(bench: Bench, job: Job, state: JobState) -> None:
    """Bring a job to a terminal state, as workers and people do."""
    match state:
        case JobState.COMPLETED:
            await bench.process(succeed)
        case JobState.FAILED:
            await bench.end_once(End.BAD_INPUT)
        case JobState.POISONED:
            await bench.end_once(End.POISON_NOW)
        case _:
            await cancel(bench.desk.jobs, job.id)
            bench.desk.tell(job.spec)


@pytest.mark.parametrize("state", [state for state in JobState if state.terminal])
async def test_each_terminal_state_is_told_once_and_signed(bench: Bench, there: Receiver, state: JobState) -> None:
    async with told_by_worker(bench, there.settings()):
        job = await bench.submit(webhook=there.url, given={"n": "1"})
        await ends(bench, job, state)
        (told,) = await there.receives()
        await until(lambda: nothing_owed(bench))
    row = await bench.row(job.id)
    assert row.state is state
    assert told.path == "/hooks/of-ours"
    assert told.id == f"{job.id}:{state}"
    assert told.is_signed_by(KEY)
    assert not told.is_signed_by(OTHER_KEY)
    assert abs(int(told.headers["webhook-timestamp"]) - clock.now().timestamp()) < 60
    assert told.headers["content-type"] == "application/json"
    assert row.finished_at is not None
    assert told.event == {"type": f"job.{state}", "timestamp": clock.iso(row.finished_at), "data": row.to_json()}
    assert b"of-ours" not in told.body, "the rest of the URL may be a secret of the receiver's"
    assert (await standing(bench, job)).to_json() | {"tried_at": None} == {
        "to": f"http://127.0.0.1:{there.port}",
        "state": "delivered",
        "tries": 1,
        "why": "the receiver answered 200",
        "tried_at": None,
        "next_at": None,
    }


@pytest.mark.parametrize("dies", [False, True])
async def test_a_job_that_nobody_may_claim_any_more_is_told_of(bench: Bench, there: Receiver, *, dies: bool) -> None:
    job = await bench.submit(webhook=there.url)
    long_ago = {"submitted_at": clock.iso(clock.now() - timedelta(days=8))}
    await bench.inner.table(TABLE).write(job.id, job.version, long_ago)
    if dies:
        await bench.process(succeed)
        await swept(bench, there.settings(), lambda: nothing_owed(bench))
    else:
        async with told_by_worker(bench, there.settings()):
            await bench.process(succeed)
            await there.receives()
    (told,) = there.told
    assert told.id == f"{job.id}:poisoned"
    assert told.event["data"]["reason"].startswith("deadline")


async def test_a_job_without_a_webhook_owes_nothing(bench: Bench, there: Receiver) -> None:
    async with told_by_worker(bench, there.settings()):
        job = await bench.submit()
        await bench.process(succeed)
        assert await owed(bench) == []
        assert await delivery_of(bench.inner, await bench.row(job.id)) is None
    assert there.told == []


async def test_a_retry_is_no_terminal_state(bench: Bench, there: Receiver) -> None:
    async with told_by_worker(bench, there.settings()):
        job = await bench.submit(webhook=there.url)
        await bench.end_once(End.APP_ERROR)
        assert await owed(bench) == []
        assert (await standing(bench, job)).state == "waiting"
        await bench.process(succeed)
        await there.receives()
    assert [told.id for told in there.told] == [f"{job.id}:completed"]


@pytest.mark.parametrize("state", [state for state in JobState if state.terminal])
async def test_a_webhook_whose_worker_died_after_the_commit_is_delivered_by_recovery(
    bench: Bench, there: Receiver, state: JobState
) -> None:
    job = await bench.submit(webhook=there.url)
    await ends(bench, job, state)  # nobody tells: as if the process had gone
    assert await owed(bench) == [job.id]
    assert (await standing(bench, job)).to_json() == {
        "to": f"http://127.0.0.1:{there.port}",
        "state": "owed",
        "tries": 0,
        "why": None,
        "tried_at": None,
        "next_at": None,
    }
    before = await bench.row(job.id)
    await swept(bench, there.settings(), lambda: nothing_owed(bench))
    assert [told.id for told in there.told] == [f"{job.id}:{state}"]
    assert await bench.row(job.id) == before, "a terminal row never changes"


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.POISONED])
async def test_a_commit_whose_answer_is_lost_has_one_webhook_id(bench: Bench, there: Receiver, state: JobState) -> None:
    async with told_by_worker(bench, there.settings()):
        job = await bench.submit(webhook=there.url)
        bench.faults.lose_answer("jobs.write", at=2)
        await ends(bench, job, state)
        await there.receives()
        await until(lambda: nothing_owed(bench))
    assert [attempt.number for attempt in (await bench.row(job.id)).attempts] == [1]
    assert {told.id for told in there.told} == {f"{job.id}:{state}"}
    assert len(there.told) == 1


async def test_what_is_refused_is_tried_again_with_the_same_id_and_body(bench: Bench, there: Receiver) -> None:
    there.answers[:] = [500, 302, 429, 204]
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()) as webhooks:
        await bench.process(succeed)
        await there.receives()
        await until(lambda: said(bench, job, "the receiver answered 500"))
        assert (await standing(bench, job)).next_at is not None
        assert await owed(bench) == [job.id]

        async def delivered() -> bool:
            await webhooks.sweep()
            return await nothing_owed(bench)

        await until(delivered)
    assert len(there.told) == 4
    assert len({(told.id, told.body, told.path) for told in there.told}) == 1, "redirects are not followed"
    assert [facts["why"] for facts in bench.told("webhook.failed")] == [
        "the receiver answered 500",
        "the receiver answered 302: redirects are not followed",
        "the receiver answered 429",
    ]
    assert (await standing(bench, job)).to_json()["tries"] == 4


async def test_the_pause_is_kept_by_whoever_sweeps_next(
    bench: Bench, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (600.0,))
    there.answers[:] = [500]
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()):
        await bench.process(succeed)
        await until(lambda: said(bench, job, "the receiver answered 500"))
    async with Webhooks(bench.stores, there.settings()) as another:
        await another.sweep()
        await until(lambda: looked_at(another, job))
        bench.faults.calls.clear()
        await another.sweep()
        assert bench.reads() == 0, "what waits costs a pass nothing"
    assert len(there.told) == 1


async def looked_at(webhooks: Webhooks, job: Job) -> bool:
    return job.id in webhooks._not_before  # nothing else shows that it was looked at


async def test_gone_is_never_told_again(bench: Bench, there: Receiver) -> None:
    there.answers[:] = [410]
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()) as webhooks:
        await bench.process(succeed)
        await until(lambda: nothing_owed(bench))
        webhooks.soon(job.id)
    assert len(there.told) == 1
    assert (await standing(bench, job)).state == "gone"
    assert [facts["job"] for facts in bench.told("webhook.gone")] == [job.id]


async def test_it_is_given_up_after_its_time(bench: Bench, there: Receiver) -> None:
    there.answers[:] = [503] * 50
    job = await bench.submit(webhook=there.url)
    await bench.process(succeed)
    await swept(bench, there.settings(give_up=timedelta(seconds=0.2)), lambda: nothing_owed(bench))
    found = await standing(bench, job)
    assert (found.state, found.why) == ("given_up", "the receiver answered 503")
    assert 1 <= len(there.told) == found.tries


async def test_a_slow_receiver_holds_nothing_up(bench: Bench, there: Receiver) -> None:
    there.open.clear()
    async with told_by_worker(bench, there.settings()), receiver() as other:
        slow = [await bench.submit(webhook=there.url) for _ in range(10)]
        for _ in slow:
            await bench.process(succeed)
        assert await bench.counts() == (0, 0, 0), "the jobs are settled"
        assert there.told == []
        await until(lambda: waiting(there, module.AT_ONCE_TO_ONE))
        quick = await bench.submit(webhook=other.url)
        # Another receiver is told meanwhile, where the rules let it: here it is refused by its port, at once.
        await bench.process(succeed)
        await until(lambda: said(bench, quick, f"the port is none of those that are allowed: [{there.port}]"))
        there.open.set()
        await there.receives(10)
    assert there.waiting == 10


async def test_a_silent_receiver_with_many_jobs_does_not_take_the_places_of_all_who_wait(
    bench: Bench, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE_TO_ONE", 1)
    monkeypatch.setattr(module, "MOST_TO_ONE", 2)
    monkeypatch.setattr(module, "MOST_WAITING", 4)
    there.open.clear()
    async with told_by_worker(bench, there.settings()) as webhooks:
        for _ in range(6):
            await bench.submit(webhook=there.url)
            await bench.process(succeed)
        await until(lambda: waiting(there, 1))
        quick = await bench.submit(webhook=f"http://127.0.0.1:{there.port + 1}/hook")
        await bench.process(succeed)
        await until(lambda: said(bench, quick, f"the port is none of those that are allowed: [{there.port}]"))
        there.open.set()

        async def all_told() -> bool:
            await webhooks.sweep()
            return await owed(bench) == [quick.id]

        await until(all_told)
    assert len({told.id for told in there.told}) == 6


async def test_webhooks_owed_to_a_dead_receiver_hide_none_behind_them(
    bench: Bench, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OWED", 3)
    monkeypatch.setattr(module, "PAUSES", (600.0,) * 6)
    there.answers = [500] * 3
    jobs = [await bench.submit(webhook=there.url) for _ in range(4)]
    for _ in jobs:
        await bench.process(succeed)

    async def is_told() -> bool:
        return jobs[-1].id not in await owed(bench)

    await swept(bench, there.settings(), is_told)


async def test_no_answer_in_time_is_tried_again(bench: Bench, there: Receiver) -> None:
    there.open.clear()
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings(deadline=0.2)):
        await bench.process(succeed)
        await until(lambda: said(bench, job, "the address gave no answer that can be used"))
    assert await owed(bench) == [job.id]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "127.0.0.2", "[::ffff:127.0.0.1]"])
async def test_a_private_address_is_never_asked(bench: Bench, there: Receiver, host: str) -> None:
    """Also a name that leads there, and where the rules have changed since the submission."""
    allowed = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()):
        await bench.process(succeed)
        await until(lambda: nothing_owed(bench))
        assert there.told[0].id.startswith(allowed.id), "what is allowed reaches it"
    job = await bench.submit(webhook=f"http://{host}:{there.port}/canary")
    async with told_by_worker(bench, there.settings(networks=())) as webhooks:
        await bench.process(succeed)
        await until(lambda: tried(bench, job))
        await webhooks.sweep()
    assert there.waiting == 1
    assert await owed(bench) == [job.id]


async def tried(bench: Bench, job: Job) -> bool:
    found = await standing(bench, job)
    return found.tries > 0 and found.why != "no answer yet"


async def test_two_who_mean_to_deliver_do_it_once(bench: Bench, there: Receiver) -> None:
    job = await bench.submit(webhook=there.url)
    await bench.process(succeed)
    there.open.clear()
    async with Webhooks(bench.inner, there.settings()) as one, Webhooks(bench.inner, there.settings()) as two:
        for each in (one, two, one, two):
            each.soon(job.id)
        await until(lambda: waiting(there, 1))
        two.soon(job.id)
        there.open.set()
        await until(lambda: nothing_owed(bench))
    assert len(there.told) == 1


async def test_a_note_that_outlived_its_delivery_goes_without_another(bench: Bench, there: Receiver) -> None:
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()):
        bench.faults.refuse("jobs.drop_note")
        await bench.process(succeed)
        await until(lambda: said(bench, job, "the receiver answered 200"))
    assert await owed(bench) == [job.id]
    await swept(bench, there.settings(), lambda: nothing_owed(bench))
    assert len(there.told) == 1
