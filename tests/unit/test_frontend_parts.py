"""Parts of the front end by themselves: spool, settings, probes, server, the role, words."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import StreamingResponse

from rolehost import clock
from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.downloads import disposition
from rolehost.frontend.headers import HeadAsGet
from rolehost.frontend.role import ThumbnailFrontend
from rolehost.frontend.server import serve
from rolehost.frontend.settings import FrontendSettings
from rolehost.frontend.spool import Spool
from rolehost.frontend.views import ago, human_duration, human_size, plain
from rolehost.host.ports.relay import Relay
from rolehost.host.ports.rotation import Backend
from rolehost.telemetry import subscribe
from support.authentication import add_key
from support.front_end import front_end, picture, until


async def test_a_head_makes_no_more_of_a_body_than_its_beginning() -> None:
    """Else a look at a batch's ZIP reads all results, and the connection's next request waits for that."""
    sent: list[Any] = []
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b"piece"
            await asyncio.sleep(0)

    async def receive() -> dict[str, str]:
        await asyncio.sleep(20)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = HeadAsGet(StreamingResponse(endless(), 206))
    await asyncio.wait_for(app({"type": "http", "method": "HEAD"}, receive, send), 10)
    assert [(each.get("status"), each.get("body"), each.get("more_body")) for each in sent] == [
        (206, None, None),
        (None, b"", False),
    ]
    assert pieces < 10


async def test_spool_folders_go_with_their_request(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    async def request_that_fails() -> None:
        async with spool.folder() as folder:
            (folder / "a").write_bytes(b"x")
            assert folder.stat().st_mode & 0o777 == 0o700
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await request_that_fails()
    assert list(spool._folder.iterdir()) == []
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_spool_removes_what_the_dead_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    program = (
        "import sys, os; from pathlib import Path; from rolehost.frontend.spool import Spool; "
        "s = Spool(Path(sys.argv[1])); (s._folder / 'left').write_bytes(b'x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(root)], check=False, cwd=Path(__file__).parents[2])
    assert len(list(root.iterdir())) == 2
    living = Spool(root)
    kept = living._folder / "kept"
    kept.write_bytes(b"x")
    assert len(list(root.iterdir())) == 2
    other = Spool(root)
    assert kept.exists()
    other.close()
    living.close()
    assert list(root.iterdir()) == []


def test_settings_have_defaults_and_are_read_from_the_role_environment() -> None:
    given = {"Frontend.UploadCapBytes": "1000", "Frontend.BodyDeadlineSeconds": "1.5"}
    settings = FrontendSettings.read(RoleEnvironment.for_testing(settings=given))
    assert (settings.upload_cap, settings.body_seconds) == (1000, 1.5)
    assert settings.form_files == FrontendSettings().form_files
    assert FrontendSettings.read(RoleEnvironment()).upload_cap == 64 * 1024 * 1024


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "many", "1e3"])
def test_settings_that_are_wrong_are_named(value: str) -> None:
    environment = RoleEnvironment.for_testing(settings={"Frontend.UploadCapBytes": value})
    with pytest.raises(RoleEnvironmentError, match=r"Frontend\.UploadCapBytes"):
        FrontendSettings.read(environment)


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A bootstrapper's probes, as far as the front end sees them; None: it never answers."""
    asked: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"state": "ready"}', 200),
        (b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"state": "busy"}', 503),
        (b"nonsense", 503),
        (b"", 503),
        (None, 503),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_passed_on(tmp_path: Path, answer: bytes | None, status: int, path: str) -> None:
    async with answering(answer) as probe, front_end(tmp_path / "data", probe=probe) as site:
        response = await site.client.get(path)
        assert response.status_code == status
        if answer and b"state" in answer:
            assert response.content == answer.partition(b"\r\n\r\n")[2]


async def test_probes_where_nobody_listens_and_without_a_bootstrapper(tmp_path: Path) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    async with front_end(tmp_path / "one", probe=address) as site:
        assert (await site.client.get("/readyz")).status_code == 503
    async with front_end(tmp_path / "two") as site:
        assert [(await site.client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]


async def test_a_request_in_flight_is_finished_when_the_role_stops() -> None:
    entered, leave, stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        entered.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving = asyncio.create_task(serve(slow, listening, stopping, FrontendSettings(drain_seconds=5)))
    async with httpx2.AsyncClient() as client:
        asking = asyncio.create_task(client.get(url))
        await entered.wait()
        stopping.set()
        await until(lambda: listening.fileno() < 0)
        leave.set()
        assert (await asking).status_code == 204
        await asyncio.wait_for(serving, 5)
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)


async def test_a_request_that_never_ends_is_cut_off_when_the_role_stops() -> None:
    entered, stopping = asyncio.Event(), asyncio.Event()

    async def endless(_scope: Any, _receive: Any, _send: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving = asyncio.create_task(serve(endless, listening, stopping, FrontendSettings(drain_seconds=1)))
    async with httpx2.AsyncClient() as client:
        asking = asyncio.create_task(client.get(url))
        await entered.wait()
        stopping.set()
        await asyncio.wait_for(serving, 5)
        await asyncio.wait({asking})


async def test_the_role_serves_on_its_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with front_end_role(tmp_path, monkeypatch) as (url, facts), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/healthz", headers={"Host": "evil.example"})).status_code == 421
        files = {"file": ("a.png", picture(), "image/png")}
        assert (await client.post("/api/v1/jobs", files=files)).status_code == 202
        assert (await client.post("/api/v1/jobs", files={"file": ("a.png", b"z" * 9000)})).status_code == 413
    assert list((tmp_path / "spool").iterdir()) == []
    assert {"frontend.listening", "http.request.trace", "job.submitted", "frontend.stopped"} <= set(facts)


@pytest.mark.parametrize(
    ("public", "stranger"), [("127.0.0.1:8080", 421), ("[::1]:80", 421), ("0.0.0.0:8080", 200), ("10.1.2.3:80", 200)]
)
async def test_who_may_be_asked_for_depends_on_where_clients_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: str, stranger: int
) -> None:
    """The role itself is on the loopback, behind the load balancer."""
    monkeypatch.setenv("ROLEHOST_PUBLIC", json.dumps({"Http": public, "Other": "127.0.0.1:1"}))
    add_key(tmp_path, "somebody", Permission.READ)
    async with front_end_role(tmp_path, monkeypatch) as (url, _), httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/healthz", headers={"Host": "some.example"})).status_code == stranger


@pytest.mark.parametrize("public", ["0.0.0.0:8080", "10.1.2.3:80", "[::]:80"])
async def test_the_role_does_not_start_where_anybody_could_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: str
) -> None:
    monkeypatch.setenv("ROLEHOST_PUBLIC", json.dumps({"Http": public}))
    with pytest.raises(RoleEnvironmentError, match="would answer anybody who reaches"):
        async with front_end_role(tmp_path, monkeypatch):
            pass


async def test_the_role_refuses_public_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("[1]", "{"):
        monkeypatch.setenv("ROLEHOST_PUBLIC", wrong)
        role = ThumbnailFrontend()
        role.role_environment = RoleEnvironment.for_testing(endpoints={"Http": ("127.0.0.1", 0)})
        with pytest.raises(RoleEnvironmentError, match="ROLEHOST_PUBLIC"):
            await role.serve(asyncio.Event())


async def test_behind_the_load_balancer_uploads_and_refusals_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay("127.0.0.1", 0)
    monkeypatch.setenv("ROLEHOST_PUBLIC", json.dumps({"Http": relay.bound}))
    async with front_end_role(tmp_path, monkeypatch, cap=20_000_000) as (url, _):
        relay.set_backends([Backend("Frontend_IN_0", ("127.0.0.1", int(url.rpartition(":")[2])))])
        await relay.start()
        async with httpx2.AsyncClient(base_url=f"http://{relay.address}") as client:
            big = picture() + bytes(19_000_000)
            job = await client.post("/api/v1/jobs", files={"file": ("a.png", big, "image/png")})
            assert (job.status_code, job.json()["source"]["size"]) == (202, len(big))
            assert (await client.get("/jobs", headers={"Host": "evil.example"})).status_code == 421
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n")
        writer.write(bytes(50_000))  # and more is to come
        assert (await reader.readline()).split()[1] == b"413"
        await reader.readuntil(b"urn:rolehost:problem:too-large")
        writer.close()
        await relay.close()


@asynccontextmanager
async def front_end_role(
    data: Path, monkeypatch: pytest.MonkeyPatch, cap: int = 5000
) -> AsyncIterator[tuple[str, list[str]]]:
    """The front end as a role that runs: where it listens, and what it tells."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    monkeypatch.setenv("ROLEHOST_DATA", str(data))
    monkeypatch.delenv("ROLEHOST_PROBE", raising=False)
    facts: list[str] = []
    unsubscribe = subscribe(lambda event, _: facts.append(event))
    role, stopping = ThumbnailFrontend(), asyncio.Event()
    settings = {"Frontend.UploadCapBytes": str(cap)}
    role.role_environment = RoleEnvironment.for_testing(settings=settings, endpoints={"Http": address})
    running = asyncio.create_task(role.serve(stopping))
    opened = asyncio.create_task(role.serving())
    try:
        await asyncio.wait({running, opened}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        yield f"http://{address[0]}:{address[1]}", facts
    finally:
        opened.cancel()
        stopping.set()
        try:
            await asyncio.wait_for(running, 10)
        finally:
            unsubscribe()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.png", "attachment; filename=\"a.png\"; filename*=UTF-8''a.png"),
        ("q\"'.png", "attachment; filename=\"q__.png\"; filename*=UTF-8''q%22%27.png"),
        ("a\r\nX: y", "attachment; filename=\"a__X_ y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ("東京.png", "attachment; filename=\"__.png\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.png"),
        ("\ud800.png", "attachment; filename=\"_.png\"; filename*=UTF-8''%3F.png"),
    ],
)
def test_names_of_downloads(name: str, header: str) -> None:
    assert disposition(name, inline=False) == header


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1536, "1.5 KiB"), (64 * 1024**2, "64 MiB"), (3 * 1024**3, "3.0 GiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.84, "0.8 s"),
        (9.97, "10.0 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (345600, "4 d"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human_duration(timedelta(seconds=seconds)) == text


def test_times_as_seen_from_now() -> None:
    now = clock.now()
    for seconds, text in (
        (-5, "5 s ago"),
        (-3 * 3600, "3 h ago"),
        (-50 * 3600, "2 d ago"),
        (0, "now"),
        (90.5, "in 2 min"),
    ):
        assert f">{text}</time>" in ago(now + timedelta(seconds=seconds))


def test_controls_are_shown_and_not_obeyed() -> None:
    assert plain("a\x1b[31m\tb\r\n\x00\x7f\u202e\x9b") == "a\u241b[31m\tb\n\u2400\u2421\ufffd\ufffd"
