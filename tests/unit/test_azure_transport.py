"""The engine's connections go where the environment sends them: through a proxy, or past it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rolehost.errors import StoreError
from rolehost.stores.azure_storage import AzureStores

KEY = "b3duLWFjY291bnQta2V5"


@asynccontextmanager
async def refusing(heads: list[str]) -> AsyncIterator[int]:
    """A server that keeps each request's head, and refuses it; the block gets its port."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def connection(host: str) -> str:
    services = ("Blob", "Queue", "Table")
    return f"AccountName=acc;AccountKey={KEY};" + "".join(f"{each}Endpoint=http://{host}/acc;" for each in services)


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_proxies")
async def test_a_proxy_of_the_environment_is_used_with_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []
    async with refusing(heads) as port:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{port}")
        stores = await AzureStores.open(connection("storage.invalid"))
        try:
            with pytest.raises(StoreError):
                await stores.table("jobs").read("key")
        finally:
            await stores.close()
    assert heads[0].startswith("GET http://storage.invalid/acc/jobs(")
    assert "proxy-authorization: basic bwu6d29yza==" in heads[0].lower()


@pytest.mark.usefixtures("_no_proxies")
async def test_what_the_environment_excepts_goes_past_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []
    async with refusing(heads) as port:
        monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        stores = await AzureStores.open(connection(f"127.0.0.1:{port}"))
        try:
            with pytest.raises(StoreError):
                await stores.table("jobs").read("key")
        finally:
            await stores.close()
    assert heads[0].startswith("GET /acc/jobs(")
