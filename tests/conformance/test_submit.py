"""What every engine's submit does: the row, and a message that can't be lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rolehost.errors import AlreadyExistsError, InvalidParameterError, LimitExceededError
from rolehost.stores import NewRow, Queue, Row, Stores, Table
from support.stores import receive, unused


def new_row(table: Table, queue: Queue, message: Callable[[str], str] = lambda version: f"v{version}") -> NewRow:
    return NewRow(
        table=table.name,
        key="k",
        fields={"n": 1, "nothing": None},
        tag="queued",
        queue=queue.name,
        message_id="k:1",
        message=message,
    )


async def test_row_and_message_are_there(stores: Stores, table: Table, queue: Queue) -> None:
    version = await stores.submit(new_row(table, queue))
    assert await table.read("k") == Row(key="k", version=version, tag="queued", fields={"n": 1})
    (message,) = await receive(queue)
    assert (message.id, message.body) == ("k:1", f"v{version}")
    assert await table.write("k", version, {}, tag="running"), "nothing touches the row in between"
    assert not await table.notes("outbox"), "the outbox is empty once the message is put"


async def test_a_taken_key_leaves_everything_as_it_was(stores: Stores, table: Table, queue: Queue) -> None:
    version = await table.insert("k", {"n": 0})
    with pytest.raises(AlreadyExistsError):
        await stores.submit(new_row(table, queue))
    assert await table.read("k") == Row(key="k", version=version, fields={"n": 0})
    assert not await queue.peek(1)


async def test_a_message_over_the_limit_leaves_no_row(stores: Stores, table: Table, queue: Queue) -> None:
    with pytest.raises(LimitExceededError):
        await stores.submit(new_row(table, queue, lambda _: "x" * (queue.limits.largest_message + 1)))
    assert await table.read("k") is None
    assert (await table.counts()).by_tag == {}
    assert not await queue.peek(1)


async def test_a_message_that_can_not_be_made_leaves_no_row(stores: Stores, table: Table, queue: Queue) -> None:
    def broken(version: str) -> str:
        raise RuntimeError(version)

    with pytest.raises(RuntimeError):
        await stores.submit(new_row(table, queue, broken))
    assert await table.read("k") is None
    assert not await queue.peek(1)


async def test_a_wrong_name_leaves_nothing(stores: Stores, table: Table, queue: Queue) -> None:
    row = new_row(table, queue)
    bad = NewRow(
        table=row.table,
        key=row.key,
        fields=row.fields,
        tag=row.tag,
        queue=unused("Bad_"),
        message_id=row.message_id,
        message=row.message,
    )
    with pytest.raises(InvalidParameterError):
        await stores.submit(bad)
    assert await table.read("k") is None
