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
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.instance.instance import Instance
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.status import InstanceStatus
from rolehost.host.link import Link
from rolehost.host.orders import LinkOrders, NewPlan, Orders, Planner, Refusal, UserStop
from rolehost.host.paths import DataDirectory, only_one
from rolehost.host.probes import Probes
from rolehost.host.reaping import reap_orphans
from rolehost.host.reporting import LinkReporter, Reporter
from rolehost.host.stopping import StopRequests, deaf_afterwards
from rolehost.processes import become_subreaper, die_with_parent, end_strays
from rolehost.telemetry import emit, subscribe

# The one before us may be dying still.
_LOCK_SECONDS = 3.0
_BEAT_SECONDS = 5.0
_PLAIN = (str, int, float, list, dict, type(None))
HOST_STARTED = 20001
"""The event id under which the original's agent logged its start."""
# What is told beyond this machine's logs; this process has one instance, so that each of these is its own.
_ROLE_EVENTS = ("role.", "instance.", "task.", "certificate.", "assignment.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapper:
    """Runs one instance of a role until it is to stop.

    Args:
        planner: which instance.
        orders: what it is told.
        reporter: who hears of it.
        requests: what asks it to stop.
        status: the instance's facts.
        probe: `host:port` where the probes answer with these.
    """

    planner: Planner
    orders: Orders
    reporter: Reporter
    requests: StopRequests
    status: InstanceStatus
    probe: str

    async def run(self) -> None:
        """Run it.

        Raises:
            RoleHostError: it can't begin: no such role, or another host of this instance.
        """
        with ExitStack() as held:
            await _hold(held, self.planner)
            await end_strays(self.planner.marker_prefix)
            self.status.on_change = lambda: self.reporter.status(self.status.facts())
            held.callback(subscribe(partial(self._tell, asyncio.get_running_loop())))
            emit("instance.host_started", event_id=HOST_STARTED, pid=os.getpid())
            plan = await self._first_plan()
            if plan is not None:
                await self._run(Instance(plan, self.status, self.requests, self.reporter, self.probe))

    async def _first_plan(self) -> InstancePlan | None:
        while not self.requests.stop.is_set():
            match await self.orders.next():
                case NewPlan() as order:
                    return order.plan
                case UserStop(seconds):
                    self.requests.ask(seconds)
                case Refusal():
                    pass
                case None:
                    break
        return None

    async def _run(self, instance: Instance) -> None:
        try:
            async with asyncio.TaskGroup() as group:  # without its helpers an instance would be deaf: it ends with them
                helpers = [group.create_task(self._follow(instance)), group.create_task(self._beat())]
                await instance.run()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _follow(self, instance: Instance) -> None:
        while (order := await self.orders.next()) is not None:
            match order:
                case NewPlan():
                    instance.assign(order.plan, simultaneous=order.simultaneous)
                case UserStop(seconds):
                    self.requests.ask(seconds)
                case Refusal(sentence):
                    self.status.refuse(sentence)
        self.requests.note()  # nobody is left who could stop it

    async def _beat(self) -> None:
        while True:
            self.reporter.status(self.status.facts())
            await clock.sleep(_BEAT_SECONDS)

    def _tell(self, loop: asyncio.AbstractEventLoop, event: str, facts: dict[str, Any]) -> None:
        if not event.startswith(_ROLE_EVENTS):
            return
        plain = {name: value if isinstance(value, _PLAIN) else str(value) for name, value in facts.items()}
        if threading.current_thread() is threading.main_thread():
            self.reporter.event(event, plain)
        else:
            loop.call_soon_threadsafe(self.reporter.event, event, plain)


def stop_on_signals(requests: StopRequests) -> None:
    """From now on, SIGTERM and SIGINT ask for a stop; another one, half a second or more later, for haste."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, requests.note)


async def _hold(held: ExitStack, planner: Planner) -> None:
    root, instance_id = planner.data.root, planner.instance_id
    lock = root / "resources" / f"{instance_id}.lock"
    sentence = f"{instance_id} is already run by process {{pid}} on the data directory {root}"
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
async def probes(status: InstanceStatus, host: str, port: int) -> AsyncIterator[str]:
    """Answer the probes meanwhile, at the address that this gives.

    Args:
        status: what they answer.
        host: where they listen.
        port: 0: a free one.

    Raises:
        RoleHostError: the port is in use.
    """
    answering = Probes(status, host, port)
    try:
        server = await answering.start()
    except OSError as error:
        raise RoleHostError(f"the probes can't listen: {error.strerror}") from error
    try:
        yield answering.address
    finally:
        server.close()


async def _linked(options: argparse.Namespace) -> int:
    become_subreaper()
    reap_orphans()
    requests = StopRequests()
    stop_on_signals(requests)
    role, _, number = options.instance.rpartition("_IN_")
    data, environ = DataDirectory.at(options.data), dict(os.environ)
    planner = Planner(role=role, number=int(number), data=data, environ=environ, emulated=options.emulated)
    status = InstanceStatus(options.instance, role)
    async with probes(status, options.probe_host, options.probe_port) as probe:
        with closing(await Link.open(socket.socket(fileno=options.link))) as link:
            bootstrapper = Bootstrapper(
                planner=planner,
                orders=LinkOrders(link, planner),
                reporter=LinkReporter(link),
                requests=requests,
                status=status,
                probe=probe,
            )
            await bootstrapper.run()
    return 0


def main(arguments: list[str]) -> int:
    """The process that `up` starts for each instance; `rolehost run` has an entry of its own.

    Args:
        arguments: `--instance ID --data DIR --link FD --parent PID --probe-port PORT --emulated`.
    """
    from rolehost.telemetry.logs import configure_logging  # noqa: PLC0415 - `run` configures them by itself

    options = _parser().parse_args(arguments)
    if options.parent is not None:
        die_with_parent(options.parent)
    configure_logging(verbose="ROLEHOST_VERBOSE" in os.environ, instance=options.instance)
    try:
        return asyncio.run(deaf_afterwards(_linked(options)))
    except RoleHostError as error:
        sys.stderr.write(f"rolehost: {options.instance}: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rolehost.host.bootstrapper")
    parser.add_argument("--instance", required=True, type=_instance_id)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--link", required=True, type=int, metavar="FD")
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
