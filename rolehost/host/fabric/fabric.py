"""`up`: the whole service on one machine, one bootstrapper for each instance."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from rolehost.errors import RoleHostError
from rolehost.host.directory.client import DirectoryClient
from rolehost.host.fabric.control import serving
from rolehost.host.fabric.deployment import Deployment
from rolehost.host.fabric.desk import Check, Desk
from rolehost.host.fabric.fleet import Crew, Directory
from rolehost.host.fabric.generations import Generations
from rolehost.host.fabric.leftovers import end_leftovers
from rolehost.host.fabric.member import LOOPBACK, MARGIN_SECONDS, Grounds, Member
from rolehost.host.paths import DataDirectory, only_one
from rolehost.host.ports.addresses import Net
from rolehost.host.ports.public_ports import PublicPorts
from rolehost.host.reaping import reap_orphans
from rolehost.host.stopping import StopOrder, StopRequests
from rolehost.host.watching import WatchedFiles
from rolehost.processes import become_subreaper
from rolehost.service_model import ServiceModel
from rolehost.telemetry import emit

USER = "user"


async def up(
    model: ServiceModel,
    *,
    data: Path,
    host: str = LOOPBACK,
    port: int | None = None,
    drain_seconds: float | None = None,
    environ: Mapping[str, str] | None = None,
    check: Check | None = None,
) -> int:
    """Run every instance until SIGTERM or SIGINT; another one, half a second or more later, makes it hurry.

    Once the first instance of the front end is ready, `rolehost listening on http://HOST:PORT` is written to stdout.

    Args:
        model: the service; its files are watched, and are an update when they change.
        data: the data directory.
        host: where the public ports are.
        port: the port of the front end (the first http endpoint) in place of the declared one; 0: a free one.
        drain_seconds: in place of the model's.
        environ: the variables that roles start from, by default `os.environ`.
        check: asked before an update takes code that the service doesn't run yet; None: nobody is.

    Returns:
        0 after a stop; 1 if it can't begin, with the reason on stderr.
    """
    environ = os.environ if environ is None else environ
    if drain_seconds is not None:
        model = replace(model, drain_seconds=drain_seconds)
        environ = {**environ, "ROLEHOST_DRAIN_SECONDS": f"{drain_seconds:f}"}  # over whatever model comes later, too
    try:
        directory = DataDirectory.at(data)
        async with AsyncExitStack() as held:
            sentence = f"the data directory {directory.root} is in use by another `rolehost up` (process {{pid}})"
            held.enter_context(only_one(directory.root / "up.lock", sentence))
            become_subreaper()
            reap_orphans()
            await end_leftovers(directory)
            ports = PublicPorts(host, port)
            held.push_async_callback(ports.close)
            ports.bind(model, {name: role.instances for name, role in model.roles.items()})
            lost: asyncio.Queue[str] = asyncio.Queue()
            client = DirectoryClient(environ, data=directory.root, on_lost=lost.put_nowait)
            written_down = await held.enter_async_context(client)
            await Fabric(model, directory, environ, ports, written_down, lost=lost, check=check).run()
    except RoleHostError as error:
        sys.stderr.write(f"rolehost: {error}\n")
        return 1
    _hear_no_more()
    return 0


class Fabric:
    """Runs the service, until told to stop.

    Args:
        model: the service.
        data: the data directory, locked.
        environ: the variables that bootstrappers start from.
        ports: the public ports, bound.
        directory: where the instances are written down.
        lost: the instances whose number the directory has lost to another holder.
        check: of what an update brings, see `up`.
    """

    def __init__(
        self,
        model: ServiceModel,
        data: DataDirectory,
        environ: Mapping[str, str],
        ports: PublicPorts,
        directory: Directory,
        *,
        lost: asyncio.Queue[str],
        check: Check | None = None,
    ) -> None:
        self._model = model
        self._data = data
        self._environ = environ
        self._ports = ports
        self._directory = directory
        self._lost = lost
        self._check = check
        self._requests = StopRequests()

    async def run(self) -> None:
        """Run the service.

        Raises:
            RoleHostError: it can't begin.
        """
        generations = Generations(self._data.root / "deployment")
        generations.clear()
        with Net.take(self._data.deployment_id()) as net:
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._serve(Deployment(self._crew(tasks), generations, net), tasks)
            except BaseExceptionGroup as group:
                if not isinstance(group.exceptions[0], RoleHostError):
                    raise
                raise group.exceptions[0] from None

    def _crew(self, tasks: asyncio.TaskGroup) -> Crew:
        grounds = Grounds(
            data=self._data,
            deployment_id=self._data.deployment_id(),
            environ=self._environ,
            public=self._ports.public,
            reporter=self._directory,
        )
        return Crew(grounds=grounds, ports=self._ports, directory=self._directory, start=tasks.create_task)

    async def _serve(self, deployment: Deployment, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._note_signal, deployment)
        desk = Desk(deployment, self._model, self._environ, stop=self._requests.ask, check=self._check)
        async with serving(self._data.root, desk.answer):
            await self._ports.start()
            deployment.apply(self._model)
            emit("service.started", service=self._model.name, instances=len(deployment.fleet.members))
            helpers = [
                tasks.create_task(deployment.run()),
                tasks.create_task(self._announce(deployment)),
                tasks.create_task(self._watch(desk)),
                tasks.create_task(self._hold_again(deployment)),
            ]
            await self._requests.stop.wait()
            desk.closed = True
            await self._stop(deployment)
            for helper in helpers:
                helper.cancel()
        emit("service.stopped", service=self._model.name)

    def _note_signal(self, deployment: Deployment) -> None:
        self._requests.drain_seconds = deployment.model.drain_seconds  # an update may have changed it
        self._requests.note()

    async def _stop(self, deployment: Deployment) -> None:
        """Stop every instance, as it is asked for; what is asked later, sooner or in haste, is passed on."""
        self._ports.stop_accepting()
        ended = asyncio.create_task(deployment.fleet.ended())
        order = self._requests.order
        if order is not None and not await self._requests.by_deadline(ended, order, partial(self._tell, deployment)):
            await asyncio.wait([ended], timeout=MARGIN_SECONDS)
            for member in deployment.fleet.members:
                member.kill()
        await ended

    def _tell(self, deployment: Deployment, order: StopOrder) -> None:
        emit("service.stopping", service=self._model.name, seconds=order.left, reason=order.reason)
        deployment.fleet.stop(partial(_leave, order.seconds) if order.reason == USER else Member.drain)

    async def _hold_again(self, deployment: Deployment) -> None:
        while True:
            deployment.fleet.number_lost(await self._lost.get())

    async def _watch(self, desk: Desk) -> None:
        if (source := self._model.source) is None:
            return
        configuration = self._model.configuration
        watched = WatchedFiles([source, *([configuration] if configuration else [])])
        await watched.run(lambda: desk.take_files(source, configuration))

    async def _announce(self, deployment: Deployment) -> None:
        """Say where the service listens, once an instance is ready to answer there."""
        front = next(
            (r.name for r in self._model.roles.values() for e in r.endpoints.values() if e.protocol == "http"), None
        )
        if front is None or self._ports.front is None:
            return
        with deployment.news.heard() as news:
            while not deployment.fleet.is_ready(front):
                await news.get()
        with suppress(OSError):  # nobody reads our stdout: the service is up all the same
            sys.stdout.write(f"rolehost listening on http://{self._ports.front}\n")
            sys.stdout.flush()


def _hear_no_more() -> None:
    """All is done: who asks for haste now must not turn an orderly end into a death by signal."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _leave(seconds: float | None, member: Member) -> None:
    member.leave(seconds)
