from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType

import pytest

from rolehost.errors import RoleHostError
from rolehost.host.assignment import Topology
from rolehost.host.file_orders import FileOrders, Place
from rolehost.host.orders import NewPlan, Planner
from rolehost.host.paths import DataDirectory
from rolehost.host.ports.addresses import Net, advertised, run_topology, up_topology
from rolehost.service_model import (
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    PortRange,
    RoleModel,
    ServiceModel,
)

_DEPLOYMENTS = count()


@pytest.fixture
def net() -> Iterator[Net]:
    with Net.take(f"test_addresses {next(_DEPLOYMENTS)}") as taken:
        yield taken


def service(*roles: RoleModel, upgrade_domain_count: int = 5) -> ServiceModel:
    return ServiceModel(name="S", roles={role.name: role for role in roles}, upgrade_domain_count=upgrade_domain_count)


def worker(name: str = "Worker", instances: int = 2, port: int | None = None, **more: object) -> RoleModel:
    endpoints = {"Http": InputEndpoint(name="Http", protocol="http", port=18080, local_port=port)}
    return replace(RoleModel(name=name, entry_point="m:C", instances=instances, endpoints=endpoints), **more)  # type: ignore[arg-type]


def places(topology: Topology) -> dict[str, dict[str, tuple[str, int]]]:
    instances = chain.from_iterable(role.instances for role in topology.values())
    return {each.id: {name: end.ip_endpoint for name, end in each.instance_endpoints.items()} for each in instances}


def bind(place: tuple[str, int], kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    bound.bind(place)
    if kind is socket.SOCK_STREAM:
        bound.listen()
    return bound


def test_instances_have_addresses_of_their_own_and_bind_the_same_port(net: Net) -> None:
    topology = up_topology(service(worker(instances=4), worker("Other", 1)), {}, net)
    found = places(topology)
    assert list(found) == [f"Worker_IN_{number}" for number in range(4)] + ["Other_IN_0"]
    assert len({each["Http"][0] for each in found.values()}) == 5
    assert {each["Http"][1] for each in found.values()} == {18080}
    assert all(each["Http"][0].startswith("127.") and each["Http"][0] != "127.0.0.1" for each in found.values())
    with ExitStack() as held:
        for each in found.values():
            held.enter_context(bind(each["Http"]))
    endpoint = topology["Worker"].instances[2].instance_endpoints["Http"]
    assert (endpoint.name, endpoint.protocol) == ("Http", "http")
    assert topology["Worker"].instances[2].role is topology["Worker"]


def test_twenty_five_roles_of_a_thousand_instances_fit(net: Net) -> None:
    given = [net.address(f"R{role}", number) for role in range(25) for number in range(1000)]
    assert len(set(given)) == 25_000
    for address in given[::997] + given[-1:]:
        with closing(bind((address, 0))):
            pass
    with pytest.raises(RoleHostError, match="25 roles of 1000 instances"):
        net.address("R0", 1000)
    with pytest.raises(RoleHostError, match="25 roles of 1000 instances"):
        net.address("R25", 0)


def test_fault_and_update_domains_are_spread_evenly(net: Net) -> None:
    instances = up_topology(service(worker(instances=14)), {}, net)["Worker"].instances
    updates = [each.update_domain for each in instances]
    assert [updates.count(domain) for domain in range(5)] == [3, 3, 3, 3, 2]
    assert [each.fault_domain for each in instances] == [0, 1] * 7
    three = up_topology(service(worker(instances=4), upgrade_domain_count=3), {}, net)["Worker"].instances
    assert [each.update_domain for each in three] == [0, 1, 2, 0]


def test_two_services_at_once_have_nothing_in_common_and_the_next_gets_the_same() -> None:
    with Net.take("same") as one, Net.take("same") as other:
        first = one.address("R", 0)
        assert first.split(".")[1] != other.address("R", 0).split(".")[1]
    with Net.take("same") as again:
        assert again.address("R", 0) == first


def test_no_address_of_the_machines_own_is_taken() -> None:
    """127.0.0.1, 127.0.1.1 and 127.0.0.53 are others', 127.255.255.255 is a broadcast address."""
    seconds = set()
    with ExitStack() as held:
        while "127.0.0.1" not in seconds:
            net = held.enter_context(Net.take("crowd"))
            address = net.address("R", 0)
            seconds.add("127.0.0.1" if address == "127.0.0.1" else address.split(".")[1])
            if len(seconds) == 30:
                break
        assert not seconds & {"0", "255"}


def test_ports_that_nobody_declared(net: Net) -> None:
    role = worker(
        port=0,
        internal_endpoints={
            "Any": InternalEndpoint(name="Any", protocol="any"),
            "Fixed": InternalEndpoint(name="Fixed", ports=PortRange(20_001, 20_001)),
            "Range": InternalEndpoint(name="Range", protocol="udp", ports=PortRange(19_000, 19_010)),
            "Dynamic": InternalEndpoint(name="Dynamic"),
        },
        instance_input_endpoints={
            "Debug": InstanceInputEndpoint(
                name="Debug", protocol="tcp", local_port=13389, public_ports=PortRange(14000, 14010)
            )
        },
    )
    found = places(up_topology(service(role), {}, net))
    for each in found.values():
        assert list(each) == ["Http", "Any", "Fixed", "Range", "Dynamic", "Debug"]
        assert (each["Fixed"][1], each["Range"][1], each["Debug"][1]) == (20_001, 19_000, 13389)
        tcp = [each[name][1] for name in ("Http", "Any", "Fixed", "Dynamic", "Debug")]
        assert len(set(tcp)) == 5
        with bind(each["Any"]), bind(each["Any"], socket.SOCK_DGRAM), bind(each["Range"], socket.SOCK_DGRAM):
            pass


def test_instances_stay_where_they_are(net: Net) -> None:
    before = places(up_topology(service(worker(port=0, instances=3), worker("Other", 2)), {}, net))
    with ExitStack() as held:  # they run, and have bound what they were given
        for each in before.values():
            held.enter_context(bind(each["Http"]))
        again = up_topology(service(worker("Other", 2), worker(port=0, instances=3)), {"Worker": 5, "Other": 1}, net)
        after = places(again)
        assert len(after) == 6
        assert all(after[name] == before[name] for name in after if name in before)
        assert len({each["Http"][0] for each in after.values()}) == 6
        back = places(up_topology(service(worker(port=0, instances=3), worker("Other", 2)), {}, net))
        assert back == before


def test_a_port_may_move_to_another_endpoint_of_a_running_instance(net: Net) -> None:
    role = worker(instances=1)
    before = places(up_topology(service(role), {}, net))["Worker_IN_0"]
    renamed = replace(role, endpoints={"Web": InputEndpoint(name="Web", protocol="http", port=18080)})
    with bind(before["Http"]):
        assert places(up_topology(service(renamed), {}, net))["Worker_IN_0"] == {"Web": before["Http"]}
    assert places(up_topology(service(role), {}, net))["Worker_IN_0"] == before


def test_a_port_that_a_public_one_covers_is_replaced(net: Net) -> None:
    with bind(("0.0.0.0", 0)) as public:  # noqa: S104 - as `up --host 0.0.0.0` does
        port = public.getsockname()[1]
        found = places(up_topology(service(worker(port=port)), {}, net))
        assert {each["Http"][1] for each in found.values()} != {port}
        for each in found.values():
            bind(each["Http"]).close()


def test_a_limited_guest_gets_no_port_that_it_can_not_bind(net: Net) -> None:
    guest = worker(port=79, entry_point="", program="guest")
    elevated = replace(guest, name="Elevated", execution_context=ExecutionContext.ELEVATED)
    found = places(up_topology(service(guest, elevated), {}, net))
    ports = {name: each["Http"][1] for name, each in found.items()}
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    expected = 79 if lowest <= 79 else 20_000
    assert ports["Worker_IN_0"] == expected
    assert ports["Elevated_IN_0"] == (79 if os.geteuid() == 0 else expected)


def test_where_there_is_one_address_every_instance_has_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rolehost.host.ports.net._guarded", lambda _second: None)
    with Net.take("crowded") as net:
        internal = {"Peer": InternalEndpoint(name="Peer", ports=PortRange(18081, 18081))}
        found = places(up_topology(service(worker(instances=3, internal_endpoints=internal)), {}, net))
        ends = [end for each in found.values() for end in each.values()]
        assert {address for address, _ in ends} == {"127.0.0.1"}
        assert len(set(ends)) == 6
        with ExitStack() as held:
            for end in ends:
                held.enter_context(bind(end))
        assert places(up_topology(service(worker(instances=3, internal_endpoints=internal)), {}, net)) == found


def a_free_port() -> int:
    with bind(("127.0.0.1", 0)) as probing:
        return int(probing.getsockname()[1])


def test_the_instance_of_a_container() -> None:
    port, other_port = a_free_port(), a_free_port()
    net = Net.single("127.0.0.1")
    with bind(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        role = worker(
            port=port,
            instances=3,
            internal_endpoints={
                "Range": InternalEndpoint(name="Range", ports=PortRange(first, first + 50)),
                "Dynamic": InternalEndpoint(name="Dynamic"),
            },
        )
        model = service(role, worker("Other"))
        topology = run_topology(model, "Worker", 7, "127.0.0.1", net=net)
    (instance,) = topology["Worker"].instances
    assert topology["Other"].instances == ()
    assert (instance.id, instance.fault_domain, instance.update_domain) == ("Worker_IN_7", 1, 2)
    found = places(topology)["Worker_IN_7"]
    assert found["Http"] == ("127.0.0.1", port)
    assert found["Range"][1] in range(first + 1, first + 51)
    assert places(run_topology(model, "Worker", 7, "127.0.0.1", net=net))["Worker_IN_7"] == found
    assert places(run_topology(model, "Worker", 7, "127.0.0.1", other_port))["Worker_IN_7"]["Http"][1] == other_port
    chosen = places(run_topology(model, "Worker", 7, "0.0.0.0", 0))["Worker_IN_7"]["Http"]  # noqa: S104 - as in a container
    assert chosen[0] == "0.0.0.0"  # noqa: S104 - as in a container
    assert chosen[1] not in {0, port}


def test_a_port_that_a_container_can_not_bind_is_said_at_once() -> None:
    with bind(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f'the endpoint "Http" can\'t listen on 127.0.0.1 port {port}: Address already in use'
        with pytest.raises(RoleHostError, match=told):
            run_topology(service(worker(port=port)), "Worker", 0, "127.0.0.1")
        with pytest.raises(RoleHostError, match=told):
            run_topology(service(worker()), "Worker", 0, "127.0.0.1", port)


def test_how_others_reach_us() -> None:
    assert advertised("10.1.2.3", MappingProxyType({})) == "10.1.2.3"
    assert advertised("0.0.0.0", {"ROLEHOST_ADVERTISE": "10.9.9.9"}) == "10.9.9.9"  # noqa: S104 - as in a container
    found = advertised("0.0.0.0", {})  # noqa: S104 - as in a container
    assert found != "0.0.0.0"  # noqa: S104 - as in a container
    bind((found, 0)).close()  # it is this machine's
    assert advertised("::", {}).count(":") >= 2
    assert advertised("::", {}) != "::"


async def test_the_domains_that_azure_names_take_the_place_of_those_by_number(tmp_path: Path) -> None:
    planner = Planner(role="Worker", number=1, data=DataDirectory.at(tmp_path), environ={})
    model = service(RoleModel(name="Worker", entry_point="m:C"))
    domains = []
    for place in (Place(host="127.0.0.1"), Place(host="127.0.0.1", fault_domain=0, update_domain=3)):
        with closing(FileOrders(planner, model, lambda: model, place, 0)) as orders:
            order = await orders.next()
        assert isinstance(order, NewPlan)
        placed = order.plan.snapshot().current_role_instance
        domains.append((placed.fault_domain, placed.update_domain))
    assert domains == [(1, 1), (0, 3)]
