"""`rolehost stop`: the running service, stopped by its user."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from rolehost import clock
from rolehost.cli.failures import FAILED, complain
from rolehost.cli.options import DATA, Data

_LOOK_SECONDS = 0.05


def stop(
    *,
    data: Data = DATA,
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="SECONDS", min=0, help="End what takes longer.", show_default="no limit"),
    ] = None,
) -> None:
    """Stop the running service in order, and wait for its end; `on_stop` may take as long as it needs."""
    raise typer.Exit(asyncio.run(_stop(data, within)))


async def _stop(data: Path, within: float | None) -> int:
    from rolehost.host.fabric.control import ask  # noqa: PLC0415 - `--help` needs none of it

    async for line in ask(data, {"do": "stop", "seconds": within}):
        for reason in line.get("refused", ()):
            complain(reason)
            return FAILED
    while _is_held(data / "up.lock"):
        await clock.sleep(_LOOK_SECONDS)
    return 0


def _is_held(lock: Path) -> bool:
    with suppress(FileNotFoundError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
