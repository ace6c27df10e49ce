"""Every port of the service that clients outside connect to: relays, and who decides which instances they use."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from rolehost.errors import RoleHostError
from rolehost.host.ports.load_balancer import LoadBalancer, Seen
from rolehost.host.ports.relay import Relay
from rolehost.host.ports.udp_relay import UdpRelay
from rolehost.service_model import InputEndpoint, InstanceInputEndpoint, LoadBalancerProbe, RoleModel, ServiceModel
from rolehost.telemetry import emit

# A relayed connection has two descriptors.
_DESCRIPTORS = 65_536
_Relay: TypeAlias = "Relay | UdpRelay"
_Key: TypeAlias = "tuple[str, str]"  # whose port it is, a role's or one instance's, and the endpoint
_Place: TypeAlias = "tuple[bool, int]"  # whether it is for UDP, and the port that was asked for


@dataclass(frozen=True, slots=True)
class _Door:
    endpoint: InputEndpoint | InstanceInputEndpoint
    probe: LoadBalancerProbe | None
    place: _Place
    relay: _Relay
    balancer: LoadBalancer


class PublicPorts:
    """The service's public ports on this machine.

    Args:
        host: the address.
        front_port: the port of the first http endpoint, in place of the declared one; 0: a free one.
        hold_seconds: how long a client waits for an instance that is ready.
    """

    def __init__(self, host: str, front_port: int | None = None, *, hold_seconds: float = 10.0) -> None:
        self._host = host
        self._front_port = front_port
        self._hold_seconds = hold_seconds
        self._doors: dict[_Key, _Door] = {}
        self._relays: set[_Relay] = set()
        self._roles: Mapping[str, RoleModel] = {}
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self, model: ServiceModel, counts: Mapping[str, int]) -> None:
        """Hold the ports of a service; called again after a change, keep those that go on.

        Args:
            model: the service.
            counts: how many instances a role has, where it is not what the model says.

        Raises:
            RoleHostError: the port of an input endpoint is in use; then everything is as it was before.
        """
        before, doors = self._doors, dict[_Key, _Door]()
        relays = {door.place: door.relay for door in before.values() if isinstance(door.endpoint, InputEndpoint)}
        try:
            for role, endpoint, place in _inputs(model, self._front_port):
                relay = relays.get(place) or self._relay(place)
                doors[role, endpoint.name] = _door(endpoint, model.probes.get(endpoint.probe), place, relay)
        except RoleHostError:
            self._retire_all_but(before)
            raise
        for instance, own in _own(model, counts):
            if door := self._own_door(instance, own, before.get((instance, own.name))):
                doors[instance, own.name] = door
        for key in before.keys() - doors.keys():
            before[key].balancer.close()
        self._roles = model.roles
        self._doors = {key: _same(before.get(key), door) for key, door in doors.items()}
        self._retire_all_but(self._doors)
        for facts in [*self._facts.values()]:
            self.note(facts)

    @property
    def front(self) -> str | None:
        """`host:port` where a client on this machine reaches the first http endpoint; None: there is none."""
        doors = (door for door in self._doors.values() if door.endpoint.protocol == "http")
        return next((door.relay.address for door in doors), None)

    def public(self, holder: str) -> dict[str, str]:
        """`host:port` by endpoint, as it is bound: a wildcard stays one.

        Args:
            holder: a role's name, for the ports that its instances share; an instance's id, for its own.
        """
        return {name: door.relay.bound for (whose, name), door in self._doors.items() if whose == holder}

    async def start(self) -> None:
        """Accept connections, here and wherever `bind` is called again."""
        self._started = True
        _allow_many_connections()
        for relay in [*self._relays]:
            await relay.start()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Take the facts that an instance reports of itself."""
        instance, role = str(facts["instance"]), self._roles.get(facts["role"])
        self._facts[instance] = facts
        for (holder, _), door in self._doors.items():
            if role is not None and holder in {instance, role.name} and (seen := _seen(facts, role, door)):
                door.balancer.note(seen)

    def forget(self, instance: str) -> None:
        """Take an instance out of all rotations, until it is noted again."""
        self._facts.pop(instance, None)
        for door in self._doors.values():
            door.balancer.forget(instance)

    def stop_accepting(self) -> None:
        """Close the ports for new connections; what is connected goes on."""
        for relay in self._relays:
            relay.stop_accepting()

    async def close(self) -> None:
        """End everything."""
        for door in self._doors.values():
            door.balancer.close()
        for relay in [*self._relays]:
            await relay.close()
        await asyncio.gather(*self._tasks)

    def _relay(self, place: _Place) -> _Relay:
        udp, port = place
        relay = UdpRelay(self._host, port) if udp else Relay(self._host, port, hold_seconds=self._hold_seconds)
        self._relays.add(relay)
        if self._started:
            self._soon(relay.start())
        return relay

    def _own_door(self, instance: str, endpoint: InstanceInputEndpoint, before: _Door | None) -> _Door | None:
        """A door with the port that the instance has, else with the first free one of the range."""
        udp, ports = endpoint.protocol == "udp", endpoint.public_ports
        if before is not None and before.place[0] == udp and ports.first <= before.place[1] <= ports.last:
            return _door(endpoint, None, before.place, before.relay)
        for port in range(ports.first, ports.last + 1):
            with suppress(RoleHostError):
                return _door(endpoint, None, (udp, port), self._relay((udp, port)))
        emit("endpoint.no_port", instance=instance, endpoint=endpoint.name, first=ports.first, last=ports.last)
        return None

    def _retire_all_but(self, doors: Mapping[_Key, _Door]) -> None:
        kept = {door.relay for door in doors.values()}
        for relay in self._relays - kept:
            relay.stop_accepting()
            self._soon(self._retire(relay))

    async def _retire(self, relay: _Relay) -> None:
        await relay.unused()
        await relay.close()
        self._relays.discard(relay)

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _inputs(model: ServiceModel, front_port: int | None) -> Iterator[tuple[str, InputEndpoint, _Place]]:
    """Role, endpoint and place of all that a role's instances share."""
    for role in model.roles.values():
        for endpoint in role.endpoints.values():
            port = endpoint.port
            if endpoint.protocol == "http" and front_port is not None:
                port, front_port = front_port, None
            yield role.name, endpoint, (endpoint.protocol == "udp", port)


def _own(model: ServiceModel, counts: Mapping[str, int]) -> Iterator[tuple[str, InstanceInputEndpoint]]:
    """Instance and endpoint of all that an instance has to itself."""
    for role in model.roles.values():
        for number in range(counts.get(role.name, role.instances)):
            for endpoint in role.instance_input_endpoints.values():
                yield f"{role.name}_IN_{number}", endpoint


def _door(
    endpoint: InputEndpoint | InstanceInputEndpoint, probe: LoadBalancerProbe | None, place: _Place, relay: _Relay
) -> _Door:
    ignore = isinstance(endpoint, InputEndpoint) and endpoint.ignore_role_instance_status
    return _Door(endpoint, probe, place, relay, LoadBalancer(relay, probe=probe, ignore_status=ignore))


def _same(before: _Door | None, now: _Door) -> _Door:
    """The one that was there, with all that it knows, if nothing has changed; else it is done with."""
    if before is not None:
        if (before.endpoint, before.probe, before.relay) == (now.endpoint, now.probe, now.relay):
            return before
        before.balancer.close()
    return now


def _seen(facts: Mapping[str, Any], role: RoleModel, door: _Door) -> Seen | None:
    """What the load balancer goes by; None: the instance has no such endpoint yet."""
    places = {name: (str(each["address"]), int(each["port"])) for name, each in facts["endpoints"].items()}
    address = places.get(door.endpoint.name)
    if address is None:
        return None
    return Seen(
        instance=facts["instance"],
        state=facts["state"],
        life="" if facts["pid"] is None else f"{facts['pid']} {facts['started_at']}",
        address=address,
        probe=_probed(door, role, places, address),
    )


def _probed(
    door: _Door, role: RoleModel, places: Mapping[str, tuple[str, int]], address: tuple[str, int]
) -> tuple[str, int]:
    """Where the probe asks: the port it names is one that instances bind, which here may be another."""
    if door.probe is None or door.probe.port is None:
        return address
    for name, endpoint in role.endpoints.items():
        local_port = endpoint.port if endpoint.local_port is None else endpoint.local_port
        if endpoint.protocol != "udp" and door.probe.port == local_port and name in places:
            return places[name]
    return address[0], door.probe.port


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # as many as we are allowed, then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
