"""A service whose instances never start: how a change of it is taken, and what one that fails leaves behind."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from rolehost.errors import RoleHostError
from rolehost.host.fabric import desk as fabric_desk
from rolehost.host.fabric.deployment import Deployment
from rolehost.host.fabric.desk import Desk
from rolehost.host.fabric.fleet import Crew
from rolehost.host.fabric.generations import Generations
from rolehost.host.fabric.leftovers import end_leftovers
from rolehost.host.fabric.member import Grounds, Member
from rolehost.host.paths import DataDirectory, only_one
from rolehost.host.ports.addresses import Net
from rolehost.host.probes import reserve_port
from rolehost.service_model import ServiceModel, load

DEFINITION = """
[service]
name = "tiny"
[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
Greeting = "hello"
"""


class Notes:
    """The ports and the directory, as far as they note what is asked of them."""

    def __init__(self) -> None:
        self.bound: list[Mapping[str, int]] = []
        self.told: list[tuple[Any, ...]] = []

    def bind(self, _model: Any, counts: Mapping[str, int]) -> None:
        self.bound.append(counts)

    def note(self, facts: Mapping[str, Any]) -> None:
        pass

    def forget(self, instance: str) -> None:
        pass

    def hold(self, role: str, number: int) -> None:
        self.told.append(("hold", role, number))

    def release(self, instance: str) -> None:
        self.told.append(("release", instance))

    def status(self, facts: Mapping[str, Any]) -> None:
        self.told.append(("status", facts["instance"]))

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        pass

    def output(self, facts: Mapping[str, Any]) -> None:
        pass


def only_leave(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Instances never start; who is to leave is waited for."""
    if inspect.iscoroutine(work) and work.__name__ == "_leave":
        return asyncio.create_task(work)
    work.close()
    return asyncio.create_task(asyncio.sleep(0))


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def model(tmp_path: Path) -> ServiceModel:
    source = tmp_path / "service.toml"
    source.write_text(DEFINITION)
    return load(source, {})


@pytest.fixture
async def deployment(tmp_path: Path, notes: Notes) -> AsyncIterator[Deployment]:
    data = DataDirectory.at(tmp_path / "data")
    grounds = Grounds(data=data, deployment_id="d", environ={}, public=lambda _: {}, reporter=notes)
    generations = Generations(tmp_path / "deployment")
    generations.clear()
    with Net.take("d") as net:
        deployment = Deployment(Crew(grounds=grounds, ports=notes, directory=notes, start=only_leave), generations, net)
        yield deployment
        deployment.fleet.expect(())
        for member in deployment.fleet.members:
            member.leave(None)
            await member.keep()


def scaled(model: ServiceModel, count: int) -> ServiceModel:
    worker = replace(model.roles["Worker"], instances=count)
    return replace(model, roles=MappingProxyType({"Worker": worker}))


@pytest.mark.parametrize("what", ["more instances than fit", "a full disk", "no free port", "no descriptor"])
async def test_a_change_that_fails_changes_nothing(
    deployment: Deployment, model: ServiceModel, notes: Notes, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    goal = deployment.apply(model)
    file = goal.assignment.model
    assert file is not None
    if what == "a full disk":
        (file.parent / "2.toml").mkdir()  # nothing can be written there
    elif what == "no free port":
        monkeypatch.setattr("rolehost.host.fabric.deployment.up_topology", refuse)
    elif what == "no descriptor":
        monkeypatch.setattr("rolehost.host.fabric.fleet.reserve_port", second_fails())
    descriptors = open_descriptors()
    with pytest.raises(RoleHostError):
        deployment.apply(scaled(model, 20_000 if what == "more instances than fit" else 3))
    assert open_descriptors() == descriptors
    assert deployment.goal is goal
    assert deployment.is_settled == deployment.walk.is_over
    assert [*deployment.fleet.here] == ["Worker_IN_0"]
    assert notes.bound[-1] == {"Worker": 1}
    assert what in {"no free port", "no descriptor"} or len(notes.bound) == 1  # not touched, else put back
    assert [path for path in file.parent.iterdir() if path.is_file()] == [file]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - one look at ourselves; no path is wanted


def refuse(*_: Any) -> None:
    raise RoleHostError("no port is free")


def second_fails() -> Callable[[str], socket.socket]:
    """Reserves one port; then the process has no descriptor left."""
    answers = iter([reserve_port])

    def reserve(host: str) -> socket.socket:
        if (real := next(answers, None)) is None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(host)

    return reserve


async def test_who_is_to_leave_keeps_its_public_ports_until_it_has_left(
    deployment: Deployment, model: ServiceModel, notes: Notes
) -> None:
    deployment.apply(scaled(model, 2))
    for member in deployment.fleet.members:
        member.facts |= {"state": "Ready", "generation": 2}  # of both generations, once they are told of them
    leading = asyncio.create_task(deployment.run())
    await asyncio.sleep(0)
    with deployment.news.heard() as news:
        deployment.apply(scaled(model, 1))
        assert notes.bound[-1] == {"Worker": 2}
        async with asyncio.timeout(10):
            while (await news.get()).get("update") != "departure":
                pass
            assert notes.bound[-1] == {"Worker": 2}
            assert not deployment.is_settled
            await deployment.fleet.leaving["Worker_IN_1"].keep()
            while (await news.get()).get("update") != "finished":
                pass
    assert notes.bound[-1] == {"Worker": 1}
    leading.cancel()


@pytest.mark.parametrize("how", ["update", "files"])
async def test_what_was_read_while_the_stop_began_is_not_taken(
    deployment: Deployment, model: ServiceModel, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    goal = deployment.apply(model)
    desk = Desk(deployment, model, {}, stop=lambda _: None)

    def slow(*_: Any) -> ServiceModel:
        desk.closed = True  # the stop came meanwhile
        return scaled(model, 2)

    monkeypatch.setattr(fabric_desk, "read_update", slow)
    monkeypatch.setattr(fabric_desk, "_read", slow)
    said: list[Mapping[str, Any]] = []
    if how == "update":
        async with asyncio.timeout(10):
            await desk.answer({"do": "update", "file": "x", "mode": "auto"}, said.append)
        assert said == [{"refused": ["the service is stopping"]}]
    else:
        await desk.take_files(Path("x"), None)
    assert deployment.goal is goal


async def test_a_check_that_can_not_be_started_is_a_refusal(
    deployment: Deployment, model: ServiceModel, tmp_path: Path
) -> None:
    async def fails(*_: Any) -> list[str]:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    goal = deployment.apply(model)
    desk = Desk(deployment, model, {}, stop=lambda _: None, check=fails)
    other = tmp_path / "other" / "service.toml"
    other.parent.mkdir()
    other.write_text(DEFINITION)
    said: list[Mapping[str, Any]] = []
    await desk.answer({"do": "update", "file": str(other), "mode": "auto"}, said.append)
    assert said == [{"refused": ["the machine has no room for that: Resource temporarily unavailable"]}]
    assert deployment.goal is goal


async def test_nobody_comes_while_all_others_stop(deployment: Deployment, model: ServiceModel) -> None:
    deployment.apply(model)
    told: list[str] = []

    def tell(member: Member) -> None:
        told.append(member.id)

    deployment.fleet.stop(tell)
    ended = asyncio.create_task(deployment.fleet.ended())
    await asyncio.sleep(0)
    deployment.apply(scaled(model, 2))
    deployment.fleet.here["Worker_IN_0"].facts |= {"state": "Ready", "generation": 2}
    leading = asyncio.create_task(deployment.run())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not leading.done()
    assert told == [*deployment.fleet.here] == ["Worker_IN_0"]
    assert not ended.done()
    deployment.fleet.here["Worker_IN_0"].ended.set()
    async with asyncio.timeout(10):
        await ended
    leading.cancel()


async def test_a_number_that_was_lost_is_held_again(deployment: Deployment, model: ServiceModel, notes: Notes) -> None:
    deployment.apply(model)
    notes.told.clear()
    deployment.fleet.number_lost("Worker_IN_0")
    assert notes.told == [("release", "Worker_IN_0"), ("hold", "Worker", 0), ("status", "Worker_IN_0")]
    deployment.fleet.number_lost("Worker_IN_7")  # it has left
    assert notes.told[3:] == []


async def test_the_sockets_that_a_killed_host_left_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = DataDirectory.at(tmp_path / "data")
    left = tmp_path / f"rolehost-{data.deployment_id()[:8]}-1"
    others = tmp_path / "rolehost-01234567-1"
    for directory in (left, others):
        directory.mkdir()
        (directory / "Worker_IN_0.1.xml").write_text("a secret")
    os.utime(left, (0, 0))
    lock = data.root / "resources" / "Worker_IN_0"
    lock.mkdir(parents=True)
    with only_one(lock.with_name("Worker_IN_0.lock"), ""):
        await end_leftovers(data)
        assert left.exists()  # a host of this deployment lives
    await end_leftovers(data)
    assert not left.exists()
    assert others.exists()


async def test_a_model_that_can_not_be_removed_ends_nothing(deployment: Deployment, model: ServiceModel) -> None:
    goal = deployment.apply(scaled(model, 0))
    assert goal.assignment.model
    (goal.assignment.model.parent / "a directory").mkdir()
    leading = asyncio.create_task(deployment.run())
    with deployment.news.heard() as news:
        async with asyncio.timeout(10):
            while (await news.get()).get("update") != "finished":
                pass
    assert not leading.done()
    leading.cancel()
