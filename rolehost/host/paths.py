"""Where things are: the data directory, the instances' resources, the role root."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rolehost.errors import RoleHostError
from rolehost.service_model import LocalStorage

# Others may pass through to a resource (a console application under another user), but not look around.
_PASSABLE = 0o711
_PRIVATE = 0o700
_SHARED = 0o771
_TEMP = "RoleTemp"


def role_root() -> Path:
    """The parent of `approot`, where the console applications are."""
    return Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The layout of `--data`; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> DataDirectory:
        """Create what is missing; a directory that exists keeps its mode.

        Raises:
            RoleHostError: it can't be made or written to.
        """
        data = cls(path.absolute())
        try:
            data.root.parent.mkdir(parents=True, exist_ok=True)
            _ensure(data.root, _PASSABLE)
            _ensure(data.root / "resources", _PASSABLE)
            for private in ("blobs", "bells"):
                _ensure(data.root / private, _PRIVATE)
        except OSError as error:
            raise RoleHostError(f"the data directory {data.root} can't be used: {error.strerror}") from error
        return data

    def deployment_id(self) -> str:
        """The deployment's name: made once, kept for as long as the directory."""
        path = self.root / "deployment-id"
        if not path.exists():
            fresh = path.with_name(f".deployment-id-{secrets.token_hex(4)}")
            fresh.write_text(secrets.token_hex(16), encoding="ascii")
            try:
                os.link(fresh, path)  # whoever comes first wins, whole
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text(encoding="ascii").strip()

    def temp(self, instance: str) -> Path:
        """The instance's own temporary directory."""
        return self.root / "resources" / instance / _TEMP

    def resource(self, instance: str, name: str) -> Path:
        """Where the instance's local resource is."""
        # A name ends in no dot in any other case: `RoleTemp.` is nobody else's.
        return self.root / "resources" / instance / (f"{name}." if name.rstrip(".") == _TEMP else name)

    def role_root(self, instance: str) -> Path:
        """The parent of the instance's own approot."""
        return self.root / "roots" / instance

    def prepare(self, instance: str, storages: Iterable[LocalStorage]) -> None:
        """Make the instance's directories: the temporary one empty, the resources as they are declared.

        Args:
            instance: the instance's id.
            storages: its local resources; one that is not cleaned on recycle keeps what it holds.
        """
        _ensure(self.root / "resources" / instance, _PASSABLE)
        # Passable: a role without a `Scratch` resource has its scratch directories there, for another user to work in.
        _empty(self.temp(instance))
        for storage in storages:
            path = self.resource(instance, storage.name)
            if storage.clean_on_role_recycle:
                _empty(path)
            else:
                _ensure(path, _PASSABLE)
                _take_back(path)

    def share(self, instance: str, storages: Iterable[LocalStorage], group: int) -> None:
        """Let a group write to the instance's temporary directory and its resources, until they are prepared again.

        Args:
            instance: the instance's id.
            storages: its local resources.
            group: the group's id.

        Raises:
            OSError: the system doesn't let us.
        """
        for path in (self.temp(instance), *(self.resource(instance, each.name) for each in storages)):
            os.chown(path, -1, group)
            path.chmod(_SHARED)


@contextmanager
def only_one(lock: Path, sentence: str) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process dies, however it dies.

    Args:
        lock: the file; it holds the owner's process id for people to read.
        sentence: what the error says; `{pid}` stands for the owner.

    Raises:
        RoleHostError: another process holds it.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise RoleHostError(sentence.format(pid=owner)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _ensure(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    path.chmod(mode)  # whatever the umask says


def _empty(path: Path) -> None:
    """Make an empty directory. One that exists is kept: a volume may be mounted there."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    _ensure(path, _PASSABLE)
    _take_back(path)
    with suppress(PermissionError):  # whoever mounted it decides; what can't be listed is told below
        if path.stat().st_mode & 0o777 != _PASSABLE:
            path.chmod(_PASSABLE)
    for name in os.listdir(path):  # noqa: PTH208 - the directory changes while its entries go
        remove(path / name)


def _take_back(path: Path) -> None:
    """End what `share` allowed in an earlier life."""
    facts = path.stat()
    if os.geteuid() == 0 and facts.st_gid != os.getegid() and facts.st_mode & 0o020:
        os.chown(path, -1, os.getegid())
        path.chmod(_PASSABLE)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole tree, also one that its owner made unreadable.

    Raises:
        OSError: something of it can't be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _make_accessible(path)
        shutil.rmtree(path)


def _make_accessible(path: Path) -> None:
    with suppress(OSError):
        path.chmod(_PRIVATE)
    for parent, names, _ in os.walk(path):
        for name in names:
            if not (inner := Path(parent, name)).is_symlink():
                with suppress(OSError):
                    inner.chmod(_PRIVATE)
