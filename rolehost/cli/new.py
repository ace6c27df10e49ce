"""`rolehost new worker`: the skeleton of a worker, with its test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.failures import complain

app = typer.Typer(no_args_is_help=True, help="Write a skeleton to begin with.", rich_markup_mode=None)


@app.callback()
def _only_one() -> None:
    """With a callback, typer keeps the name of a group's only command."""


@app.command()
def worker(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The kind of job, in small letters: invoice-scan.")],
    *,
    program: Annotated[
        str | None,
        typer.Option(
            "--program",
            metavar="ARGV",
            help="The command line of a program, as one text: 'cjpeg -outfile {target} {source}'. "
            "Other names in braces become parameters of the job.",
        ),
    ] = None,
    python: Annotated[
        bool | None,
        typer.Option(
            "--python/--toml",
            help="A class in a module, or by service.toml alone.",
            show_default="--toml with a program, else --python",
        ),
    ] = None,
) -> None:
    """Write a worker into this folder: its module, its role in service.toml, its test.

    It works as written: `pytest`, `rolehost check` and `rolehost up` show it. Nothing that exists is written over: a
    service.toml gets the role at its end.
    """
    from rolehost.cli.new_worker import Wanted, write_worker  # noqa: PLC0415 - `--help` needs none of it

    written = write_worker(Wanted.of(name, program, python=python), Path.cwd())
    for file, how in written.files.items():
        print(f"{how} {file}")
    if written.lines:
        complain("README.md is there already; these lines would be for it:")
        print(written.lines, end="")
    print(f"Next: pytest, rolehost check, rolehost up, rolehost submit --kind {name} FILE")
