"""What becomes of a definition that can't be taken: it is told with its reason until one comes that can."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import ServiceModelError
from rolehost.host.assignment import Assignment
from rolehost.host.file_orders import FileOrders, Place
from rolehost.host.instance.status import InstanceStatus
from rolehost.host.link import Link
from rolehost.host.orders import LinkOrders, NewPlan, Order, Planner, Refusal
from rolehost.host.paths import DataDirectory
from rolehost.service_model import load

DEFINITION = """
[service]
name = "tiny"
[roles.A]
entry_point = "roles:A"
[roles.A.settings]
Mood = "calm"
"""


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """The definition."""
    path = tmp_path / "service.toml"
    path.write_text(DEFINITION)
    return path


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return Planner(role="A", number=0, data=DataDirectory.at(tmp_path / "data"), environ={})


@pytest.fixture
async def orders(service: Path, planner: Planner) -> AsyncIterator[FileOrders]:
    def read() -> Any:
        return load(service, {})

    with closing(FileOrders(planner, read(), read, Place(host="127.0.0.1"), 0)) as orders:
        first = await orders.next()
        assert isinstance(first, NewPlan)
        yield orders


def change(service: Path, old: str = "", new: str = "") -> None:
    service.write_text(DEFINITION.replace(old, new))


async def following(orders: FileOrders | LinkOrders) -> Order | None:
    return await asyncio.wait_for(orders.next(), 20)


async def test_a_file_that_can_not_be_taken_is_told_until_it_can(orders: FileOrders, service: Path) -> None:
    change(service, '"calm"', "calm")
    unreadable = await following(orders)
    assert isinstance(unreadable, Refusal)
    assert unreadable.sentence.startswith("The changed definition is refused: ")
    assert "service.toml:7" in unreadable.sentence
    change(service, "roles.A", "roles.B")
    renamed = await following(orders)
    assert isinstance(renamed, Refusal)
    assert 'the role "A" can\'t be renamed to "B" while the service runs' in renamed.sentence
    change(service)
    assert await following(orders) == Refusal("")


async def test_a_refusal_outlives_news_of_the_peers_and_ends_with_a_good_file(
    orders: FileOrders, service: Path
) -> None:
    change(service, '"calm"', "calm")
    refusal = await following(orders)
    assert isinstance(refusal, Refusal)
    orders.heard_of([{"instance": "A_IN_1", "fault_domain": 1, "update_domain": 1, "endpoints": {}}])
    assert isinstance(await following(orders), NewPlan)
    assert await following(orders) == refusal
    change(service, "calm", "merry")
    assert await following(orders) == Refusal("")
    merry = await following(orders)
    assert isinstance(merry, NewPlan)
    assert merry.plan.role.settings["Mood"] == "merry"


async def test_a_generation_that_can_not_be_read_is_told_to_the_fabric(service: Path, planner: Planner) -> None:
    ours, theirs = socket.socketpair()
    fabric, link = await Link.open(ours), await Link.open(theirs)
    with closing(fabric), closing(link):
        orders = LinkOrders(link, planner)
        good = Assignment(generation=1, model=service, directory=service.parent, topology={})
        fabric.send({"assign": good.to_json()})
        assert isinstance(await following(orders), NewPlan)
        fabric.send({"assign": replace(good, generation=2, model=service.with_name("gone.toml")).to_json()})
        refused = await following(orders)
        assert isinstance(refused, Refusal)
        assert refused.sentence.startswith("Generation 2 is refused: ")
        assert "gone.toml" in refused.sentence


def test_the_sentence_stands_beside_what_the_role_does() -> None:
    told: list[str] = []
    status = InstanceStatus("A_IN_0", "A", detail="The role is ready.")
    status.on_change = lambda: told.append(status.facts()["detail"])
    for sentence in ("No.", "No.", ""):
        status.refuse(sentence)
    assert told == ["The role is ready. No.", "The role is ready."]


@pytest.mark.parametrize(("content", "told"), [(None, "Is a directory"), (b"\xd4\xff", "it is no text in UTF-8")])
def test_why_a_file_can_not_be_read_is_said_in_words(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "service.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ServiceModelError) as error:
        load(path, {})
    assert f"{path}: N00: the file can't be read: {told}" in error.value.problems
