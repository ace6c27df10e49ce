from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from rolehost.errors import RoleHostError
from rolehost.host.instance.role_end import lost_host
from rolehost.host.instance.silence import Silence
from rolehost.host.instance.status import InstanceState, InstanceStatus
from rolehost.host.paths import DataDirectory, only_one, role_root
from rolehost.host.ports.listening import listen, shown_address
from rolehost.host.probes import Probes, ask, reserve_port
from rolehost.processes import Exit
from rolehost.service_model import LocalStorage
from rolehost.user_code import UserCode


async def request(port: int, text: str) -> tuple[str, dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head.split("\r\n")[0], json.loads(body) if body else {}


async def test_probes() -> None:
    status = InstanceStatus("A_IN_0")
    probes = Probes(status, "127.0.0.1", 0)
    server = await probes.start()
    port = int(probes.address.rpartition(":")[2])
    ready, healthy = "GET /readyz HTTP/1.1\r\n\r\n", "GET /healthz?x=1 HTTP/1.1\r\n\r\n"
    for state in InstanceState:
        status.change(state, "why")
        code = "200 OK" if state is InstanceState.READY else "503 Service Unavailable"
        for asked, expected in ((ready, code), (healthy, "200 OK")):
            answered, facts = await request(port, asked)
            assert answered == f"HTTP/1.1 {expected}"
            assert (facts["instance"], facts["state"], facts["detail"]) == ("A_IN_0", state, "why")
    status.change(InstanceState.READY, "")
    assert await request(port, "HEAD /readyz HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", {})
    assert (await request(port, "GET / HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 404 Not Found"
    assert (await request(port, "POST /readyz HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 405 Method Not Allowed"
    assert (await request(port, "x\r\n\r\n"))[0] == "HTTP/1.1 400 Bad Request"
    answer = await ask("127.0.0.1", port)
    assert answer is not None
    assert answer[0] == 200
    server.close()
    await server.wait_closed()
    assert await ask("127.0.0.1", port) is None


async def test_a_reserved_port_refuses_until_its_probes_listen() -> None:
    with reserve_port("127.0.0.1") as reserved:
        port = reserved.getsockname()[1]
        assert await ask("127.0.0.1", port) is None
        probes = Probes(InstanceStatus("A_IN_0"), "127.0.0.1", port)
        for _ in range(2):
            server = await probes.start()
            assert await ask("127.0.0.1", port, "/healthz") is not None
            server.close()
            await server.wait_closed()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_listening_says_what_is_wrong() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert shown_address(first) == f"127.0.0.1:{port}"
        with pytest.raises(RoleHostError, match=rf"can't listen on 127\.0\.0\.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)
    with listen("0.0.0.0", 0) as everywhere:  # noqa: S104 - that is what is tested
        assert shown_address(everywhere).startswith("127.0.0.1:")
    with pytest.raises(RoleHostError, match=r"can't listen on 203\.0\.113\.1"):
        listen("203.0.113.1", 0)


async def test_answers_go_at_once() -> None:
    """Where the system collects what is small, each request after a connection's first takes 40 ms longer."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    with listen("127.0.0.1", 0) as listening:
        server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), sock=listening)
        async with server:
            _, client = await asyncio.open_connection(*listening.getsockname())
            ours = await accepted.get()
            assert ours.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            client.close()
            ours.close()


def test_the_data_directory_is_made_once(tmp_path: Path) -> None:
    data = DataDirectory.at(tmp_path / "deep" / "data")
    first = data.deployment_id()
    assert len(first) == 32
    (tmp_path / "deep" / "data").chmod(0o750)  # the owner's choice is kept
    again = DataDirectory.at(tmp_path / "deep" / "data")
    assert again.deployment_id() == first
    assert again.root.stat().st_mode & 0o777 == 0o750
    assert not list(data.root.glob(".deployment*"))
    (tmp_path / "file").touch()
    with pytest.raises(RoleHostError, match="can't be used"):
        DataDirectory.at(tmp_path / "file" / "data")


def test_local_resources_are_cleaned_as_declared(tmp_path: Path) -> None:
    data = DataDirectory.at(tmp_path)
    storages = (LocalStorage(name="Cleaned"), LocalStorage(name="Kept", clean_on_role_recycle=False))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    data.prepare("A_IN_0", storages)
    for name in ("Cleaned", "Kept"):
        (data.resource("A_IN_0", name) / "deep").mkdir()
        (data.resource("A_IN_0", name) / "link").symlink_to(elsewhere)
    data.temp("A_IN_0").rmdir()
    data.temp("A_IN_0").symlink_to(elsewhere)
    data.prepare("A_IN_0", storages)
    assert list(data.resource("A_IN_0", "Cleaned").iterdir()) == []
    assert len(list(data.resource("A_IN_0", "Kept").iterdir())) == 2
    assert not data.temp("A_IN_0").is_symlink()
    assert (elsewhere / "precious").exists()


def test_a_lock_is_one_owner_s_and_its_file_is_no_obstacle(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("99999999")
    with (
        only_one(lock, "held by {pid}"),
        pytest.raises(RoleHostError, match=r"held by \d+"),
        only_one(lock, "held by {pid}"),
    ):
        pass
    with only_one(lock, ""):
        pass


def test_role_root_is_the_parent_of_approot() -> None:
    assert (role_root() / "approot" / "legacy_bin").is_dir()


async def test_silence_is_noticed_and_a_sign_of_life_breaks_it() -> None:
    silence = Silence(0.3)
    silence.begin(0)
    over = asyncio.create_task(silence.over())
    for _ in range(5):
        await asyncio.sleep(0.1)
        assert not over.done()
        silence.broken()
    async with asyncio.timeout(2):
        await over


async def test_user_code_is_called_off_the_loop_and_its_errors_come_back() -> None:
    user = UserCode()
    main, loop = threading.current_thread(), asyncio.get_running_loop()

    async def where() -> tuple[object, object]:
        return threading.current_thread(), asyncio.get_running_loop()

    def leave() -> None:
        sys.exit(3)

    async def leave_later() -> None:
        sys.exit(3)

    def stop() -> None:
        raise StopIteration

    assert await user.call(threading.current_thread) is not main
    first, second = await user.call(where), await user.call(partial(where))
    assert first == second
    assert first[0] is not main
    assert first[1] is not loop
    with pytest.raises(RuntimeError, match="SystemExit"):
        await user.call(leave)
    with pytest.raises(RuntimeError, match="SystemExit"):
        await user.call(leave_later)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await user.call(stop)
    second_loop = user._loop  # in a role process it ends with the process
    assert second_loop is not None
    second_loop.call_soon_threadsafe(second_loop.stop)
    assert isinstance(first[0], threading.Thread)
    first[0].join()
    second_loop.close()


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (Exit(None, signal=9), "was ended by signal 9 (SIGKILL)"),
        (Exit(1), "ended with exit code 1"),
        (Exit(None), "has ended"),
    ],
)
def test_a_host_that_is_lost_is_a_crash_with_its_reason(end: Exit, told: str) -> None:
    crash = lost_host(end)
    assert crash.reason == f"The instance's host {told}, and with it the role."
    assert (crash.stage, crash.exit_code, crash.signal) == ("host", end.code, end.signal)


def test_a_host_that_can_not_be_started_is_a_crash_with_its_reason() -> None:
    assert lost_host(None, "no port is left.").reason == "The instance's host can't be started: no port is left."
