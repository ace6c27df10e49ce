"""Transactions of a table, as they go over the wire.

Every change of a job's state is one, with half a dozen operations. The table client builds each of them as a request of
its own, with a multipart library, and spends four times the processor time on it. This is the same text, written
directly; see "Performing entity group transactions" in Azure's documentation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote, urlsplit

from azure.core import AsyncPipelineClient
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import AsyncBearerTokenCredentialPolicy, AzureSasCredentialPolicy, SansIOHTTPPolicy
from azure.core.rest import HttpRequest
from azure.data.tables import EntityProperty

from rolehost.stores.azure_storage.account import Credential
from rolehost.stores.azure_storage.transport import MeteredTransport

_VERSION: Final = "2019-02-02"
_SCOPE: Final = "https://storage.azure.com/.default"
_ACCEPTED: Final = 202
_PARTS: Final = re.compile(r"^HTTP/1\.1 ([0-9]{3})[^\r\n]*\r?\n((?:[^\r\n]+\r?\n)*)\r?\n([^\r\n]*)", re.MULTILINE)
_ETAG: Final = re.compile(r"^ETag: *([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_FAILED: Final = 400
_JSON: Final = json.JSONEncoder(separators=(",", ":")).encode


class TransactionError(HttpResponseError):
    """A transaction was refused; nothing of it was applied. `index` is the operation that was at fault."""

    def __init__(self, status: int, word: str, index: int, **more: Any) -> None:
        super().__init__(f"HTTP {status} {word}", **more)
        self.status_code = status
        self.error_code = word
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One write of a transaction.

    Args:
        verb: `POST` inserts, `PATCH` merges, `PUT` replaces, `DELETE` removes.
        entity: its keys and properties.
        etag: the version that the entity must have; None: any, or, where it isn't there, a new one.
    """

    verb: str
    entity: Mapping[str, Any]
    etag: str | None = None


class Transactions:
    """Sends transactions to the tables of an account.

    Args:
        endpoint: the table service's URL.
        credential: who we are.
        transport: the connections, which the table client shares.
    """

    def __init__(self, endpoint: str, credential: Credential, transport: MeteredTransport) -> None:
        self._endpoint = endpoint
        self._client: Any = AsyncPipelineClient(endpoint, policies=[_policy(credential)], transport=transport)

    async def run(self, table: str, operations: Sequence[Operation]) -> str:
        """Do all or nothing; the answer is the ETag of the first operation's entity, empty if it was removed.

        Raises:
            TransactionError: the service refused it.
            HttpResponseError: the service did not look at it.
        """
        mark = secrets.token_hex(16)
        response = await self._client.send_request(
            HttpRequest(
                "POST",
                f"{self._endpoint}/$batch",
                headers={
                    "Content-Type": f"multipart/mixed; boundary=batch_{mark}",
                    "x-ms-version": _VERSION,
                    "DataServiceVersion": "3.0",
                    "MaxDataServiceVersion": "3.0;NetFx",
                    "Accept": "application/json",
                },
                content=self._body(table, operations, mark),
            )
        )
        if response.status_code != _ACCEPTED:
            raise HttpResponseError(response=response)
        return _first_etag(response.text())

    def _body(self, table: str, operations: Sequence[Operation], mark: str) -> bytes:
        lines = [f"--batch_{mark}", f"Content-Type: multipart/mixed; boundary=changeset_{mark}", ""]
        for number, operation in enumerate(operations):
            lines += [
                f"--changeset_{mark}",
                "Content-Type: application/http",
                "Content-Transfer-Encoding: binary",
                f"Content-ID: {number}",
                "",
                f"{operation.verb} {self._address(table, operation)} HTTP/1.1",
                *_headers(operation),
            ]
        lines += [f"--changeset_{mark}--", "", f"--batch_{mark}--", ""]
        return "\r\n".join(lines).encode()

    def _address(self, table: str, operation: Operation) -> str:
        if operation.verb == "POST":
            return f"{self._endpoint}/{table}"
        keys = (quote(str(operation.entity[name]).replace("'", "''"), safe="") for name in ("PartitionKey", "RowKey"))
        return "{}/{}(PartitionKey='{}',RowKey='{}')".format(self._endpoint, table, *keys)


def _headers(operation: Operation) -> list[str]:
    """The rest of an operation: its headers, and the entity."""
    lines = [f"x-ms-version: {_VERSION}", "DataServiceVersion: 3.0", "Accept: application/json;odata=minimalmetadata"]
    if operation.verb == "POST":
        lines.append("Prefer: return-no-content")
    if operation.etag is not None or operation.verb == "DELETE":
        lines.append(f"If-Match: {operation.etag or '*'}")
    if operation.verb == "DELETE":
        return [*lines, "", ""]
    text = _JSON(dict(_properties(operation.entity)))
    return [*lines, "Content-Type: application/json", f"Content-Length: {len(text)}", "", text]


def _properties(entity: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    made: list[tuple[str, Any]] = []
    for name, value in entity.items():
        if isinstance(value, bytes):
            made += [(name, base64.b64encode(value).decode()), (f"{name}@odata.type", "Edm.Binary")]
        elif isinstance(value, EntityProperty):
            made += [
                (name, str(value.value)),
                (f"{name}@odata.type", str(getattr(value.edm_type, "value", value.edm_type))),
            ]
        elif isinstance(value, float):
            made += [(name, value), (f"{name}@odata.type", "Edm.Double")]
        else:
            made.append((name, value))
    return made


def _first_etag(answer: str) -> str:
    parts = list(_PARTS.finditer(answer))
    for part in parts:
        if int(part[1]) >= _FAILED:
            raise _failure(int(part[1]), part[3])
    found = _ETAG.search(parts[0][2]) if parts else None
    return found[1] if found else ""


def _failure(status: int, body: str) -> TransactionError:
    try:
        error = json.loads(body)["odata.error"]
        word, told = str(error["code"]), str(error["message"]["value"])
    except (ValueError, KeyError, TypeError):
        return TransactionError(status, "", 0)
    index = told.partition(":")[0]
    return TransactionError(status, word, int(index) if index.isdecimal() else 0)


def _policy(credential: Credential) -> Any:
    if isinstance(credential, AzureNamedKeyCredential):
        return _KeyPolicy(credential)
    if isinstance(credential, AzureSasCredential):
        return AzureSasCredentialPolicy(credential)
    return AsyncBearerTokenCredentialPolicy(credential, _SCOPE)


class _KeyPolicy(SansIOHTTPPolicy[Any, Any]):
    """Signs with the account's key: "SharedKeyLite" of the table service."""

    def __init__(self, credential: AzureNamedKeyCredential) -> None:
        super().__init__()
        self._credential = credential

    def on_request(self, request: PipelineRequest[Any]) -> None:
        name, key = self._credential.named_key
        date = formatdate(usegmt=True)
        text = f"{date}\n/{name}{urlsplit(request.http_request.url).path}"
        signature = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        signed = base64.b64encode(signature).decode()
        request.http_request.headers.update({"x-ms-date": date, "Authorization": f"SharedKeyLite {name}:{signed}"})
