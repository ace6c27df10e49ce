"""What `rolehost run` becomes: a bootstrapper in a process that has loaded nothing of the command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rolehost.errors import RoleHostError
from rolehost.host.container import Container
from rolehost.host.instance.plan import find_role
from rolehost.host.stopping import deaf_afterwards
from rolehost.service_model import load
from rolehost.telemetry.logs import configure_logging


def main(arguments: list[str]) -> int:
    """Run the instance.

    Args:
        arguments: as `rolehost run` has checked them.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="rolehost run")
    parser.add_argument("role")
    parser.add_argument("--instance", type=int)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--probe-port", type=int, required=True)
    parser.add_argument("--definition", type=Path)
    parser.add_argument("--verbose", action="store_true")
    try:
        return asyncio.run(deaf_afterwards(_run(parser.parse_args(arguments))))
    except RoleHostError as error:
        if os.environ.get("ROLEHOST_DEBUG") or "--verbose" in arguments:
            raise
        sys.stderr.write(f"rolehost: {error}\n")
        return 1


async def _run(options: argparse.Namespace) -> int:
    model = load(options.definition, os.environ)
    role = find_role(model, options.role)
    if options.port is not None and not role.endpoints:
        raise RoleHostError(f'--port {options.port} has no effect: the role "{role.name}" declares no endpoint')
    logs = configure_logging(verbose=options.verbose, role=options.role)

    def name_logs(number: int) -> None:
        logs()
        configure_logging(verbose=options.verbose, instance=f"{options.role}_IN_{number}")

    container = Container(
        read=lambda: load(options.definition, os.environ),
        role=options.role,
        data=options.data,
        environ={**os.environ, **model.stores_over(os.environ)},
        number=options.instance,
        host=options.host,
        port=options.port,
        probe_port=options.probe_port,
        on_number=name_logs,
    )
    return await container.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
