"""A private directory for one attempt, in a local resource of the role; gone when the attempt is."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rolehost import clock
from rolehost.errors import RoleEnvironmentError
from rolehost.failpoints import crossed
from rolehost.jobs.sniffing import EXTENSIONS
from rolehost.telemetry import emit
from rolehost.workers.halt import Halt
from rolehost.workers.progress import Meter

if TYPE_CHECKING:
    from rolehost.environment import RoleEnvironment
    from rolehost.jobs.table import Claim
    from rolehost.processes import ChildIdentity

RESOURCE = "Scratch"
TRIES = 3
COLLECTED_EVERY = 30.0
_kept: set[Path] = set()
"""What this process could not remove, as without a descriptor left; it is tried again."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """An attempt's own directory.

    Args:
        folder: absolute; all that is in it goes away with the attempt.
        source: where the asset was downloaded to.
        halt: stops the job at once, where the folder takes more than the local resource has.
        meter: how far the attempt has come.
    """

    folder: Path
    source: Path
    halt: Halt = field(default_factory=Halt, compare=False, repr=False)
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    @property
    def resources(self) -> Path:
        """Where the job's resource files are, by their names; no such directory where the job names none."""
        return self.folder / "resources"

    def report(self, percent: float) -> None:
        """Say how far the job has come, as often as you like and from any thread; it neither waits nor raises.

        Args:
            percent: 0 to 100; what is not more than before changes nothing.
        """
        self.meter.note(percent)


def scratch_root(role_environment: RoleEnvironment) -> Path:
    """The local resource `Scratch` of the role, or its temporary directory where none is declared."""
    try:
        return Path(role_environment.get_local_resource(RESOURCE).root_path)
    except RoleEnvironmentError:
        return Path(tempfile.gettempdir())


@asynccontextmanager
async def scratch(root: Path, claim: Claim) -> AsyncIterator[Scratch]:
    """Name a directory that is still to be made, and remove it whatever happens.

    Args:
        root: the local resource.
        claim: names the directory: job, attempt and token, so that no two attempts ever share one.
    """
    folder = root / f"{claim.spec.id}-{claim.attempt.number}-{claim.token}"
    made = Scratch(folder, folder / named_for(claim.spec.source.type))
    try:
        yield made
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, folder))


def named_for(media_type: str) -> str:
    """What an asset's file is called: with the ending of its type, where applications may go by that."""
    extension = EXTENSIONS.get(media_type)
    return f"source.{extension}" if extension else "source"


def make(place: Scratch, identity: ChildIdentity | None) -> None:
    """Make the directory, for the user that the console application runs as.

    Raises:
        OSError: the disk is full, or the local resource is gone.
    """
    place.folder.mkdir(mode=0o700)
    hand_over(place.folder, identity)


def make_resources(place: Scratch, identity: ChildIdentity | None) -> None:
    """Make the directory of the resource files, for the same user; that it is there already is no error.

    Raises:
        OSError: the disk is full.
    """
    place.resources.mkdir(mode=0o700, exist_ok=True)
    hand_over(place.resources, identity)


def hand_over(path: Path, identity: ChildIdentity | None) -> None:
    """Give a file of ours to the user that the console application runs as."""
    if identity is not None and identity.uid is not None:
        os.chown(path, identity.uid, identity.gid if identity.gid is not None else -1)


def _remove(folder: Path) -> None:
    """Also what a console application made unreadable, and what appears in the last moment."""
    error: OSError | None = None
    for _ in range(TRIES):
        if not folder.exists():
            break
        try:
            crossed("before-cleanup", folder.name[:36])
            shutil.rmtree(folder)
        except OSError as problem:
            error = problem
            _make_accessible(folder)
    if not folder.exists():
        _kept.discard(folder)
    elif folder not in _kept:
        _kept.add(folder)
        emit("scratch.kept", folder=str(folder), why=str(error))


async def collect_kept() -> NoReturn:
    """Now and then, remove what could not be removed when its attempt was over."""
    while True:
        await clock.sleep(COLLECTED_EVERY)
        for folder in list(_kept):
            await asyncio.shield(asyncio.to_thread(_remove, folder))
            if folder not in _kept:
                emit("scratch.collected", folder=str(folder))


def _make_accessible(folder: Path) -> None:
    for place in _folders(folder):
        with suppress(OSError):
            place.chmod(0o700)


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all below it, each before what is in it; links are not followed."""
    yield folder
    for parent, names, _ in os.walk(folder):
        yield from (path for name in names if not (path := Path(parent, name)).is_symlink())
