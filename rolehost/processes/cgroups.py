"""Control groups, where this process may make some: what is in one is limited, found and killed as one.

Version 2 has `cgroup.kill`; the limit on processes needs the controller `pids`, of version 2 where our own group hands
it down, else of version 1. Nothing is required: who finds no writable group goes on without.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_PREFIX = "rolehost-"
_PROCS = "cgroup.procs"
_KILL = "cgroup.kill"
_MOST = "pids.max"
_MOUNTS = Path("/proc/self/mountinfo")
_OURS = Path("/proc/self/cgroup")


class Cgroup:
    """One group: a directory in each hierarchy that is of use.

    Args:
        folders: the directories, made.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)

    def limit(self, most: int) -> None:
        """Let it have so many processes and threads at most; where nothing can limit them, nothing happens.

        Raises:
            OSError: the kernel refuses.
        """
        for folder in self._folders:
            if (folder / _MOST).exists():
                _write(folder / _MOST, most)

    def join(self, pid: int) -> None:
        """Move a process in, and all that it starts from now on. The kernel takes some 10 ms for it.

        Raises:
            OSError: it has ended, or the kernel refuses.
        """
        for folder in self._folders:
            _write(folder / _PROCS, pid)

    def pids(self) -> set[int]:
        """Its processes, as far as they live."""
        return {pid for folder in self._folders for pid in _pids(folder)}

    def kill(self) -> None:
        """Kill all of it at once, or at least let nothing more start in it."""
        for folder in self._folders:
            for name, value in ((_MOST, 0), (_KILL, 1)):
                with suppress(OSError):
                    if (folder / name).exists():
                        _write(folder / name, value)

    def remove(self) -> bool:
        """Remove it once it is empty; whether it is gone."""
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self._folders)


class Cgroups:
    """Makes groups below our own; one for a process. Made by `find`; `usable` until the kernel refuses a process.

    Args:
        bases: our own directories, one in each hierarchy, and their locks: they tell the dead's from the living's.
    """

    def __init__(self, bases: dict[Path, int]) -> None:
        self.usable = True
        self._bases = bases
        self._numbers = itertools.count(1)
        self._left: list[Cgroup] = []

    @classmethod
    def find(cls) -> Cgroups | None:
        """What this process may make, after what dead processes left was killed and removed; None: nothing."""
        bases: dict[Path, int] = {}
        name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        for folder in _writable():
            _collect(folder)
            with suppress(OSError):
                bases[folder / name] = _made(folder / name)
        found = cls(bases)
        if not (found.limits or found.kills):
            found.close()
            return None
        return found

    @property
    def limits(self) -> bool:
        """Whether the number of processes can be limited."""
        return any((base / _MOST).exists() for base in self._bases)

    @property
    def kills(self) -> bool:
        """Whether the kernel kills a whole group in one step."""
        return any((base / _KILL).exists() for base in self._bases)

    def new(self) -> Cgroup:
        """An empty group.

        Raises:
            OSError: the kernel refuses: there are too many.
        """
        self._left = [group for group in self._left if not group.remove()]
        name = str(next(self._numbers))
        folders = [base / name for base in self._bases]
        for folder in folders:
            folder.mkdir()
        return Cgroup(folders)

    def give_back(self, group: Cgroup) -> None:
        """Remove a group; one that is not empty yet is looked at again."""
        if not group.remove():
            self._left.append(group)

    def close(self) -> None:
        """Remove all of it."""
        for base, lock in self._bases.items():
            _remove(base)
            os.close(lock)
        self._bases = {}


def told(groups: Cgroups | None) -> str:
    """What is done about the processes of an application, in words."""
    if groups is None:
        return "applications are found by session, parent and marker: no control group can be made here"
    limited = "the number of their processes is limited" if groups.limits else "their processes are not limited"
    killed = "they are killed in one step" if groups.kills else "nothing more starts once they are killed"
    return f"applications have control groups of their own: {limited}, {killed}"


def _writable() -> Iterator[Path]:
    """Our own group in each hierarchy that is of use, where we may make groups below it."""
    paths = dict(_own_paths())
    for kind, root, place in _mounts():
        path = paths.get(kind, "/..")
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            continue  # a part of the hierarchy that isn't ours
        folder = Path(place) / path[len(root) :].lstrip("/")
        if os.access(folder, os.W_OK) and os.access(folder / _PROCS, os.W_OK):
            yield folder


def _own_paths() -> Iterator[tuple[str, str]]:
    """Where we are, by hierarchy: that of version 2 is named `cgroup2`, of version 1 the one of `pids` is told."""
    with suppress(OSError):
        for line in _OURS.read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield "cgroup2", path
            elif "pids" in controllers.split(","):
                yield "cgroup", path


def _mounts() -> Iterator[tuple[str, str, str]]:
    """The same hierarchies' kinds, roots and mount points."""
    with suppress(OSError):
        for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind == "cgroup2" or (kind == "cgroup" and "pids" in options.split(",")):
                root, place = before.split(" ")[3:5]
                yield kind, root, place


def _made(base: Path) -> int:
    """Make a directory of ours, and hand down the controller of processes where we have it; its lock."""
    base.mkdir()
    try:
        if (base / _MOST).exists() and (base / "cgroup.subtree_control").exists():
            _write(base / "cgroup.subtree_control", "+pids")
        lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        base.rmdir()
        raise
    return lock


def _collect(folder: Path) -> None:
    """Kill and remove what dead processes left."""
    for base in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(base)
            finally:
                os.close(lock)


def _remove(base: Path) -> None:
    """Groups that are not empty are killed; what does not go at once is left to who comes next."""
    with suppress(OSError):
        for folder in [each for each in base.iterdir() if each.is_dir()]:
            group = Cgroup([folder])
            if not group.remove():
                group.kill()
                group.remove()
        base.rmdir()


def _pids(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / _PROCS).read_text(encoding="ascii").split()]
    except OSError:
        return []


def _write(file: Path, value: int | str) -> None:
    """In one write, unbuffered: the kernel's answer is to this value."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
