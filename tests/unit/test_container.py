from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from rolehost.errors import InstanceLostError, RoleHostError
from rolehost.host.container import Container, _Neighbours
from rolehost.host.file_orders import FileOrders, Place, spread_of
from rolehost.host.orders import NewPlan, Planner
from rolehost.host.paths import DataDirectory
from rolehost.host.stopping import StopRequests
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.telemetry import subscribe


def container(tmp_path: Path, **environ: str) -> Container:
    return Container(
        read=lambda: ServiceModel(name="s", roles={}), role="A", data=tmp_path, environ=environ, host="127.0.0.9"
    )


async def test_an_instance_whose_number_is_lost_stops_and_says_why(tmp_path: Path) -> None:
    requests = StopRequests()
    neighbours = _Neighbours(container(tmp_path), requests)
    neighbours.raise_if_lost()
    neighbours._note_loss("A_IN_0")
    assert requests.stop.is_set()
    with pytest.raises(InstanceLostError, match="A_IN_0"):
        neighbours.raise_if_lost()


async def test_others_are_told_the_address_at_which_they_reach_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours = _Neighbours(container(tmp_path, ROLEHOST_ADVERTISE="10.1.2.3"), StopRequests())
    told: list[object] = []
    monkeypatch.setattr(neighbours.directory, "status", told.append)
    endpoints = {"Http": {"protocol": "http", "address": "0.0.0.0", "port": 80}}  # noqa: S104 - as it is bound
    neighbours.status({"instance": "A_IN_0", "endpoints": endpoints})
    assert told == [
        {"instance": "A_IN_0", "endpoints": {"Http": {"protocol": "http", "address": "10.1.2.3", "port": 80}}}
    ]


def peer(number: int, **more: object) -> dict[str, object]:
    talk = {"protocol": "tcp", "address": f"10.0.0.{number}", "port": 80}
    facts = {"instance": f"A_IN_{number}", "role": "A", "fault_domain": 0, "update_domain": number}
    return {**facts, "endpoints": {"Talk": talk}, **more}


async def test_a_row_of_another_release_costs_that_peer_only_and_is_told_once(tmp_path: Path) -> None:
    model = ServiceModel(name="s", roles={"A": RoleModel(name="A", entry_point="x:A")})
    planner = Planner(role="A", number=0, data=DataDirectory.at(tmp_path), environ={})
    told: list[tuple[str, object]] = []
    end = subscribe(lambda event, facts: told.append((event, facts.get("instance"))))
    with closing(FileOrders(planner, model, lambda: model, Place(host="127.0.0.1"), 0)) as orders:
        await orders.next()
        strange: list[dict[str, object]] = [
            {"instance": "A_IN_2"},
            peer(3, endpoints={"Talk": {"uri": "tcp://10.0.0.3"}}),
            peer(4, endpoints=["Talk"]),
            peer(5, fault_domain=None),
            peer(6, update_domain="first"),
            peer(7, instance="A_IN_seven"),
            {},
        ]
        for _ in range(2):
            orders.heard_of([peer(0), peer(1), *strange])
        order = await asyncio.wait_for(orders.next(), 10)
    end()
    assert isinstance(order, NewPlan)
    assert [each.id for each in order.plan.topology["A"].instances] == ["A_IN_0", "A_IN_1"]
    names = [*(f"A_IN_{number}" for number in (2, 3, 4, 5, 6, "seven")), "None"]
    assert told == [("directory.row_skipped", name) for name in names]


def test_the_spread_of_updates_is_a_number_of_seconds() -> None:
    assert spread_of({}) == 30
    assert spread_of({"ROLEHOST_UPDATE_SPREAD_SECONDS": "0"}) == 0
    for wrong in ("-1", "soon", "nan", "inf"):
        with pytest.raises(RoleHostError, match="is a number of seconds"):
            spread_of({"ROLEHOST_UPDATE_SPREAD_SECONDS": wrong})
