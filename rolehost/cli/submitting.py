"""The course of `rolehost submit`: send, wait, fetch the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rolehost.cli import results
from rolehost.cli.assets import Asset, Refused
from rolehost.cli.display import Display, new_display, show_job
from rolehost.cli.elsewhere import Elsewhere
from rolehost.cli.failures import complain
from rolehost.cli.opening import opened, service_runs
from rolehost.cli.report import Report
from rolehost.cli.sending import Order, Sent, send_all
from rolehost.cli.waiting import Waiting
from rolehost.errors import StoreError
from rolehost.jobs.submission import Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a person asked for.

    Args:
        data: the data directory.
        order: what is the same for every file.
        wait: whether to wait until the jobs have ended.
        timeout: for how many seconds at most.
    """

    data: Path
    order: Order
    wait: bool
    timeout: float | None


async def submit_and_wait(
    plan: Plan, assets: Sequence[Asset | Elsewhere | Refused], output: Path | None, report: Report
) -> None:
    """Submit the files and, if that is planned, wait for the jobs.

    Args:
        plan: what is to be done.
        assets: the files.
        output: the folder for the results.
        report: kept up to date, so that it is right also when this is interrupted.
    """
    if output is not None:
        results.prepare(output)
    async with opened(plan.data, make=True) as stores:
        with new_display() as display:
            await _send(stores, plan.order, assets, report, display)
            if report.sent and not service_runs(plan.data):
                complain(f"no service is running on {plan.data}: the jobs wait until one is started with `rolehost up`")
            if plan.wait and report.sent:
                await _wait(stores, plan, report, display)
        if output is not None:
            await _fetch(stores, output, report)


async def _send(
    stores: Stores, order: Order, assets: Sequence[Asset | Elsewhere | Refused], report: Report, display: Display
) -> None:
    def note(position: int, outcome: Sent | Refused) -> None:
        report.outcomes[position] = outcome
        display.show("submitted", len(report.outcomes), len(assets))

    await send_all(Submitter(stores), order, assets, note)


async def _wait(stores: Stores, plan: Plan, report: Report, display: Display) -> None:
    ids = list(dict.fromkeys(sent.job.id for sent in report.sent))
    waiting = Waiting(
        JobTable(stores.table(TABLE)),
        ids,
        lambda ended: display.show("ended", ended, len(ids)),
        on_job=partial(show_job, display),
    )
    report.ended = waiting.ended
    if not await waiting.run(plan.timeout):
        complain(f"{len(waiting.open)} of {len(ids)} jobs have not ended within {plan.timeout:g} seconds; they go on")


async def _fetch(stores: Stores, output: Path, report: Report) -> None:
    """Write the results in the order of the files, so that two of the same name are numbered as they were named."""
    for job in report.completed:
        if job.result is None or job.id in report.written:
            continue
        try:
            report.written[job.id] = await results.write_result(stores.blobs, job.result, output)
        except (StoreError, OSError) as error:
            report.unwritten[job.id] = error.strerror or str(error) if isinstance(error, OSError) else str(error)
