"""The service's part of 127.0.0.0/8 on this machine, and who has which port there."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Self

from rolehost.errors import RoleHostError

LOOPBACK = "127.0.0.1"
# 127.0.x.y is the machine's own (127.0.0.1, 127.0.1.1, 127.0.0.53), and 127.255.255.255 a broadcast address.
_SECOND_OCTETS = range(1, 255)
_MOST_ROLES, _MOST_INSTANCES = 25, 1000
# Below what the system gives to clients: those would come and go under an instance that has not bound its port yet.
_FREE_PORTS = range(20_000, 30_000)
_ANY_PORT = 1 << 16

Kinds = tuple[socket.SocketKind, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What an endpoint asks for: the ports it would have, best first, and the sockets that will be bound to it."""

    wanted: tuple[int, ...]
    kinds: Kinds


class Net:
    """The addresses of a service on this machine; it remembers what it gave, and gives the same again.

    Args:
        address: the address of the role's place among the roles and the instance's number.
        guard: what keeps other services from taking the same addresses, for as long as it is open.
        shared: others use the same address, so that free ports are the system's choice.
    """

    def __init__(
        self, address: Callable[[int, int], str], guard: socket.socket | None = None, *, shared: bool = False
    ) -> None:
        self._address = address
        self._guard = guard
        self._shared = shared
        self._places: dict[str, int] = {}
        self._grants: dict[tuple[str, int], dict[str, tuple[Ask, int]]] = {}
        self._owners: dict[tuple[str, int, socket.SocketKind], tuple[str, int]] = {}

    @classmethod
    def take(cls, deployment_id: str) -> Self:
        """A part of 127.0.0.0/8 that no other running service has; 127.0.0.1 alone where there is no such part.

        Args:
            deployment_id: the same deployment gets the same addresses again if they are free.
        """
        first = int.from_bytes(sha256(deployment_id.encode()).digest()[:4])
        for step in range(len(_SECOND_OCTETS)):
            second = _SECOND_OCTETS[(first + step) % len(_SECOND_OCTETS)]
            if refusal(f"127.{second}.0.1", 0, socket.SOCK_STREAM) is not None:
                break  # this system has no other loopback addresses, or not all of them
            if guard := _guarded(second):
                return cls(partial(_own_address, second), guard)
        return cls(lambda _place, _number: LOOPBACK, shared=True)

    @classmethod
    def single(cls, host: str) -> Self:
        """One instance that has this address to itself, as in a container."""
        return cls(lambda _place, _number: host, shared=True)

    def close(self) -> None:
        """Let others have the addresses."""
        if self._guard is not None:
            self._guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def address(self, role: str, number: int) -> str:
        """The instance's address.

        Raises:
            RoleHostError: there are more roles or instances than addresses.
        """
        place = self._places.setdefault(role, len(self._places))
        if place >= _MOST_ROLES or number >= _MOST_INSTANCES:
            raise RoleHostError(f"one machine runs {_MOST_ROLES} roles of {_MOST_INSTANCES} instances at most")
        return self._address(place, number)

    def ports(self, role: str, number: int, asks: Mapping[str, Ask], lowest: int = 1) -> dict[str, int]:
        """The ports of an instance's endpoints: the first wanted one that can be bound there, else a free one.

        Args:
            role: the instance's role.
            number: the instance's.
            asks: by endpoint; one that asks for the same as before gets the same.
            lowest: ports below can't be bound by whoever will.

        Raises:
            RoleHostError: no port is left.
        """
        asking, before = (role, number), self._grants.get((role, number), {})
        grants = {name: grant for name, grant in before.items() if asks.get(name) == grant[0]}
        address = self.address(role, number)
        # Who wants one port and no other comes first, who takes any comes last.
        for name, ask in sorted(asks.items(), key=lambda each: len(each[1].wanted) or _ANY_PORT):
            if name not in grants:
                used = {(port, kind) for other, port in grants.values() for kind in other.kinds}
                wanted = (port for port in chain(ask.wanted, self._free(address)) if port >= lowest)
                port = next((port for port in wanted if self._fits(address, port, ask, asking, used)), None)
                if port is None:
                    raise RoleHostError(f'no port is free at {address} for the endpoint "{name}" of {role}_IN_{number}')
                grants[name] = (ask, port)
                self._owners |= {(address, port, kind): asking for kind in ask.kinds}
        self._grants[asking] = grants
        return {name: grants[name][1] for name in asks}

    def _fits(
        self, address: str, port: int, ask: Ask, asking: tuple[str, int], used: set[tuple[int, socket.SocketKind]]
    ) -> bool:
        return all((port, kind) not in used and self._may_have(address, port, kind, asking) for kind in ask.kinds)

    def _may_have(self, address: str, port: int, kind: socket.SocketKind, asking: tuple[str, int]) -> bool:
        """What it has had is bound by its running life, maybe, and its own all the same."""
        owner = self._owners.get((address, port, kind))
        return refusal(address, port, kind) is None if owner is None else owner == asking

    def _free(self, address: str) -> Iterable[int]:
        """Below the system's own choice: what that gives to clients comes and goes under a port that is bound later."""
        if not self._shared:
            yield from _FREE_PORTS
        for _ in _FREE_PORTS:
            with socket.socket(family(address)) as chosen:
                chosen.bind((address, 0))
                port = int(chosen.getsockname()[1])
            yield port


def _own_address(second: int, place: int, number: int) -> str:
    """Readable: 127.77.30.43 is instance 42 of the fourth role."""
    high, low = divmod(number, 100)
    return f"127.{second}.{place * 10 + high}.{low + 1}"


def _guarded(second: int) -> socket.socket | None:
    """A name of the machine's that one process can have, and loses when it dies; None if another has it."""
    if sys.platform != "linux":
        return None
    guard = socket.socket(socket.AF_UNIX)
    try:
        guard.bind(f"\0rolehost-127.{second}")
    except OSError:
        guard.close()
        return None
    return guard


def refusal(address: str, port: int, kind: socket.SocketKind) -> OSError | None:
    """Why a socket of this kind can't be bound there now; None: it can."""
    with socket.socket(family(address), kind) as trying:
        if kind is socket.SOCK_STREAM:  # on datagrams this would share the port with whoever has it
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trying.bind((address, port))
        except OSError as error:
            return error
    return None


def family(address: str) -> socket.AddressFamily:
    """That of an address in digits."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET
