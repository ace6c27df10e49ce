"""`rolehost run`: one instance as the whole of a container, its own fabric.

Its number and its peers come from the instance directory, its model from files that are watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolehost.errors import InstanceLostError
from rolehost.host.bootstrapper import Bootstrapper, probes, stop_on_signals
from rolehost.host.directory.client import DirectoryClient
from rolehost.host.file_orders import FileOrders, Place, spread_of
from rolehost.host.instance.plan import find_role
from rolehost.host.instance.status import InstanceStatus
from rolehost.host.orders import Planner
from rolehost.host.paths import DataDirectory
from rolehost.host.ports.addresses import advertised
from rolehost.host.reaping import reap_orphans
from rolehost.host.stopping import StopRequests
from rolehost.host.waits import first
from rolehost.processes import become_subreaper
from rolehost.service_model import ServiceModel
from rolehost.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What `rolehost run` was asked for.

    Args:
        read: reads the service's model, and reads it again after a change of its files.
        role: the role's name.
        data: the data directory.
        environ: the variables that the role starts from; they name the stores, too.
        number: the instance's number; None: the lowest that is free.
        host: where the role's endpoints and the probes listen.
        port: of the role's first input endpoint, in place of the declared one; 0: a free one.
        probe_port: 0: a free one.
        on_number: called once the number is known.
    """

    read: Callable[[], ServiceModel]
    role: str
    data: Path
    environ: Mapping[str, str]
    number: int | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    probe_port: int = 0
    on_number: Callable[[int], None] = lambda _: None

    async def run(self) -> int:
        """Run the instance until SIGTERM or SIGINT; another one, half a second or more later, makes it hurry.

        Returns:
            0 after an orderly stop.

        Raises:
            RoleHostError: it can't begin: no such role, a port in use, another host of this instance; or another one
                has taken its number.
        """
        become_subreaper()
        reap_orphans()
        requests = StopRequests()
        stop_on_signals(requests)
        model = self.read()
        find_role(model, self.role)
        spread = spread_of(self.environ)
        data = DataDirectory.at(self.data)
        status = InstanceStatus("", self.role, detail=self._waits_for())
        async with probes(status, self.host, self.probe_port) as probe:
            neighbours = _Neighbours(self, requests)
            async with neighbours.directory as directory:
                number = await self._take(directory, requests)
                if number is None:
                    return 0
                planner = Planner(role=self.role, number=number, data=data, environ=self.environ)
                status.instance = planner.instance_id
                place = await self._place(directory)
                with closing(FileOrders(planner, model, self.read, place, spread)) as orders:
                    neighbours.orders = orders
                    bootstrapper = Bootstrapper(
                        planner=planner,
                        orders=orders,
                        reporter=neighbours,
                        requests=requests,
                        status=status,
                        probe=probe,
                    )
                    await bootstrapper.run()
        neighbours.raise_if_lost()
        return 0

    async def _take(self, directory: DirectoryClient, requests: StopRequests) -> int | None:
        """The instance's number, before anything of it starts; None: it is to stop."""
        taking = asyncio.create_task(directory.take(self.role, wanted=self.number))
        if await first(taking, requests.stop.wait()) != 0:
            taking.cancel()
            return None
        self.on_number(taking.result())
        return taking.result()

    def _waits_for(self) -> str:
        if self.number is None:
            return "Waiting for an instance number."
        return f"Waiting for the instance number {self.number}."

    async def _place(self, directory: DirectoryClient) -> Place:
        found = await directory.metadata()
        if found is None:
            return Place(host=self.host, port=self.port)
        emit("instance.placed", **found.to_json())
        return Place(host=self.host, port=self.port, fault_domain=found.fault_domain, update_domain=found.update_domain)


class _Neighbours:
    """The directory as this container sees it: a reporter that names the address at which others reach us."""

    def __init__(self, container: Container, requests: StopRequests) -> None:
        self.orders: FileOrders | None = None
        self._address = advertised(container.host, container.environ)
        self._requests = requests
        self._lost = ""
        self.directory = DirectoryClient(
            container.environ, data=container.data, metadata=True, on_peers=self._heard_of, on_lost=self._note_loss
        )

    def status(self, facts: Mapping[str, Any]) -> None:
        """The facts, with endpoints that others can reach."""
        endpoints = {name: {**each, "address": self._address} for name, each in facts["endpoints"].items()}
        self.directory.status({**facts, "endpoints": endpoints})

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """As it is."""
        self.directory.event(name, facts)

    def output(self, facts: Mapping[str, Any]) -> None:
        """As it is."""
        self.directory.output(facts)

    def raise_if_lost(self) -> None:
        """Tell why the instance was stopped.

        Raises:
            InstanceLostError: another holder has its number.
        """
        if self._lost:
            raise InstanceLostError(f"the number of {self._lost} was taken by another holder: its lease had run out")

    def _heard_of(self, peers: Any) -> None:
        if self.orders is not None:
            self.orders.heard_of(peers)

    def _note_loss(self, instance: str) -> None:
        emit("instance.number_lost", instance=instance)
        self._lost = instance
        self._requests.note()
