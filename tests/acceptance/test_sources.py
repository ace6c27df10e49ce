"""Sources from elsewhere in a whole service: by API, form, command line and hook, fetched by a worker's own process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost.stores.connect import connect
from support.canary import INNER, OUTER, Net, guarded_net
from support.front_end import picture
from support.jobs import until
from support.service import Service

pytestmark = pytest.mark.acceptance

SECRET = "a secret of the hook's sender"  # noqa: S105 - of no use elsewhere
DEFINITION = """
[service]
name = "elsewhere"

[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Thumbnails]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
[roles.Thumbnails.settings]
"Worker.RetryBaseSeconds" = 0.2

[hooks.blob-created]
kind = "thumbnail"
proof = "header"
header = "X-Sender"
secret_file = "{secrets}"
handshake = "event-grid"
source_blob = "/subject"
after = "/blobServices/default/containers/rolehost/blobs/"
key = "/id"
[hooks.blob-created.when]
"/eventType" = "Microsoft.Storage.BlobCreated"
[hooks.blob-created.parameters]
size = "Small"
"""


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with guarded_net() as net:
        net.outer.content("/photo.png", picture())
        net.outer.redirect("/inwards", f"http://{INNER}:{net.canary.port}/photo.png")
        net.outer.redirect("/by-name", f"http://localhost:{net.canary.port}/photo.png")
        yield net


@pytest.fixture
async def service(tmp_path: Path, net: Net) -> AsyncIterator[Service]:
    secrets = tmp_path / "secrets"
    secrets.write_text(SECRET)
    secrets.chmod(0o600)
    settings = {
        "AllowedHosts": "*",
        "AllowedNetworks": f"{OUTER}/32",
        "AllowedSchemes": "http",
        "AllowedPorts": str(net.outer.port),
        "DeadlineSeconds": "5",
        "Blobs": "assets/",
    }
    # A proxy that would lead around the guard, if anybody asked it.
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), f"http://{INNER}:{net.canary.port}")
    variables = {f"ROLEHOST_SETTING_Sources__{name}": value for name, value in settings.items()}
    service = Service(tmp_path, variables | proxies)
    service.define(DEFINITION.format(secrets=secrets))
    try:
        await asyncio.to_thread(service.start)
        yield service
        assert await asyncio.to_thread(service.stop) == 0
    finally:
        await asyncio.to_thread(service.close)


async def test_sources_come_from_elsewhere_and_from_nowhere_inside(service: Service, net: Net) -> None:
    async with connect({"ROLEHOST_DATA": str(service.data)}) as stores:
        await stores.blobs.put("assets/photo.png", picture(hue=20))
    async with httpx2.AsyncClient(base_url=service.url, timeout=30) as client:
        good = [await by_api(client, net.url(OUTER, "/photo.png?sig=swordfish"))]
        good.append(await by_command(service, "--url", net.url(OUTER, "/photo.png?sig=swordfish")))
        beside = ("--resource", "logo.png=blob:assets/photo.png", "--resource")
        words = net.url(OUTER, "/photo.png?sig=swordfish")
        good.append(await by_command(service, "--blob", "assets/photo.png", *beside, f"words.srt=url:{words}"))
        good.append(await by_hook(client))
        bad = [await by_api(client, net.url("localhost")), await by_api(client, net.url(OUTER, "/inwards"))]
        bad.append(await by_api(client, net.url(OUTER, "/by-name")))
        bad.append(await by_command(service, "--url", net.url("localhost", "/photo.png")))
        inner = net.url("localhost", "/photo.png")
        bad.append(await by_command(service, "--blob", "assets/photo.png", *beside, f"words.srt=url:{inner}"))
        for job_id in good:
            told = await over(client, job_id)
            assert (told["state"], told["result"] and told["result"]["type"]) == ("completed", "image/png"), told
        reasons = set()
        for job_id in bad:
            told = await over(client, job_id)
            assert (told["state"], [each["end"] for each in told["attempts"]]) == ("failed", ["bad_input"]), told
            reasons.add(told["reason"])
        assert all("127.0.0.1" not in reason for reason in reasons)
        assert await by_hook(client) == good[3], "an event that comes again is the same job"
        pages = [(await client.get(f"/jobs/{job_id}")).text for job_id in (*good, *bad)]
    assert "swordfish" not in service.log() + "".join(pages)
    assert SECRET not in service.log()


async def by_api(client: httpx2.AsyncClient, url: str) -> str:
    """A job from a URL, submitted as JSON."""
    answer = await client.post("/api/v1/jobs", json={"source": {"url": url}, "parameters": {"size": "Small"}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def by_command(service: Service, *arguments: str) -> str:
    """The same, on the command line."""
    told = await asyncio.to_thread(service.command, "submit", *arguments, "--size", "Small", "--json")
    assert told.returncode == 0, told.stderr
    (job,) = json.loads(told.stdout)["jobs"]
    return str(job["id"])


async def by_hook(client: httpx2.AsyncClient) -> str:
    """The same, by an event of Event Grid."""
    event = {
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "eventType": "Microsoft.Storage.BlobCreated",
        "subject": "/blobServices/default/containers/rolehost/blobs/assets/photo.png",
        "eventTime": "2026-11-21T08:05:11.4829130Z",
        "data": {"api": "PutBlob", "contentType": "image/png"},
    }
    answer = await client.post("/api/v1/hooks/blob-created", json=[event], headers={"X-Sender": SECRET})
    assert answer.status_code == 202, answer.text
    (job,) = answer.json()["jobs"]
    return str(job["id"])


async def over(client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job, once it has ended."""
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update((await client.get(f"/api/v1/jobs/{job_id}")).json())
        return found["state"] not in {"queued", "running"}

    await until(ended, within=60)
    return found
