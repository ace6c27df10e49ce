"""`rolehost up`: the whole service on one machine."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from rolehost.cli.failures import VERBOSE
from rolehost.cli.options import DATA, Data, Definition, Port, Verbose


def up(
    ctx: typer.Context,
    *,
    data: Data = DATA,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where the service listens.")] = "127.0.0.1",
    port: Port = None,
    definition: Definition = None,
    verbose: Verbose = False,
) -> None:
    """Run the whole service on this machine until SIGTERM or Control-C.

    One line on stdout says where it listens; everything else goes to stderr.
    """
    from rolehost.host.fabric import up as run_service  # noqa: PLC0415 - `--help` needs none of it
    from rolehost.service_model import load  # noqa: PLC0415 - the same
    from rolehost.telemetry.logs import configure_logging  # noqa: PLC0415 - the same

    ctx.meta[VERBOSE] = verbose
    if verbose:
        os.environ["ROLEHOST_VERBOSE"] = "1"  # what it starts logs as much
    model = load(definition, os.environ)
    configure_logging(verbose=verbose)
    raise typer.Exit(asyncio.run(run_service(model, data=data, environ=os.environ, host=host, port=port)))
