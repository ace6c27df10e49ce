"""What `rolehost check --connect` tries on a namespace, and what the missing right is called there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from azure.servicebus import ServiceBusMessage

from rolehost.errors import NotFoundError, StoreForbiddenError, StoreUnavailableError
from rolehost.stores.proofs import Proof, Proved, QueueSettings, Rights, Trial, own_name, prove_queue
from rolehost.stores.queues import ORDERED
from rolehost.stores.service_bus.engine import ServiceBusQueues
from rolehost.stores.service_bus.failures import translate
from rolehost.stores.service_bus.namespace import Namespace, Reach

T = TypeVar("T")

_LATER: Final = timedelta(days=1)
_SECONDS: Final = 20.0
_NEEDS: Final = {"put": "Sender", "send": "Sender", "receive": "Receiver", "renew": "Receiver", "delete": "Receiver"}
_CLAIMS: Final = {"Sender": "Send", "Receiver": "Listen", "Owner": "Manage"}
_WITHOUT: Final = "without it queues are not made on first use, and depths are unknown"


async def prove(
    connection: str, names: Sequence[str], *, spare: Collection[str] = (), reach: Reach | None = None
) -> Proved:
    """Try all that the service does with a namespace.

    Where we may manage, on a queue that is made for it and goes with it; elsewhere on the service's own, where a
    message is scheduled and taken back, and nothing is received: it could be a job's.

    Args:
        connection: see `ServiceBusQueues.open`.
        names: the service's queues.
        spare: those of them that it can do without.
        reach: see `ServiceBusQueues.open`.

    Raises:
        StoreError: the connection can't be read.
    """
    namespace = Namespace.parse(connection, reach=reach)
    queues, proved, rights = ServiceBusQueues(namespace), Proved(), _rights(namespace)
    try:
        manageable = await _facts(queues, names, namespace, proved, rights)
        if manageable:
            proved.add(await _on_its_own(namespace, queues, rights))
        else:
            for name in names:
                proved.add(await _on_the_services(namespace, queues, name, rights, optional=name in spare))
    finally:
        await queues.close()
    return proved


async def _facts(
    queues: ServiceBusQueues, names: Sequence[str], namespace: Namespace, proved: Proved, rights: Rights
) -> bool:
    """What the queues are set to; whether we may manage, which is optional."""
    where = f"namespace {namespace.host}"

    def unmanaged(problem: str, right: str = "") -> bool:
        told = f"{problem}; {_WITHOUT}"
        proved.proofs.append(Proof(resource=where, action="manage", problem=told, right=right, optional=True))
        return False

    for name in names:
        try:
            facts = await queues.facts(name)
        except NotFoundError:
            continue  # made on first use, with settings of ours
        except StoreUnavailableError as error:
            forbidden = isinstance(error, StoreForbiddenError)
            return unmanaged(str(error), rights("queue", "manage") if forbidden else "")
        if facts is None:
            return unmanaged("there is no management interface")
        settings = {each: getattr(facts, each) for each in ("name", "lock", "deliveries", "time_to_live", "sessions")}
        proved.queues.append(QueueSettings(**settings))
    proved.proofs.append(Proof(resource=where, action="manage"))
    return True


async def _on_its_own(namespace: Namespace, queues: ServiceBusQueues, rights: Rights) -> Proved:
    name, proved = own_name(), Proved()
    try:
        proved.add(await prove_queue(queues.queue(name), rights))
    finally:
        if (client := namespace.administration()) is not None:
            trial = Trial(proved, "a queue of its own", "queue", rights)
            await trial.of("remove", _answered(client.delete_queue(name), "remove", f"queue {name!r}"), optional=True)
            await client.close()
    return proved


async def _on_the_services(
    namespace: Namespace, queues: ServiceBusQueues, name: str, rights: Rights, *, optional: bool
) -> Proved:
    proved = Proved()
    trial = Trial(proved, f'queue "{name}"', "queue", rights)

    a_check = ServiceBusMessage("a check", session_id=own_name() if name.endswith(ORDERED) else None)

    async def send() -> bool:
        async with namespace.client() as client, client.get_queue_sender(name) as sender:
            numbers = await sender.schedule_messages(a_check, datetime.now(UTC) + _LATER)
            await sender.cancel_scheduled_messages(numbers)
        return True

    async def listen() -> bool:
        await queues.queue(name).prove()
        return True

    sent = await trial.of("send", _answered(send(), "send", f"queue {name!r} of {namespace.host}"), optional=optional)
    if sent or not optional:
        await trial.of("receive", listen(), optional=optional)
    return proved


async def _answered(call: Awaitable[T], what: str, store: str) -> bool:
    try:
        async with asyncio.timeout(_SECONDS):
            await call
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why this can't be done
        # The chain is cut: the SDK's errors may quote what was signed.
        raise translate(error, what, store) from None
    return True


def _rights(namespace: Namespace) -> Rights:
    def right(_kind: str, action: str) -> str:
        role = _NEEDS.get(action, "Owner")
        if namespace.credential is None:
            return f"the claim {_CLAIMS[role]} of the connection string's policy"
        return f"the role Azure Service Bus Data {role} of the identity"

    return right
