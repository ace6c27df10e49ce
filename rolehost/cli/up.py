"""`rolehost up`: the whole service on one machine."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from rolehost.cli.failures import VERBOSE
from rolehost.cli.options import DATA, Data, Definition, Port, Verbose
from rolehost.errors import RoleHostError


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

    Logs go to stderr. On stdout one line says where it listens; what roles write to theirs is there, too.
    """
    from rolehost.cli.check_apart import check_apart  # noqa: PLC0415 - `--help` needs none of it
    from rolehost.cli.front_end_checks import refuse_unguarded  # noqa: PLC0415 - the same
    from rolehost.cli.role_checks import FRONT_END_ENDPOINT, lacks_endpoint  # noqa: PLC0415 - the same
    from rolehost.host.fabric.fabric import up as run_service  # noqa: PLC0415 - the same
    from rolehost.host.stopping import deaf_afterwards  # noqa: PLC0415 - the same
    from rolehost.service_model import load  # noqa: PLC0415 - the same
    from rolehost.telemetry.logs import configure_logging  # noqa: PLC0415 - the same

    ctx.meta[VERBOSE] = verbose
    if verbose:
        os.environ["ROLEHOST_VERBOSE"] = "1"  # what it starts logs as much
    configure_logging(verbose=verbose)  # first: what the definition asks in vain is a warning
    model = load(definition, os.environ)
    for role in model.roles.values():
        if lacks_endpoint(role, {}):
            raise RoleHostError(f'the role "{role.name}" serves HTTP, but declares no endpoint "{FRONT_END_ENDPOINT}"')
    refuse_unguarded(model, data, host)
    if port is not None and not any(
        each.protocol == "http" for r in model.roles.values() for each in r.endpoints.values()
    ):
        raise RoleHostError(f"--port {port} has no effect: no role of the service declares an http endpoint")
    environ = {**os.environ, **model.stores_over(os.environ)}
    running = run_service(model, data=data, environ=environ, host=host, port=port, check=check_apart)
    raise typer.Exit(asyncio.run(deaf_afterwards(running)))
