"""Which address and which ports each instance has, so that neighbours on one machine can bind the same port."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from rolehost.environment import Role, RoleInstance, RoleInstanceEndpoint
from rolehost.errors import RoleHostError
from rolehost.host.assignment import Topology, domains_of
from rolehost.host.ports.net import LOOPBACK, Ask, Kinds, Net, family, refusal
from rolehost.service_model import (
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    RoleModel,
    ServiceModel,
)

__all__ = ["ADVERTISE", "Net", "advertised", "run_topology", "up_topology"]

ADVERTISE = "ROLEHOST_ADVERTISE"
_WILDCARDS = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104 - compared, not bound; never reached either
_LOW_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def up_topology(model: ServiceModel, counts: Mapping[str, int], net: Net) -> Topology:
    """Every role's instances with their own addresses; asked again after a change, those that stay keep theirs.

    The public ports are bound before: a local port that one of them keeps from being bound is replaced by a free one.

    Args:
        model: the service.
        counts: how many instances a role has, where it is not what the model says.
        net: where the addresses are from.

    Raises:
        RoleHostError: too many roles or instances, or no port is left.
    """
    roles = {}
    for role in model.roles.values():
        asks, lowest = _asks(role), _lowest_port(role)
        instances = []
        for number in range(counts.get(role.name, role.instances)):
            ports = net.ports(role.name, number, asks, lowest)
            instances.append(_instance(model, role, number, net.address(role.name, number), ports))
        roles[role.name] = Role(role.name, tuple(instances))
    return MappingProxyType(roles)


def run_topology(
    model: ServiceModel, role: str, number: int, host: str, port: int | None = None, *, net: Net | None = None
) -> Topology:
    """The one instance of a container, with what it binds there; its peers come from the instance directory.

    What an earlier life left behind has been ended before: its ports would seem to be taken.

    Args:
        model: the service.
        role: the instance's role.
        number: the instance's.
        host: the address to bind, a wildcard too.
        port: the first input endpoint's, in place of the declared one; 0: a free one.
        net: `Net.single(host)`, kept so that free ports stay the same when this is asked again.

    Raises:
        RoleHostError: a declared port can't be bound.
    """
    found = model.roles[role]
    net = net or Net.single(host)
    asks = _asks(found)
    first = next(iter(found.endpoints), None)
    if first is not None and port is not None:
        asks[first] = replace(asks[first], wanted=(port,) if port else ())
    ports = net.ports(role, number, asks)
    for name, ask in asks.items():
        if ask.wanted and ports[name] not in ask.wanted:
            why = refusal(host, ask.wanted[0], ask.kinds[0])
            told = why.strerror if why else "another endpoint has it"
            raise RoleHostError(f'the endpoint "{name}" can\'t listen on {host} port {ask.wanted[0]}: {told}')
    instance = _instance(model, found, number, host, ports)
    return MappingProxyType({name: Role(name, (instance,) if name == role else ()) for name in model.roles})


def advertised(host: str, environ: Mapping[str, str] = os.environ) -> str:
    """The address at which others reach what is bound to `host`.

    Args:
        host: an address; a wildcard stands for the one that this machine uses towards others.
        environ: `ROLEHOST_ADVERTISE` has the address where it can't be found out.
    """
    if given := environ.get(ADVERTISE):
        return given
    if host not in _WILDCARDS:
        return host
    with suppress(OSError), socket.socket(family(host), socket.SOCK_DGRAM) as asking:
        asking.connect((_WILDCARDS[host], 9))  # sends nothing: the system only chooses a route
        return str(asking.getsockname()[0])
    return "::1" if ":" in host else LOOPBACK


def _instance(
    model: ServiceModel, role: RoleModel, number: int, address: str, ports: Mapping[str, int]
) -> RoleInstance:
    domains = domains_of(number, model.upgrade_domain_count)
    endpoints = {
        name: RoleInstanceEndpoint(name, (address, ports[name]), each.protocol) for name, each in _endpoints(role)
    }
    return RoleInstance(f"{role.name}_IN_{number}", *domains, MappingProxyType(endpoints))


def _endpoints(role: RoleModel) -> list[tuple[str, InputEndpoint | InternalEndpoint | InstanceInputEndpoint]]:
    """All that the role's instances listen on."""
    return [*role.endpoints.items(), *role.internal_endpoints.items(), *role.instance_input_endpoints.items()]


def _asks(role: RoleModel) -> dict[str, Ask]:
    return {name: Ask(_wanted(each), _kinds(each.protocol)) for name, each in _endpoints(role)}


def _wanted(endpoint: InputEndpoint | InternalEndpoint | InstanceInputEndpoint) -> tuple[int, ...]:
    if isinstance(endpoint, InternalEndpoint):
        ports = endpoint.ports
        return () if ports is None else tuple(range(ports.first, ports.last + 1))
    port = endpoint.local_port
    if port is None and isinstance(endpoint, InputEndpoint):
        port = endpoint.port
    return (port,) if port else ()


def _kinds(protocol: str) -> Kinds:
    both = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return {"udp": both[1:], "any": both}.get(protocol, both[:1])


def _lowest_port(role: RoleModel) -> int:
    """The lowest port that the role's process may bind: where the host is root, a limited guest still is not."""
    if os.geteuid() != 0 or not role.program or role.execution_context is not ExecutionContext.LIMITED:
        return 1  # binding it tells
    try:
        return int(_LOW_PORTS.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024
