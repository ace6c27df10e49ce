"""The options of `rolehost submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.jobs.job import Priority as Level

Files: TypeAlias = Annotated[
    list[Path] | None, typer.Argument(metavar="FILE", help="Files, or folders whose files are meant, hidden ones not.")
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
    list[str] | None,
    typer.Option("--set", "--parameter", metavar="NAME=VALUE", help="A parameter of the jobs; repeatable."),
]
Priority: TypeAlias = Annotated[
    Level, typer.Option("--priority", metavar="LEVEL", help="How soon the jobs begin: high, normal or low.")
]
Group: TypeAlias = Annotated[
    str | None,
    typer.Option("--group", metavar="NAME", help="The jobs of one group run one after the other. On Service Bus."),
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
Batch: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="NAME",
        help="All jobs as one batch. Interrupted, and run again, it goes on where it was.",
    ),
]
Results: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--results", metavar="FILE.zip", dir_okay=False, help="Wait for the batch, and write its results into one ZIP."
    ),
]
Then: TypeAlias = Annotated[
    str | None,
    typer.Option("--then", metavar="KIND", help="The kind of the job that follows on the ZIP of the batch's results."),
]
ThenParameters: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--then-set", metavar="NAME=VALUE", help="A parameter of the job that follows; repeatable."),
]
