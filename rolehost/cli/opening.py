"""Opening the stores that a command works on, and whether a service runs on them."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.errors import RoleHostError
from rolehost.stores import Stores

_LOCK = "up.lock"


def stores_environ() -> Mapping[str, str]:
    """The variables with what the definition in the working directory says of the stores, where they say nothing.

    Raises:
        RoleHostError: it says something, and is not valid: a job must not get into other stores than the service's.
    """
    from rolehost.service_model import examine  # noqa: PLC0415 - `--help` needs none of it
    from rolehost.service_model.model import STORES  # noqa: PLC0415 - the same

    examined = examine(None, os.environ)
    if examined.model is not None:
        return {**os.environ, **examined.model.stores_over(os.environ)}
    for key, variable in STORES.items():
        if not os.environ.get(variable, "").strip() and re.search(rf"(?m)^\s*{key}\s*=", examined.places.text):
            raise RoleHostError(
                f"{examined.file} says where the stores are, and is not valid: see `rolehost check`, or set {variable}"
            )
    return os.environ


def embedded() -> bool:
    """Whether the stores are in the data directory."""
    return stores_environ().get("ROLEHOST_STORAGE", "").strip() in {"", "embedded"}


@asynccontextmanager
async def opened(data: Path, *, make: bool = False) -> AsyncIterator[Stores]:
    """The stores of a data directory, or those that the environment or the definition names.

    Args:
        data: the data directory.
        make: make the directory if it isn't there; else that is an error.

    Raises:
        RoleHostError: there is no data directory, or it can't be used.
    """
    from rolehost.stores.connect import connect  # noqa: PLC0415 - heavy, and `--help` needs none of it

    root = _root(data, make=make)
    async with connect({**stores_environ(), "ROLEHOST_DATA": str(root)}) as stores:
        yield stores


def _root(data: Path, *, make: bool) -> Path:
    from rolehost.host.paths import DataDirectory  # noqa: PLC0415 - heavy, and `--help` needs none of it

    if not embedded():
        return data.absolute()
    if make:
        return DataDirectory.at(data).root
    if not data.is_dir():
        raise RoleHostError(
            f"there is no data directory {data}: name the service's with --data, or start one with `rolehost up`"
        )
    if not (data / "store.db").exists():
        raise RoleHostError(f"{data} holds no jobs: no service has used it as its data directory yet")
    return data.absolute()


def service_runs(data: Path) -> bool:
    """Whether an `up`, or the host of an instance, holds its lock in the data directory; True where nobody can know."""
    return not embedded() or any(_is_held(lock) for lock in (data / _LOCK, *(data / "resources").glob("*_IN_*.lock")))


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
