"""What `rolehost check --connect` tries on a storage account, and what the missing right is called there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential
from azure.storage.queue.aio import QueueServiceClient

from rolehost.stores.azure_storage.account import Account
from rolehost.stores.azure_storage.engine import API_VERSION, AzureStores
from rolehost.stores.azure_storage.failures import translated
from rolehost.stores.proofs import TABLE, Proved, Rights, Trial, own_name, prove_blobs, prove_queue, prove_table

_ROLES: Final = {
    "queue": "Storage Queue Data Contributor",
    "table": "Storage Table Data Contributor",
    "blob": "Storage Blob Data Contributor",
}
_LETTERS: Final[Mapping[str, str]] = {
    "queue.make": "create (c)",
    "queue.list": "list (l)",
    "queue.count": "read (r)",
    "queue.put": "add (a)",
    "queue.receive": "process (p)",
    "queue.renew": "update (u)",
    "queue.delete": "process (p)",
    "queue.remove": "delete (d)",
    "table.insert": "add (a), create (c)",
    "table.update": "update (u)",
    "table.read": "read (r)",
    "table.delete": "delete (d)",
    "blob.write": "create (c), write (w)",
    "blob.read": "read (r)",
    "blob.list": "list (l)",
    "blob.delete": "delete (d)",
}


async def prove(connection: str, *, queues: bool = True) -> Proved:
    """Try all that the service does with an account.

    Args:
        connection: see `AzureStores.open`.
        queues: whether queues are in the account, too.

    Raises:
        StoreError: the connection can't be read.
    """
    account = Account.parse(connection)
    rights, proved = _rights(account), Proved()
    stores = AzureStores(account)
    try:
        if queues:
            proved.add(await _prove_queue(account, stores, rights))
        proved.add(await prove_table(stores.table(TABLE), rights))
        proved.add(await prove_blobs(stores.blobs, rights))
    finally:
        await stores.close()
    return proved


async def _prove_queue(account: Account, stores: AzureStores, rights: Rights) -> Proved:
    """A queue that is made for this, and goes with it: who receives from the service's own takes a job's message."""
    proved, name, credential = Proved(), own_name(), account.credential()
    trial = Trial(proved, "a queue of its own", "queue", rights)
    options: dict[str, Any] = {"api_version": API_VERSION, "retry_total": 0}
    try:
        async with QueueServiceClient(account.queue, credential=credential, **options) as service:
            if await trial.of("make", _made(service, name)) is None:
                return proved
            await trial.of("list", stores.queues())
            try:
                proved.add(await prove_queue(stores.queue(name), rights))
            finally:
                await trial.of("remove", _removed(service, name), optional=True)
    finally:
        if isinstance(credential, DefaultAzureCredential):
            with suppress(AzureError):
                await credential.close()
    return proved


async def _made(service: QueueServiceClient, name: str) -> bool:
    with translated("the queue service"):
        await service.create_queue(name)
    return True


async def _removed(service: QueueServiceClient, name: str) -> bool:
    with translated(f'the queue "{name}"'):
        await service.delete_queue(name)
    return True


def _rights(account: Account) -> Rights:
    def right(kind: str, action: str) -> str:
        if account.key:
            return "the account's key: is it the present one, and does the account allow access by key?"
        if account.sas:
            letters = _LETTERS.get(f"{kind}.{action}", action)
            return f"the SAS permission {letters} on the {kind} service, for services, containers and objects"
        return f"the role {_ROLES[kind]} of the identity, on the account"

    return right
