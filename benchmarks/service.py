"""A worker instance of the real host, in its own process, on a data directory of the benchmark's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost import clock

HERE = Path(__file__).parent


@asynccontextmanager
async def worker(folder: Path, entry_point: str, settings: Mapping[str, object]) -> AsyncIterator[None]:
    """Run one worker role under `rolehost up`, from the block's beginning to its end.

    Args:
        folder: where its definition and its data directory are made; the data directory is `folder/data`.
        entry_point: the worker, `module:Class`.
        settings: role settings.
    """
    definition = folder / "service.toml"
    lines = [f'"{name}" = "{value}"' for name, value in settings.items()]
    definition.write_text(
        f'[service]\nname = "benchmark"\n[roles.Worker]\nentry_point = "{entry_point}"\n'
        "[roles.Worker.settings]\n" + "\n".join(lines) + "\n[roles.Worker.local_resources.Scratch]\nsize_in_mb = 2048\n"
    )
    command = ("up", "--definition", str(definition), "--data", str(folder / "data"))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rolehost",
            *command,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        )
        try:
            await until(lambda: _ready(folder / "log"), 30)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until something holds, looking every 5 ms."""
    end = clock.monotonic() + seconds
    while not await holds():
        if clock.monotonic() > end:
            raise TimeoutError("the service did not get there in time")
        await clock.sleep(0.005)


async def _ready(log: Path) -> bool:
    return b"worker.ready" in await asyncio.to_thread(log.read_bytes)
