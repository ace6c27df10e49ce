"""A worker instance of the real host, in its own process, on a data directory of the benchmark's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost import clock

HERE = Path(__file__).parent
_STOPPED_WITHIN = 40.0


@asynccontextmanager
async def worker(
    folder: Path, entry_point: str, settings: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> AsyncIterator[int]:
    """Run one worker role under `rolehost up`, from the block's beginning to its end; the block gets its process's id.

    Args:
        folder: where its definition and its data directory are made; the data directory is `folder/data`.
        entry_point: the worker, `module:Class`.
        settings: role settings.
        environ: variables beside those of this process.
    """
    definition = folder / "service.toml"
    lines = [f'"{name}" = "{value}"' for name, value in settings.items()]
    definition.write_text(
        f'[service]\nname = "benchmark"\n[roles.Worker]\nentry_point = "{entry_point}"\n'
        "[roles.Worker.settings]\n" + "\n".join(lines) + "\n[roles.Worker.local_resources.Scratch]\nsize_in_mb = 2048\n"
    )
    command = ("up", "--definition", str(definition), "--data", str(folder / "data"))
    argv = [sys.executable, "-m", "rolehost", *command]
    async with running(argv, folder / "log", {"PYTHONPATH": str(HERE.parent), **(environ or {})}) as process:
        await until(lambda: _ready(folder / "log"), 30)
        yield process


@asynccontextmanager
async def running(argv: Sequence[str], log: Path, environ: Mapping[str, str]) -> AsyncIterator[int]:
    """A process for the length of a block, asked to end by SIGTERM; the block gets its id.

    Args:
        argv: the program and its arguments; it runs in the checkout.
        log: where its output goes.
        environ: variables beside those of this process.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=output, stderr=output, cwd=HERE.parent, env={**os.environ, **environ}
        )
        try:
            yield process.pid
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOPPED_WITHIN)
            except TimeoutError:
                process.kill()
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
