"""The service's instances, as the pages and the API show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import StoreUnavailableError
from rolehost.frontend import instances as shown
from rolehost.frontend.views import LOOKS
from rolehost.host.instance.status import InstanceState
from support.front_end import FrontEnd, front_end
from support.seeded_instances import STDERR, instance, seed_instances


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


async def listed(site: FrontEnd) -> dict[str, Any]:
    response = await site.client.get("/api/v1/instances")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    return {each["instance"]: each for each in response.json()["instances"]}


async def test_the_api_tells_of_every_instance(site: FrontEnd) -> None:
    assert await listed(site) == {}
    await seed_instances(site.stores)
    found = await listed(site)
    assert list(found) == [*[f"Backend_IN_{n}" for n in range(5)], "Frontend_IN_0", "Frontend_IN_1", "Reports_IN_0"]
    states = {name: each["state"] for name, each in found.items()}
    assert states["Backend_IN_3"] == "Unknown"
    assert (states["Backend_IN_1"], states["Backend_IN_2"], states["Reports_IN_0"]) == ("Recycling", "Busy", "Starting")
    front = found["Frontend_IN_1"]
    assert (front["status"], front["role"], front["update_domain"], front["fault_domain"]) == (
        "ReadyRole",
        "Frontend",
        1,
        1,
    )
    assert front["endpoints"] == {"Http": {"protocol": "http", "address": "127.77.0.2", "port": 8080}}
    assert front["metadata"]["size"] == "Standard_D2s_v3"
    assert 0 <= front["heartbeat_seconds"] < 60
    assert 300 < front["up_seconds"] < 420
    assert found["Backend_IN_1"]["up_seconds"] is None
    crash = found["Backend_IN_1"]["last_crash"]
    assert (crash["reason"], crash["stage"], crash["exit_code"], crash["stderr"]) == (
        "on_start raised KeyError: 'Queue'",
        "start",
        1,
        STDERR,
    )


async def test_the_page_says_how_each_is_and_why_it_crashed(site: FrontEnd) -> None:
    await seed_instances(site.stores)
    response = await site.client.get("/instances")
    text = response.text
    assert response.status_code == 200
    assert '<a href="/instances" aria-current="page">Instances</a>' in text
    for told in (
        "Frontend_IN_0",
        "FailedStartingRole",
        "The next start is in 22.5 s.",
        "on_start raised KeyError: &#39;Queue&#39;",
        "exit code 1",
        "signal 9",
        "KeyError: &#39;&lt;b&gt;Queue&lt;/b&gt;&#39;",
        "update 1, fault 1",
        "No heartbeat since",
    ):
        assert told in text, told
    assert "\x1b" not in text
    assert text.count("<details") == text.count("<summary>") == 2
    assert text.count('<details class="card output" open>') == 1  # the one that is in trouble


async def test_a_ready_instance_says_what_it_refused_and_a_stopped_one_keeps_its_crash_folded(site: FrontEnd) -> None:
    refused = "The changed definition is refused: service.toml:7: N01: this is no TOML."
    await instance(site.stores, "Backend", 0, {"detail": f"The role is ready. {refused}"})
    crash = {"at": "2026-11-21T07:00:00.000Z", "reason": "broken", "stage": "run", "stderr": ""}
    await instance(site.stores, "Backend", 1, {"state": "Stopped", "pid": None, "last_crash": crash})
    text = (await site.client.get("/instances")).text
    assert refused in text
    assert text.count("The role is ready.") == 1
    assert (text.count("<details"), text.count(" open>")) == (1, 0)
    assert (await listed(site))["Backend_IN_1"]["up_seconds"] is None


async def test_the_page_can_be_of_one_state(site: FrontEnd) -> None:
    await seed_instances(site.stores)
    text = (await site.client.get("/instances?state=Recycling")).text
    assert "/instances/Backend_IN_1" in text
    assert "/instances/Backend_IN_0" not in text
    assert "No instance is Stopped." in (await site.client.get("/instances?state=Stopped")).text
    assert (await site.client.get("/instances?state=Happy")).status_code == 404


async def test_an_instance_has_a_page_with_its_facts_machine_and_peers(site: FrontEnd) -> None:
    await seed_instances(site.stores)
    text = (await site.client.get("/instances/Frontend_IN_1")).text
    for told in ("127.77.0.2:8080", "Standard_D2s_v3", "westeurope", "02aab8a4-74ef-476e-8182-f6d2ba4166a6"):
        assert told in text, told
    assert 'href="/instances/Frontend_IN_0"' in text
    assert 'href="/instances/Frontend_IN_1"' not in text
    crashed = (await site.client.get("/instances/Backend_IN_1")).text
    assert "Last crash" in crashed
    assert "no process runs" in crashed
    for unknown in ("Frontend_IN_9", "x", "%00", "a/b"):
        assert (await site.client.get(f"/instances/{unknown}")).status_code == 404


async def test_an_instance_may_be_alone_and_hostile(site: FrontEnd) -> None:
    evil = "</pre><script>alert(1)</script>"
    crash = {"at": "2026-11-21T00:00:00.000Z", "reason": evil, "stage": evil, "exit_code": None, "signal": None}
    told = {"detail": evil, "state": evil, "last_crash": crash | {"stderr": evil}, "endpoints": {}}
    await instance(site.stores, "Solo", 0, told)
    pages = [(await site.client.get(path)).text for path in ("/instances", "/instances/Solo_IN_0")]
    for text in pages:
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text
    text = pages[1]
    assert "It is the only one." in text
    assert "It listens nowhere." in text
    assert (await listed(site))["Solo_IN_0"]["state"] == "Unknown"


async def test_the_one_that_answers_is_marked(tmp_path: Path) -> None:
    async with front_end(tmp_path / "data", instance="Frontend_IN_1") as site:
        await seed_instances(site.stores)
        text = (await site.client.get("/instances")).text
        assert text.count("answers you") == 1
        assert "answers you" in text.partition("Frontend_IN_1</a>")[2][:60]


async def test_no_instances_and_no_store(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No instance has told of itself yet" in (await site.client.get("/instances")).text

    async def fail(_stores: object) -> None:
        raise StoreUnavailableError("x")

    monkeypatch.setattr(shown, "stored_status", fail)
    for path in ("/instances", "/instances/A_IN_0", "/api/v1/instances"):
        assert (await site.client.get(path)).status_code == 503


def test_every_state_has_a_look() -> None:
    assert set(LOOKS) == {*InstanceState, "Unknown"} == set(shown.STATES)
