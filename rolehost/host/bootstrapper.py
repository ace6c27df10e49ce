"""The bootstrapper: the parent of one role instance, and PID 1 of a container.

It stays small and quick: no SDK, no web framework, nothing of the role's own code.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.instance import Instance
from rolehost.host.listening import inherited, listen
from rolehost.host.paths import DataDirectory, only_one
from rolehost.host.plan import InstancePlan, find_role
from rolehost.host.probes import Probes
from rolehost.host.reaping import reap_orphans
from rolehost.host.status import InstanceStatus
from rolehost.processes import become_subreaper, die_with_parent, end_strays
from rolehost.service_model import InputEndpoint, ServiceModel, load

BUILT_IN_DEFINITION = "builtin"
# The one before us may be dying still.
_LOCK_SECONDS = 3.0


async def bootstrap(
    model: ServiceModel,
    role: str,
    *,
    data: Path,
    environ: Mapping[str, str],
    number: int = 0,
    host: str = "127.0.0.1",
    port: int | None = None,
    probe_host: str = "127.0.0.1",
    probe_port: int = 0,
    emulated: bool = False,
) -> int:
    """Run one instance of a role until SIGTERM or SIGINT; another one, a second or more later, makes it hurry.

    Args:
        model: the service.
        role: the role's name.
        data: the data directory.
        environ: what the role's variables start from; sockets that `ROLEHOST_LISTEN` names serve its endpoints.
        number: the instance's number within its role.
        host: where endpoints listen that have no socket yet.
        port: the port of the first of these, in place of the declared one; 0: a free one.
        probe_host: where the probes listen.
        probe_port: their port; 0: a free one.
        emulated: the whole service runs on this machine.

    Returns:
        0 after an orderly stop.

    Raises:
        RoleHostError: it can't begin: no such role, a port in use, the data directory, another host of this instance.
    """
    become_subreaper()
    reap_orphans()
    directory = DataDirectory.at(data)
    with ExitStack() as held:
        found = find_role(model, role)
        plan = InstancePlan(
            model=model,
            role=found,
            number=number,
            data=directory,
            deployment_id=directory.deployment_id(),
            sockets=_sockets(held, found.endpoints, environ, host, port),
            emulated=emulated,
            environ=environ,
        )
        await _hold(held, plan)
        await _run(plan, probe_host, probe_port)
    return 0


async def _run(plan: InstancePlan, probe_host: str, probe_port: int) -> None:
    await end_strays(plan.marker_prefix)
    status = InstanceStatus(plan.instance_id)
    probes = Probes(status, probe_host, probe_port)
    async with _listening(probes):
        instance = Instance(plan, status, probes.address)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, instance.request_stop)
        await instance.run()


def _sockets(
    held: ExitStack, endpoints: Mapping[str, InputEndpoint], environ: Mapping[str, str], host: str, port: int | None
) -> dict[str, socket.socket]:
    if not endpoints:
        return {}
    sockets = {name: each for name, each in inherited(environ).items() if name in endpoints}
    for name, endpoint in endpoints.items():
        if name not in sockets:
            sockets[name] = listen(host, endpoint.port if port is None else port)
            port = None
    for each in sockets.values():
        held.enter_context(each)
    return sockets


async def _hold(held: ExitStack, plan: InstancePlan) -> None:
    lock = plan.data.root / "resources" / f"{plan.instance_id}.lock"
    sentence = f"{plan.instance_id} is already run by process {{pid}} on the data directory {plan.data.root}"
    deadline = clock.monotonic() + _LOCK_SECONDS
    while True:
        try:
            held.enter_context(only_one(lock, sentence))
        except RoleHostError:
            if clock.monotonic() > deadline:
                raise
            await clock.sleep(0.02)
        else:
            return


@asynccontextmanager
async def _listening(probes: Probes) -> AsyncIterator[None]:
    try:
        server = await probes.start()
    except OSError as error:
        raise RoleHostError(f"the probes can't listen: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()


def main(arguments: list[str]) -> int:
    """The process that `up` starts for each instance; a container may start it too.

    Args:
        arguments: `--instance ID --definition FILE|builtin --data DIR --parent PID`, and what `bootstrap` takes.
    """
    from rolehost.telemetry.logs import configure_logging  # noqa: PLC0415 - `bootstrap` leaves logs to its caller

    options = _parser().parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    configure_logging(verbose="ROLEHOST_VERBOSE" in os.environ, instance=options.instance)
    role, _, number = options.instance.rpartition("_IN_")
    try:
        built_in = options.definition == BUILT_IN_DEFINITION
        running = bootstrap(
            load(None if built_in else Path(options.definition), os.environ, built_in=built_in),
            role,
            data=options.data,
            environ=os.environ,
            number=int(number),
            host=options.host,
            port=options.port,
            probe_host=options.probe_host,
            probe_port=options.probe_port,
            emulated=options.emulated,
        )
        return asyncio.run(running)
    except RoleHostError as error:
        sys.stderr.write(f"rolehost: {options.instance}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rolehost.host.bootstrapper")
    parser.add_argument("--instance", required=True, type=_instance_id)
    parser.add_argument("--definition", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--probe-host", default="127.0.0.1")
    parser.add_argument("--probe-port", type=int, default=0)
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--parent", type=int)
    return parser


def _instance_id(text: str) -> str:
    role, separator, number = text.rpartition("_IN_")
    if not (role and separator and number.isdecimal()):
        raise argparse.ArgumentTypeError("an instance is called <role>_IN_<number>")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
