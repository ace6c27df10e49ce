"""Submitting many files: a few at a time, and one that is refused holds up none of the others."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rolehost.cli.assets import Asset, Refused
from rolehost.cli.elsewhere import Elsewhere
from rolehost.errors import RoleHostError
from rolehost.jobs.job import Job, Priority, Resource
from rolehost.jobs.submission import Submission, Submitter

# Enough to keep the disk busy while another file is read.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """A file, and the job that was made of it."""

    shown: str
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is the same for every file.

    Args:
        kind: the kind of job.
        given: the parameters, not yet checked.
        key: the idempotency key; None for none.
        single: the key is for one file, and is taken as it is; else each file has one derived from it.
        webhook: the URL that is told of each job's end, checked; empty for none.
        priority: how soon the jobs begin beside others of their kind.
        group: the jobs run one after the other, in the order of the files; empty for none.
        resources: files that each job finds beside its source.
    """

    kind: str
    given: Mapping[str, str]
    key: str | None = None
    single: bool = False
    webhook: str = ""
    priority: Priority = Priority.NORMAL
    group: str = ""
    resources: tuple[Resource, ...] = ()

    def submission(self, asset: Asset | Elsewhere) -> Submission:
        """What is asked for this source."""
        key = self.key
        if key is not None and not self.single:
            own = hashlib.sha256(key.encode() + b"\0" + os.fsencode(asset.named)).hexdigest()
            key = f"{key[:200]}:{own[:32]}"
        if isinstance(asset, Asset):
            source = Submission(path=asset.path, name=Path(asset.shown).name)
        else:
            source = Submission(url=asset.url, blob=asset.blob)
        return replace(
            source,
            kind=self.kind,
            given=self.given,
            key=key,
            webhook=self.webhook,
            priority=self.priority,
            group=self.group,
            resources=self.resources,
        )


async def send_all(
    submitter: Submitter,
    order: Order,
    assets: Sequence[Asset | Elsewhere | Refused],
    on_done: Callable[[int, Sent | Refused], None],
) -> None:
    """Submit every file.

    Args:
        submitter: takes them.
        order: what is the same for all.
        assets: the files; what is refused already is passed on.
        on_done: called for each with its position and what came of it.
    """
    waiting = iter(enumerate(assets))

    async def work() -> None:
        for position, asset in waiting:
            on_done(position, asset if isinstance(asset, Refused) else await _send(submitter, order, asset))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(1 if order.group else min(AT_ONCE, len(assets))):
            tasks.create_task(work())


async def _send(submitter: Submitter, order: Order, asset: Asset | Elsewhere) -> Sent | Refused:
    try:
        return Sent(asset.shown, await submitter.submit(order.submission(asset)))
    except RoleHostError as error:
        return Refused(asset.shown, str(error))
    except OSError as error:
        return Refused(asset.shown, f"it can't be read: {error.strerror or error}")
