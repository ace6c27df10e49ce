"""The client of the instance directory with its real helper process, on the real engine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import NotFoundError
from rolehost.host.directory import mail as directory_mail
from rolehost.host.directory.client import DirectoryClient
from rolehost.host.directory.rows import TABLE
from rolehost.host.directory.status import stored_events, stored_runs, stored_status
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.directory import TIMES, environ, facts_of, helpers_of, holders, until


def client(data: Path, **more: Any) -> DirectoryClient:
    return DirectoryClient(environ(data), times=TIMES, **more)


async def state_of(stores: Stores, instance: str = "Role_IN_0") -> str:
    return next((facts["state"] for facts in await stored_status(stores) if facts["instance"] == instance), "")


async def names_of(stores: Stores) -> list[str]:
    return [event["name"] for event in await stored_events(stores)]


def run(instance: str, path: Path, *, ended: bool = False, **more: Any) -> dict[str, Any]:
    facts = {
        "run": "r1",
        "instance": instance,
        "kind": "task",
        "name": "prepare.sh",
        "path": str(path),
        "started_at": "2026-11-21T10:00:00.000Z",
        "ended_at": "2026-11-21T10:05:00.000Z" if ended else None,
        "exit_code": 0 if ended else None,
    }
    return facts | more


async def test_a_number_is_taken_told_of_and_given_back(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores:
        async with client(tmp_path) as directory:
            assert await directory.take("Role") == 0
            assert await state_of(stores) == "Starting"
            directory.status(facts_of("Role_IN_0", detail="Serving."))
            await until(lambda: _told(stores, state="Ready", detail="Serving."))
            directory.status(facts_of("Role_IN_0", state="Busy", detail="Looking."))
            await until(lambda: _told(stores, state="Busy", detail="Looking."))
        (stopped,) = await stored_status(stores)
        assert (stopped["state"], stopped["detail"]) == ("Stopped", "The instance was stopped.")
        assert {stopped[name] for name in ("pid", "started_at", "ready_at")} == {None}, "it has no uptime"
        row = await stores.table(TABLE).read("Role_IN_0")
        assert row is not None
        assert row.tag == "free"


async def _told(stores: Stores, **wanted: Any) -> bool:
    return any(wanted.items() <= facts.items() for facts in await stored_status(stores))


async def test_the_row_is_renewed_without_any_change(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores, client(tmp_path) as directory:
        await directory.take("Role")
        directory.status(facts_of("Role_IN_0"))
        await until(lambda: _told(stores, state="Ready"))
        before = (await stored_status(stores))[0]["heartbeat_at"]
        await until(lambda: _later(stores, before))


async def _later(stores: Stores, before: str) -> bool:
    return bool((await stored_status(stores))[0]["heartbeat_at"] > before)


async def test_processes_that_start_at_once_take_distinct_numbers(tmp_path: Path) -> None:
    with holders(tmp_path, 3) as started:
        numbers = await asyncio.to_thread(lambda: sorted(each.number() for each in started))
    assert numbers == [0, 1, 2]


async def test_the_number_of_a_killed_process_is_free_and_its_run_never_finished(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores:
        with holders(tmp_path) as started:
            assert await asyncio.to_thread(started[0].number) == 0
            await until(lambda: _status_is(stores, "Running"))
            started[0].kill()
            await until(lambda: _told(stores, state="Unknown", status="RoleStateUnknown"))
            heartbeat = (await stored_status(stores))[0]["heartbeat_at"]
            assert [each["status"] for each in await stored_runs(stores)] == ["NeverFinished"]
        async with client(tmp_path) as directory:
            assert await directory.take("Role", count=1) == 0
            (after,) = await stored_status(stores)
            assert (after["state"], after["last_crash"]["stage"]) == ("Starting", "host")
            assert after["last_crash"]["at"] == heartbeat
            assert [each["status"] for each in await stored_runs(stores)] == ["NeverFinished"], "it was another's run"
            crash = {"at": clock.iso(clock.now()), "reason": "bad", "stage": "run"}
            directory.status(facts_of("Role_IN_0", last_crash=crash))
            await until(lambda: _told(stores, last_crash=crash))
        async with client(tmp_path) as directory:
            await directory.take("Role", count=1)
            assert (await stored_status(stores))[0]["last_crash"] is None, "the one before was stopped in order"


async def _status_is(stores: Stores, status: str) -> bool:
    return [each["status"] for each in await stored_runs(stores)] == [status]


async def test_a_helper_that_is_killed_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores, client(tmp_path) as directory:
        await directory.take("Role")
        directory.event("role.first", {"n": 1})
        await until(lambda: _has(stores, "role.first"))
        (helper,) = helpers_of(os.getpid())
        os.kill(helper, signal.SIGKILL)
        directory.event("role.second", {"n": 2})
        directory.status(facts_of("Role_IN_0", detail="After."))
        await until(lambda: _has(stores, "role.second"))
        await until(lambda: _told(stores, detail="After."))
        assert (await stored_status(stores))[0]["instance"] == "Role_IN_0"
        assert len(await stored_status(stores)) == 1
        assert sorted(await names_of(stores)) == ["role.first", "role.second"]


async def _has(stores: Stores, name: str) -> bool:
    return name in await names_of(stores)


async def test_a_helper_that_hangs_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    times = replace(TIMES, silence=2.0)
    async with connect(environ(tmp_path)) as stores, DirectoryClient(environ(tmp_path), times=times) as directory:
        await directory.take("Role")
        (helper,) = helpers_of(os.getpid())
        os.kill(helper, signal.SIGSTOP)
        try:
            directory.event("role.told_to_the_hung", {})
            await until(lambda: _has(stores, "role.told_to_the_hung"), within=60.0)
        finally:
            with suppress(ProcessLookupError):
                os.kill(helper, signal.SIGKILL)
        assert helper not in helpers_of(os.getpid())
        assert [facts["instance"] for facts in await stored_status(stores)] == ["Role_IN_0"]


async def test_a_helper_that_answers_is_left_alone_while_the_stores_are_away(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    times = replace(TIMES, heartbeat=0.2, silence=1.0)
    async with DirectoryClient(environ(data), times=times) as directory:
        await until(lambda: _value(directory._has_spoken))
        (helper,) = helpers_of(os.getpid())
        await asyncio.sleep(2 * times.silence)
        assert helpers_of(os.getpid()) == [helper]


async def test_who_was_silent_for_too_long_is_told_that_the_number_is_lost(tmp_path: Path) -> None:
    lost: list[str] = []
    async with connect(environ(tmp_path)) as stores, client(tmp_path, on_lost=lost.append) as directory:
        await directory.take("Role")
        table = stores.table(TABLE)
        row = await table.read("Role_IN_0")
        while row is not None:  # as another would, after a lease without a heartbeat
            try:
                await table.write("Role_IN_0", row.version, {"token": "another's"})
                break
            except Exception:  # noqa: BLE001 - a heartbeat was faster
                row = await table.read("Role_IN_0")
        await until(lambda: _value(lost))
        assert lost == ["Role_IN_0"]
        assert await directory.take("Role") == 1


async def _value(value: Any) -> Any:
    return value


async def test_peers_see_each_other_come_and_go(tmp_path: Path) -> None:
    told: list[Sequence[Mapping[str, Any]]] = []
    async with client(tmp_path, on_peers=told.append) as first:
        await first.take("Role")
        first.status(facts_of("Role_IN_0"))
        async with client(tmp_path) as second:
            await second.take("Role")
            second.status(facts_of("Role_IN_1"))
            await until(lambda: _value(_ready(first) == {"Role_IN_0", "Role_IN_1"}))
            peer = next(each for each in first.peers() if each["instance"] == "Role_IN_1")
            assert peer["endpoints"] == {"Http": {"protocol": "http", "address": "127.0.0.1", "port": 8080}}
            assert (peer["fault_domain"], peer["update_domain"]) == (1, 1)
        await until(lambda: _value(_ready(first) == {"Role_IN_0"}))
        assert [each["instance"] for each in told[-1]] == ["Role_IN_0"]


def _ready(directory: DirectoryClient) -> set[str]:
    return {each["instance"] for each in directory.peers() if each["state"] == "Ready"}


async def test_one_client_holds_the_instances_of_a_fabric(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores, client(tmp_path) as directory:
        for number in range(3):
            directory.hold("Role", number)
            directory.status(facts_of(f"Role_IN_{number}"))
            directory.event("role.ready", {"instance": f"Role_IN_{number}", "n": number})
        await until(lambda: _states(stores, ["Ready", "Ready", "Ready"]))
        events = await until(lambda: _events(stores, "Role_IN_1"))
        assert [(event["name"], event["facts"]) for event in events] == [("role.ready", {"n": 1})]
        directory.release("Role_IN_2")
        await until(lambda: _states(stores, ["Ready", "Ready", "Stopped"]))


async def _states(stores: Stores, wanted: list[str]) -> bool:
    return [facts["state"] for facts in await stored_status(stores)] == wanted


async def _events(stores: Stores, instance: str) -> Sequence[dict[str, Any]]:
    return await stored_events(stores, instance)


async def test_stores_that_are_away_at_first_cost_only_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    async with client(data) as directory:
        taking = asyncio.create_task(directory.take("Role"))
        directory.event("host.early", {})
        done, _ = await asyncio.wait([taking], timeout=1.0)
        assert not done
        data.unlink()
        assert await asyncio.wait_for(taking, 30) == 0
        async with connect(environ(data)) as stores:
            await until(lambda: _has(stores, "host.early"))


async def test_closing_while_the_stores_are_away_waits_for_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    began = clock.monotonic()
    async with client(data) as directory:
        directory.hold("Role", 0)
        await until(lambda: _value(helpers_of(os.getpid())))
    assert clock.monotonic() - began < 10
    assert helpers_of(os.getpid()) == []


async def test_events_are_listed_newest_first(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores:
        async with client(tmp_path) as directory:
            await directory.take("Role")
            for number in range(5):
                directory.event("role.trace", {"n": number})
        assert [event["facts"]["n"] for event in await stored_events(stores)] == [4, 3, 2, 1, 0]
        assert {event["instance"] for event in await stored_events(stores)} == {"Role_IN_0"}


async def test_an_output_outlives_the_instance_and_is_refreshed_while_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("first\n")
    async with connect(environ(tmp_path)) as stores:
        async with client(tmp_path) as directory:
            await directory.take("Role")
            directory.output(run("Role_IN_0", log))
            await until(lambda: _printed(stores, "first\n"))
            with log.open("a") as file:
                file.write("second\n")
            await until(lambda: _printed(stores, "first\nsecond\n"))
            assert await _status_is(stores, "Running")
            with log.open("a") as file:
                file.write("third\n")
            directory.output(run("Role_IN_0", log, ended=True, exit_code=3))
        log.unlink()
        assert await _printed(stores, "first\nsecond\nthird\n")
        (told,) = await stored_runs(stores, "Role_IN_0")
        assert (told["status"], told["exit_code"], told["kind"], told["name"]) == (
            "CompletedFailed",
            3,
            "task",
            "prepare.sh",
        )
        assert len((await stores.blobs.list("runs/")).names) == 1, "of each run the last output is kept"
        assert await names_of(stores) == ["run.completed", "run.started"]


async def _printed(stores: Stores, text: str) -> bool:
    runs = await stored_runs(stores)
    if not runs or not runs[0]["blob"]:
        return False
    try:
        pieces = [piece async for piece in stores.blobs.stream(str(runs[0]["blob"]))]
    except NotFoundError:
        return False  # a newer one has taken its place since
    return b"".join(pieces).decode() == text


async def test_a_run_that_exits_with_0_is_a_success(tmp_path: Path) -> None:
    async with connect(environ(tmp_path)) as stores:
        async with client(tmp_path) as directory:
            await directory.take("Role")
            directory.output(run("Role_IN_0", tmp_path / "none", ended=True))
        (told,) = await stored_runs(stores)
        assert (told["status"], told["blob"]) == ("CompletedSuccess", None)


async def test_a_helper_that_dies_leaves_a_running_output_to_the_next(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("before\n")
    async with connect(environ(tmp_path)) as stores, client(tmp_path) as directory:
        await directory.take("Role")
        directory.output(run("Role_IN_0", log))
        await until(lambda: _printed(stores, "before\n"))
        os.kill(helpers_of(os.getpid())[0], signal.SIGKILL)
        log.write_text("before\nafter\n")
        await until(lambda: _printed(stores, "before\nafter\n"))
        assert len(await stored_runs(stores)) == 1
        assert len((await stores.blobs.list("runs/")).names) == 1


async def test_what_waits_for_the_stores_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_mail, "MOST_WAITING", 3)
    mail = directory_mail.Mail()
    for number in range(5):
        list(mail.event("role.trace", {"n": number}, ""))
    assert [message["event"]["facts"]["n"] for message in mail.everything()] == [2, 3, 4]
