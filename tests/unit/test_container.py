from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.errors import InstanceLostError, RoleHostError
from rolehost.host.container import Container, _Neighbours
from rolehost.host.file_orders import spread_of
from rolehost.host.stopping import StopRequests
from rolehost.service_model import ServiceModel


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


def test_the_spread_of_updates_is_a_number_of_seconds() -> None:
    assert spread_of({}) == 30
    assert spread_of({"ROLEHOST_UPDATE_SPREAD_SECONDS": "0"}) == 0
    for wrong in ("-1", "soon", "nan", "inf"):
        with pytest.raises(RoleHostError, match="is a number of seconds"):
            spread_of({"ROLEHOST_UPDATE_SPREAD_SECONDS": wrong})
