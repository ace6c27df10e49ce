"""`rolehost submit FILE...`: submit files, and wait for what becomes of them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.cli.assets import find_assets
from rolehost.cli.failures import FAILED, complain
from rolehost.cli.job_kinds import unknown_kind
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import one_line
from rolehost.cli.report import Report
from rolehost.cli.sending import Order
from rolehost.cli.submitting import Plan, submit_and_wait
from rolehost.cli.webhook_option import checked_webhook
from rolehost.errors import InvalidParameterError
from rolehost.jobs.kinds import CUSTOM, kind_named
from rolehost.jobs.submission import check_key

_BOX = re.compile(r"([0-9]+)[xX]([0-9]+)")


Files: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Files, or folders whose files are meant, hidden ones not.")
]
Kind: TypeAlias = Annotated[str, typer.Option("--kind", metavar="NAME", help="The kind of job.")]
Size: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="SIZE",
        help="The box that the picture fits into: Small, Medium, Large, or WIDTHxHEIGHT in pixels.",
        show_default="Medium",
    ),
]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="jpeg, png or webp.", show_default="the source's, or png"),
]
Parameters: TypeAlias = Annotated[
    list[str] | None, typer.Option("--parameter", metavar="NAME=VALUE", help="A parameter of the job; repeatable.")
]
Wait: TypeAlias = Annotated[bool, typer.Option("--wait", help="Wait until the jobs have ended.")]
Timeout: TypeAlias = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Wait, but for so long at most.")
]
Output: TypeAlias = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", file_okay=False, help="Wait, and write the results into this folder."),
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", metavar="KEY", help="Repeated with this key and these files, no job is made twice."
    ),
]

Webhook: TypeAlias = Annotated[
    str | None, typer.Option("--webhook", metavar="URL", help="Who is told when a job has ended.")
]


def submit(
    files: Files,
    *,
    data: Data = DATA,
    kind: Kind = "thumbnail",
    size: Size = None,
    output_format: Format = None,
    parameters: Parameters = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Output = None,
    key: Key = None,
    webhook: Webhook = None,
    as_json: AsJson = False,
) -> None:
    """Submit files as jobs, whether or not the service is running.

    Exits with 1 if a file was refused or, having waited, if a job did not complete.
    """
    order = Order(
        kind=_checked_kind(kind),
        given=_parameters(kind, size, output_format, parameters or []),
        key=key,
        single=len(files) == 1 and not files[0].is_dir(),
        webhook=checked_webhook(webhook, os.environ) if webhook else "",
    )
    if key is not None:
        check_key(key)
    plan = Plan(data=data, order=order, wait=wait or timeout is not None or output is not None, timeout=timeout)
    if told := unknown_kind(order.kind, os.environ):
        complain(f"{told}: it waits until one does")
    assets = find_assets(files, lambda shown: complain(f"{one_line(shown)} is named twice, and submitted once"))
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


def _checked_kind(kind: str) -> str:
    try:
        return kind_named(kind).name
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from None


def _parameters(kind: str, size: str | None, output_format: str | None, pairs: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"a parameter is NAME=VALUE, not {pair!r}")
        given[name.strip()] = value
    if size is not None and (box := _BOX.fullmatch(size.strip())):
        given |= {"size": CUSTOM, "width": box[1], "height": box[2]}
    elif size is not None:
        given["size"] = size
    if output_format is not None:
        given["format"] = output_format
    try:
        kind_named(kind).parse(given, "")
    except InvalidParameterError as error:
        sentence = str(error)
        if error.field == "size" and size is not None:
            sentence = f"a size is Small, Medium, Large or WIDTHxHEIGHT, not {size!r}"
        raise typer.BadParameter(sentence) from None
    return given
