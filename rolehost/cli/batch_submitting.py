"""The course of `rolehost submit --batch NAME`: upload what is not there yet, seal, wait, fetch the results."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from rolehost.cli.assets import Asset, Refused
from rolehost.cli.batch_watching import check_results, outcome_of, print_batch, watched, write_results
from rolehost.cli.display import Display, new_display
from rolehost.cli.failures import FAILED, complain
from rolehost.cli.job_kinds import unknown_kind
from rolehost.cli.opening import opened, service_runs
from rolehost.cli.printing import one_line, print_json
from rolehost.cli.submit_parameters import checked_kind, checked_parameters
from rolehost.cli.submitting import Plan
from rolehost.errors import BatchStateError, RoleHostError, SubmissionError
from rolehost.jobs.batches import Batch, BatchState, BatchTable, Item, NewBatch, Then
from rolehost.jobs.batches.adding import Adder, Addition
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.batches.ending import ZIP
from rolehost.jobs.batches.model import check_name
from rolehost.jobs.job import new_id
from rolehost.jobs.kinds import kind_named
from rolehost.stores import Stores

AT_ONCE = 8
SLICE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a person asked for of the batch.

    Args:
        name: the batch's.
        then: what follows it.
        results: where the ZIP goes.
        as_json: what is told is one JSON document.
    """

    name: str
    then: Then | None
    results: Path | None
    as_json: bool


@dataclass(slots=True)
class _Sent:
    """What came of the files."""

    refused: list[Refused] = field(default_factory=list)
    done: int = 0
    items: list[Item] = field(default_factory=list)
    sealed: bool = False


def follow(
    batch: str | None,
    results: Path | None,
    then: str | None,
    parameters: list[str] | None,
    *,
    output: Path | None,
    key: str | None,
) -> Then | None:
    """What follows the batch, and whether the options go together.

    Raises:
        BadParameter: they don't, or nothing like that can follow.
    """
    if batch is not None:
        check_name(batch)
    for option, value in (("--results", results), ("--then", then), ("--then-set", parameters)):
        if value and batch is None:
            raise typer.BadParameter(f"{option} goes with --batch")
    check_results(results)
    for option, other in (("--output", output), ("--idempotency-key", key)):
        if other is not None and batch is not None:
            told = "its results come as one ZIP, by --results" if option == "--output" else "its name is its key"
            raise typer.BadParameter(f"{option} does not go with --batch: {told}")
    if then is None:
        if parameters:
            raise typer.BadParameter("--then-set goes with --then")
        return None
    kind = kind_named(checked_kind(then))
    if not kind.takes(ZIP, "results.zip"):
        raise typer.BadParameter(f"jobs of kind {kind.name} don't take a ZIP of results", param_hint="--then")
    if missing := unknown_kind(kind.name, os.environ):
        complain(f"{missing}: what follows the batch waits until one does")
    return Then(kind=kind.name, parameters=kind.parse(checked_parameters(kind.name, parameters or []), ZIP))


def submit_batch(plan: Plan, named: Named, files: Sequence[Path], assets: Sequence[Asset | Refused]) -> None:
    """Submit the files as a batch, tell what came of it, and leave with an exit code that says it, too."""
    sent, name = _Sent(), shlex.quote(named.name)
    try:
        batch = asyncio.run(_submit(plan, named, files, assets, sent))
    except KeyboardInterrupt:
        told = f"interrupted: the same command goes on with it; `rolehost batch {name}` tells how it stands"
        if sent.sealed:
            told = f"interrupted: the batch goes on without this command; `rolehost batch {name} --wait` waits for it"
        complain(told)
        raise
    written = named.results if named.results and batch.state.over and batch.items else None
    if named.as_json:
        refused = [{"file": each.shown, "reason": each.reason} for each in sent.refused]
        print_json(batch.to_json() | {"refused": refused, "written": str(written) if written else None})
    else:
        print_batch(batch)
        for each in sent.refused:
            complain(f"{one_line(each.shown)} was refused: {one_line(each.reason)}")
    sys.stdout.flush()
    if sent.refused or (plan.wait and not batch.all_completed):
        raise typer.Exit(FAILED)


async def _submit(
    plan: Plan, named: Named, files: Sequence[Path], assets: Sequence[Asset | Refused], sent: _Sent
) -> Batch:
    async with opened(plan.data, make=True) as stores:
        table = BatchTable(stores)
        batch = await _made(table, _asked(plan, named))
        with new_display() as display:
            await _add_all(stores, batch, [(each, _folder_of(each, files)) for each in assets], sent, display)
            if not await table.manifest(batch.id).added():
                await table.cancel(batch.id)
                for each in sent.refused:
                    complain(f"{one_line(each.shown)} was refused: {one_line(each.reason)}")
                raise RoleHostError(f"no file was accepted: the batch {named.name} is cancelled")
            await table.seal(batch.id)
            sent.sealed = True
            if not service_runs(plan.data):
                complain(f"no service is running on {plan.data}: the jobs wait until one is started with `rolehost up`")
            async with BatchDriver(stores, f"command {os.getpid()}") as driver:
                driver.kick()
                batch = await watched(table, batch.id, display, longest=plan.timeout, wait=plan.wait)
        if named.results is not None and batch.state.over:
            await write_results(stores, batch, named.results)
        if plan.wait and not batch.state.over:
            complain(f"the batch has not ended within {plan.timeout:g} seconds ({outcome_of(batch)}); it goes on")
        return batch


def _asked(plan: Plan, named: Named) -> NewBatch:
    submitter = ""
    with suppress(OSError, KeyError):  # a container may have users without names
        submitter = f"user:{getpass.getuser()}"
    order = plan.order
    return NewBatch(
        name=named.name,
        kind=order.kind,
        given=order.given,
        then=named.then,
        webhook=order.webhook,
        priority=order.priority,
        submitter=submitter,
    )


async def _made(table: BatchTable, asked: NewBatch) -> Batch:
    """A new batch; or the one of this name that is on its way, where exactly the same is asked of it.

    Raises:
        BatchStateError: another batch of this name is on its way.
    """
    try:
        return await table.create(asked)
    except BatchStateError:
        found = await table.named(asked.name)
        same = replace(found.asked, submitter=asked.submitter) == asked
        if not same or found.state not in {BatchState.SEALING, BatchState.RUNNING}:
            raise
        return found


async def _add_all(
    stores: Stores, batch: Batch, assets: Sequence[tuple[Asset | Refused, str]], sent: _Sent, display: Display
) -> None:
    """Add what the batch hasn't got yet, a few files at a time; a slice is named as soon as it is full."""
    adder, waiting = Adder(stores, batch), iter(assets)
    known = await BatchTable(stores).manifest(batch.id).known()

    async def work() -> None:
        for asset, folder in waiting:
            await _take(adder, asset, folder, known, sent)
            sent.done += 1
            display.show("uploaded", sent.done, len(assets))
            while len(sent.items) >= SLICE:
                some, sent.items[:SLICE] = sent.items[:SLICE], []
                await adder.append(new_id(), some)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(assets))):
                tasks.create_task(work())
    except* BatchStateError as errors:
        raise errors.exceptions[0] from None  # one says it all
    if sent.items:
        await adder.append(new_id(), sent.items)


async def _take(adder: Adder, asset: Asset | Refused, folder: str, known: set[str], sent: _Sent) -> None:
    """Upload a file, or note why it is refused."""
    try:
        if isinstance(asset, Refused):
            sent.refused.append(asset)
        elif (item := await _uploaded(adder, asset, folder, known)) is not None:
            sent.items.append(item)
    except BatchStateError:
        raise
    except SubmissionError as error:
        sent.refused.append(Refused(asset.shown, str(error)))
    except OSError as error:
        sent.refused.append(Refused(asset.shown, f"it can't be read: {error.strerror or error}"))


async def _uploaded(adder: Adder, asset: Asset, folder: str, known: set[str]) -> Item | None:
    """The item of a file that was uploaded; None if the batch has it already."""
    addition = Addition(path=asset.path, name=Path(asset.shown).name, folder=folder)
    item, batch = await adder.item(addition), adder.batch
    if item.id in known:
        return None
    if batch.state is not BatchState.OPEN:
        raise BatchStateError(
            f"a batch named {batch.name} is on its way, without {one_line(asset.shown)}: {batch.state}"
        )
    known.add(item.id)
    await adder.upload(item, addition)
    return item


def _folder_of(asset: Asset | Refused, files: Sequence[Path]) -> str:
    """Where the asset's result goes in the ZIP: as the asset lies in the folder that was named."""
    folders = [path for path in files if path.is_dir()]
    for folder in folders:
        if isinstance(asset, Asset) and asset.named.is_relative_to(folder):
            below = asset.named.relative_to(folder).parent
            shown = Path(folder.resolve().name, below) if len(folders) > 1 else below
            return os.fsencode(shown).decode(errors="replace")
    return ""
