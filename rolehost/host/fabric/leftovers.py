"""What hosts that were killed leave behind: processes, and the directories of their channels' sockets."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from binascii import crc32
from contextlib import suppress
from pathlib import Path

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.instance.plan import marker_prefix
from rolehost.host.paths import DataDirectory, only_one
from rolehost.processes import end_strays

_DYING_SECONDS = 1.0


async def end_leftovers(data: DataDirectory) -> None:
    """End what an `up` that was killed left behind; an instance that another host runs is left alone."""
    began, alone = clock.now().timestamp(), True
    for path in sorted((data.root / "resources").glob("*_IN_*/")):
        if await _nobody_holds(path.with_name(f"{path.name}.lock")):
            await end_strays(marker_prefix(data.deployment_id(), path.name))
        else:
            alone = False
    if alone:
        remove_sockets(data.deployment_id(), before=began)


def remove_sockets(deployment_id: str, instance: str = "", *, before: float | None = None) -> None:
    """Remove the directories of runtime channels, see `PlanFacts.directory_name`: settings lie in them.

    Args:
        deployment_id: whose.
        instance: of this instance only, whose host is gone.
        before: those that are younger belong to a host that has begun meanwhile.
    """
    name = f"{crc32(instance.encode()):08x}-*" if instance else "*"
    for parent in {Path(tempfile.gettempdir()), Path("/tmp")}:  # noqa: S108 - see `private_directory`
        for left in parent.glob(f"rolehost-{deployment_id[:8]}-{name}"):
            with suppress(FileNotFoundError):
                facts = left.lstat()
                is_ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid()
                if is_ours and (before is None or facts.st_mtime < before):
                    shutil.rmtree(left, ignore_errors=True)


async def _nobody_holds(lock: Path) -> bool:
    deadline = clock.monotonic() + _DYING_SECONDS
    while True:
        try:
            with only_one(lock, ""):
                return True
        except RoleHostError:
            if clock.monotonic() > deadline:
                return False
            await clock.sleep(0.02)
