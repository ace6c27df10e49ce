"""Numbers as leased rows, on the real engine: taken, renewed, given back, and taken from the dead."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import InstanceLostError, StoreError
from rolehost.host.directory.rows import TABLE, Holding, InstanceRows, facts_of, process_name
from rolehost.host.directory.status import stored_status
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from rolehost.telemetry import subscribe
from rolehost.testing import Faults, FaultyStores
from support.directory import MovedClock
from support.directory import facts_of as told

LEASE = 45.0
ELSEWHERE = "another-boot/pid:[1]/77/5"


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as opened:
        yield opened


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    return MovedClock(monkeypatch)


def rows_of(stores: Stores, holder: str = ELSEWHERE) -> InstanceRows:
    return InstanceRows(stores.table(TABLE), lease=LEASE, holder=holder)


async def take(rows: InstanceRows, token: str, **more: int) -> Holding | None:
    """A number, if there is one now."""
    try:
        async with asyncio.timeout(0.2):
            return await rows.take("Role", token=token, **more)
    except TimeoutError:
        return None


async def taken(rows: InstanceRows, token: str, **more: int) -> Holding:
    holding = await take(rows, token, **more)
    assert holding is not None
    return holding


async def test_the_lowest_free_number_is_taken(stores: Stores) -> None:
    first, second, third = (rows_of(stores) for _ in range(3))
    assert (await taken(first, "a")).number == 0
    assert (await taken(second, "b")).number == 1
    held = await taken(third, "c")
    assert held.number == 2
    assert held.instance == "Role_IN_2"
    await first.release(await taken(first, "a"), {})
    assert (await taken(rows_of(stores), "d")).number == 0


async def test_numbers_of_roles_are_apart(stores: Stores) -> None:
    assert (await taken(rows_of(stores), "a")).number == 0
    assert (await rows_of(stores).take("Other", token="b")).instance == "Other_IN_0"  # noqa: S106 - a lease's token


async def test_a_count_is_not_exceeded_and_the_next_waits_for_a_free_one(stores: Stores) -> None:
    first = await taken(rows_of(stores), "a", count=1)
    waiting = asyncio.create_task(rows_of(stores).take("Role", count=1, token="b"))  # noqa: S106 - a lease's token
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await rows_of(stores).release(first, {})
    assert (await asyncio.wait_for(waiting, 5)).number == 0


async def test_a_wanted_number_is_taken_and_no_other(stores: Stores) -> None:
    assert (await taken(rows_of(stores), "a", wanted=3)).number == 3
    assert await take(rows_of(stores), "b", wanted=3) is None


async def test_many_at_once_get_distinct_numbers(stores: Stores) -> None:
    wanted = [rows_of(stores).take("Role", token=f"t{number}") for number in range(20)]
    assert sorted([holding.number for holding in await asyncio.gather(*wanted)]) == list(range(20))


async def test_a_row_that_stood_still_for_a_lease_is_taken_over(stores: Stores, moved: MovedClock) -> None:
    lost = await taken(rows_of(stores), "dead")
    taker = rows_of(stores)
    assert await take(taker, "taker", count=1) is None, "seen for the first time: it may be alive"
    moved.monotonic = LEASE - 5
    assert await take(taker, "taker", count=1) is None
    moved.monotonic = LEASE + 1
    assert (await taken(taker, "taker", count=1)).number == 0
    with pytest.raises(InstanceLostError):
        await rows_of(stores).renew(lost, {})


async def test_a_renewed_row_is_never_taken_over(stores: Stores, moved: MovedClock) -> None:
    holding = await taken(rows_of(stores), "alive")
    taker = rows_of(stores)
    for step in range(1, 6):
        assert await take(taker, "taker", count=1) is None
        moved.monotonic = step * (LEASE - 5)
        holding = await rows_of(stores).renew(holding, {})
    assert await take(taker, "taker", count=1) is None


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_jump_of_the_wall_clock_frees_nothing(stores: Stores, moved: MovedClock, days: int) -> None:
    await taken(rows_of(stores), "alive")
    taker = rows_of(stores)
    assert await take(taker, "taker", count=1) is None
    moved.wall = days * 86400
    assert await take(taker, "taker", count=1) is None


async def test_the_lease_that_the_holder_promised_counts(stores: Stores, moved: MovedClock) -> None:
    await InstanceRows(stores.table(TABLE), lease=10 * LEASE, holder=ELSEWHERE).take("Role", token="slow")  # noqa: S106 - a lease's token
    taker = rows_of(stores)
    assert await take(taker, "taker", count=1) is None
    moved.monotonic = 5 * LEASE
    assert await take(taker, "taker", count=1) is None


async def test_the_number_of_a_process_that_ended_on_this_machine_is_free_at_once(stores: Stores) -> None:
    child = await asyncio.create_subprocess_exec("sleep", "60")
    await taken(rows_of(stores, process_name(child.pid)), "child")
    assert await take(rows_of(stores), "taker", count=1) is None, "it lives"
    child.kill()
    await child.wait()
    assert (await taken(rows_of(stores), "taker", count=1)).number == 0


async def test_a_pid_that_is_used_again_is_another_process(stores: Stores) -> None:
    ours = process_name(os.getpid())
    await taken(rows_of(stores, ours.rpartition("/")[0] + "/1"), "the one before us")
    assert (await taken(rows_of(stores), "taker", count=1)).number == 0


@pytest.mark.parametrize("call", ["instances.insert", "instances.write"])
async def test_a_lost_answer_costs_no_second_number(stores: Stores, call: str) -> None:
    if call.endswith("write"):
        await rows_of(stores).release(await taken(rows_of(stores), "before"), {})
    faults = Faults()
    faults.lose_answer(call)
    rows = rows_of(FaultyStores(stores, faults))
    holding = await _again(rows)
    assert holding.number == 0
    assert faults.fired == [call]
    await rows_of(stores).renew(holding, {})


async def _again(rows: InstanceRows) -> Holding:
    """As the helper does it."""
    for _ in range(3):
        try:
            return await rows.take("Role", token="ours")  # noqa: S106 - a lease's token
        except StoreError:
            continue
    raise AssertionError


async def test_a_renewal_goes_on_after_a_lost_answer(stores: Stores) -> None:
    faults = Faults()
    rows = rows_of(FaultyStores(stores, faults))
    holding = await taken(rows, "ours")
    faults.lose_answer("instances.write")
    with pytest.raises(StoreError):
        await rows.renew(holding, told("Role_IN_0", detail="first"))
    renewed = await rows.renew(holding, told("Role_IN_0", detail="second"))
    assert renewed.version != holding.version
    assert (await stored_status(stores))[0]["detail"] == "second"


async def test_a_row_that_somebody_removed_is_written_again(stores: Stores) -> None:
    rows = rows_of(stores)
    holding = await taken(rows, "ours")
    await stores.table(TABLE).delete(holding.instance, holding.version)
    await rows.renew(holding, told("Role_IN_0"))
    assert [facts["state"] for facts in await stored_status(stores)] == ["Ready"]


async def test_a_number_given_back_late_is_left_to_its_new_holder(stores: Stores, moved: MovedClock) -> None:
    slow = await taken(rows_of(stores), "slow")
    taker = rows_of(stores)
    await take(taker, "taker", count=1)
    moved.monotonic = LEASE + 1
    await taken(taker, "taker", count=1)
    await rows_of(stores).release(slow, {})
    row = await stores.table(TABLE).read("Role_IN_0")
    assert row is not None
    assert row.fields["token"] == "taker"  # noqa: S105 - a lease's token


async def test_resuming_takes_what_is_ours_and_nothing_else(stores: Stores) -> None:
    await taken(rows_of(stores), "ours")
    assert (await rows_of(stores).resume("Role", 0, "ours")).number == 0
    with pytest.raises(InstanceLostError):
        await rows_of(stores).resume("Role", 0, "another")


async def test_the_state_is_unknown_once_the_lease_ran_out(stores: Stores, moved: MovedClock) -> None:
    rows = rows_of(stores)
    holding = await rows.renew(await taken(rows, "a"), told("Role_IN_0", detail="Serving."))
    (facts,) = await stored_status(stores)
    assert (facts["state"], facts["status"], facts["detail"]) == ("Ready", "ReadyRole", "Serving.")
    last = facts["heartbeat_at"]
    moved.wall = LEASE + 1
    (facts,) = await stored_status(stores)
    assert (facts["state"], facts["status"], facts["heartbeat_at"]) == ("Unknown", "RoleStateUnknown", last)
    assert facts["detail"] == f"No heartbeat since {last[:10]} {last[11:19]}Z; it was Ready then."
    await rows.release(holding, told("Role_IN_0"))
    (facts,) = await stored_status(stores)
    assert (facts["state"], facts["pid"]) == ("Stopped", None)


async def test_peers_are_those_that_live(stores: Stores, moved: MovedClock) -> None:
    rows = rows_of(stores)
    holding = await taken(rows, "alive")
    await taken(rows_of(stores), "dead")
    await rows_of(stores).release(await taken(rows_of(stores), "gone"), {})
    watcher = rows_of(stores)
    assert [row.key for row in await watcher.live()] == ["Role_IN_0", "Role_IN_1"]
    moved.monotonic = moved.wall = LEASE + 1
    await rows.renew(holding, {})
    assert [row.key for row in await watcher.live()] == ["Role_IN_0"]
    assert [row.key for row in await rows_of(stores).live()] == ["Role_IN_0"], "nor does who comes later believe it"


async def test_rows_of_the_dead_go_after_a_while(stores: Stores, moved: MovedClock) -> None:
    await rows_of(stores).release(await taken(rows_of(stores), "a"), {})
    await taken(rows_of(stores), "b", wanted=1)
    rows = rows_of(stores)
    await rows.prune(3600)
    assert [facts["instance"] for facts in await stored_status(stores)] == ["Role_IN_0", "Role_IN_1"]
    moved.wall = 3601
    await rows.prune(3600)
    assert [facts["instance"] for facts in await stored_status(stores)] == ["Role_IN_1"], "its lease is not over yet"
    moved.monotonic = LEASE + 1
    await rows.prune(3600)
    assert await stored_status(stores) == []


async def test_the_largest_crash_fits_a_field(stores: Stores) -> None:
    crash = {"at": "", "reason": "it crashed", "exit_code": 1, "signal": None, "stage": "run", "stderr": "\0" * 400_000}
    rows = rows_of(stores)
    await rows.renew(await taken(rows, "a"), told("Role_IN_0", last_crash=crash, detail="x" * 100_000))
    row = await stores.table(TABLE).read("Role_IN_0")
    assert row is not None
    assert len(str(row.fields["facts"])) < 32_000
    assert facts_of(row)["state"] == "Ready"


async def test_status_is_sorted_by_number(stores: Stores) -> None:
    for number in (10, 9, 1):
        await rows_of(stores).take("Role", wanted=number, token=f"t{number}")
    assert [facts["instance"] for facts in await stored_status(stores)] == ["Role_IN_1", "Role_IN_9", "Role_IN_10"]


async def test_a_row_that_a_later_look_did_not_find_stands_still_for_no_time(stores: Stores, moved: MovedClock) -> None:
    holding = await taken(rows_of(stores), "a")
    watcher = rows_of(stores)
    (row,) = await watcher.live()
    moved.monotonic = LEASE + 1
    assert [each.key for each in await watcher.live()] == []
    assert watcher._still.seconds(row) > LEASE
    await stores.table(TABLE).delete(holding.instance, holding.version)
    assert await watcher.live() == []
    assert watcher._still.seconds(row) == 0
    await taken(rows_of(stores), "b")
    await watcher.live()
    moved.monotonic += LEASE + 1
    await watcher.live()
    assert watcher._still.seconds(row) == 0, "it is another version that stood still"


@pytest.mark.parametrize("facts", ["no JSON", "[1]"])
async def test_a_row_that_can_not_be_read_is_a_peer_all_the_same(stores: Stores, facts: str) -> None:
    holding = await taken(rows_of(stores), "a")
    await stores.table(TABLE).write(holding.instance, holding.version, {"facts": facts, "lease": "soon"})
    (row,) = await rows_of(stores).live()
    assert (facts_of(row)["instance"], facts_of(row)["state"]) == ("Role_IN_0", "Starting")
    assert await take(rows_of(stores), "b", wanted=0) is None


async def test_who_holds_a_wanted_number_is_told_once(stores: Stores) -> None:
    rows = rows_of(stores)
    await rows.renew(await taken(rows, "a"), told("Role_IN_0"))
    told_of: list[tuple[str, dict[str, Any]]] = []
    waiting = rows_of(stores)
    end = subscribe(lambda event, facts: told_of.append((event, facts)))
    try:
        assert await take(waiting, "b", wanted=0) is None
        assert await take(waiting, "b", wanted=0) is None
    finally:
        end()
    (found,) = [facts for event, facts in told_of if event == "directory.number_held"]
    assert (found["instance"], found["holder"]) == ("Role_IN_0", ELSEWHERE)
    assert found["endpoints"]["Http"]["address"] == "127.0.0.0"
