"""Reads /proc: processes, their parents, sessions and markers. Where there is none, every answer is empty."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MARKER = "ROLEHOST_CHILD"

AVAILABLE = Path("/proc/self/stat").exists()

_PREFIX = f"{MARKER}=".encode()
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when it was looked at; `started` (clock ticks since boot) tells a reused pid apart.

    `worked` are seconds of processor time, its ended children's included; `memory` is what is resident, in bytes.
    """

    pid: int
    parent: int
    group: int
    session: int
    zombie: bool
    started: int
    worked: float = field(default=0.0, compare=False)
    memory: int = field(default=0, compare=False)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def process(pid: int) -> Process | None:
    """The process of that pid, a zombie included; None if there is none."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything
    return Process(
        pid,
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        fields[0] in b"ZX",
        int(fields[19]),
        worked=sum(map(int, fields[11:15])) / _TICKS,
        memory=int(fields[21]) * _PAGE,
    )


def processes() -> dict[int, Process]:
    """Every process that can be seen, by pid: some 15 µs for each."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - a Path for each process costs more than reading it
    except OSError:
        return {}
    found = (process(int(name)) for name in names if name.isdigit())
    return {each.pid: each for each in found if each is not None}


def children() -> list[int]:
    """The pids of our own children, zombies and adopted orphans included."""
    try:
        tasks = os.listdir("/proc/self/task")  # noqa: PTH208 - the same
        return [int(pid) for task in tasks for pid in _read(f"/proc/self/task/{task}/children").split()]
    except FileNotFoundError:  # a thread that just ended, or a kernel without this file
        us = os.getpid()
        return [each.pid for each in processes().values() if each.parent == us]
    except OSError:
        return []


def marker(pid: int) -> str | None:
    """The process's marker; empty if it carries none, None if its environment can't be read."""
    environ = _environ(pid)
    if environ is None:
        return None
    for entry in environ.split(b"\0"):
        if entry.startswith(_PREFIX):
            return os.fsdecode(entry[len(_PREFIX) :])
    return ""


def _environ(pid: int) -> bytes | None:
    try:
        return _read(f"/proc/{pid}/environ")
    except PermissionError:
        return _environ_as_its_user(pid)
    except OSError:
        return None


def _environ_as_its_user(pid: int) -> bytes | None:
    """In a container root mostly lacks CAP_SYS_PTRACE: then only the process's own user may look (2 ms, and rare)."""
    path = f"/proc/{pid}"
    try:
        owner = Path(path).stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            return None
        who = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        line = [*who, "--", "cat", f"{path}/environ"]
        seen = subprocess.run(line, capture_output=True, check=True, timeout=2, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return seen.stdout


def send(target: Process, number: int) -> None:
    """Signal exactly this process: by then its pid may be someone else's, or nobody's."""
    try:
        fd = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        fd = -1
    try:
        now = process(target.pid)
        if now is None or now.started != target.started:
            return
        if fd >= 0:
            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(target.pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone already; or it took another identity: what is left is told in the end
    finally:
        if fd >= 0:
            os.close(fd)
