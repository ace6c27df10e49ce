"""What the Azure Storage engine does beyond the contracts: first use, foreign messages, long bodies, costs, counts."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from rolehost.errors import AlreadyExistsError, NotFoundError, ReceiptMismatchError
from rolehost.stores import NewRow, Note, QueueCounts, Table
from rolehost.stores.azure_storage import AzureStores, blobs, tables, tallies
from rolehost.stores.azure_storage.envelope import Envelope, decode
from rolehost.stores.azure_storage.poison import poison_name
from support import azurite
from support.stores import receive


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[AzureStores]:
    """An account that nothing was ever stored in."""
    opened = await AzureStores.open(azurite.own_account(tmp_path))
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[QueueServiceClient]:
    """Another program's client on the same account."""
    async with QueueServiceClient.from_connection_string(azurite.own_account(tmp_path), **azurite.CLIENT) as client:
        yield client


def new_row(number: int, body: str = "{}") -> NewRow:
    return NewRow(
        table="jobs",
        key=f"job-{number:04}",
        fields={"n": number},
        tag="queued",
        queue="work",
        message_id=f"job-{number:04}:0",
        message=lambda version: f"{version} {body}",
    )


async def test_everything_is_made_on_first_use_by_many_at_once(stores: AzureStores, tmp_path: Path) -> None:
    other = await AzureStores.open(azurite.own_account(tmp_path))
    try:
        both = (stores, other)
        await asyncio.gather(*(both[number % 2].submit(new_row(number)) for number in range(16)))
        await asyncio.gather(*(both[number % 2].blobs.put(f"inputs/{number}/a", b"x") for number in range(16)))
        assert len((await stores.table("jobs").list()).rows) == 16
        assert len((await other.blobs.list()).names) == 16
        assert await other.queues() == ["work"]
    finally:
        await other.close()


async def test_nothing_is_made_by_looking(stores: AzureStores, tmp_path: Path) -> None:
    table = stores.table("jobs")
    assert await table.read("k") is None
    assert not (await table.list()).rows
    assert not (await table.list(tag="queued")).rows
    assert not await table.notes("outbox")
    assert (await table.counts()).by_tag == {}
    assert not (await stores.blobs.list()).names
    assert await stores.queue("work").counts() == QueueCounts(visible=0, hidden=0, dead=0)
    assert not await stores.queue("work").peek(1)
    assert not await stores.queues()
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        assert [table.name async for table in client.list_tables()] == []


async def test_what_somebody_deletes_is_made_again(
    stores: AzureStores, queues: QueueServiceClient, tmp_path: Path
) -> None:
    await stores.submit(new_row(1))
    await stores.blobs.put("inputs/1/a", b"x")
    await queues.delete_queue("work")
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        await client.delete_table("jobs")
    async with BlobServiceClient.from_connection_string(azurite.own_account(tmp_path), **azurite.CLIENT) as client:
        await client.delete_container("rolehost")
    with pytest.raises(NotFoundError):
        await stores.blobs.facts("inputs/1/a")
    assert not await stores.queue("work").receive(1, hide=30)
    await stores.submit(new_row(1))
    await stores.blobs.put("inputs/1/a", b"x")
    assert len(await receive(stores.queue("work"))) == 1


@pytest.mark.parametrize(
    "foreign", ["no base64 ÿ", b64encode(b"base64 of another's").decode(), b64encode(b"\xff").decode()]
)
async def test_a_message_of_another_program_is_its_own_body(
    stores: AzureStores, queues: QueueServiceClient, foreign: str
) -> None:
    queue = stores.queue("work")
    await queue.put("ours", message_id="m")
    await queues.get_queue_client("work").send_message(foreign)
    first, second = await receive(queue, 2)
    assert (first.id, first.body) == ("m", "ours")
    assert second.body in {foreign, "base64 of another's"}
    await queue.dead_letter(second, reason="malformed")
    (dead,) = (await queue.dead(5)).messages
    assert (dead.body, dead.reason) == (second.body, "malformed")
    assert await queue.remove_dead(second.id)


@pytest.mark.parametrize(
    "plain",
    [
        'rolehost1{"id":"m","blob":"../inputs/other"}\n',
        'rolehost1{"id":"m","blob":"work/' + "x" * 2000 + '"}\n',
        'rolehost1{"id":"\\ud800"}\nbody',
        "rolehost1" + "[" * 40_000 + "\n",
        "rolehost1[]\n",
        'rolehost1{"body":"no id"}\n',
        "rolehost1{",
    ],
)
def test_a_message_that_only_looks_like_ours_is_its_own_body(plain: str) -> None:
    """It could name a blob of somebody else's, and an error here would end the worker that receives it."""
    assert decode(b64encode(plain.encode()).decode(), "its id") == Envelope(id="its id", body=plain)


async def test_a_long_body_is_a_blob_for_as_long_as_its_message(stores: AzureStores, tmp_path: Path) -> None:
    queue = stores.queue("work")
    longest = "é" * (queue.limits.largest_message // 2)
    await queue.put(longest, message_id="m")
    (message,) = await receive(queue)
    assert message.body == longest
    message = await queue.renew(message, hide=30)
    message = await queue.renew(message, hide=30, body=longest[:-1] + "x")
    await queue.release(message)
    (message,) = await receive(queue)
    assert message.body == longest[:-1] + "x"
    await queue.dead_letter(message, reason="r", description="d")
    (dead,) = await queue.peek(1, dead=True)
    assert (dead.body, dead.reason, dead.description) == (message.body, "r", "d")
    assert await queue.remove_dead("m")
    await queue.put(longest, message_id="n")
    (message,) = await receive(queue)
    await queue.complete(message)
    async with BlobServiceClient.from_connection_string(azurite.own_account(tmp_path), **azurite.CLIENT) as client:
        container = client.get_container_client("rolehost-messages")
        assert [name async for name in container.list_blob_names()] == []


async def test_a_message_whose_blob_is_gone_does_not_hold_up_the_others(stores: AzureStores, tmp_path: Path) -> None:
    queue = stores.queue("work")
    await queue.put("x" * 60_000, message_id="m")
    await queue.put("ours", message_id="n")
    async with BlobServiceClient.from_connection_string(azurite.own_account(tmp_path), **azurite.CLIENT) as client:
        await client.delete_container("rolehost-messages")
    first, second = await receive(queue, 2)
    assert (first.id, second.id, second.body) == ("m", "n", "ours")
    assert "which is gone" in first.body
    await queue.complete(first)


async def test_a_dead_letter_that_left_no_trace_is_found_by_looking(
    stores: AzureStores, queues: QueueServiceClient, tmp_path: Path
) -> None:
    queue = stores.queue("work")
    for number in range(40):
        await queue.put("x", message_id=f"m-{number}")
    for _ in range(2):
        for message in await receive(queue, 20):
            await queue.dead_letter(message, reason="r")
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        await client.delete_table("rolehostdeadletters")
    assert (await queue.dead(40)).cut
    assert await queue.remove_dead("m-39")
    assert not await queue.remove_dead("m-39")
    assert (await queue.counts()).dead == 39
    (found,) = [each async for each in queues.get_queue_client("work-poison").receive_messages(max_messages=1)]
    assert await queue.remove_dead("m-3"), "somebody else received one: the rest can still be found"
    assert found.dequeue_count


def test_a_poison_queue_has_a_name_that_a_queue_may_have() -> None:
    assert poison_name("thumbnail-jobs") == "thumbnail-jobs-poison"
    long = {poison_name("q" * 62 + last) for last in "abc"}
    assert len(long) == 3
    assert all(len(name) <= 63 and name.endswith("-poison") and "--" not in name for name in long)


async def test_what_a_job_costs(stores: AzureStores, tmp_path: Path) -> None:
    """Claim, download, upload, commit, delete: five requests, and a receive for the whole batch."""
    table, queue = stores.table("jobs"), stores.queue("work")
    await asyncio.gather(*(stores.submit(new_row(number)) for number in range(32)))
    await stores.blobs.put("inputs/source", b"x" * 1000)
    before = sum(stores.transactions().values())
    messages = await queue.receive(32, hide=60)
    assert len(messages) == 32
    for message in messages:
        version = message.body.removesuffix(" {}")
        key = message.id.partition(":")[0]
        version = await table.write(key, version, {"token": "t"}, tag="running")
        await stores.blobs.download("inputs/source", tmp_path / key)
        await stores.blobs.put(f"results/{key}/1-t/a", b"y" * 1000)
        await table.write(key, version, {"token": None, "result": "a"}, tag="completed")
        await queue.complete(message)
    spent = sum(stores.transactions().values()) - before
    assert spent <= 32 * 5.1


async def add_rows(table: Table, numbers: range) -> None:
    await asyncio.gather(*(table.insert(f"k-{n:05}", {"n": n}, tag="odd" if n % 2 else "even") for n in numbers))


async def test_a_list_costs_the_same_however_long_the_table_is(
    stores: AzureStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_FEW", 20)
    table = stores.table("jobs")

    async def cost(tag: str | None, *, newest_first: bool) -> int:
        before = stores.transactions()["table"]
        assert len((await table.list(tag=tag, limit=5, newest_first=newest_first)).rows) == 5
        return stores.transactions()["table"] - before

    await add_rows(table, range(12))
    questions = [(tag, order) for tag in (None, "odd") for order in (True, False)]
    assert {await cost(tag, newest_first=order) for tag, order in questions} == {1}
    await add_rows(table, range(12, 30))
    await table.list()  # finds out
    long = [await cost(tag, newest_first=order) for tag, order in questions]
    assert max(long) <= 16 + 5
    await add_rows(table, range(30, 90))
    assert [await cost(tag, newest_first=order) for tag, order in questions] == long


@pytest.mark.parametrize("tag", [None, "odd", "never"])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_large_table_is_listed_like_a_small_one(
    stores: AzureStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, tag: str | None, newest_first: bool
) -> None:
    small = stores.table("jobs")
    await add_rows(small, range(30))
    await small.insert("é🌍\uff21", {"n": 1}, tag="odd", notes=["outbox", "debt"])
    assert (await small.list()).rows
    monkeypatch.setattr(tables, "_FEW", 1)
    other = await AzureStores.open(azurite.own_account(tmp_path))
    large = other.table("jobs")
    try:
        cursor = None
        while True:
            page = await small.list(tag=tag, limit=7, cursor=cursor, newest_first=newest_first)
            assert await large.list(tag=tag, limit=7, cursor=cursor, newest_first=newest_first) == page
            if (cursor := page.cursor) is None:
                break
        assert (await small.counts()).by_tag == (await large.counts()).by_tag == {"odd": 16, "even": 15}
        assert await small.notes("outbox") == await large.notes("outbox") == [Note("outbox", "é🌍\uff21")]
    finally:
        await other.close()


async def _sums(table: Table, tmp_path: Path) -> tuple[int, int]:
    """How many sums and differences are in the table."""
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        found = [
            str(entity["RowKey"])
            async for entity in client.get_table_client(table.name).query_entities("RowKey ge 'c' and RowKey lt 'd'")
        ]
    return found.count("c!"), sum(each != "c!" for each in found)


async def test_counts_stay_exact_while_differences_are_added_up(
    stores: AzureStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_FEW", 1)
    monkeypatch.setattr(tallies, "_FRESH", 0.0)
    monkeypatch.setattr(tallies, "_ADD_UP_AFTER", 6)
    monkeypatch.setattr(tallies, "_AT_ONCE", 4)
    other = await AzureStores.open(azurite.own_account(tmp_path))
    try:
        both = [stores.table("jobs"), other.table("jobs")]
        await both[0].insert("first", {}, tag="queued")

        async def live(number: int) -> None:
            table = both[number % 2]
            version = await table.insert(f"k-{number}", {}, tag="queued")
            version = await table.write(f"k-{number}", version, {}, tag="running")
            if number % 3:
                await table.write(f"k-{number}", version, {}, tag="completed")
            else:
                await table.delete(f"k-{number}", version)

        for begin in range(0, 60, 20):
            await asyncio.gather(*(live(number) for number in range(begin, begin + 20)))
            seen = (await both[0].counts()).by_tag
            assert seen == {"queued": 1, "completed": (begin + 20) - len(range(0, begin + 20, 3))}
        sums, differences = await _sums(both[0], tmp_path)
        assert sums >= 10
        assert differences < 150, "of 181 that were made"
        assert (await both[1].counts()).by_tag == {"queued": 1, "completed": 40}
    finally:
        await other.close()


async def test_many_who_look_at_the_counts_cost_one_look(stores: AzureStores) -> None:
    table = stores.table("jobs")
    await table.insert("k", {}, tag="queued")
    before = stores.transactions()["table"]
    answers = await asyncio.gather(*(stores.table("jobs").counts() for _ in range(20)))
    assert stores.transactions()["table"] - before == 1
    assert {answer.as_of for answer in answers} == {answers[0].as_of}


async def test_a_row_whose_list_entry_somebody_deleted_is_not_stuck(stores: AzureStores, tmp_path: Path) -> None:
    table = stores.table("jobs")
    version = await table.insert("k", {}, tag="queued")
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        entities = client.get_table_client("jobs")
        async for entity in entities.query_entities("RowKey gt 'b' and RowKey lt 'u'"):
            if not str(entity["RowKey"]).startswith("a"):
                await entities.delete_entity(entity)
    version = await table.write("k", version, {}, tag="running")
    assert [row.key for row in (await table.list(tag="running")).rows] == ["k"]
    await table.delete("k", version)
    assert await table.read("k") is None


async def test_a_row_has_no_more_companions_than_it_needs(stores: AzureStores, tmp_path: Path) -> None:
    table = stores.table("jobs")
    version = await table.insert("k", {}, tag="queued", notes=["outbox"])
    version = await table.write("k", version, {"n": 1}, tag="running")
    version = await table.write("k", version, {"n": 2}, tag="running")
    version = await table.write("k", version, {"n": 3}, tag="completed", notes=["debt"])
    assert await _row_keys(table, tmp_path) == {"ak", "n94~", "ocompleted:k", "tcompleted:94~", "xoutbox:k", "xdebt:k"}
    await table.delete("k", version)
    assert await _row_keys(table, tmp_path) == {"xoutbox:k", "xdebt:k"}, "what is owed outlives the row"


async def _row_keys(table: Table, tmp_path: Path) -> set[str]:
    """Everything in the table but what is counted."""
    async with TableServiceClient.from_connection_string(azurite.own_account(tmp_path)) as client:
        found = {str(entity["RowKey"]) async for entity in client.get_table_client(table.name).list_entities()}
    return {row_key for row_key in found if not row_key.startswith("c")}


async def test_two_large_uploads_of_one_name_never_mix(stores: AzureStores, tmp_path: Path) -> None:
    contents = [bytes([number]) * (blobs.LARGEST_SINGLE + 1000) for number in (1, 2)]
    sources = [tmp_path / "one", tmp_path / "two"]
    for source, content in zip(sources, contents, strict=True):
        source.write_bytes(content)
    outcomes = await asyncio.gather(
        *(stores.blobs.put("results/a", source) for source in sources), return_exceptions=True
    )
    assert sorted(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == [False, True]
    won = next(number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Exception))
    facts = await stores.blobs.download("results/a", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == contents[won]
    assert facts == outcomes[won]


async def test_a_blob_of_another_program_has_facts_too(stores: AzureStores, tmp_path: Path) -> None:
    await stores.blobs.put("ours", b"x")
    content = os.urandom(1000)
    async with BlobServiceClient.from_connection_string(azurite.own_account(tmp_path), **azurite.CLIENT) as client:
        await client.get_blob_client("rolehost", "theirs").upload_blob(content)
    facts = await stores.blobs.facts("theirs")
    assert facts.size == 1000
    assert facts == await stores.blobs.download("theirs", tmp_path / "target")


async def test_a_receive_that_is_cancelled_gives_back_also_when_the_stores_close(tmp_path: Path) -> None:
    stores = await AzureStores.open(azurite.own_account(tmp_path))
    await stores.queue("work").put("x", message_id="m")
    receiving = asyncio.create_task(stores.queue("work").receive(1, hide=600))
    await asyncio.sleep(0)
    receiving.cancel()
    with suppress(asyncio.CancelledError):
        await receiving
    await stores.close()
    again = await AzureStores.open(azurite.own_account(tmp_path))
    try:
        (message,) = await receive(again.queue("work"), within=5)
        await again.queue("work").complete(message)
        with pytest.raises(ReceiptMismatchError):
            await again.queue("work").complete(message)
    finally:
        await again.close()
