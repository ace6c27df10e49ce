"""Warm starts: a Python script that starts without the interpreter's start and without its imports."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rolehost import clock
from rolehost.errors import ProgramNotFoundError
from rolehost.processes.child import Child
from rolehost.processes.identity import ChildIdentity
from rolehost.processes.warm_channel import WarmServer
from rolehost.telemetry import emit

MOST_JOBS = 5000  # then a new server takes over, so that no leak of a module is ever large
MOST_FAILURES = 5
_POSSIBLE = sys.platform == "linux" and hasattr(os, "pidfd_open")
_PROVEN_JOBS = 100  # after so many jobs, or so many seconds, a server's end is no repetition of the last one's
_PROVEN_SECONDS = 600.0
_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 30.0

# What differs from job to job, and says nothing to an interpreter that starts or to a module that is imported.
_OF_A_JOB = frozenset({"HOME", "TMPDIR", "TEMP", "TMP", "PWD", "TRACEPARENT"})


class WarmStarts:
    """Starts one Python script, each time in a fork of an interpreter that has imported what it needs.

    The script is not changed, and each run is a process of its own: session, arguments, environment, streams, limits
    and end are as at a cold start by `Child.spawn`. Its parent is the server, and its command line in /proc the
    server's; what a module does while it is imported (what it prints, too) happens once for many runs. Whatever does
    not fit (no server at the moment, another program, other variables) starts cold.

    Args:
        script: the absolute path of the script.
        imports: the modules that it will need, beside it or installed; those whose import starts no thread and does
            nothing that a run could miss.
        env: an environment as jobs get it.
        marker: how the markers of the servers begin.
        identity: who the server and the jobs run as.
    """

    def __init__(
        self,
        script: str,
        imports: Sequence[str],
        *,
        env: Mapping[str, str],
        marker: str,
        identity: ChildIdentity | None,
    ) -> None:
        self._script = script
        self._imports = tuple(imports)
        self._env = _of_all_jobs(env)
        self._marker = marker
        self._identity = identity
        self._server: WarmServer | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._seen: tuple[int, ...] = ()
        self._is_script = False
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep a server running, in the background; where there is no Linux, nothing happens."""
        if self._keeping is None and _POSSIBLE:
            self._keeping = asyncio.create_task(self._keep(), name=f"warm {self._script}")

    async def ready(self) -> bool:
        """Wait until a server is there (True), or none will ever be (False)."""
        while self._server is None and self._keeping is not None and not self._keeping.done():
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait({changed, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        return self._server is not None

    @property
    def server_pid(self) -> int | None:
        """The pid of the server that takes jobs now."""
        return self._server.child.pid if self._server else None

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        marker: str,
        identity: ChildIdentity | None = None,
        capture: int = 4 * 1024 * 1024,
        on_output: Callable[[str, bytes], None] | None = None,
        prefix: Sequence[str] = (),
    ) -> Child:
        """Start a program: warm if it is the script, cold if it is anything else or if there is no server.

        Args:
            argv: as for `Child.spawn`, and so are the others.
            env: the same.
            cwd: the same.
            marker: the same.
            identity: the same.
            capture: the same.
            on_output: the same.
            prefix: the same; what has one starts cold.

        Raises:
            ProgramNotFoundError: there is no such program, or no such working directory.
            OSError: the server ended while it started the job, or the machine has no process or descriptor left.
        """
        server = None if prefix else self._server
        if server is not None and not server.over.is_set() and self._fits(argv, env, identity):
            child = await server.spawn(argv[1:], env=env, cwd=cwd, marker=marker, capture=capture, on_output=on_output)
            if server.served >= MOST_JOBS:
                server.retire("it has served its time")
            if server.over.is_set() and server is self._server:
                self._server = None
            if child is not None:
                return child
        return await Child.spawn(
            argv,
            env=env,
            cwd=cwd,
            marker=marker,
            identity=identity,
            capture=capture,
            on_output=on_output,
            prefix=prefix,
        )

    async def close(self) -> None:
        """End the servers, and with them what still runs."""
        tasks = [*self._retiring, *([self._keeping] if self._keeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fits(self, argv: Sequence[str], env: Mapping[str, str], identity: ChildIdentity | None) -> bool:
        ours = list(argv[:2]) == [sys.executable, self._script] and identity == self._identity
        return ours and _of_all_jobs(env) == self._env and self._is_still_a_script()

    def _is_still_a_script(self) -> bool:
        """Whether the file is Python source: a folder, an archive or a compiled file is the interpreter's to run."""
        try:
            state = Path(self._script).stat()
            seen = (state.st_ino, state.st_size, state.st_mtime_ns)
            if seen != self._seen:
                source = Path(self._script).read_bytes()
                first = source.partition(b"\n")[0]
                by_name = self._script.endswith(".py") or (first.startswith(b"#!") and b"python" in first)
                self._is_script, self._seen = by_name and b"\0" not in source, seen
        except OSError:
            return False
        return self._is_script

    async def _keep(self) -> None:
        """One server after the other, until they fail too often."""
        failures = number = 0
        while failures < MOST_FAILURES:
            number += 1
            why, proven = await self._live(f"{self._marker}{number}")
            if why is None:
                continue
            failures = 1 if proven else failures + 1
            emit("warm.ended", script=self._script, why=why, failures=failures)
            if failures < MOST_FAILURES:
                await clock.sleep(min(_BACK_OFF * 2**failures, _LONGEST_BACK_OFF))
        emit("warm.given_up", script=self._script, failures=failures)

    async def _live(self, marker: str) -> tuple[str | None, bool]:
        """One server's life; why it failed, if it did, and whether it had worked well before."""
        try:
            server = await WarmServer.start(
                self._script, self._imports, env=self._env, marker=marker, identity=self._identity
            )
        except (OSError, ProgramNotFoundError) as problem:
            return str(problem), False
        since = clock.monotonic()
        self._server = server
        self._changed.set()
        emit("warm.started", script=self._script, pid=server.child.pid)
        try:
            await server.over.wait()
        except BaseException:
            await server.close()
            raise
        finally:
            self._changed.clear()
            self._server = None
        farewell = asyncio.create_task(_see_off(server))
        self._retiring.add(farewell)
        farewell.add_done_callback(self._retiring.discard)
        proven = server.served >= _PROVEN_JOBS or clock.monotonic() - since >= _PROVEN_SECONDS
        return None if server.planned else server.why, proven


async def _see_off(server: WarmServer) -> None:
    """Wait for a server's last jobs, and reap it."""
    try:
        await server.child.wait()
    finally:
        await server.close()


def _of_all_jobs(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in _OF_A_JOB}
