"""Proofs that stores can be used: each verb tried on a name of its own that is removed, and the right that is missing.

For `rolehost check --connect`. What is tried is what the service does, through the same contracts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from rolehost.errors import StoreError, StoreForbiddenError, StoreUnavailableError
from rolehost.stores.blobs import Blobs
from rolehost.stores.queues import Queue, QueueMessage
from rolehost.stores.tables import Table

T = TypeVar("T")

TABLE: Final = "leases"
"""A table of the service's own, that it makes anyhow; the row has a name of its own."""
_PATIENCE: Final = 45.0
_HIDE: Final = 30.0
_COMES_WITHIN: Final = 10.0

Rights = Callable[[str, str], str]
"""Resource (`queue`, `table`, `blob`) and verb to the right that the verb needs, in the words of who grants it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One verb on one resource.

    Args:
        resource: for people, `queue "thumbnail-jobs"`.
        action: the verb.
        problem: why it can't be done; empty: it can.
        right: the right that is missing, if one is.
        optional: the service works without it.
    """

    resource: str
    action: str
    problem: str = ""
    right: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What a broker's queue is set to, where the broker decides: see `QueueFacts` of the Service Bus engine.

    Args:
        name: its name.
        lock: seconds that a delivery is locked.
        deliveries: then the broker sets a message aside.
        time_to_live: seconds after which a message is gone.
        sessions: every message must name a session.
    """

    name: str
    lock: float
    deliveries: int
    time_to_live: float
    sessions: bool


@dataclass(slots=True, kw_only=True)
class Proved:
    """All that was tried.

    Args:
        proofs: in order.
        queues: what queues are set to, where that can be known and matters.
    """

    proofs: list[Proof] = field(default_factory=list)
    queues: list[QueueSettings] = field(default_factory=list)

    def add(self, other: Proved) -> None:
        """Put another's beside these."""
        self.proofs += other.proofs
        self.queues += other.queues


class Trial:
    """Tries verbs one after the other, and writes down what came of them.

    Args:
        proved: where.
        resource: for people.
        kind: `queue`, `table` or `blob`.
        rights: names rights.
    """

    def __init__(self, proved: Proved, resource: str, kind: str, rights: Rights) -> None:
        self._proved = proved
        self._resource = resource
        self._kind = kind
        self._rights = rights

    async def of(self, action: str, call: Awaitable[T], *, optional: bool = False) -> T | None:
        """Try; None if it can't be done."""
        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await call
        except StoreForbiddenError as error:
            right = self._rights(self._kind, action)
            self._note(action, problem=str(error), right=right, optional=optional)
        except StoreError as error:
            self._note(action, problem=str(error), optional=optional)
        except TimeoutError:
            self._note(action, problem=f"no answer within {_PATIENCE:.0f} s", optional=optional)
        else:
            self._note(action)
            return answer
        return None

    def _note(self, action: str, **more: Any) -> None:
        self._proved.proofs.append(Proof(resource=self._resource, action=action, **more))


async def prove_table(table: Table, rights: Rights) -> Proved:
    """Insert, update, read and delete a row."""
    proved, key = Proved(), own_name()
    trial = Trial(proved, f'table "{table.name}"', "table", rights)
    if (version := await trial.of("insert", table.insert(key, {"check": "1"}))) is None:
        return proved
    newer = await trial.of("update", table.write(key, version, {"check": "2"}))
    await trial.of("read", table.read(key))
    await trial.of("delete", table.delete(key, newer or version))
    return proved


async def prove_blobs(blobs: Blobs, rights: Rights) -> Proved:
    """Write, read, list and delete a blob."""
    proved, name = Proved(), f"checks/{own_name()}"
    trial = Trial(proved, "blobs", "blob", rights)

    async def write() -> bool:
        await blobs.put(name, b"a check")
        return True

    async def read() -> bytes:
        return b"".join([piece async for piece in blobs.stream(name)])

    if await trial.of("write", write()) is None:
        return proved
    await trial.of("read", read())
    await trial.of("list", blobs.list(name))
    await trial.of("delete", blobs.delete(name))
    return proved


async def prove_queue(queue: Queue, rights: Rights) -> Proved:
    """Put, count, receive, renew and delete a message of a queue that nobody else uses."""
    proved = Proved()
    trial = Trial(proved, "a queue of its own", "queue", rights)

    async def put() -> bool:
        await queue.put("a check", message_id=own_name())
        return True

    if await trial.of("put", put()) is None:
        return proved
    await trial.of("count", queue.counts())
    if (message := await trial.of("receive", _received(queue))) is None:
        return proved
    message = await trial.of("renew", queue.renew(message, hide=_HIDE)) or message
    await trial.of("delete", queue.complete(message))
    return proved


async def _received(queue: Queue) -> QueueMessage:
    async with asyncio.timeout(_COMES_WITHIN):
        while True:
            for message in await queue.receive(1, hide=_HIDE, wait=1.0):
                return message
            await asyncio.sleep(0.1)
    raise StoreUnavailableError("the message that was put did not come")  # pragma: no cover - the time-out is first


def own_name() -> str:
    """A name that nothing else has, which a queue, a row and a blob may have."""
    return f"rolehost-check-{secrets.token_hex(6)}"


def no_rights(_kind: str, _action: str) -> str:
    """Where no rights are granted."""
    return ""
