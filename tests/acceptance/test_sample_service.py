"""The sample pair of an old Cloud Service, run and changed on one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import pytest
from host_support import is_alive, until
from sample_service_support import (
    BACKEND,
    FRONTEND,
    SampleService,
    absences,
    down_together,
    get,
    sample_service,
    seen_down,
)

pytestmark = pytest.mark.acceptance

WORKERS = [f"{BACKEND}_IN_{number}" for number in range(4)]
FRONTS = {f"{FRONTEND}_IN_0", f"{FRONTEND}_IN_1"}
QUEUE = '<Setting name="Jobs.QueueName" value="thumbnail-jobs"/>'
PATIENCE = '<Setting name="Jobs.VisibilityTimeoutSeconds" value="120"/>'
COUNT = '<Instances count="4"/>'
TOOLS = '<Variable name="TOOLS_VERSION" value="1.4.0"/>'
FRONT = "<Runtime>\n      <EntryPoint>"


@pytest.fixture
def service() -> Iterator[SampleService]:
    with sample_service() as service:
        yield service


def worker_pids(service: SampleService) -> dict[str, int]:
    return {name: facts["pid"] for name, facts in service.instances(BACKEND).items()}


def test_the_sample_pair_runs_four_workers_and_two_front_ends_behind_one_port(service: SampleService) -> None:
    address = service.up()
    answers: list[dict[str, Any]] = []
    # A guest is ready when its process starts; it gets connections once its load-balancer probe has answered.

    def both_answered() -> bool:
        answers.append(get(address))
        return len({answer["instance"] for answer in answers}) == len(FRONTS)

    until(both_answered, "both answer")
    assert {answer["instance"] for answer in answers} == FRONTS
    assert len({answer["pid"] for answer in answers}) == 2
    assert get(f"{address}/healthz") == {"healthy": True}
    assert get(f"{address}/backends") == WORKERS  # found by their internal endpoint
    for number, name in enumerate(WORKERS):
        started, running = service.trace(name)[:2]
        assert (started["event"], started["codecs"]) == ("on_start", "1.4.0 --once")
        assert (running["event"], running["thumbnail"]) == ("run", "Custom 100x100 of a picture")
        assert (running["emulated"], running["queue"]) == ("true", "thumbnail-jobs")
        assert service.instances()[name]["update_domain"] == number % 3
    assert len(set(worker_pids(service).values())) == 4
    assert len(service.left()) == 6
    assert service.stop() == 0
    assert service.processes() == []
    assert service.left() == []
    for name in WORKERS:
        assert service.words(name) == ["on_start", "run", "stopping", "on_stop"]


def test_a_limited_guest_program_of_the_sample_is_not_root(service: SampleService) -> None:
    address = service.up()
    assert {get(address)["uid"] for _ in range(4)} == {os.getuid() or 65534}


def test_a_killed_worker_comes_back_and_everything_else_goes_on(service: SampleService) -> None:
    address = service.up()
    fronts = {get(address)["pid"] for _ in range(20)}
    before = worker_pids(service)
    victim = WORKERS[1]
    os.kill(before[victim], signal.SIGKILL)
    until(lambda: service.words(victim).count("run") == 2, "the worker's next life")
    service.until_ready()
    after = worker_pids(service)
    assert {name for name in WORKERS if after[name] != before[name]} == {victim}
    assert "stopping" not in service.words(victim)
    assert service.instances()[victim]["last_crash"]["signal"] == signal.SIGKILL
    assert {get(address)["pid"] for _ in range(20)} == fronts
    assert service.stop() == 0
    assert service.processes() == []


def test_a_refused_setting_recycles_the_sample_domain_by_domain(service: SampleService) -> None:
    address = service.up()
    before, fronts = worker_pids(service), {get(address)["pid"] for _ in range(20)}
    with service.watched() as watched:
        service.update((QUEUE, QUEUE.replace("thumbnail-jobs", "other-jobs")), count=2)
    assert service.status()["walk"] is None
    assert not set(before.values()) & set(worker_pids(service).values())
    assert down_together(watched) == []
    assert seen_down(watched) == {0, 1, 2}  # the watch has looked at the right time
    moments = [line["at"] for line in watched]
    assert moments == sorted(moments)
    answers = [get(address) for _ in range(20)]  # the front ends took the same change as they served
    assert {answer["settings"]["Jobs.QueueName"] for answer in answers} == {"other-jobs"}
    assert {answer["pid"] for answer in answers} == fronts
    traces = {name: service.trace(name) for name in WORKERS}
    for trace in traces.values():
        assert [each["event"] for each in trace] == [
            "on_start",
            "run",
            "changing",
            "stopping",
            "on_stop",
            "on_start",
            "run",
        ]
        assert trace[2]["settings"]["Jobs.QueueName"] == "thumbnail-jobs"
        assert trace[-1]["settings"]["Jobs.QueueName"] == trace[-1]["queue"] == "other-jobs"
    away = [(number % 3, *absences(traces[name])[0]) for number, name in enumerate(WORKERS)]
    for (domain, left, back), (other, left_too, back_too) in combinations(away, 2):
        assert domain == other or back <= left_too or back_too <= left


def test_an_accepted_setting_reaches_the_sample_in_the_order_of_its_domains(service: SampleService) -> None:
    address = service.up()
    before, fronts = worker_pids(service), {get(address)["pid"] for _ in range(20)}
    with service.watched() as watched:
        service.update((PATIENCE, PATIENCE.replace("120", "240")))
    assert worker_pids(service) == before
    assert {get(address)["pid"] for _ in range(20)} == fronts
    assert all(each["state"] == "Ready" for line in watched for each in line["instances"])
    asked: dict[int, list[float]] = {}  # the walk goes on when a change is accepted: `changed` may come later
    for number, name in enumerate(WORKERS):
        assert service.words(name) == ["on_start", "run", "changing", "changed"]
        changing, changed = service.trace(name)[-2:]
        assert changing["settings"]["Jobs.VisibilityTimeoutSeconds"] == "120"
        assert changed["settings"]["Jobs.VisibilityTimeoutSeconds"] == "240"
        asked.setdefault(number % 3, []).append(changing["at"])
    assert all(max(asked[first]) < min(asked[second]) for first, second in pairwise(sorted(asked)))


def test_another_definition_starts_the_sample_again_domain_by_domain(service: SampleService) -> None:
    address = service.up()
    before, fronts = worker_pids(service), {get(address)["pid"] for _ in range(20)}
    mood = '<Runtime><Environment><Variable name="MOOD" value="good"/></Environment>'
    with service.watched() as watched:
        service.redefine((TOOLS, TOOLS.replace("1.4.0", "1.5.0")), (FRONT, FRONT.replace("<Runtime>", mood)))
    assert not set(before.values()) & set(worker_pids(service).values())
    assert [service.trace(name)[-2]["codecs"] for name in WORKERS] == ["1.5.0 --once"] * 4
    assert not fronts & {get(address)["pid"] for _ in range(20)}
    assert down_together(watched) == []
    assert seen_down(watched) == {0, 1, 2}


def test_the_sample_grows_and_shrinks_by_its_instance_count(service: SampleService) -> None:
    address = service.up()
    before = worker_pids(service)
    with service.watched() as growing:
        service.update((COUNT, COUNT.replace("4", "6")))
    service.until_ready(ThumbnailBackend=6)
    assert down_together(growing) == []
    assert seen_down(growing) == {4 % 3, 5 % 3}
    assert {name: pid for name, pid in worker_pids(service).items() if name in WORKERS} == before
    assert get(f"{address}/backends") == [f"{BACKEND}_IN_{number}" for number in range(6)]
    for name in WORKERS:
        assert service.words(name)[:4] == ["on_start", "run", "changing", "changed"]
        assert BACKEND in service.trace(name)[2]["changes"][0]
    gone = [facts["pid"] for name, facts in service.instances(BACKEND).items() if name not in WORKERS[:2]]
    with service.watched() as shrinking:
        service.update((COUNT, COUNT.replace("4", "2")))
    service.until_ready(ThumbnailBackend=2)
    assert down_together(shrinking) == []
    assert seen_down(shrinking) == {0, 1, 2}
    until(lambda: not any(map(is_alive, gone)), "the end of what is no more wanted")
    assert worker_pids(service) == {name: before[name] for name in WORKERS[:2]}
    assert get(f"{address}/backends") == WORKERS[:2]
    assert service.words(WORKERS[3])[-2:] == ["stopping", "on_stop"]
    assert service.stop() == 0
    assert service.processes() == []
