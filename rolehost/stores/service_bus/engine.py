"""The Service Bus engine: queues in a namespace, for stores whose tables and blobs are elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from rolehost.errors import InvalidParameterError
from rolehost.stores import names
from rolehost.stores.queues import ORDERED
from rolehost.stores.service_bus.administration import Administration, QueueFacts
from rolehost.stores.service_bus.link import Pulse
from rolehost.stores.service_bus.namespace import Bounds, Credential, Namespace, Reach
from rolehost.stores.service_bus.queues import ServiceBusQueue
from rolehost.stores.service_bus.session_queue import SessionQueue

# The SDK writes warnings of its own about what we translate and tell as facts: not on a terminal.
logging.getLogger("azure.servicebus").addHandler(logging.NullHandler())


class ServiceBusQueues:
    """The queues of a namespace; links are opened when they are needed, and shared.

    Args:
        namespace: which one, and who we are there.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._client = namespace.client()
        self._administration = Administration(namespace.administration(), namespace.host)
        self._pulse = Pulse()
        self._queues: dict[str, ServiceBusQueue] = {}

    def __repr__(self) -> str:
        return f"<ServiceBusQueues of {self._namespace.host}>"

    @classmethod
    async def open(
        cls,
        connection: str,
        *,
        credential: Credential | None = None,
        reach: Reach | None = None,
        bounds: Bounds | None = None,
    ) -> Self:
        """Open a namespace; nothing is asked of it yet.

        Args:
            connection: a connection string, or the namespace's host name, `name.servicebus.windows.net`.
            credential: who we are, with a host name; default: `DefaultAzureCredential`, which finds managed and
                workload identities. It is closed with the queues.
            reach: how the namespace is reached, where that is not as Azure has it.
            bounds: how long the broker is waited for.

        Raises:
            StoreError: the connection can't be read; the text holds nothing of it.
        """
        return cls(Namespace.parse(connection, credential=credential, reach=reach, bounds=bounds))

    def queue(self, name: str) -> ServiceBusQueue:
        """The queue with this name, made on first use if we may.

        Raises:
            InvalidParameterError: no queue can have this name.
        """
        if name not in self._queues:
            made = SessionQueue if name.endswith(ORDERED) else ServiceBusQueue
            self._queues[name] = made(name, self._namespace, self._client, self._administration, self._pulse)
        return self._queues[name]

    async def queues(self) -> Sequence[str]:
        """Names of queues, sorted: all of the namespace where we may list them, else those that were opened here.

        A queue of others, whose name none of ours can have, is not among them.
        """
        listed = await self._administration.names() or ()
        return sorted({name for name in listed if _may_be_ours(name)} | self._queues.keys())

    @property
    def opened(self) -> Sequence[str]:
        """The names of the queues that were opened here."""
        return sorted(self._queues)

    async def facts(self, name: str) -> QueueFacts | None:
        """What a queue is set to; None where there is no management interface.

        Raises:
            StoreForbiddenError: it needs the right to manage.
            NotFoundError: there is no such queue.
        """
        return await self._administration.facts(name)

    @property
    def last_proof(self) -> float | None:
        """Seconds since the broker last proved that it is there; None if it never did."""
        return self._pulse.age

    async def close(self) -> None:
        """Close the links and let go of the identity; harmless when called twice."""
        await asyncio.gather(*(queue.close() for queue in self._queues.values()))
        self._queues.clear()
        await self._administration.close()
        await self._client.close()
        if self._namespace.credential is not None:
            with suppress(Exception):
                await self._namespace.credential.close()


def _may_be_ours(name: str) -> bool:
    try:
        names.queue_name(name)
    except InvalidParameterError:
        return False
    return True
