"""The local resource of the scratch directories is held to its maximum: who takes the most of it is stopped."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import RoleEnvironmentError
from rolehost.processes.disk_usage import disk_usage
from rolehost.workers.scratch import RESOURCE

if TYPE_CHECKING:
    from rolehost.environment import LocalResource, RoleEnvironment

_LOOK_EVERY = 1.0
_MEGABYTE = 1 << 20


class ScratchLimit:
    """Looks at the scratch directories of the jobs that run, about every second.

    Args:
        resource: the local resource that they are in; None: there is no limit.
    """

    def __init__(self, resource: LocalResource | None) -> None:
        self._resource = resource
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, role_environment: RoleEnvironment) -> ScratchLimit:
        """The limit of the role's resource `Scratch`, if it has one."""
        try:
            return cls(role_environment.get_local_resource(RESOURCE))
        except RoleEnvironmentError:
            return cls(None)

    async def exceeded(self, folder: Path) -> str:
        """Wait until the job with this scratch directory has to stop; the answer says why.

        Together the jobs take no more than the resource's maximum: the largest goes first.
        """
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs[folder.name] = told
        if self._resource is not None and (self._watch is None or self._watch.done()):
            self._watch = asyncio.create_task(self._look(self._resource))
        try:
            return await told
        finally:
            del self._jobs[folder.name]
            if not self._jobs and self._watch is not None:
                self._watch.cancel()

    async def _look(self, resource: LocalResource) -> None:
        maximum = resource.maximum_size_in_megabytes * _MEGABYTE
        while True:
            await clock.sleep(_LOOK_EVERY)
            sizes = await disk_usage(Path(resource.root_path))
            taken = Counter({name: sizes[name] for name, told in self._jobs.items() if not told.done()})
            for name, size in taken.most_common():
                if (together := taken.total()) <= maximum:
                    break
                self._jobs[name].set_result(_reason(resource, size, together))
                del taken[name]


def _reason(resource: LocalResource, size: int, together: int) -> str:
    limit = f'the local resource "{resource.name}" has {resource.maximum_size_in_megabytes} MB'
    took = f"and it took {size / _MEGABYTE:.1f} MB of it"
    return f"{limit}, {took}" + (f" (all jobs {together / _MEGABYTE:.1f} MB)" if together > size else "")
