"""Azure's instance metadata service: what the machine below us is, and in which domains it stands.

It answers inside a virtual machine only, without credentials, and never through a proxy
(learn.microsoft.com/azure/virtual-machines/instance-metadata-service). Elsewhere nobody listens at its address, or
another cloud's service does: everything but the expected answer counts as none.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, cast
from urllib.parse import SplitResult, urlsplit

from rolehost import clock

ADDRESS: Final = "http://169.254.169.254"
_PATH: Final = "/metadata/instance?api-version=2021-02-01&format=json"
# A link-local service answers in milliseconds or never; a start waits for it.
_CONNECT_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 2.0
_TRIES: Final = 2
_PAUSE: Final = 0.3
_RETRIED: Final = frozenset({410, 429, 500, 503})  # documented as passing
_OK: Final = 200
_LARGEST: Final = 256 * 1024
_LONGEST: Final = 256
_LONGEST_DOMAIN: Final = 3  # digits


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """What is known of the machine; empty or None where the service does not say.

    Args:
        vm_id: its unique id.
        name: its name.
        location: its region, `westeurope`.
        size: `Standard_D2s_v3`.
        zone: its availability zone.
        fault_domain: counts from 0.
        update_domain: counts from 0.
        scale_set: the scale set that it belongs to.
        address: its first private IPv4 address.
    """

    vm_id: str = ""
    name: str = ""
    location: str = ""
    size: str = ""
    zone: str = ""
    fault_domain: int | None = None
    update_domain: int | None = None
    scale_set: str = ""
    address: str = ""

    def to_json(self) -> dict[str, Any]:
        """As a value that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what `to_json` made."""
        return cls(**value)


async def ask_metadata(address: str = "") -> InstanceMetadata | None:
    """Ask the service.

    Args:
        address: `http://HOST[:PORT]`, in place of the documented one.

    Returns:
        None: there is no such service here, or it does not answer as it should. Known within five seconds.
    """
    url = urlsplit(address if "://" in address else f"http://{address}") if address else urlsplit(ADDRESS)
    for attempt in range(_TRIES):
        if attempt:
            await clock.sleep(_PAUSE)
        try:
            status, body = _answer(await _get(url))
        except (OSError, ValueError, TimeoutError):
            return None
        if status == _OK:
            return _parsed(body)
        if status not in _RETRIED:
            return None
    return None


async def _get(url: SplitResult) -> bytes:
    """Speak HTTP by hand: no proxy, no redirect, no more bytes than we want to read."""
    if not url.hostname:
        raise ValueError("no address")
    async with asyncio.timeout(_CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
    try:
        head = f"GET {_PATH} HTTP/1.1\r\nHost: {url.netloc}\r\nMetadata: true\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("ascii"))
        return await _read(reader)
    finally:
        writer.close()


def _answer(raw: bytes) -> tuple[int, bytes]:
    """Status and body."""
    from http.client import HTTPException, HTTPResponse  # noqa: PLC0415 - a bootstrapper needs only the type above

    response = HTTPResponse(cast("socket.socket", _Socket(raw)))
    try:
        response.begin()
        return response.status, response.read()
    except HTTPException as error:
        raise ValueError("not an answer of HTTP") from error


async def _read(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    with suppress(TimeoutError):  # it may be whole, from a server that does not close
        async with asyncio.timeout(_ANSWER_SECONDS):
            while piece := await reader.read(65536):
                raw += piece
                if len(raw) > _LARGEST:
                    raise ValueError("far too long for an answer")
    return raw


class _Socket:
    """As much of a socket as the parser wants."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _parsed(body: bytes) -> InstanceMetadata | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    compute = document.get("compute") if isinstance(document, dict) else None
    if not isinstance(compute, dict) or not _text(compute.get("vmId")):
        return None
    return InstanceMetadata(
        vm_id=_text(compute.get("vmId")),
        name=_text(compute.get("name")),
        location=_text(compute.get("location")),
        size=_text(compute.get("vmSize")),
        zone=_text(compute.get("zone")),
        fault_domain=_domain(compute.get("platformFaultDomain")),
        update_domain=_domain(compute.get("platformUpdateDomain")),
        scale_set=_text(compute.get("vmScaleSetName")),
        address=_address(document.get("network")),
    )


def _address(network: Any) -> str:
    try:
        return _text(network["interface"][0]["ipv4"]["ipAddress"][0]["privateIpAddress"])
    except (KeyError, IndexError, TypeError):
        return ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST and value.isprintable() else ""


def _domain(value: Any) -> int | None:
    """Domains come as texts, and are empty where the machine is in no availability set."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_DOMAIN else None
