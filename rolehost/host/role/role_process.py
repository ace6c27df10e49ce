"""The role process: loads the entry point, drives `on_start`, `run` and `on_stop`, and keeps the status lease."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rolehost import environment
from rolehost.errors import RoleHostError
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.exit_codes import FAILED, HOST_GONE
from rolehost.host.role.life import RoleLife, variable
from rolehost.processes import become_subreaper, die_with_parent
from rolehost.telemetry import emit
from rolehost.telemetry.logs import configure_logging


class _Traces(logging.Handler):
    """What the runtime traces is a fact as others are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the subscribers."""
        emit("runtime.trace", message=record.getMessage())


async def live(entry_point: str, search_path: Path | None) -> int:
    """One life of the role in this process; the answer is its exit code.

    Args:
        entry_point: `module:Class`.
        search_path: where the role's own modules are.
    """
    client = await RuntimeClient.connect(variable("WaRuntimeEndpoint"))
    goal = await client.next_goal()
    if goal is None:
        return HOST_GONE
    document = await asyncio.to_thread(Path(goal.environment_path).read_bytes)
    own = environment.role_environment
    life = RoleLife(client, own, goal)
    own.attach(environment.parse_snapshot(document), life.host)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, life.recycle)
    return await life.run(entry_point, search_path)


async def _live_and_end(entry_point: str, search_path: Path | None) -> NoReturn:
    try:
        code = await live(entry_point, search_path)
    except (RoleHostError, OSError) as error:
        sys.stderr.write(f"rolehost: {variable('RoleInstanceID')}: {error}\n")
        code = FAILED
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    # Not `sys.exit`: that waits for threads, and `run` may go on in one for ever.
    os._exit(code)


def main(arguments: list[str]) -> NoReturn:
    """The process that a bootstrapper starts.

    Args:
        arguments: the entry point, `--path DIR`, `--parent PID`.
    """
    parser = argparse.ArgumentParser(prog="rolehost.host.role.role_process")
    parser.add_argument("entry_point")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--parent", type=int)
    options = parser.parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    become_subreaper()
    configure_logging(verbose="ROLEHOST_VERBOSE" in os.environ, instance=variable("RoleInstanceID"))
    environment.RoleEnvironment.trace_source.addHandler(_Traces())
    asyncio.run(_live_and_end(options.entry_point, options.path))
    raise AssertionError("the process has ended")


if __name__ == "__main__":
    main(sys.argv[1:])
