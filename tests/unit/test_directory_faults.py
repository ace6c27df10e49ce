"""The directory's helper over stores that fail at every call in turn, and what it removes in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import StoreFullError
from rolehost.host import link as directory_link
from rolehost.host.directory import directory_process
from rolehost.host.directory import events as directory_events
from rolehost.host.directory import keeper as directory_keeper
from rolehost.host.directory import runs as directory_runs
from rolehost.host.directory.client import DirectoryTimes
from rolehost.host.directory.directory_process import Directory, Inbox
from rolehost.host.directory.events import RoleEvents
from rolehost.host.directory.runs import RunRecords
from rolehost.host.directory.status import stored_events, stored_runs, stored_status
from rolehost.host.link import Link
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from support.directory import TIMES, facts_of, until

# Whatever is renewed or looked at by the clock would be met by a planned fault, too.
ONCE = replace(TIMES, lease=60.0, heartbeat=60.0, peers=60.0, refresh=60.0, prune=60.0, closing=10.0)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as opened:
        yield opened


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (directory_process, directory_keeper):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)


@asynccontextmanager
async def served(stores: Stores, times: DirectoryTimes = ONCE) -> AsyncIterator[Link]:
    """The client's end of a line to a directory."""
    ours, theirs = socket.socketpair()
    link, other = await Link.open(ours), await Link.open(theirs)
    inbox = Inbox(other)
    listening = asyncio.create_task(inbox.listen())
    serving = asyncio.create_task(Directory(other, inbox, stores, "", times).serve())
    try:
        yield link
        link.send({"close": True})
        await asyncio.wait_for(serving, 20)
    finally:
        serving.cancel()
        listening.cancel()
        link.close()
        other.close()
        await asyncio.gather(serving, listening, return_exceptions=True)


WISH = {"hold": {"id": 1, "role": "Role", "wanted": None, "count": None, "token": "ours", "held": False}}


async def life(stores: Stores, log: Path) -> None:
    """An instance that takes a number, tells of itself and of a run, and stops."""
    async with served(stores) as link:
        link.send(WISH)
        done = set()
        held = False
        link.send({"event": {"name": "role.ready", "instance": "Role_IN_0", "at": clock.iso(clock.now())}, "number": 7})
        while not (held and 7 in done and 8 in done):
            message = await asyncio.wait_for(link.receive(), 20)
            assert message is not None
            if "held" in message:
                held = True
                assert message["held"]["number"] == 0
                link.send({"status": facts_of("Role_IN_0")})
                link.send({"output": run(log), "number": 8})
            done.add(message.get("done"))


def run(log: Path, name: str = "r1", *, at: str = "2026-11-21T10:00:00.000Z") -> dict[str, Any]:
    return {
        "run": name,
        "instance": "Role_IN_0",
        "kind": "task",
        "name": "prepare.sh",
        "path": str(log),
        "started_at": at,
        "ended_at": at,
        "exit_code": 0,
    }


@pytest.mark.parametrize("how", ["refuse", "lose_answer"])
async def test_a_fault_at_any_call_costs_nothing(stores: Stores, tmp_path: Path, how: str) -> None:
    log = tmp_path / "run.log"
    log.write_text("printed\n")
    at = 0
    while True:
        at += 1
        faults = Faults()
        getattr(faults, how)("*", at=at)
        await life(FaultyStores(stores, faults), log)
        if not faults.fired:
            break
        (facts,) = await stored_status(stores)
        # Giving a number back is tried, and then left to the lease.
        assert facts["state"] == "Stopped", faults.fired
        assert sorted(each["name"] for each in await stored_events(stores)) == [
            "role.ready",
            "run.completed",
        ], faults.fired
        (told,) = await stored_runs(stores)
        assert told["status"] == "CompletedSuccess", faults.fired
        assert list((await stores.blobs.list("runs/")).names) == [told["blob"]], faults.fired
        assert b"".join([piece async for piece in stores.blobs.stream(told["blob"])]) == b"printed\n", faults.fired
        await emptied(stores)
    assert at > 6


async def test_a_change_is_written_at_once_and_a_storm_of_them_now_and_then(stores: Stores) -> None:
    faults = Faults()
    async with served(FaultyStores(stores, faults), replace(ONCE, throttle=0.2)) as link:
        link.send(WISH)
        await asyncio.wait_for(_held(link), 20)
        link.send({"status": facts_of("Role_IN_0", detail="first")})
        await until(lambda: _detail_is(stores, "first"), within=5)
        before = faults.calls.count("instances.write")
        for number in range(100):
            link.send({"status": facts_of("Role_IN_0", detail=f"change {number}")})
            await asyncio.sleep(0.005)
        await until(lambda: _detail_is(stores, "change 99"), within=5)
        assert faults.calls.count("instances.write") - before < 20
        before = faults.calls.count("instances.write")
        for _ in range(20):
            link.send({"status": facts_of("Role_IN_0", detail="change 99", started_at=None, ready_at=None)})
            await asyncio.sleep(0.02)
        assert faults.calls.count("instances.write") - before <= 1, "a heartbeat alone is no change"


async def _detail_is(stores: Stores, detail: str) -> bool:
    return [facts["detail"] for facts in await stored_status(stores)] == [detail]


async def test_a_client_that_says_nothing_has_no_heartbeat(stores: Stores) -> None:
    async with served(stores, replace(ONCE, lease=1.0, heartbeat=0.1, throttle=0.05)) as link:
        link.send(WISH)
        await asyncio.wait_for(_held(link), 20)
        await until(lambda: _state_is(stores, "Unknown"), within=10)
        link.send({"alive": True})
        await until(lambda: _state_is(stores, "Starting"), within=5)


async def _state_is(stores: Stores, state: str) -> bool:
    return [facts["state"] for facts in await stored_status(stores)] == [state]


async def emptied(stores: Stores) -> None:
    for name in ("instances", "events", "runs"):
        for row in (await stores.table(name).list(limit=1000)).rows:
            await stores.table(name).delete(row.key, row.version)
    for blob in (await stores.blobs.list("runs/")).names:
        await stores.blobs.delete(blob)


async def test_an_event_that_no_store_takes_holds_up_no_other(stores: Stores) -> None:
    faults = Faults()
    faults.refuse("events.insert", times=4, error=StoreFullError)
    async with served(FaultyStores(stores, faults)) as link:
        for number, name in enumerate(("role.first", "role.second"), start=1):
            link.send({"event": {"name": name, "instance": "", "at": clock.iso(clock.now())}, "number": number})
        done = [await asyncio.wait_for(link.receive(), 20) for _ in range(4)]
    assert {"done": 2} in done
    assert [each["name"] for each in await stored_events(stores)] == ["role.second"]


async def test_old_events_go_and_so_do_too_many(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    events = RoleEvents(stores.table("events"), "w")
    old = clock.now() - directory_events.KEPT - timedelta(minutes=1)
    for number, at in enumerate([old, old, clock.now(), clock.now(), clock.now()]):
        await events.add(number, {"name": f"e{number}", "instance": "Role_IN_0", "at": clock.iso(at)})
    await events.prune()
    assert [each["name"] for each in await stored_events(stores)] == ["e4", "e3", "e2"]
    monkeypatch.setattr(directory_events, "MOST_KEPT", 1)
    await events.prune()
    assert [each["name"] for each in await stored_events(stores)] == ["e4"]


async def test_old_runs_go_with_their_output_and_so_do_too_many(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "run.log"
    log.write_text("printed\n")
    records = RunRecords(stores)
    old = clock.now() - directory_runs.KEPT - timedelta(minutes=1)
    for number, at in enumerate([old, clock.now(), clock.now(), clock.now()]):
        moment = clock.iso(at + timedelta(milliseconds=number))
        await records.keep(run(log, f"r{number}", at=moment), "")
    await records.prune({"Role_IN_0"})
    assert [each["run"] for each in await stored_runs(stores)] == ["r3", "r2", "r1"]
    monkeypatch.setattr(directory_runs, "MOST_KEPT", 2)
    await records.prune({"Role_IN_0"})
    runs = await stored_runs(stores)
    assert [each["run"] for each in runs] == ["r3", "r2"]
    assert sorted((await stores.blobs.list("runs/")).names) == sorted(str(each["blob"]) for each in runs)


async def test_of_a_long_output_head_and_tail_are_kept(stores: Stores, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    with log.open("wb") as file:
        file.write(b"head")
        file.seek(3 * directory_runs.LARGEST)
        file.write(b"tail")
    await RunRecords(stores).keep(run(log), "")
    (told,) = await stored_runs(stores)
    text = b"".join([piece async for piece in stores.blobs.stream(told["blob"])])
    assert text.startswith(b"head")
    assert text.endswith(b"tail")
    assert b"bytes left out" in text
    assert len(text) < directory_runs.LARGEST + 100


async def test_names_that_no_blob_may_have_are_told_apart(stores: Stores, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("printed\n")
    records = RunRecords(stores)
    for name in ("../x", "..:x", "x" * 300):
        await records.keep(run(log, name), "")
    assert len(await stored_runs(stores)) == 3
    assert len((await stores.blobs.list("runs/")).names) == 3


async def test_a_run_of_a_silent_instance_never_finished(stores: Stores, tmp_path: Path) -> None:
    log = tmp_path / "none"
    async with served(stores) as link:
        link.send(WISH)
        await asyncio.wait_for(_held(link), 20)
        link.send({"output": run(log, "going") | {"ended_at": None, "exit_code": None}, "number": 1})
        link.send({"output": run(log, "waiting") | {"ended_at": None, "started_at": None}, "number": 2})
        link.send({"output": run(log, "good"), "number": 3})
        link.send({"output": run(log, "bad") | {"exit_code": 3}, "number": 4})
        while (await asyncio.wait_for(link.receive(), 20)) != {"done": 4}:
            pass
        assert await _statuses(stores) == {
            "going": "Running",
            "waiting": "Queued",
            "good": "CompletedSuccess",
            "bad": "CompletedFailed",
        }
        row = await stores.table("instances").read("Role_IN_0")
        assert row is not None
        long_ago = clock.iso(clock.now() - timedelta(seconds=61))
        await stores.table("instances").write(row.key, row.version, {"heartbeat_at": long_ago})
        assert await _statuses(stores) == {
            "going": "NeverFinished",
            "waiting": "NeverFinished",
            "good": "CompletedSuccess",
            "bad": "CompletedFailed",
        }


async def _held(link: Link) -> None:
    while "held" not in (await link.receive() or {}):
        pass


async def _statuses(stores: Stores) -> dict[str, str]:
    return {each["run"]: each["status"] for each in await stored_runs(stores)}


async def test_a_client_that_goes_on_while_no_store_opens_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_process, "MOST_WAITING", 3)
    ours, theirs = socket.socketpair()
    link, other = await Link.open(ours), await Link.open(theirs)
    inbox = Inbox(other)
    link.send({"status": {"instance": "Role_IN_0", "detail": "old"}})
    link.send(WISH)
    for number in range(100):
        link.send({"alive": True})
        link.send({"event": {"name": "role.trace"}, "number": number})
        link.send({"status": {"instance": "Role_IN_0", "detail": number}})
        link.send({"status": {"instance": "Role_IN_1", "detail": number}})
    link.send({"close": True})
    await asyncio.wait_for(inbox.listen(), 10)
    kept: list[dict[str, Any]] = [WISH]
    kept += [{"event": {"name": "role.trace"}, "number": number} for number in (97, 98)]
    kept += [{"event": {"name": "role.trace"}, "number": 99}]
    kept += [{"status": {"instance": f"Role_IN_{number}", "detail": 99}} for number in (0, 1)]
    assert [await asyncio.wait_for(inbox.get(), 5) for _ in range(7)] == [*kept, {"close": True}]
    assert await link.receive() == {"alive": True}
    link.close()
    other.close()


async def test_the_inbox_hands_on_what_comes_later() -> None:
    ours, theirs = socket.socketpair()
    link, other = await Link.open(ours), await Link.open(theirs)
    inbox = Inbox(other)
    listening = asyncio.create_task(inbox.listen())
    for number in range(3):
        getting = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        link.send({"release": f"Role_IN_{number}"})
        assert await asyncio.wait_for(getting, 5) == {"release": f"Role_IN_{number}"}
    link.close()
    assert await asyncio.wait_for(inbox.get(), 5) is None
    await listening
    other.close()


async def test_an_end_that_reads_nothing_ends_the_line_and_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_link, "_MOST_UNREAD", 1 << 20)
    ours, theirs = socket.socketpair()
    with theirs:
        link = await Link.open(ours)
        for _ in range(100):
            link.send({"text": "x" * 100_000})
            assert link._writer.transport.get_write_buffer_size() < 2 << 20
        assert await asyncio.wait_for(link.receive(), 5) is None
        link.close()
