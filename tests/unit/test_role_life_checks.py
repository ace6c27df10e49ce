"""`status_check` and the leases of its `set_busy`, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment, RoleInstanceStatus, RoleInstanceStatusCheck
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.leases import StatusLeases
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.role.status_checks import StatusChecks
from rolehost.user_code import UserCode
from support.fake_clock import FakeClock
from support.role_process import HostedRole, a_snapshot


class Checked:
    """A role's end and its host's, in this process; the checks are raised by the fake clock."""

    def __init__(self, clock: FakeClock, client: RuntimeClient, leases: StatusLeases) -> None:
        self.clock = clock
        self.client = client
        self.leases = leases
        self.environment = RoleEnvironment(a_snapshot())
        self.checks: list[RoleInstanceStatus] = []
        self.busy = False
        self.environment.status_check += self._check

    def _check(self, check: RoleInstanceStatusCheck) -> None:
        self.checks.append(check.status)
        if self.busy:
            check.set_busy()

    async def until_checked(self, times: int, seconds: float = 15) -> None:
        """Let the time to the next check pass."""
        await self.clock.advance(seconds)
        async with asyncio.timeout(5):
            while len(self.checks) < times or not self.clock.sleeps_for(15):  # noqa: ASYNC110 - a thread does it
                await asyncio.sleep(0.002)


@pytest.fixture
async def checked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Checked]:
    clock = FakeClock(monkeypatch)
    leases = StatusLeases(lambda: None)
    async with RuntimeChannel("rolehost-checks", leases.note, 30) as channel:
        channel.expect_started(a_snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        await client.next_goal()
        checked = Checked(clock, client, leases)
        checking = asyncio.create_task(StatusChecks(client, checked.environment, UserCode()).repeat())
        await asyncio.sleep(0)
        yield checked
        checking.cancel()
        leases.clear()
        client._writer.close()  # nothing else of it is left


async def test_the_status_is_checked_every_fifteen_seconds(checked: Checked) -> None:
    await checked.client.report("Started")
    await checked.clock.advance(14.9)
    assert checked.checks == []
    await checked.until_checked(1, 0.1)
    for number in range(2, 5):
        await checked.until_checked(number)
    assert checked.checks == [RoleInstanceStatus.READY] * 4


async def test_the_check_says_busy_until_the_role_is_ready(checked: Checked) -> None:
    await checked.client.report("Busy")
    await checked.until_checked(1)
    await checked.client.report("Started")
    await checked.until_checked(2)
    assert checked.checks == [RoleInstanceStatus.BUSY, RoleInstanceStatus.READY]


async def test_set_busy_lasts_until_the_next_check(checked: Checked) -> None:
    await checked.client.report("Started")
    checked.busy = True
    await checked.until_checked(1)
    assert checked.leases.status == "Busy"
    await checked.clock.advance(14)
    assert checked.leases.status == "Busy"
    await checked.until_checked(2, 1)
    assert checked.leases.status == "Busy"  # said again: no moment of readiness in between
    checked.busy = False
    await checked.until_checked(3)
    assert checked.leases.status == "Started"
    assert checked.checks == [RoleInstanceStatus.READY, RoleInstanceStatus.BUSY, RoleInstanceStatus.BUSY]


async def test_a_busy_that_nobody_takes_back_runs_out(checked: Checked) -> None:
    await checked.client.report("Started")
    await checked.client.hold("check", "Busy", 20)
    await checked.clock.advance(19)
    assert checked.leases.status == "Busy"
    await checked.clock.advance(1)
    assert checked.leases.status == "Started"


async def test_a_role_is_checked_in_its_process_off_the_infrastructures_loop(tmp_path: Path) -> None:
    code = """
        class Worker(RoleEntryPoint):
            def on_start(self):
                def check(e):
                    note("checked", e.status.name, threading.current_thread() is threading.main_thread())
                    if Path("busy").exists():
                        e.set_busy()
                self.role_environment.status_check += check
                return True
    """
    async with HostedRole(tmp_path, code, status_check_seconds=0.1) as role:
        await role.until_words("checked READY False", "checked READY False")
        role.touch("busy")
        await role.until_status("Busy")
        (tmp_path / "busy").unlink()
        await role.until_status("Started")
        await role.until_words("checked BUSY False", "checked READY False")
        assert await role.stop() == 0
