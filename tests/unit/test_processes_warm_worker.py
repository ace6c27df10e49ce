"""Workers whose console application starts warm: the same jobs, the same ends."""

# ruff: noqa: ASYNC240 - small files of the test's own, and /proc

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError
from rolehost.jobs.job import Charges, End, Job, JobState
from rolehost.processes import WarmStarts, procfs
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.processing import process_message
from rolehost.workers.settings import WorkerSettings
from rolehost.workers.thumbnail import WARM_IMPORTS, ThumbnailWorker
from support.jobs import KIND, Bench, open_bench, recorded
from support.legacy_applications import LEGACY_BIN
from support.pictures import flag

SERVED = "b'/warm_server.py' in open(f'/proc/{os.getppid()}/cmdline', 'rb').read()"
TELLS = f"import os, sys, helper\nopen(sys.argv[2], 'w').write(str({SERVED}))"
KILLS = f"import os, sys, time, helper\nif {SERVED}:\n    os.kill(os.getppid(), 9)\n    time.sleep(60)\n{TELLS}"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    tmp_path.chmod(0o711)
    async with open_bench(tmp_path) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


async def worker(bench: Bench, code: str, *, warm_imports: tuple[str, ...] | None = ("helper",)) -> ConsoleAppWorker:
    """A worker for a script, prepared as the role would; its server runs if it wants one."""
    script = bench.folder / "app" / "script.py"
    script.parent.mkdir()
    script.write_text(code)
    script.with_name("helper.py").touch()

    class Worker(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp(("{python}", str(script), "{source}", "{target}"), warm_imports=warm_imports)

    made = Worker()
    made.role_environment = RoleEnvironment.for_testing()
    made._settings = bench.desk.settings
    await made.prepare(bench.root)
    if made._warm:
        async with asyncio.timeout(30):
            assert await made._warm.ready()
    return made


async def outcome(bench: Bench, made: ConsoleAppWorker) -> tuple[Job, str]:
    job = await bench.submit()
    message = await bench.receive()
    await process_message(bench.desk, message, made.attempt, root=bench.root, identity=made.identity)
    job = await bench.row(job.id)
    if job.result is None:
        return job, ""
    return job, b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)]).decode()


async def test_an_application_that_says_what_it_imports_starts_warm(bench: Bench) -> None:
    made = await worker(bench, TELLS)
    assert (await outcome(bench, made))[1] == "True"
    assert made._warm is not None
    await made._warm.close()
    assert (await outcome(bench, made))[1] == "False"


@pytest.mark.parametrize("why", ["it names nothing", "the setting"])
async def test_otherwise_it_starts_cold(bench: Bench, why: str) -> None:
    if why == "the setting":
        bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, warm_start=False))
    made = await worker(bench, TELLS, warm_imports=None if why == "it names nothing" else ())
    assert made._warm is None
    assert (await outcome(bench, made))[1] == "False"


async def test_a_server_that_dies_is_not_charged_to_the_application(bench: Bench) -> None:
    made = await worker(bench, KILLS)
    job, _ = await outcome(bench, made)
    assert (job.state, job.charges) == (JobState.QUEUED, Charges())
    assert [attempt.end for attempt in job.attempts] == [End.STORE_ERROR]
    assert "warm server" in job.attempts[0].detail
    assert made._warm is not None
    await made._warm.close()
    again = await bench.submit()
    for _ in range(2):  # the first job's retry may come before it
        await process_message(bench.desk, await bench.receive(), made.attempt, root=bench.root, identity=made.identity)
    assert (await bench.row(again.id)).state is JobState.COMPLETED


async def test_serving_starts_the_server_and_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_DATA", str(bench.folder / "data"))
    facts: list[tuple[str, dict[str, Any]]] = []
    made = ThumbnailWorker()
    made.role_environment = RoleEnvironment.for_testing()
    stopping = asyncio.Event()
    with recorded(facts):
        serving = asyncio.create_task(made.serve(stopping))
        async with asyncio.timeout(30):
            while "warm.started" not in dict(facts):  # noqa: ASYNC110 - events of telemetry can't be awaited
                await asyncio.sleep(0.01)
        pid = dict(facts)["warm.started"]["pid"]
        assert Path(f"/proc/{pid}").exists()
        stopping.set()
        await serving
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("text", "value"), [("false", False), ("False", False), ("true", True)])
def test_the_setting_is_read(text: str, *, value: bool) -> None:
    assert WorkerSettings.of(RoleEnvironment.for_testing(settings={"Worker.WarmStart": text}), {}).warm_start is value


def test_the_setting_must_be_a_flag() -> None:
    with pytest.raises(RoleEnvironmentError, match="true or false"):
        WorkerSettings.of(RoleEnvironment.for_testing(settings={"Worker.WarmStart": "maybe"}), {})


IMPORTS = """\
import importlib, pathlib, sys
sys.path[0] = sys.argv[1]
for name in sys.argv[3].split(","): importlib.import_module(name)
before = set(sys.modules)
from picture_conversion import convert
from picture_writing import FORMATS
for source in pathlib.Path(sys.argv[2]).iterdir():
    for name in FORMATS:
        convert(str(source), f"{sys.argv[2]}/target.{name}", name, (40, 40))
print(*(set(sys.modules) - before))
"""


def test_what_the_thumbnailer_declares_is_all_that_it_imports(tmp_path: Path) -> None:
    for extension in ("jpg", "png", "webp", "gif", "tiff", "bmp"):
        flag((80, 60)).save(tmp_path / f"flag.{extension}")
    line = [sys.executable, "-c", IMPORTS, str(LEGACY_BIN), str(tmp_path), ",".join(WARM_IMPORTS)]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.split() == []


async def test_thumbnails_are_the_same_warm_and_cold(tmp_path: Path) -> None:
    """Byte for byte, of all formats, and so are refusals."""
    script = str(LEGACY_BIN / "thumbnail")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    warm = WarmStarts(script, WARM_IMPORTS, env=env, marker="test-warm-thumbnail/", identity=None)
    seen: dict[str, list[tuple[str, object, bytes]]] = {}
    for extension in ("jpg", "png", "webp", "gif", "tiff", "bmp"):
        flag((800, 600)).save(tmp_path / f"flag.{extension}")
    (tmp_path / "flag.txt").write_text("no picture")
    for how in ("cold", "warm"):
        if how == "warm":
            warm.start()
            assert await warm.ready()
        for source in sorted(tmp_path.glob("flag.*")):
            for extension in ("jpg", "webp", "png"):
                target = tmp_path / f"target.{extension}"
                argv = [sys.executable, script, str(source), str(target), "Small"]
                child = await warm.spawn(argv, env=env, cwd=tmp_path, marker="test-warm-thumbnail/job")
                found = procfs.process(child.pid)
                assert found is None or found.parent == (warm.server_pid if how == "warm" else os.getpid())
                told = (await child.wait(), child.stdout.text(), child.stderr.text())
                made = target.read_bytes() if target.exists() else b""
                target.unlink(missing_ok=True)
                seen.setdefault(how, []).append((source.name, told, made))
    await warm.close()
    assert seen["cold"] == seen["warm"]
    assert any(made for _, _, made in seen["warm"])
