"""Which namespace, who we are there, and the clients for it: connection strings, or a host name with an identity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential
from azure.servicebus import TransportType
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.aio.management import ServiceBusAdministrationClient

from rolehost.errors import StoreError

Credential: TypeAlias = AsyncTokenCredential

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_SOCKET_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a namespace is reached, where that is not as Azure has it.

    Args:
        endpoint: host and port to connect to in the namespace's place: a private endpoint, a gateway.
        authorities: a file of certificates to trust; None: the usual ones.
        administration: host, and port, of the management interface; None: the namespace's own, none for the emulator.
    """

    endpoint: str = ""
    authorities: str = ""
    administration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long we wait for the broker, in seconds.

    Args:
        operation: for the end of an operation, the opening of its link not counted.
        opening: for a link to open.
        silence: without any proof that the broker is there, before an empty receive has it asked.
    """

    operation: float = 10.0
    opening: float = 15.0
    silence: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace and who we are there. Its secrets never get into a repr.

    Args:
        host: the host name, with a port where it has one.
        connection: the connection string; empty where an identity is used.
        credential: the identity; None where the connection string has a key.
        emulated: plain TCP, and no management interface.
        reach: how it is reached.
        bounds: how long we wait for it.
    """

    host: str
    connection: str = field(default="", repr=False)
    credential: Credential | None = field(default=None, repr=False)
    emulated: bool = False
    reach: Reach = field(default_factory=Reach)
    bounds: Bounds = field(default_factory=Bounds)

    @classmethod
    def parse(
        cls,
        connection: str,
        *,
        credential: Credential | None = None,
        reach: Reach | None = None,
        bounds: Bounds | None = None,
    ) -> Namespace:
        """Read a connection string or a host name (`name.servicebus.windows.net`, also as `sb://...`).

        See "Get a Service Bus connection string" and "Service Bus emulator" in Azure's documentation.

        Raises:
            StoreError: it is neither; the text of the error holds nothing of it.
        """
        reach, bounds = reach or Reach(), bounds or Bounds()
        text = connection.strip()
        if "=" in text:
            host, emulated = _read(text)
            return cls(host=host, connection=text, emulated=emulated, reach=reach, bounds=bounds)
        host = text.removeprefix("sb://").removeprefix("https://").rstrip("/")
        if not _HOST.fullmatch(host) or not ("." in host or host.partition(":")[0] == "localhost"):
            raise StoreError(
                "ROLEHOST_QUEUE is neither 'storage', nor a Service Bus connection string, nor a namespace like "
                "NAME.servicebus.windows.net"
            )
        return cls(host=host, credential=credential or DefaultAzureCredential(), reach=reach, bounds=bounds)

    def client(self) -> ServiceBusClient:
        """A client whose every attempt is bounded and made once: the engine tries again, and knows why."""
        options: dict[str, Any] = {"retry_total": 0, "try_timeout": 2 * self.bounds.opening}
        if self.reach.authorities:
            options["connection_verify"] = self.reach.authorities
        if self.reach.endpoint:
            # Without a transport type the SDK takes a custom endpoint for WebSockets.
            options |= {
                "custom_endpoint_address": f"sb://{self.reach.endpoint}",
                "transport_type": TransportType.Amqp,
            }
        if self.credential is None:
            return ServiceBusClient.from_connection_string(self.connection, **options)
        return ServiceBusClient(self.host, self.credential, **options)

    def link_options(self) -> dict[str, Any]:
        """What every link is opened with: a settlement waits for a read that is under way, so long at the most."""
        return {"socket_timeout": _SOCKET_SECONDS}

    def administration(self) -> ServiceBusAdministrationClient | None:
        """A client of the management interface; None where there is none."""
        host = self.reach.administration
        if host is None:
            host = "" if self.emulated else self.host
        if not host:
            return None
        options: dict[str, Any] = {"retry_total": 1}
        if self.reach.authorities:
            options["connection_verify"] = self.reach.authorities
        if self.credential is None:
            there = re.sub(r"(?i)(endpoint=)[^;]*", rf"\1sb://{host}", self.connection)
            return ServiceBusAdministrationClient.from_connection_string(there, **options)
        return ServiceBusAdministrationClient(host, self.credential, **options)


def _read(text: str) -> tuple[str, bool]:
    """The host of a connection string, and whether it is the emulator's."""
    parts = {key.strip().lower(): value for key, _, value in (part.partition("=") for part in text.split(";"))}
    host = parts.get("endpoint", "").partition("://")[2].strip("/")
    signed = "sharedaccesssignature" in parts or {"sharedaccesskeyname", "sharedaccesskey"} <= parts.keys()
    if not _HOST.fullmatch(host) or not signed:
        raise StoreError("the Service Bus connection string lacks its endpoint, or its key or signature")
    if parts.get("entitypath"):
        raise StoreError("the Service Bus connection string is one queue's (EntityPath): the namespace's is needed")
    return host, parts.get("usedevelopmentemulator") == "true"
