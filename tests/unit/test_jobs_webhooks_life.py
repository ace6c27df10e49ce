"""What happens around deliveries: secrets that change, replays, removals, stops, and what is never shown."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import KeyReusedError
from rolehost.jobs import webhooks as module
from rolehost.jobs.job import End
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.removal import remove_job
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.webhook_deliveries import DELIVERIES
from rolehost.stores.connect import connect
from support.jobs import Bench, open_bench, recorded, succeed, until
from support.receiver import KEY, SECRET, Receiver, receiver
from support.webhooks import nothing_owed, owed, said, standing, told_by_worker, waiting

OTHER_KEY = bytes(range(40))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as there:
        yield there


async def test_secrets_are_rotated_without_a_restart(bench: Bench, there: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    other = f"whsec_{base64.b64encode(OTHER_KEY).decode()}"
    file.write_text(f"{SECRET} # the first\n")
    settings = there.settings(secrets=(), secret_file=str(file))
    async with told_by_worker(bench, settings):
        for text in (f"{other}\n{SECRET}\n", f"{other}\n"):
            await bench.submit(webhook=there.url)
            await bench.process(succeed)
            await until(lambda: nothing_owed(bench))
            file.write_text(text)
        await bench.submit(webhook=there.url)
        await bench.process(succeed)
        await until(lambda: nothing_owed(bench))
    signed = [(told.is_signed_by(KEY), told.is_signed_by(OTHER_KEY)) for told in there.told]
    assert signed == [(True, False), (True, True), (False, True)]


async def test_without_a_secret_nothing_is_sent(bench: Bench, there: Receiver) -> None:
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings(secrets=())) as webhooks:
        await bench.process(succeed)
        why = "there is no secret to sign webhooks with: set Webhooks.SecretFile"
        await until(lambda: said(bench, job, why))
        bench.faults.calls.clear()
        await webhooks.sweep()
        await webhooks.sweep()
        assert bench.faults.calls.count("jobs.notes") == 1, "it costs next to nothing where no webhook is set up"
    assert there.waiting == 0
    assert await owed(bench) == [job.id]


async def test_a_replay_keeps_the_webhook(bench: Bench, there: Receiver) -> None:
    async with told_by_worker(bench, there.settings()):
        job = await bench.submit(webhook=there.url)
        await bench.end_once(End.BAD_INPUT)
        new = await PoisonDesk(bench.stores).replay(job.id)
        await bench.process(succeed)
        await there.receives(2)
    assert [told.id for told in there.told] == [f"{job.id}:failed", f"{new.id}:completed"]
    assert there.told[1].event["data"]["origin"] == job.id


async def test_a_job_that_was_removed_owes_nothing(bench: Bench, there: Receiver) -> None:
    there.answers[:] = [500]
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()) as webhooks:
        await bench.process(succeed)
        await until(lambda: said(bench, job, "the receiver answered 500"))
        await remove_job(bench.inner, await bench.row(job.id))
        assert await owed(bench) == []
        assert await bench.inner.table(DELIVERIES).read(job.id) is None
        webhooks.soon(job.id)
    assert len(there.told) == 1


async def test_what_is_on_its_way_arrives_when_its_process_stops(bench: Bench, there: Receiver) -> None:
    there.open.clear()
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()):
        await bench.process(succeed)
        await until(lambda: waiting(there, 1))
        asyncio.get_running_loop().call_later(0.1, there.open.set)
    assert len(there.told) == 1
    assert (await standing(bench, job)).state == "delivered"


async def test_a_stop_does_not_wait_for_a_slow_receiver(
    bench: Bench, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_MOMENT", 0.05)
    there.open.clear()
    job = await bench.submit(webhook=there.url)
    async with told_by_worker(bench, there.settings()):
        await bench.process(succeed)
        await until(lambda: waiting(there, 1))
    assert await owed(bench) == [job.id]
    found = await standing(bench, job)
    assert (found.state, found.tries, found.why) == ("owed", 1, "no answer yet"), "the try counts"


async def test_the_same_key_with_another_webhook_is_another_request(bench: Bench, there: Receiver) -> None:
    asked = bench.asked(key="k", webhook=there.url)
    job = await bench.submitter.submit(asked)
    assert (await bench.submitter.submit(replace(asked))).id == job.id
    with pytest.raises(KeyReusedError):
        await bench.submitter.submit(replace(asked, webhook=f"{there.url}/other"))


async def test_the_url_is_in_row_and_message_and_shown_nowhere(tmp_path: Path) -> None:
    facts: list[tuple[str, dict[str, Any]]] = []
    async with connect({"ROLEHOST_DATA": str(tmp_path)}) as stores:
        asset = tmp_path / "asset"
        asset.write_bytes(b"x")
        with recorded(facts):
            job = await Submitter(stores).submit(
                Submission(path=asset, name="a", kind="work", webhook="https://u.example:444/token?key=1")
            )
        found = await JobTable(stores.table(TABLE)).read(job.id)
    assert found is not None
    assert found.spec.webhook == "https://u.example:444/token?key=1"
    assert found.to_json()["webhook"] == "https://u.example:444"
    assert "token" not in repr(facts)
