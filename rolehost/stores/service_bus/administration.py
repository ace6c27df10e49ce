"""The management interface, where we may use it: making queues, counting, and what `rolehost check` wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from azure.core.exceptions import ResourceExistsError
from azure.servicebus.aio.management import ServiceBusAdministrationClient

from rolehost import clock
from rolehost.errors import NotFoundError, StoreForbiddenError, StoreThrottledError, StoreUnavailableError
from rolehost.stores.queues import QueueCounts
from rolehost.stores.service_bus.failures import translate
from rolehost.telemetry import emit

T = TypeVar("T")

LOCK: Final = timedelta(seconds=60)
DELIVERIES: Final = 1000
"""Deliveries before the broker itself sets a message aside: far above what budgets allow, for drains count too."""
_SECONDS: Final = 20.0
_LEFT_ALONE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """What a queue is set to.

    Args:
        name: its name.
        lock: seconds that a delivery is locked; a killed worker's message comes back after them.
        deliveries: `MaxDeliveryCount`: then the broker sets a message aside, whatever the job's budgets are.
        duplicate_window: seconds in which a message with the id of another is dropped; None: duplicates are kept.
        time_to_live: seconds after which a message is gone.
        sessions: whether every message must name a session; this engine's don't.
    """

    name: str
    lock: float
    deliveries: int
    duplicate_window: float | None
    time_to_live: float
    sessions: bool


class Administration:
    """The management interface of a namespace.

    Args:
        client: the SDK's client; None where there is none.
        namespace: the namespace, for people.
    """

    def __init__(self, client: ServiceBusAdministrationClient | None, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._silent_until = 0.0

    @property
    def present(self) -> bool:
        """Whether there is one; whether we may use it is another question."""
        return self._client is not None

    async def make_queue(self, name: str, *, sessions: bool = False) -> None:
        """Make a queue; one that is there already is left as it is.

        Args:
            name: its name.
            sessions: whether every message has to name its session.

        Raises:
            NotFoundError: it isn't there, and we may not make it.
            StoreUnavailableError: nobody answers.
        """
        missing = f"the queue {name!r} does not exist in the namespace {self._namespace}"
        if self._client is None:
            raise NotFoundError(f"{missing}, and there is no management interface to make it")

        async def making(client: ServiceBusAdministrationClient) -> None:
            with suppress(ResourceExistsError):  # another process was faster
                await client.create_queue(
                    name, lock_duration=LOCK, max_delivery_count=DELIVERIES, requires_session=sessions
                )

        try:
            await self._ask(making(self._client), f"make the queue {name!r}")
        except StoreForbiddenError as error:
            raise NotFoundError(f"{missing}, and making it needs the right to manage") from error

    async def facts(self, name: str) -> QueueFacts | None:
        """What a queue is set to; None where there is no management interface.

        Raises:
            StoreForbiddenError: it needs the right to manage.
            NotFoundError: there is no such queue.
        """
        if self._client is None:
            return None
        found = await self._ask(self._client.get_queue(name), f"read the queue {name!r}")
        window = _seconds(found.duplicate_detection_history_time_window)
        return QueueFacts(
            name=name,
            lock=_seconds(found.lock_duration),
            deliveries=found.max_delivery_count or 0,
            duplicate_window=window if found.requires_duplicate_detection else None,
            time_to_live=_seconds(found.default_message_time_to_live),
            sessions=bool(found.requires_session),
        )

    async def counts(self, name: str, held: int) -> QueueCounts:
        """How many messages there are; None where that can't be known.

        Service Bus counts what is locked as active. What this process holds is known; what others hold counts as
        visible.

        Args:
            name: the queue.
            held: how many messages this process has under lock.
        """
        unknown = QueueCounts(visible=None, hidden=None, dead=None)
        if self._client is None or self._is_silent():
            return unknown
        try:
            found = await self._ask(self._client.get_queue_runtime_properties(name), f"count the queue {name!r}")
        except StoreUnavailableError as error:
            self._note(error)
            return unknown
        except NotFoundError:
            return QueueCounts(visible=0, hidden=0, dead=0)
        active = found.active_message_count or 0
        return QueueCounts(
            visible=max(active - held, 0),
            hidden=(found.scheduled_message_count or 0) + min(held, active),
            dead=found.dead_letter_message_count or 0,
        )

    async def names(self) -> Sequence[str] | None:
        """The names of all queues; None where they can't be listed."""
        if self._client is None or self._is_silent():
            return None

        async def listed(client: ServiceBusAdministrationClient) -> list[str]:
            return [queue.name async for queue in client.list_queues()]

        try:
            return await self._ask(listed(self._client), "list the queues")
        except StoreUnavailableError as error:
            self._note(error)
            return None

    def _is_silent(self) -> bool:
        return clock.monotonic() < self._silent_until

    def _note(self, error: StoreUnavailableError) -> None:
        """Where nobody answers it is not asked for a while: a network may let AMQP through, and nothing else."""
        if not isinstance(error, StoreForbiddenError | StoreThrottledError):
            self._silent_until = clock.monotonic() + _LEFT_ALONE
            emit("queue.unmanaged", namespace=self._namespace, why=str(error))

    async def _ask(self, request: Awaitable[T], what: str) -> T:
        try:
            async with asyncio.timeout(_SECONDS):
                return await request
        except Exception as error:
            raise translate(error, what, f"namespace {self._namespace}") from error

    async def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            await self._client.close()


def _seconds(duration: timedelta | str | None) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else 0.0
