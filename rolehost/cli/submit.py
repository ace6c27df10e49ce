"""`rolehost submit FILE...`: submit files, one by one or as a batch, and wait for what becomes of them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from rolehost.cli import batch_submitting
from rolehost.cli import submit_options as options
from rolehost.cli.assets import Asset, Refused, find_assets
from rolehost.cli.elsewhere import Blobs, Elsewhere, Resources, Urls, find_elsewhere, find_resources
from rolehost.cli.failures import FAILED, complain
from rolehost.cli.job_kinds import learn_kinds, unknown_kind
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import one_line
from rolehost.cli.report import Report
from rolehost.cli.sending import Order
from rolehost.cli.submit_parameters import checked_kind, checked_parameters
from rolehost.cli.submitting import Plan, submit_and_wait
from rolehost.cli.webhook_option import checked_webhook
from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import Priority
from rolehost.jobs.levels import parse_group
from rolehost.jobs.submission import check_key


def submit(
    files: options.Files = None,
    *,
    urls: Urls = None,
    blobs: Blobs = None,
    resources: Resources = None,
    data: Data = DATA,
    kind: options.Kind = "thumbnail",
    size: options.Size = None,
    output_format: options.Format = None,
    parameters: options.Parameters = None,
    priority: options.Priority = Priority.NORMAL,
    group: options.Group = None,
    wait: options.Wait = False,
    timeout: options.Timeout = None,
    output: options.Output = None,
    key: options.Key = None,
    webhook: options.Webhook = None,
    batch: options.Batch = None,
    results: options.Results = None,
    then: options.Then = None,
    then_parameters: options.ThenParameters = None,
    as_json: AsJson = False,
) -> None:
    """Submit files, URLs and blobs as jobs, whether or not the service is running.

    Exits with 1 if a file was refused or, having waited, if a job did not complete.
    """
    learn_kinds()
    named, others = _sources(files, urls, blobs, batch)
    order = Order(
        kind=checked_kind(kind),
        given=checked_parameters(kind, parameters or [], size, output_format),
        key=key,
        single=len(named) + len(others) == 1 and not (named and named[0].is_dir()),
        priority=priority,
        **_of_each_job(webhook, group, resources, batch),
    )
    plan = Plan(data=data, order=order, wait=_any(wait or None, timeout, output, results), timeout=timeout)
    follows = batch_submitting.follow(batch, results, then, then_parameters, output=output, key=key)
    if batch is None:
        return _submit(plan, [*_found(named, order.kind), *others], output, as_json=as_json)
    name = batch_submitting.Named(name=batch, then=follows, results=results, as_json=as_json)
    return batch_submitting.submit_batch(plan, name, named, _found(named, order.kind))


def _of_each_job(webhook: str | None, group: str | None, resources: Resources, batch: str | None) -> dict[str, Any]:
    told = checked_webhook(webhook, os.environ) if webhook else ""
    if group and batch is not None:
        raise typer.BadParameter("the jobs of a batch run beside each other: --group doesn't go with --batch")
    if resources and batch is not None:
        raise typer.BadParameter("the jobs of a batch have no resource files: --resource doesn't go with --batch")
    try:
        found = find_resources(resources or [], os.environ)
        return {"webhook": told, "group": parse_group(group or ""), "resources": found}
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from None


def _any(*given: object) -> bool:
    return any(each is not None for each in given)


def _sources(
    files: Sequence[Path] | None, urls: Urls, blobs: Blobs, batch: str | None
) -> tuple[Sequence[Path], Sequence[Elsewhere | Refused]]:
    """What is submitted: files, and what is elsewhere."""
    files, others = files or [], find_elsewhere(urls or [], blobs or [], os.environ)
    if not files and not others:
        raise typer.BadParameter("name files, or a source that is elsewhere by --url or --blob")
    if others and batch is not None:
        raise typer.BadParameter("a batch is made of files: submit what is elsewhere without --batch")
    return files, others


def _found(files: Sequence[Path], kind: str) -> Sequence[Asset | Refused]:
    if told := unknown_kind(kind, os.environ):
        complain(f"{told}: it waits until one does")
    return find_assets(files, lambda shown: complain(f"{one_line(shown)} is named twice, and submitted once"))


def _submit(plan: Plan, assets: Sequence[Asset | Elsewhere | Refused], output: Path | None, *, as_json: bool) -> None:
    """Each source on its own."""
    if plan.order.key is not None:
        check_key(plan.order.key)
    report = Report()
    try:
        asyncio.run(submit_and_wait(plan, assets, output, report))
    except KeyboardInterrupt:
        report.tell_interrupted()
        raise
    report.print_json() if as_json else report.print_lines(waited=plan.wait)
    sys.stdout.flush()
    if not report.good(waited=plan.wait):
        raise typer.Exit(FAILED)
