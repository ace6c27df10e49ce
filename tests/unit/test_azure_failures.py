"""What goes wrong between us and the account: each time one of our errors, in time, and without a secret."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient

from rolehost.errors import (
    AlreadyExistsError,
    ReceiptMismatchError,
    StoreForbiddenError,
    StoreThrottledError,
    StoreUnavailableError,
    VersionMismatchError,
)
from rolehost.stores import NewRow, Note
from rolehost.stores.azure_storage import AzureStores, transport
from rolehost.telemetry import subscribe
from support import azurite
from support.proxy import Proxy
from support.stores import unused

SERVICES = ("blob", "queue", "table")


@dataclass
class Bench:
    """Stores whose three services are behind proxies."""

    stores: AzureStores
    blob: Proxy
    queue: Proxy
    table: Proxy

    def calls(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """A call to each service."""
        table = self.stores.table(unused("table"))
        queue = self.stores.queue(unused("queue"))
        return {
            "blob": lambda: self.stores.blobs.put(unused("blob"), b"x"),
            "queue": lambda: queue.put("x", message_id="m"),
            "table": lambda: table.insert("k", {"n": 1}, tag="queued"),
        }

    def proxy(self, service: str) -> Proxy:
        chosen: Proxy = getattr(self, service)
        return chosen


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    server = azurite.shared()
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy("127.0.0.1", port)) for port in server.ports]
        stores = await AzureStores.open(server.connection(ports=[proxy.port for proxy in proxies]))
        stack.push_async_callback(stores.close)
        yield Bench(stores, *proxies)


def no_secret(error: BaseException) -> bool:
    shown = "".join(traceback.format_exception(error))
    return azurite.KEY[:12] not in shown and "SharedKey" not in shown and "sig=" not in shown


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_says_how_long_it_wants_to_be_left_alone(bench: Bench, service: str, status: int) -> None:
    call = bench.calls()[service]
    await call() if service != "table" else None
    bench.proxy(service).answer(status, {"Retry-After": "7", "x-ms-error-code": "ServerBusy"})
    before = bench.stores.transactions()[service]
    with pytest.raises(StoreThrottledError) as raised:
        await call()
    assert raised.value.retry_after == 7
    assert bench.stores.transactions()[service] == before + 1, "who asked decides when to ask again"
    assert "ServerBusy" in str(raised.value)
    bench.proxy(service).answer(503)
    with pytest.raises(StoreThrottledError) as raised:
        await call()
    assert raised.value.retry_after is None
    await call()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_names_the_store_and_no_secret(bench: Bench, service: str, status: int) -> None:
    bench.proxy(service).answer(
        status, {"x-ms-error-code": "AuthenticationFailed"}, b"The MAC signature SharedKey is not the same"
    )
    with pytest.raises(StoreForbiddenError) as raised:
        await bench.calls()[service]()
    assert raised.value.store
    assert raised.value.store in str(raised.value)
    assert no_secret(raised.value)


async def test_a_wrong_key_is_a_refusal() -> None:
    stores = await AzureStores.open(azurite.shared().connection("own0000").replace(azurite.OWN_KEY, "d3Jvbmcta2V5"))
    try:
        for call in (
            stores.table("jobs").read("k"),
            stores.queue("jobs").put("x", message_id="m"),
            stores.blobs.facts("a/b"),
        ):
            with pytest.raises(StoreForbiddenError) as raised:
                await call
            assert "d3Jvbmc" not in "".join(traceback.format_exception(raised.value))
    finally:
        await stores.close()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [500, 408])
async def test_an_error_of_the_service_proves_nothing(bench: Bench, service: str, status: int) -> None:
    bench.proxy(service).answer(status)
    with pytest.raises(StoreUnavailableError) as raised:
        await bench.calls()[service]()
    assert not isinstance(raised.value, StoreThrottledError | StoreForbiddenError)


@pytest.mark.parametrize("service", SERVICES)
async def test_nobody_there(bench: Bench, service: str) -> None:
    call = bench.calls()[service]
    bench.proxy(service).down()
    with pytest.raises(StoreUnavailableError) as raised:
        await call()
    assert no_secret(raised.value)
    bench.proxy(service).up()
    await call()


async def test_a_silent_service_is_given_up_sooner_where_answers_were_quick(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SHORTEST", 0.5)
    calls = bench.calls()
    for _ in range(60):
        await calls["queue"]()
    bench.queue.freeze()
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="no answer in time"):
        await calls["queue"]()
    assert time.monotonic() - began < transport.LONGEST / 2
    bench.queue.thaw()
    await calls["queue"]()


async def test_a_lost_answer_of_a_write_is_found_in_the_row(bench: Bench) -> None:
    table = bench.stores.table(unused("table"))
    version = await table.insert("k", {"n": 1}, tag="queued")
    bench.table.lose_answer(matching="POST")
    with pytest.raises(StoreUnavailableError):
        await table.write("k", version, {"n": 2}, tag="running")
    row = await table.read("k")
    assert row is not None
    assert (row.fields, row.tag) == ({"n": 2}, "running")
    with pytest.raises(VersionMismatchError):
        await table.write("k", version, {"n": 3})
    assert [found.key for found in (await table.list(tag="running")).rows] == ["k"]
    assert (await table.counts()).by_tag == {"running": 1}


@pytest.mark.parametrize("code", ["EntityTooLarge", "TooManyProperties"])
@pytest.mark.parametrize("tag", [None, "running"])
async def test_a_row_that_is_full_of_what_went_away_is_written_whole(bench: Bench, code: str, tag: str | None) -> None:
    """A merge takes no property away: the emulator doesn't mind, the service does at some time."""
    table = bench.stores.table(unused("table"))
    version = await table.insert("k", {"long": "x" * 200_000, "stays": 1, "goes": 2}, tag="queued")
    version = await table.write("k", version, {"long": "short", "goes": None})
    bench.table.answer(400, {"x-ms-error-code": code}, matching="POST")
    with pytest.raises(VersionMismatchError):
        await table.write("k", version.replace("|", "0|"), {"n": 1})
    bench.table.answer(400, {"x-ms-error-code": code}, matching="POST")
    await table.write("k", version, {"n": 1}, tag=tag)
    row = await table.read("k")
    assert row is not None
    assert row.fields == {"long": "short", "stays": 1, "n": 1}
    assert row.tag == (tag or "queued")
    server = azurite.shared()
    async with TableServiceClient.from_connection_string(server.connection()) as client:
        (entity,) = [each async for each in client.get_table_client(table.name).query_entities("RowKey eq 'ak'")]
    assert set(entity) == {"PartitionKey", "RowKey", "rh_tag", "long", "stays", "n"}


async def test_a_message_that_can_not_be_put_leaves_a_row_and_a_note(bench: Bench) -> None:
    told: list[tuple[str, dict[str, object]]] = []
    forget = subscribe(lambda event, facts: told.append((event, facts)))
    table, queue = bench.stores.table(unused("table")), bench.stores.queue(unused("queue"))
    row = NewRow(
        table=table.name, key="k", fields={"n": 1}, tag="queued", queue=queue.name, message_id="k:0", message=str
    )
    bench.queue.down()
    try:
        version = await bench.stores.submit(row)
    finally:
        forget()
    assert (await table.read("k")) is not None
    assert await table.notes("outbox") == [Note("outbox", "k")]
    ((event, facts),) = [each for each in told if each[0] == "job.enqueue_deferred"]
    assert (event, facts["job"], facts["queue"]) == ("job.enqueue_deferred", "k", queue.name)
    bench.queue.up()
    assert not await queue.peek(1)
    assert await table.write("k", version, {}, tag="running"), "the row is as it was answered"


async def test_a_lost_answer_of_a_settlement_is_a_refused_receipt_at_the_next(bench: Bench) -> None:
    queue = bench.stores.queue(unused("queue"))
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=30)
    bench.queue.lose_answer(matching="DELETE")
    with pytest.raises(StoreUnavailableError):
        await queue.complete(message)
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(message)


async def test_a_lost_answer_of_an_upload_is_not_taken_for_another_ones_blob(bench: Bench) -> None:
    name = unused("blob")
    await bench.stores.blobs.put(unused("blob"), b"x")  # the connection is kept: on it the client would ask again
    bench.blob.lose_answer(matching="PUT")
    with pytest.raises(StoreUnavailableError):
        await bench.stores.blobs.put(name, b"content")
    with pytest.raises(AlreadyExistsError):
        await bench.stores.blobs.put(name, b"content")
    assert (await bench.stores.blobs.facts(name)).size == 7


async def test_a_read_is_asked_again_when_its_connection_is_cut(bench: Bench) -> None:
    table = bench.stores.table(unused("table"))
    await table.insert("k", {"n": 1})
    bench.table.lose_answer(matching="GET")
    row = await table.read("k")
    assert row is not None
    assert row.fields == {"n": 1}


async def test_a_download_that_breaks_off_leaves_no_file(bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "target"
    name = unused("blob")
    await bench.stores.blobs.put(name, bytes(20_000_000))
    bench.blob.latency = 0.002
    download = asyncio.create_task(bench.stores.blobs.download(name, target))
    while not target.exists() or not target.stat().st_size:
        assert not download.done()
        await asyncio.sleep(0.01)
    bench.blob.down()
    with pytest.raises(StoreUnavailableError):
        await download
    assert not target.exists()


async def test_what_is_used_after_closing_is_told(bench: Bench) -> None:
    calls = bench.calls()
    await bench.stores.blobs.put(unused("blob"), b"x")
    await bench.stores.close()
    await bench.stores.close()
    for call in calls.values():
        with pytest.raises(StoreUnavailableError):
            await call()
