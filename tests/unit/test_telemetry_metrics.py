"""Metrics and the scale signal: counted from events, read over real HTTP on a port of their own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError, StoreUnavailableError
from rolehost.frontend.scale import backlog
from rolehost.telemetry import emit, subscribe
from rolehost.telemetry.metrics import MOST_VALUES, Metrics
from rolehost.telemetry.metrics_port import LOOPBACK, MetricsSettings, metrics_port
from support.commands import invoke
from support.front_end import Seed, front_end, seed_all

ANY_PORT = MetricsSettings(port=0)


def values(text: str) -> dict[str, float]:
    """Every sample of an answer, by `name{label=value}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@asynccontextmanager
async def reader(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=10) as client:
        yield client


async def test_what_happens_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("rolehost.clock.monotonic", lambda: now)
    async with metrics_port(ANY_PORT, instance="ThumbnailBackend_IN_3") as address, reader(address) as client:
        emit("job.submitted", job="a", kind="thumbnail", bytes=1)
        emit("job.enqueue_deferred", job="a")
        for job in "abcd":
            emit("job.claimed", job=job, attempt=1, waited=0.3)
        now += 20
        emit("lease.renewed", job="a", attempt=1)
        emit("lease.renewed", job="b", attempt=1)
        now += 7
        emit("job.completed", job="c", attempt=1, bytes=3)
        emit("attempt.failed", job="d", attempt=1, end="app_error", why="exit code 3")
        emit("job.claimed", job="d", attempt=2, waited=None)
        emit("job.poisoned", job="d", attempt=2, reason="spent")
        emit("job.poisoned", job="nobody's", reason="spent")
        emit("store.unavailable", what="receive", why="no answer")
        emit("http.request.trace", method="BREW", path="/x", status=405, seconds=0.002)
        emit("worker.paused", why="the disk")
        now += 5
        found = values((await client.get("/metrics")).text)
    expected = {
        "rolehost_instance{instance=ThumbnailBackend_IN_3,role=ThumbnailBackend}": 1,
        "rolehost_jobs_submitted_total{kind=thumbnail}": 1,
        "rolehost_jobs_enqueue_deferred_total": 1,
        "rolehost_jobs_claimed_total": 5,
        "rolehost_queue_wait_seconds_count": 4,
        "rolehost_queue_wait_seconds_bucket{le=0.5}": 4,
        "rolehost_lease_renewals_total": 2,
        "rolehost_attempts_running": 2,
        "rolehost_lease_renewal_age_seconds": 12,
        "rolehost_jobs_ended_total{state=completed}": 1,
        "rolehost_jobs_ended_total{state=poisoned}": 2,
        "rolehost_attempts_ended_total{end=ok}": 1,
        "rolehost_attempts_ended_total{end=app_error}": 1,
        "rolehost_attempts_ended_total{end=poisoned}": 1,
        "rolehost_attempt_seconds_sum{end=ok}": 27,
        "rolehost_store_unavailable_total{what=receive}": 1,
        "rolehost_http_requests_total{method=other,status=405}": 1,
        "rolehost_worker_paused": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert any(name.startswith("process_resident_memory") for name in found)


def test_labels_stay_few_whatever_is_told() -> None:
    metrics = Metrics()
    for number in range(10 * MOST_VALUES):
        metrics.note("store.unavailable", {"what": f"thing {number}"})
        metrics.note("job.submitted", {"kind": f"kind {number}"})
        metrics.note("job.claimed", {"job": str(number)})
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    submitted = {each.labels["kind"] for each in samples if each.name == "rolehost_jobs_submitted_total"}
    assert len(submitted) == MOST_VALUES + 1


def test_what_runs_is_kept_in_bounded_memory() -> None:
    metrics = Metrics()
    for number in range(12_000):
        metrics.note("job.claimed", {"job": str(number)})
    assert len(metrics._running) == 10_000


async def test_without_a_port_nothing_is_counted_or_listened_on() -> None:
    async with metrics_port(MetricsSettings.read(RoleEnvironment.for_testing(settings={}))) as address:
        assert address == ""


async def test_instances_of_one_machine_take_the_next_port() -> None:
    """All have the same setting."""
    with socket.create_server((LOOPBACK, 0)) as first:
        port = first.getsockname()[1]
        async with (
            metrics_port(MetricsSettings(port=port)) as second,
            metrics_port(MetricsSettings(port=port)) as third,
        ):
            assert port < int(second.rpartition(":")[2]) < int(third.rpartition(":")[2]) < port + 64


async def test_a_port_that_can_not_be_had_stops_no_work() -> None:
    told: list[str] = []
    unsubscribe = subscribe(lambda event, _: told.append(event))
    try:
        async with metrics_port(MetricsSettings(port=9464, address="192.0.2.1")) as address:
            assert (address, told) == ("", ["metrics.not_listening"])
    finally:
        unsubscribe()


@pytest.mark.parametrize("text", ["x", "-1", "70000", "9464.5", "99999999999999"])
def test_a_port_is_a_number(text: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=r"Telemetry\.MetricsPort"):
        MetricsSettings.read(RoleEnvironment.for_testing(settings={"Telemetry.MetricsPort": text}))


def test_settings() -> None:
    given = {"Telemetry.MetricsPort": "9464", "Telemetry.MetricsAddress": "::1"}
    found = MetricsSettings.read(RoleEnvironment.for_testing(settings=given))
    assert found == MetricsSettings(port=9464, address="::1")
    assert MetricsSettings().address == LOOPBACK


async def test_the_port_answers_little_else() -> None:
    async with metrics_port(ANY_PORT) as address, reader(address) as client:
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/scale", 404),
            ("GET", "/metrics?name=x", 200),
            ("HEAD", "/metrics", 200),
            ("POST", "/metrics", 405),
        ):
            assert (await client.request(method, path)).status_code == status
        host, _, port = address.rpartition(":")
        for sent in (b"\r\n\r\n", b"x" * 20_000, b"\xff\xfe / HTTP/1.1\r\n\r\n"):
            reading, writing = await asyncio.open_connection(host, int(port))
            writing.write(sent)
            async with asyncio.timeout(10):
                with suppress(ConnectionResetError):
                    assert not (await reading.read()).startswith(b"HTTP/1.1 200")
            writing.close()
        assert (await client.get("/metrics")).status_code == 200


async def test_the_backlog_is_told_on_the_port_and_by_the_api(tmp_path: Path) -> None:
    async with front_end(tmp_path / "data") as site:
        assert (await site.client.get("/api/v1/scale")).json() | {"at": ""} == empty()
        jobs = await seed_all(site.stores, tmp_path)
        waiting = await Seed(site.stores, tmp_path).queued("late.png")
        told = (await site.client.get("/api/v1/scale")).json()
        assert (told["runnable"], told["in_flight"]) == (2, 1), "the one that waits for its next attempt needs nobody"
        assert 0 < told["oldest_seconds"] < 60

        async def asked() -> dict[str, Any]:
            return await backlog(site.jobs)

        async with metrics_port(ANY_PORT, backlog=asked) as address, reader(address) as client:
            found = values((await client.get("/metrics")).text)
            assert (found["rolehost_backlog_runnable"], found["rolehost_backlog_in_flight"]) == (2, 1)
            assert found["rolehost_backlog_oldest_seconds"] > 0
            assert json.loads((await client.get("/scale")).text)["runnable"] == 2
        assert {jobs["queued"].id, waiting.id} <= {job.id for job in (await site.jobs.list()).jobs}


def empty() -> dict[str, Any]:
    return {"runnable": 0, "in_flight": 0, "oldest_seconds": 0.0, "at": ""}


async def test_stores_that_do_not_answer_take_only_the_backlog_away() -> None:
    async def asked() -> dict[str, Any]:
        raise StoreUnavailableError("no answer")

    async with metrics_port(ANY_PORT, backlog=asked) as address, reader(address) as client:
        assert (await client.get("/scale")).status_code == 503
        found = values((await client.get("/metrics")).text)
        assert "rolehost_jobs_claimed_total" in found
        assert "rolehost_backlog_runnable" not in found


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('"Telemetry.MetricsPort" = "x"', "the setting Telemetry.MetricsPort must be a port, not 'x'"),
        ('"Telemetry.MetricPort" = "9464"', 'there is no setting "Telemetry.MetricPort"; did you mean'),
        ('"Frontend.JwtIssuers" = "x"', 'there is no setting "Frontend.JwtIssuers"; did you mean'),
        ('"Frontend.ApiKeys" = "rolehost_canary"', "entry 1 of the setting Frontend.ApiKeys is not NAME:ROLE:SHA256"),
    ],
)
def test_a_definition_with_a_wrong_setting_is_told(tmp_path: Path, setting: str, told: str) -> None:
    definition = tmp_path / "service.toml"
    definition.write_text(
        '[service]\nname = "s"\n[roles.Web]\nentry_point = "rolehost.frontend.role:ThumbnailFrontend"\n'
        f'[roles.Web.endpoints.Http]\nprotocol = "http"\nport = 8080\n[roles.Web.settings]\n{setting}\n'
    )
    checked = invoke("check", "--definition", definition)
    assert (checked.exit_code, told in checked.stdout, "canary" in checked.output) == (1, True, False), checked.output
