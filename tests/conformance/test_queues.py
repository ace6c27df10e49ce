"""What every engine's queue does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from rolehost.errors import InvalidParameterError, LimitExceededError, ReceiptMismatchError
from rolehost.stores import Queue, QueueCounts, QueueMessage, Stores
from support.stores import Engine, process, receive, unused


async def test_a_message_comes_as_it_was_put(queue: Queue) -> None:
    await queue.put('{"job": "grün 🌍 \u0000 \n"}', message_id="m-1")
    (message,) = await queue.receive(1, hide=30)
    assert (message.id, message.body, message.dequeue_count) == ("m-1", '{"job": "grün 🌍 \u0000 \n"}', 1)
    assert message.receipt


async def test_messages_come_in_the_order_they_were_put(queue: Queue) -> None:
    for number in range(10):
        await queue.put(str(number), message_id=f"m-{number}")
    first = await queue.receive(4, hide=30)
    rest = await queue.receive(queue.limits.receives_per_call, hide=30)
    assert [message.body for message in [*first, *rest]] == [str(number) for number in range(10)]


async def test_a_received_message_is_hidden_and_comes_back(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (first,) = await queue.receive(1, hide=1)
    assert not await queue.receive(1, hide=1)
    began = time.monotonic()
    (second,) = await receive(queue)
    assert time.monotonic() - began > 0.5
    assert (second.id, second.dequeue_count) == ("m", 2)
    assert second.receipt != first.receipt


async def test_a_waiting_receiver_gets_what_another_one_let_go(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    assert len(await queue.receive(1, hide=600)) == 1
    waiting = asyncio.create_task(receive(queue, within=20))
    await asyncio.sleep(0.1)  # nothing tells that it waits
    await queue.put("y", message_id="m")
    (message,) = await waiting
    waiting = asyncio.create_task(receive(queue, within=20))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await queue.renew(message, hide=1)
    (again,) = await waiting
    assert again.body == "y"
    assert time.monotonic() - began < 3


async def test_a_delayed_message_comes_when_it_is_due(queue: Queue) -> None:
    waiting = asyncio.create_task(receive(queue))
    await asyncio.sleep(0)
    began = time.monotonic()
    await queue.put("later", message_id="m", delay=1)
    assert not await queue.receive(1, hide=30)
    (message,) = await waiting
    assert message.body == "later"
    assert 0.9 < time.monotonic() - began < 3


async def test_wait_ends_when_a_message_comes(queue: Queue) -> None:
    if not queue.capabilities.waits:
        assert not await queue.receive(1, hide=30, wait=1)
        return
    waiting = asyncio.create_task(queue.receive(1, hide=30, wait=20))
    await asyncio.sleep(0.2)  # nothing tells that it waits; too early would only be easier
    began = time.monotonic()
    await queue.put("x", message_id="m")
    assert [message.body for message in await waiting] == ["x"]
    assert time.monotonic() - began < 1


async def test_wait_ends_with_nothing_when_its_time_is_over(queue: Queue) -> None:
    began = time.monotonic()
    assert not await queue.receive(1, hide=30, wait=0.3)
    assert time.monotonic() - began < 3


async def test_wait_ends_when_another_process_puts(engine: Engine, tmp_path: Path, queue: Queue) -> None:
    async with process(engine.environ(tmp_path), "put", queue.name, "from afar") as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert await other.stdout.readline() == b"ready\n"
        waiting = asyncio.create_task(receive(queue))
        await asyncio.sleep(0.2)  # nothing tells that it waits; too early would only be easier
        other.stdin.write(b"\n")
        assert await other.stdout.readline() == b"put\n"
        began = time.monotonic()
        (message,) = await waiting
        assert message.body == "from afar"
        assert not queue.capabilities.waits or time.monotonic() - began < 1


async def test_each_of_many_waiters_gets_its_message(queue: Queue) -> None:
    waiting = [asyncio.create_task(receive(queue)) for _ in range(8)]
    await asyncio.sleep(0)
    for number in range(8):
        await queue.put(str(number), message_id=str(number))
    bodies = [message.body for messages in await asyncio.gather(*waiting) for message in messages]
    assert sorted(bodies) == [str(number) for number in range(8)]


async def test_a_cancelled_receive_keeps_no_message(queue: Queue) -> None:
    for turn in range(20):
        await queue.put("x", message_id="m")
        cancelled = asyncio.create_task(queue.receive(1, hide=600))
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        cancelled.cancel()
        try:
            (message,) = await cancelled
        except asyncio.CancelledError:
            (message,) = await receive(queue, within=5)
        assert message.dequeue_count in {1, 2}, "a broker may count what it gave in vain"
        await queue.complete(message)


async def test_a_completed_message_is_gone(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=1)
    await queue.complete(message)
    await asyncio.sleep(1.2)  # past its hiding: it would be visible again
    assert not await queue.receive(1, hide=30)
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(message)


async def test_renewing_hides_longer_and_voids_the_old_receipt(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=1)
    renewed = await queue.renew(message, hide=30)
    assert renewed.receipt != message.receipt
    assert (renewed.id, renewed.body, renewed.dequeue_count) == ("m", "x", 1)
    await asyncio.sleep(1.2)  # past its first hiding
    assert not await queue.receive(1, hide=30)
    for settle in (queue.complete, queue.release):
        with pytest.raises(ReceiptMismatchError):
            await settle(message)
    await queue.complete(renewed)


async def test_renewing_rewrites_the_body_where_the_engine_can(queue: Queue) -> None:
    await queue.put("old", message_id="m")
    (message,) = await queue.receive(1, hide=30)
    renewed = await queue.renew(message, hide=30, body="new")
    await queue.release(renewed)
    (again,) = await receive(queue)
    assert again.body == ("new" if queue.capabilities.rewrites_body else "old")


async def test_a_released_message_comes_back_at_once_or_later_with_another_body(queue: Queue) -> None:
    await queue.put("first", message_id="m")
    (message,) = await queue.receive(1, hide=600)
    await queue.release(message)
    (message,) = await receive(queue)
    assert message.body == "first"
    began = time.monotonic()
    await queue.release(message, delay=1, body="second")
    (again,) = await receive(queue)
    assert again.body == "second"
    assert time.monotonic() - began > 0.9
    with pytest.raises(ReceiptMismatchError):
        await queue.release(message)


async def test_a_later_receive_voids_the_receipt(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (late,) = await queue.receive(1, hide=1)
    (current,) = await receive(queue)
    for refused in (queue.complete(late), queue.release(late), queue.dead_letter(late, reason="r")):
        with pytest.raises(ReceiptMismatchError):
            await refused
    with pytest.raises(ReceiptMismatchError):
        await queue.renew(late, hide=30)
    assert not await queue.peek(1, dead=True)
    await queue.complete(current)


@pytest.mark.parametrize("receipt", ["", "x", "1", "1.", "1.x", "-1.x", "²." + "0" * 16, "99999999999999999999.aa"])
async def test_a_made_up_receipt_settles_nothing(queue: Queue, receipt: str) -> None:
    await queue.put("x", message_id="m")
    await queue.receive(1, hide=30)
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(QueueMessage(id="m", body="x", receipt=receipt))


async def test_a_receipt_of_another_queue_settles_nothing(stores: Stores, queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=30)
    with pytest.raises(ReceiptMismatchError):
        await stores.queue(unused("queue")).complete(message)
    await queue.complete(message)


async def test_a_dead_letter_has_its_reason_and_is_removed_by_id(queue: Queue) -> None:
    for number in range(3):
        await queue.put(f"body {number}", message_id=f"m-{number}")
    for message in await queue.receive(3, hide=30):
        await queue.dead_letter(message, reason="app_error", description=f"exit code 3 ({message.id}) ✗")
    assert not await queue.peek(5)
    dead = await queue.peek(5, dead=True)
    assert [(message.id, message.body, message.reason, message.description, message.receipt) for message in dead] == [
        (f"m-{number}", f"body {number}", "app_error", f"exit code 3 (m-{number}) ✗", "") for number in range(3)
    ]
    assert len(await queue.peek(2, dead=True)) == 2
    assert await queue.remove_dead("m-1")
    assert not await queue.remove_dead("m-1")
    assert [message.id for message in await queue.peek(5, dead=True)] == ["m-0", "m-2"]


async def all_dead(queue: Queue, limit: int, prefix: str = "") -> list[QueueMessage]:
    """Every page, each of a bearable size."""
    messages: list[QueueMessage] = []
    cursor = None
    while True:
        page = await queue.dead(limit, cursor=cursor, prefix=prefix)
        assert len(page.messages) <= limit
        messages += page.messages
        if (cursor := page.cursor) is None:
            assert not page.cut
            return messages


async def test_dead_letters_come_in_pages_the_oldest_first(queue: Queue) -> None:
    for number in range(7):
        await queue.put(f"body {number}", message_id=f"job-{number % 2}:{number}")
    for message in await queue.receive(7, hide=30):
        await queue.dead_letter(message, reason="orphan", description="no row")
    for limit in (1, 3, 7, 20):
        assert [message.body for message in await all_dead(queue, limit)] == [f"body {number}" for number in range(7)]
    first = (await queue.dead(1)).messages[0]
    assert (first.id, first.reason, first.description, first.receipt) == ("job-0:0", "orphan", "no row", "")
    assert [message.id for message in await all_dead(queue, 2, "job-1:")] == ["job-1:1", "job-1:3", "job-1:5"]
    assert await all_dead(queue, 5, "job-2:") == []
    assert (await queue.counts()).dead in {7, None}


async def test_a_cursor_of_dead_letters_outlives_the_removal_of_what_it_points_at(queue: Queue) -> None:
    for number in range(6):
        await queue.put("x", message_id=f"m-{number}")
    for message in await queue.receive(6, hide=30):
        await queue.dead_letter(message, reason="r")
    page = await queue.dead(3)
    if page.cut:  # this engine has no cursor: what comes next is first, once those before are gone
        assert page.cursor is None
    for message in page.messages:
        assert await queue.remove_dead(message.id)
    rest = await queue.dead(3, cursor=page.cursor)
    assert [message.id for message in rest.messages] == ["m-3", "m-4", "m-5"]


async def test_a_cursor_that_no_list_of_dead_letters_gave(queue: Queue) -> None:
    for cursor in ("", "x", "MQ", "MWFiYw", "²"):
        with pytest.raises(InvalidParameterError):
            await queue.dead(3, cursor=cursor)


async def test_queues_are_known_by_what_they_hold(stores: Stores, queue: Queue) -> None:
    other, empty = stores.queue(unused("queue")), stores.queue(unused("queue"))
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=30)
    assert queue.name in await stores.queues()
    await queue.dead_letter(message, reason="r")
    await other.put("x", message_id="m")
    await empty.counts()
    named = await stores.queues()
    assert {queue.name, other.name} <= set(named)
    assert list(named) == sorted(set(named))
    assert not any(name.endswith("-poison") for name in named)


async def test_a_dead_lettered_message_can_no_longer_be_settled(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    (message,) = await queue.receive(1, hide=30)
    await queue.dead_letter(message, reason="r")
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(message)
    assert len(await queue.peek(5, dead=True)) == 1


async def test_peeking_changes_nothing(queue: Queue) -> None:
    await queue.put("x", message_id="m")
    assert [(message.id, message.receipt) for message in await queue.peek(5)] == [("m", "")]
    (message,) = await queue.receive(1, hide=30)
    assert message.dequeue_count == 1
    assert not await queue.peek(5)


async def test_counts(queue: Queue) -> None:
    if not queue.capabilities.knows_depth:
        assert await queue.counts() == QueueCounts(visible=None, hidden=None, dead=None)
        return
    for number in range(4):
        await queue.put("x", message_id=str(number))
    await queue.put("x", message_id="late", delay=60)
    dying, _ = await queue.receive(2, hide=30)
    await queue.dead_letter(dying, reason="r")
    assert await queue.counts() == QueueCounts(visible=2, hidden=2, dead=1)


async def test_limits_are_kept(queue: Queue) -> None:
    limits = queue.limits
    largest = "é" * (limits.largest_message // 2)
    await queue.put(largest, message_id="m")
    (message,) = await queue.receive(1, hide=30)
    assert message.body == largest
    with pytest.raises(LimitExceededError):
        await queue.put(largest + "xx", message_id="m")
    with pytest.raises(LimitExceededError):
        await queue.put("x", message_id="m", delay=limits.longest_hiding + 1)
    with pytest.raises(LimitExceededError):
        await queue.receive(1, hide=limits.longest_hiding + 1)
    with pytest.raises(LimitExceededError):
        await queue.receive(limits.receives_per_call + 1, hide=30)
    with pytest.raises(LimitExceededError):
        await queue.receive(0, hide=30)
    with pytest.raises(LimitExceededError):
        await queue.release(message, body=largest + "xx")
    await queue.renew(message, hide=limits.longest_hiding)


@pytest.mark.parametrize("name", ["", "ab", "Upper", "under_score", "-a-b", "a-b-", "a--b", "x" * 64, "a/b", "ümlaut"])
async def test_names_that_no_queue_has(stores: Stores, name: str) -> None:
    with pytest.raises(InvalidParameterError):
        stores.queue(name)


async def test_text_that_is_no_unicode_is_refused(queue: Queue) -> None:
    with pytest.raises(InvalidParameterError):
        await queue.put("half a pair: \ud83d", message_id="m")
    assert not await queue.peek(1)


async def test_competing_receivers_never_share_a_message(queue: Queue) -> None:
    await asyncio.gather(*(queue.put(str(number), message_id=str(number)) for number in range(100)))
    taken: list[str] = []

    async def take() -> None:
        while messages := await queue.receive(3, hide=60):
            taken.extend(message.body for message in messages)

    await asyncio.gather(*(take() for _ in range(16)))
    assert Counter(taken) == Counter(str(number) for number in range(100))


async def test_competing_processes_never_share_a_message(engine: Engine, tmp_path: Path, queue: Queue) -> None:
    await asyncio.gather(*(queue.put(str(number), message_id=str(number)) for number in range(200)))
    async with (
        process(engine.environ(tmp_path), "take", queue.name) as one,
        process(engine.environ(tmp_path), "take", queue.name) as other,
    ):
        outputs = await asyncio.gather(one.communicate(), other.communicate())
    taken = [body for output, _ in outputs for body in output.decode().split()]
    assert Counter(taken) == Counter(str(number) for number in range(200))
