"""The namespace of this run: the stand-in's, one for all tests of a process, or a real one.

`ROLEHOST_TEST_SERVICE_BUS` may hold the connection string of a real namespace, of the standard tier, with the right to
manage: the same tests then run there. Queues get names that nothing else has; on a real namespace they are removed.
"""

from __future__ import annotations

import atexit
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from azure.core.exceptions import ResourceNotFoundError
from azure.servicebus.management import ServiceBusAdministrationClient

from rolehost.stores import Stores
from rolehost.stores.combined import CombinedStores
from rolehost.stores.embedded import EmbeddedStores
from rolehost.stores.service_bus import Reach, ServiceBusQueues
from support.service_bus.certificates import Certificate, make_certificate
from support.service_bus.queue_entity import QueueEntity, QueueOptions
from support.service_bus.stand_in import StandIn

REAL = "ROLEHOST_TEST_SERVICE_BUS"
_SHORTEST_LOCK_OF_AZURE = 5.0


@cache
def certificate() -> Certificate:
    """This process's certificate for `localhost`."""
    directory = Path(mkdtemp(prefix="rolehost-service-bus-"))
    atexit.register(rmtree, directory, ignore_errors=True)
    return make_certificate(directory)


@cache
def shared_stand_in() -> StandIn:
    """This process's stand-in. It makes the queues that it doesn't know, which Service Bus itself never does."""
    stand_in = StandIn(makes_queues=QueueOptions(max_delivery_count=1000)).__enter__()
    stand_in.administer(certificate())
    atexit.register(stand_in.__exit__)
    return stand_in


@dataclass(slots=True)
class BusUnderTest:
    """A namespace, and the queues that were made there.

    Args:
        connection: its connection string.
        real: whether it is Azure's.
        made: the queues' names.
    """

    connection: str
    real: bool
    made: list[str] = field(default_factory=list)

    @property
    def shortest_lock(self) -> float:
        """Seconds that a lock lasts at least."""
        return _SHORTEST_LOCK_OF_AZURE if self.real else 1.0

    def make(self, options: QueueOptions) -> str:
        """Make a queue; the answer is its name."""
        name = f"test{secrets.token_hex(6)}"
        self.made.append(name)
        if self.real:
            with ServiceBusAdministrationClient.from_connection_string(self.connection) as client:
                self._make_there(client, name, options)
        else:
            stand_in = shared_stand_in()
            stand_in.call(lambda: stand_in.broker.queues.update({name: QueueEntity(name, options)}))
        return name

    @staticmethod
    def _make_there(client: ServiceBusAdministrationClient, name: str, options: QueueOptions) -> None:
        window = options.duplicate_window
        client.create_queue(
            name,
            lock_duration=timedelta(seconds=options.lock_seconds),
            max_delivery_count=options.max_delivery_count,
            requires_session=options.requires_session,
            dead_lettering_on_message_expiration=options.dead_letter_on_expiry,
            requires_duplicate_detection=window is not None,
            duplicate_detection_history_time_window=None if window is None else timedelta(seconds=window),
        )

    def remove(self) -> None:
        """Remove what was made on a real namespace; a stand-in forgets it with its process."""
        if self.real:
            with ServiceBusAdministrationClient.from_connection_string(self.connection) as client:
                for name in self.made:
                    with suppress(ResourceNotFoundError):
                        client.delete_queue(name)


@contextmanager
def bus_under_test() -> Iterator[BusUnderTest]:
    """The namespace of this run."""
    real = os.environ.get(REAL, "")
    bus = BusUnderTest(real or shared_stand_in().connection_string, bool(real))
    try:
        yield bus
    finally:
        bus.remove()


@asynccontextmanager
async def service_bus_queues(*, counts: bool = True) -> AsyncIterator[ServiceBusQueues]:
    """The engine's queues, on the namespace of this run.

    Args:
        counts: whether the management interface is there, so that depths are known.
    """
    with bus_under_test() as bus:
        queues = await ServiceBusQueues.open(bus.connection, reach=_reach(bus, counts=counts))
        try:
            yield queues
        finally:
            bus.made += queues.opened
            await queues.close()


def _reach(bus: BusUnderTest, *, counts: bool) -> Reach:
    if bus.real:
        return Reach(administration=None if counts else "")
    administration = shared_stand_in().administration
    assert administration is not None
    return Reach(authorities=str(certificate().certificate), administration=administration.address if counts else "")


def connection() -> str:
    """The connection string of this run, for a process of its own or for settings."""
    return os.environ.get(REAL, "") or shared_stand_in().connection_string


@cache
def _stand_in_of(folder: Path) -> StandIn:
    del folder
    # A killed worker's messages come back soon: nobody waits for a minute in a test.
    stand_in = StandIn(makes_queues=QueueOptions(lock_seconds=2, max_delivery_count=1000)).__enter__()
    atexit.register(stand_in.__exit__)
    return stand_in


def environ(folder: Path) -> dict[str, str]:
    """Settings for a service whose queues are a namespace of its own, and whose tables and blobs are in a folder."""
    return {
        "ROLEHOST_STORAGE": "embedded",
        "ROLEHOST_DATA": str(folder / "data"),
        "ROLEHOST_QUEUE": _stand_in_of(folder).connection_string,
    }


@asynccontextmanager
async def counting_stores(folder: Path) -> AsyncIterator[Stores]:
    """The stores of such a service, where somebody with the right to manage opens them: depths are known."""
    stand_in = _stand_in_of(folder)
    if stand_in.administration is None:
        stand_in.administer(certificate())
    assert stand_in.administration is not None
    reach = Reach(authorities=str(certificate().certificate), administration=stand_in.administration.address)
    storage = await EmbeddedStores.open(folder / "data")
    stores = CombinedStores(storage, await ServiceBusQueues.open(stand_in.connection_string, reach=reach))
    try:
        yield stores
    finally:
        await stores.close()
