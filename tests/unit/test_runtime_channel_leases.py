"""Status leases: several clients, releases, and leases that run out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from rolehost import clock
from rolehost.host.channel.leases import StatusLeases
from rolehost.host.channel.wire import FOREVER, CurrentState, current_state, read_current_state
from support.fake_clock import FakeClock


class Heard:
    """What a host hears of leases, as time passes by the test's clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock(monkeypatch)
        self.leases = StatusLeases(self._changed)
        self.said: list[str | None] = []

    def _changed(self) -> None:
        self.said.append(self.leases.status)

    def take(self, client: str, status: str | None, incarnation: int = 1, expiration: str = FOREVER) -> None:
        """What a foreign client writes."""
        sent = current_state(CurrentState(client, status, incarnation, expiration))
        self.leases.note(read_current_state(sent))

    def moment(self, seconds: float) -> str:
        return clock.iso(clock.now() + timedelta(seconds=seconds))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    return Heard(monkeypatch)


async def test_nobody_has_said_anything_at_first(heard: Heard) -> None:
    leases = heard.leases
    assert (leases.status, leases.detail, leases.incarnation, leases.ever_held) == (None, "", 0, False)


async def test_a_lease_is_replaced_by_its_client_s_next_and_ends_with_its_release(heard: Heard) -> None:
    heard.take("a", "Busy")
    heard.take("a", "Started", 2)
    assert (heard.leases.status, heard.leases.incarnation) == ("Started", 2)
    heard.take("a", None)
    assert heard.leases.status is None
    assert heard.leases.ever_held
    assert heard.leases.incarnation == 2
    assert heard.said == ["Busy", "Started", None]


async def test_of_several_clients_the_gravest_word_counts_and_a_release_restores_the_others(heard: Heard) -> None:
    heard.take("a", "Started")
    heard.take("b", "Busy")
    heard.take("a", "Started")
    assert heard.leases.status == "Busy"
    heard.take("c", "Recycle")
    assert heard.leases.status == "Recycle"
    heard.take("c", None)
    heard.take("b", None)
    assert heard.leases.status == "Started"
    assert heard.said == ["Started", "Busy", "Recycle", "Busy", "Started"]


@pytest.mark.parametrize("form", ["{}", "{}0000", "{} ", "{}+00:00"])
async def test_a_lease_runs_out_at_its_moment_and_the_host_is_told(heard: Heard, form: str) -> None:
    heard.take("a", "Started")
    moment = heard.moment(20).removesuffix("Z")
    heard.take("b", "Busy", expiration=form.format(moment))
    await heard.clock.advance(19.5)
    assert heard.said == ["Started", "Busy"]
    await heard.clock.advance(0.5)
    assert heard.said == ["Started", "Busy", "Started"]
    assert heard.leases.status == "Started"


async def test_a_lease_without_an_end_stays(heard: Heard) -> None:
    for number, expiration in enumerate((FOREVER, "9999-12-31T23:59:59.999Z", "some day")):
        heard.take(str(number), "Busy", expiration=expiration)
        await heard.clock.advance(1e6)
        assert heard.leases.status == "Busy"
        heard.take(str(number), None)


async def test_a_lease_that_is_renewed_lasts_and_one_that_is_over_counts_no_more(heard: Heard) -> None:
    heard.take("a", "Busy", expiration=heard.moment(10))
    await heard.clock.advance(8)
    heard.take("a", "Busy", expiration=heard.moment(10))
    await heard.clock.advance(8)
    assert heard.leases.status == "Busy"
    heard.take("b", "Busy", expiration=heard.moment(-1))
    await heard.clock.advance(2)
    assert heard.leases.status is None


async def test_our_own_lease_stands_while_its_heartbeats_are_watched_elsewhere(heard: Heard) -> None:
    heard.leases.note(CurrentState("a", "Started", 1, heard.moment(5), heartbeat=True, seconds=5))
    await heard.clock.advance(100)
    assert heard.leases.status == "Started"


async def test_seconds_count_in_the_place_of_a_moment(heard: Heard) -> None:
    sent = current_state(CurrentState("a", "Busy", 1, heard.moment(1000), seconds=3))
    heard.leases.note(read_current_state(sent))
    await heard.clock.advance(3)
    assert heard.leases.status is None


async def test_another_life_begins_without_leases(heard: Heard) -> None:
    heard.take("a", "Busy", 7, heard.moment(5))
    heard.leases.clear()
    leases = heard.leases
    assert (leases.status, leases.incarnation, leases.ever_held) == (None, 0, False)
    await heard.clock.advance(10)
    await asyncio.sleep(0)
    assert heard.said == ["Busy"]
