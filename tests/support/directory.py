"""Instances of a role that hold numbers in the directory, some of them as processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rolehost import clock
from rolehost.host.directory.client import DirectoryClient, DirectoryTimes

ROOT = Path(__file__).resolve().parents[2]
# Short enough to wait for, and long enough for two busy cores.
TIMES = DirectoryTimes(lease=3.0, heartbeat=0.4, throttle=0.05, peers=0.1, refresh=0.3, prune=0.5, closing=3.0)

_Value = TypeVar("_Value")


class MovedClock:
    """Both clocks, as far ahead of the real ones as a test has put them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic = 0.0
        self.wall = 0.0
        monotonic, now = clock.monotonic, clock.now
        monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + self.monotonic)
        monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=self.wall))


def facts_of(instance: str, **more: Any) -> dict[str, Any]:
    """What a bootstrapper tells of its instance."""
    role, _, number = instance.rpartition("_IN_")
    facts: dict[str, Any] = {
        "instance": instance,
        "role": role,
        "state": "Ready",
        "status": "ReadyRole",
        "detail": "",
        "generation": 1,
        "recycles": 0,
        "fault_domain": int(number) % 2,
        "update_domain": int(number) % 5,
        "pid": 4711,
        "started_at": clock.iso(clock.now()),
        "ready_at": clock.iso(clock.now()),
        "heartbeat_at": clock.iso(clock.now()),
        "endpoints": {"Http": {"protocol": "http", "address": f"127.0.0.{number}", "port": 8080}},
        "last_crash": None,
    }
    return facts | more


async def until(answer: Callable[[], Awaitable[_Value]], within: float = 20.0) -> _Value:
    """Ask until the answer is true."""
    deadline = time.monotonic() + within
    while not (value := await answer()):
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)
    return value


def environ(data: Path, **more: str) -> dict[str, str]:
    """The environment of a client whose stores are in a directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")}
    return inherited | {"PYTHONPATH": str(ROOT), "ROLEHOST_DATA": str(data)} | more


@dataclass
class Holder:
    """A process that holds a number of `Role`, printed on its stdout."""

    process: subprocess.Popen[str]

    def number(self) -> int:
        """Its number; waits until it has one."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def kill(self) -> None:
        """As abruptly as a machine that loses power."""
        self.process.kill()
        self.process.wait()


@contextmanager
def holders(data: Path, count: int = 1) -> Iterator[list[Holder]]:
    """Processes that each want a number, started at once."""
    argv = [sys.executable, "-m", "support.directory"]
    variables = environ(data) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    started = [
        Holder(subprocess.Popen(argv, env=variables, cwd=data, stdout=subprocess.PIPE, text=True)) for _ in range(count)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.kill()
            assert each.process.stdout is not None
            each.process.stdout.close()


def helpers_of(pid: int) -> list[int]:
    """The helper processes below a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    named = [each for each in found if b"directory_process" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return [int(each) for each in named]


async def _hold(variables: Mapping[str, str]) -> None:
    async with DirectoryClient(variables, times=TIMES) as directory:
        number = await directory.take("Role")
        instance = f"Role_IN_{number}"
        directory.status(facts_of(instance))
        directory.output(
            {
                "run": "r1",
                "instance": instance,
                "kind": "role",
                "name": "role",
                "path": "",
                "started_at": clock.iso(clock.now()),
                "ended_at": None,
                "exit_code": None,
            }
        )
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_hold(os.environ))
