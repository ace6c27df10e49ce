"""Which storage account, and who we are there: connection strings, the development account, URLs with an identity."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity.aio import DefaultAzureCredential

from rolehost.errors import StoreError

Credential: TypeAlias = "AzureNamedKeyCredential | AzureSasCredential | DefaultAzureCredential"

SERVICES: Final = ("blob", "queue", "table")
_DEVELOPMENT: Final = (
    "AccountName=devstoreaccount1;"
    # Published with the emulator, the same everywhere: no secret.
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z0-9-]+(\.[a-z0-9-]+)+)/?", re.ASCII | re.IGNORECASE)
_ADDRESS: Final = re.compile(r"https?://[^/]", re.ASCII | re.IGNORECASE)
_DEVELOPMENT_PORTS: Final = {"blob": 10000, "queue": 10001, "table": 10002}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where an account's three services are. Its key never gets into a repr.

    Args:
        name: for people.
        blob: the blob service's URL, without a query.
        queue: the queue service's.
        table: the table service's.
        key_name: the account's name where a key is used.
        key: the account's key.
        sas: a shared access signature.
    """

    name: str
    blob: str
    queue: str
    table: str
    key_name: str = ""
    key: str = field(default="", repr=False)
    sas: str = field(default="", repr=False)

    def credential(self) -> Credential:
        """A fresh credential: the key, the signature, or, with neither, the identity that the environment gives."""
        if self.key:
            return AzureNamedKeyCredential(self.key_name, self.key)
        if self.sas:
            return AzureSasCredential(self.sas)
        return DefaultAzureCredential()

    @classmethod
    def parse(cls, connection: str) -> Account:
        """Read a connection string, `UseDevelopmentStorage=true`, or an account's URL.

        A connection string with endpoints but neither key nor signature stands for these endpoints with an identity.
        See "Configure Azure Storage connection strings" in Azure's documentation.

        Raises:
            StoreError: it is none of these; the text of the error holds nothing of it.
        """
        connection = connection.strip()
        account = _from_url(connection) if "://" in connection.split("=")[0] else _from_string(connection)
        if not account.key and not account.sas:
            _only_over_tls(account)
        return account


def _from_url(url: str) -> Account:
    plain = _URL.fullmatch(url)
    labels = plain["host"].lower().split(".") if plain else []
    service = next((label for label in labels[1:] if label in {*SERVICES, "dfs"}), "")
    if plain is None or not service:
        raise StoreError("the storage URL is not one like https://NAME.blob.core.windows.net")
    name, *labels = labels
    before, after = labels[: labels.index(service)], labels[labels.index(service) + 1 :]
    urls = {each: f"{plain['scheme'].lower()}://{'.'.join([name, *before, each, *after])}" for each in SERVICES}
    return Account(name=name, **urls)


def _from_string(connection: str) -> Account:
    settings = _settings(connection)
    if settings.get("usedevelopmentstorage", "").lower() == "true":
        settings = _settings(_DEVELOPMENT) | _development_endpoints(settings.get("developmentstorageproxyuri", ""))
    name, key = settings.get("accountname", ""), settings.get("accountkey", "")
    urls = {service: _endpoint(settings, service) for service in SERVICES}
    if not all(urls.values()):
        raise StoreError("the storage connection string names no account and not all three endpoints")
    if wrong := [service for service, url in urls.items() if not _ADDRESS.match(url)]:
        raise StoreError(f"the {wrong[0]} endpoint of the storage connection string is no http address")
    _check_key(key)
    if key and not name:
        raise StoreError("the storage connection string has an AccountKey and no AccountName")
    sas = settings.get("sharedaccesssignature", "").removeprefix("?")
    shown = name or (urlsplit(urls["blob"]).hostname or "").partition(".")[0]
    return Account(name=shown, key_name=name, key=key, sas="" if key else sas, **urls)


def _settings(connection: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in connection.split(";") if part.strip()]
    if not pairs or not all(name.strip() and equals for name, equals, _ in pairs):
        raise StoreError(
            "ROLEHOST_STORAGE is neither 'embedded', nor a storage connection string, nor an account's URL"
        )
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _development_endpoints(proxy: str) -> dict[str, str]:
    base = proxy.rstrip("/") or "http://127.0.0.1"
    return {f"{service}endpoint": f"{base}:{port}/devstoreaccount1" for service, port in _DEVELOPMENT_PORTS.items()}


def _endpoint(settings: Mapping[str, str], service: str) -> str:
    if given := settings.get(f"{service}endpoint"):
        return given.partition("?")[0].rstrip("/")
    name = settings.get("accountname")
    if not name:
        return ""
    protocol = settings.get("defaultendpointsprotocol", "https")
    return f"{protocol}://{name}.{service}.{settings.get('endpointsuffix', 'core.windows.net')}"


def _check_key(key: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise StoreError("the AccountKey of the storage connection string is no base64: is it cut off?") from None


def _only_over_tls(account: Account) -> None:
    """A token sent in the clear belongs to whoever listens; the SDKs refuse it too, later and less clearly."""
    for service in SERVICES:
        if urlsplit(getattr(account, service)).scheme != "https":
            raise StoreError(f"the {service} endpoint is not https, and an identity's token goes over nothing else")
