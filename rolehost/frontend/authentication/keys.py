"""API keys: made with 256 random bits, kept as SHA-256 only, each with a name and a role.

A slow hash protects secrets that people choose. Nobody finds a random key of 256 bits by trying, however fast the hash;
a slow one would cost each request tens of milliseconds and give whoever floods us a lever. So only keys that were made
here are accepted: one that somebody made up does not have their form.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.identity import ROLES, Permission
from rolehost.telemetry import emit

FILE = "keys"
PREFIX = "rolehost_"
PRIVATE = 0o600
WRITABLE_BY_OTHERS = 0o022
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_KEY = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)
_ENTRY = re.compile(rf"({NAME.pattern}):([a-z]+):([0-9a-f]{{64}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: everything but the key.

    Args:
        name: whose it is.
        role: what it may do.
        sha256: of the key, in hexadecimal.
    """

    name: str
    role: Permission
    sha256: str

    def __str__(self) -> str:
        """The form of it in files and settings: `NAME:ROLE:SHA256`."""
        return f"{self.name}:{self.role}:{self.sha256}"

    @property
    def fingerprint(self) -> str:
        """Tells this key from another of the same name, in a cookie; nobody comes from it to the key."""
        return hashlib.sha256(f"session of {self.sha256}".encode()).hexdigest()[:32]


def make_key() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(32)


def is_key(text: str) -> bool:
    """Whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def hashed(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def parse_keys(text: str, origin: str) -> tuple[ApiKey, ...]:
    """Keys from a file or a setting: one a line, or separated by commas; what follows a `#` is for people.

    Args:
        text: `NAME:ROLE:SHA256` each.
        origin: where it is from, for the sentence of an error.

    Raises:
        RoleEnvironmentError: something in it is no such entry, or a name is there twice.
    """
    found: dict[str, ApiKey] = {}
    lines = [line.partition("#")[0] for line in text.splitlines()]
    for number, entry in enumerate(" ".join(lines).replace(",", " ").split(), 1):
        match = _ENTRY.fullmatch(entry)
        if match is None or match[2] not in {*ROLES}:  # the entry is not shown: it may be a key in the wrong place
            raise RoleEnvironmentError(
                f"entry {number} of {origin} is not NAME:ROLE:SHA256 with a role of {', '.join(ROLES)}"
            )
        if match[1] in found:
            raise RoleEnvironmentError(f'{origin} has two keys with the name "{match[1]}"')
        found[match[1]] = ApiKey(match[1], Permission(match[2]), match[3])
    return tuple(found.values())


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file; none where there is no file.

    Raises:
        RoleEnvironmentError: it can't be read, others may write to it, or something in it is no key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & WRITABLE_BY_OTHERS:
                raise RoleEnvironmentError(f"others may write to {path}, and so let themselves in: chmod 600 it")
            return parse_keys(file.read(), str(path))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RoleEnvironmentError(f"the keys in {path} can't be read: {error}") from error


@contextmanager
def changing_keys(path: Path) -> Iterator[dict[str, ApiKey]]:
    """The keys of a file by name, to be changed; they are written when the block ends well. One process at a time.

    Raises:
        RoleEnvironmentError: as `read_keys`.
        OSError: it can't be written.
    """
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _give(lock, path.parent)
        keys = {key.name: key for key in read_keys(path)}
        before = dict(keys)
        yield keys
        if keys != before:
            write_private(path, "".join(f"{key}\n" for key in keys.values()))
    finally:
        os.close(lock)


def write_private(path: Path, text: str) -> None:
    """Replace a file, whole or not at all; only the owner of its folder may read it.

    The folder's owner is who the service runs as, also where root calls the command.
    """
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, PRIVATE)
            _give(descriptor, path.parent)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _give(descriptor: int, folder: Path) -> None:
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


class KeyRing:
    """The keys that are accepted now: those of a setting, which stay, and those of a file, which is watched.

    A file that can't be read any more lets nobody in, for as long as that lasts.

    Args:
        fixed: the keys of the setting.
        path: the file; None: there is none.

    Raises:
        RoleEnvironmentError: the file can't be read as it is now.
    """

    def __init__(self, fixed: Sequence[ApiKey], path: Path | None) -> None:
        self._fixed = tuple(fixed)
        self._path = path
        self._seen = file_state(path)
        self._read = read_keys(path) if path else ()
        self._trouble = ""

    def __bool__(self) -> bool:
        return bool(self._keys())

    def find(self, key: str) -> ApiKey | None:
        """The entry of a key that a client sent. All entries are compared, each in constant time."""
        given, found = hashed(key), None
        for entry in self._keys():
            if hmac.compare_digest(entry.sha256, given) and is_key(key):
                found = entry
        return found

    def named(self, name: str, fingerprint: str) -> ApiKey | None:
        """The entry that a session began with, as long as it is there."""
        fitting = (entry for entry in self._keys() if entry.name == name)
        return next((entry for entry in fitting if hmac.compare_digest(entry.fingerprint, fingerprint)), None)

    def _keys(self) -> Iterable[ApiKey]:
        if (state := file_state(self._path)) != self._seen or self._trouble:
            self._seen = state
            try:
                self._read = read_keys(self._path) if self._path else ()
                self._trouble = ""
                emit("keys.read", path=str(self._path), keys=len(self._read))
            except RoleEnvironmentError as error:
                self._read = ()
                if self._trouble != (trouble := str(error)):
                    emit("keys.unreadable", reason=trouble)
                self._trouble = trouble
        return (*self._fixed, *self._read)


def file_state(path: Path | None) -> tuple[int, ...] | None:
    """What differs when a file is another; None where there is none."""
    try:
        facts = os.stat(path) if path else None  # noqa: PTH116 - twice as quick, and each request asks
    except OSError:
        return None
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode) if facts else None
