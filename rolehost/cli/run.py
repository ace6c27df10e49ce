"""`rolehost run ROLE`: one role instance, as the entry point of a container."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from rolehost.cli.options import DATA, Data, Definition, Port, Verbose


def run(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="The role's name in the service definition.")],
    *,
    data: Data = DATA,
    instance: Annotated[
        int | None,
        typer.Option(
            "--instance",
            metavar="N",
            min=0,
            help="The instance's number within its role.",
            show_default="the lowest that no other instance holds",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where the role's endpoints and the probes listen.")
    ] = "127.0.0.1",
    port: Port = None,
    probe_port: Annotated[
        int,
        typer.Option(
            "--probe-port", metavar="PORT", min=0, max=65535, help="Where /healthz and /readyz are; 0 takes a free one."
        ),
    ] = 0,
    definition: Definition = None,
    verbose: Verbose = False,
) -> NoReturn:
    """Run one instance of a role until SIGTERM or Control-C: a container's entry point."""
    options = ["--data", data, "--host", host, "--probe-port", probe_port]
    options += [] if instance is None else ["--instance", instance]
    options += [] if port is None else ["--port", port]
    options += [] if definition is None else ["--definition", definition]
    if verbose:
        os.environ["ROLEHOST_VERBOSE"] = "1"  # the role process logs as much
        options.append("--verbose")
    # The same process, as process 1 has to be, without all that the command line has loaded.
    command = [sys.executable, "-P", "-m", "rolehost.cli.instance", *map(str, options), "--", role]
    os.execv(command[0], command)  # noqa: S606 - an argv list, and no shell is wanted
