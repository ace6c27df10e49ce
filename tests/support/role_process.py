"""A real role process at the end of a real runtime channel, with the test as its host."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from rolehost.environment import Role, RoleInstance, Snapshot
from rolehost.host.channel.leases import StatusLeases
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.channel.wire import CurrentState

ROOT = Path(__file__).resolve().parents[2]

# Every role of these tests leaves a line in the trace for what happens to it.
PRELUDE = """
import asyncio, logging, os, socket, sys, threading, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from rolehost.environment import *
from rolehost.entrypoint import RoleEntryPoint, ServedRole

def note(*words):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(" ".join(map(str, words)) + "\\n")

def until_there(name):
    while not Path(name).exists():
        time.sleep(0.01)
"""


def a_snapshot(**others: Any) -> Snapshot:
    """What a role of one instance is told."""
    current = RoleInstance("Worker_IN_0")
    given = {"settings": {}, "local_resources": {}, "roles": {"Worker": Role("Worker", (current,))}, **others}
    frozen = {name: _frozen(value) for name, value in given.items()}
    snapshot = Snapshot("0123456789abcdef", is_emulated=True, current_role_instance=current, **frozen)
    found = [each for each in snapshot.roles["Worker"].instances if each.id == current.id]
    return replace(snapshot, current_role_instance=found[0])


def _frozen(value: Any) -> Any:
    return MappingProxyType(value) if isinstance(value, dict) else value


class HostedRole:
    """One life of a role, in a process of its own.

    Args:
        directory: where its module is written.
        code: the module `roles`, after `PRELUDE`.
        entry_point: the role's class.
        snapshot: what it is told at first.
        environ: further variables of its process.
        times: `heartbeat`, `changing_seconds`, `status_check_seconds`.
    """

    def __init__(
        self,
        directory: Path,
        code: str,
        entry_point: str = "roles:Worker",
        snapshot: Snapshot | None = None,
        environ: Mapping[str, str] | None = None,
        **times: float,
    ) -> None:
        self.directory = directory
        self.snapshot = snapshot or a_snapshot()
        (directory / "roles.py").write_text(PRELUDE + textwrap.dedent(code))
        (directory / "trace").touch()
        self._entry_point = entry_point
        self._environ = environ or {}
        self.states: list[CurrentState] = []
        self.seen: list[str | None] = []
        self.leases = StatusLeases(self._changed)
        self._moved = asyncio.Event()
        times = {"heartbeat": 30.0, **times}
        self.channel = RuntimeChannel(f"rolehost-{os.getpid()}-{secrets.token_hex(4)}", self._heard, **times)
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.channel.__aenter__()
        self.channel.expect_started(self.snapshot)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")},
            "PYTHONPATH": str(ROOT),
            "TRACE": str(self.directory / "trace"),
            "WaRuntimeEndpoint": self.channel.endpoint,
            "RoleInstanceID": self.snapshot.current_role_instance.id,
            **self._environ,
        }
        argv = ["-P", "-m", "rolehost.host.role.role_process", self._entry_point, "--path", str(self.directory)]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, env=environ, cwd=self.directory, stderr=self._stderr, stdout=self._stderr
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self._stderr.close()
        self.leases.clear()
        await self.channel.__aexit__()

    def _heard(self, state: CurrentState) -> None:
        self.states.append(state)
        self.leases.note(state)
        self._moved.set()

    def _changed(self) -> None:
        self.seen.append(self.leases.status)
        self._moved.set()

    @property
    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode()

    def words(self) -> list[str]:
        """The trace so far, line by line."""
        return (self.directory / "trace").read_text().splitlines()

    def touch(self, name: str) -> None:
        """What `until_there(name)` waits for in the role."""
        (self.directory / name).touch()

    def change(self, *, simultaneous: bool = False, **others: Any) -> int:
        """Tell it other values; the answer is the incarnation."""
        self.snapshot = replace(self.snapshot, **{name: _frozen(value) for name, value in others.items()})
        return self.channel.expect_started(self.snapshot, simultaneous=simultaneous)

    async def until(self, answer: Callable[[], object], what: str, seconds: float = 20) -> None:
        """Until the answer is true: the trace, or what the role has said of itself."""
        try:
            async with asyncio.timeout(seconds):
                while not answer():
                    self._moved.clear()
                    waiting = asyncio.ensure_future(self._moved.wait())
                    await asyncio.wait([waiting], timeout=0.02)  # the trace is a file: nobody tells of its lines
                    waiting.cancel()
        except TimeoutError:
            raise AssertionError(f"waited in vain: {what}\n{self.words()}\n{self.seen}\n{self.stderr}") from None

    async def until_status(self, status: str | None) -> None:
        await self.until(lambda: self.leases.status == status, f"status {status}")

    async def until_taken(self, incarnation: int) -> None:
        await self.until(lambda: self.leases.incarnation >= incarnation, f"incarnation {incarnation}")

    async def until_words(self, *words: str) -> None:
        """Until the trace holds these lines in this order, others in between."""

        def held() -> bool:
            rest = iter(self.words())
            return all(word in rest for word in words)

        await self.until(held, f"{words} in the trace")

    async def end(self) -> int:
        """The process's exit code, once it has ended."""
        assert self.process is not None
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def stop(self, seconds: float | None = 10) -> int:
        """Tell it to stop; the answer is its exit code."""
        self.channel.expect_stopped(seconds)
        return await self.end()
