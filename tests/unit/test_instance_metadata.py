"""The client of Azure's instance metadata service, against servers on the loopback address."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rolehost.host.directory import instance_metadata
from rolehost.host.directory.client import DirectoryClient
from rolehost.host.directory.instance_metadata import InstanceMetadata, ask_metadata
from rolehost.host.directory.status import stored_status
from rolehost.stores.connect import connect
from support.directory import TIMES, environ, facts_of, until

DOCUMENT: dict[str, Any] = {
    "compute": {
        "location": "westeurope",
        "name": "thumbs-vm_3",
        "platformFaultDomain": "1",
        "platformUpdateDomain": "4",
        "vmId": "d7a1f2c4-0000-4111-8222-123456789abc",
        "vmSize": "Standard_D2s_v3",
        "vmScaleSetName": "thumbs",
        "zone": "2",
    },
    "network": {"interface": [{"ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.7", "publicIpAddress": ""}]}}]},
}
KNOWN = InstanceMetadata(
    vm_id="d7a1f2c4-0000-4111-8222-123456789abc",
    name="thumbs-vm_3",
    location="westeurope",
    size="Standard_D2s_v3",
    zone="2",
    fault_domain=1,
    update_domain=4,
    scale_set="thumbs",
    address="10.0.0.7",
)


class Service:
    """A server that gives prepared answers, one after another, the last one again and again."""

    def __init__(self, *answers: bytes, keep_open: bool = False) -> None:
        self.requests: list[str] = []
        self.address = ""
        self._answers = list(answers)
        self._keep_open = keep_open

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        try:
            writer.write(answer)
            await writer.drain()
            if self._keep_open:
                await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes, keep_open: bool = False) -> AsyncIterator[Service]:
    service = Service(*answers, keep_open=keep_open)
    server = await asyncio.start_server(service.answer, "127.0.0.1", 0)
    service.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield service


def http(body: bytes | str, status: str = "200 OK", kind: str = "application/json", *more: str) -> bytes:
    raw = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(raw)}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + raw


def changed(**compute: Any) -> bytes:
    return http(json.dumps({**DOCUMENT, "compute": DOCUMENT["compute"] | compute}))


async def test_the_machine_is_described() -> None:
    async with serving(http(json.dumps(DOCUMENT))) as service:
        assert await ask_metadata(service.address) == KNOWN
    (request,) = service.requests
    assert request.startswith("GET /metadata/instance?api-version=")
    assert "\r\nMetadata: true\r\n" in request


async def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(http("{}")) as proxy, serving(http(json.dumps(DOCUMENT))) as service:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        assert await ask_metadata(service.address) == KNOWN
        assert proxy.requests == []


async def test_a_chunked_answer_is_read() -> None:
    body = json.dumps(DOCUMENT).encode()
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    async with serving(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked) as service:
        assert await ask_metadata(service.address) == KNOWN


async def test_a_server_that_does_not_close_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_metadata, "_ANSWER_SECONDS", 0.3)
    async with serving(http(json.dumps(DOCUMENT)), keep_open=True) as service:
        assert await ask_metadata(service.address) == KNOWN


@pytest.mark.parametrize(
    "answer",
    [
        http("<html><title>Sign in</title></html>", kind="text/html"),
        http("<html>no</html>", "404 Not Found", "text/html"),
        http(json.dumps(DOCUMENT), "400 Bad Request"),
        http("", "302 Found", "text/html", "Location: http://127.0.0.1:1/elsewhere"),
        http("{}"),
        http("[]"),
        http('{"compute": [1]}'),
        http('{"compute": {"vmId": 7}}'),
        http("[" * 100_000),
        http("x" * (instance_metadata._LARGEST + 1)),
        http(b"\xff\xfe\x00"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"not HTTP at all",
        b"",
    ],
    ids=lambda answer: answer[:12].decode() + str(len(answer)),
)
async def test_any_other_answer_is_none(answer: bytes) -> None:
    async with serving(answer) as service:
        assert await ask_metadata(service.address) is None
        assert len(service.requests) == 1


async def test_what_is_missing_or_odd_is_left_out() -> None:
    odd = changed(platformFaultDomain="", platformUpdateDomain="-1", name="x" * 1000, zone=None, location="a\nb")
    async with serving(odd) as service:
        found = await ask_metadata(service.address)
    assert found is not None
    assert (found.fault_domain, found.update_domain, found.name, found.zone, found.location) == (None, None, "", "", "")
    assert found.vm_id == KNOWN.vm_id


async def test_a_service_that_is_busy_is_asked_once_more() -> None:
    busy = http("", "429 Too Many Requests")
    async with serving(busy, http(json.dumps(DOCUMENT))) as service:
        assert await ask_metadata(service.address) == KNOWN
    async with serving(busy) as service:
        assert await ask_metadata(service.address) is None
    assert len(service.requests) == 2


async def test_nobody_there_and_silence_cost_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_metadata, "_ANSWER_SECONDS", 0.2)
    began = time.monotonic()
    async with serving(b"", keep_open=True) as service:
        assert await ask_metadata(service.address) is None
    assert await ask_metadata(service.address) is None, "it has gone"
    for nowhere in ("http://", "http://127.0.0.1:99999", "not an address"):
        assert await ask_metadata(nowhere) is None
    assert time.monotonic() - began < 5


async def test_the_directory_tells_its_client_and_the_row(tmp_path: Path) -> None:
    async with serving(http(json.dumps(DOCUMENT))) as service, connect(environ(tmp_path)) as stores:
        variables = environ(tmp_path, ROLEHOST_IMDS=service.address)
        async with DirectoryClient(variables, times=TIMES) as directory:
            directory.hold("Role", 0)
            assert await directory.metadata() == KNOWN
            directory.status(facts_of("Role_IN_0"))

            async def told() -> bool:
                return [facts["metadata"] for facts in await stored_status(stores)] == [KNOWN.to_json()]

            await until(told)


@pytest.mark.parametrize(("variables", "metadata"), [({}, False), ({"ROLEHOST_IMDS": "off"}, True)])
async def test_nobody_is_asked_unless_it_is_wanted(
    tmp_path: Path, variables: dict[str, str], *, metadata: bool
) -> None:
    async with DirectoryClient(environ(tmp_path, **variables), times=TIMES, metadata=metadata) as directory:
        assert not directory._wants_metadata, "else the helper would ask an address that this machine may not have"
        assert await directory.metadata() is None
