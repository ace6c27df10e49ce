"""`up`: the whole service on one machine, one bootstrapper for each instance."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.bootstrapper import BUILT_IN_DEFINITION
from rolehost.host.listening import VARIABLE, described, listen, shown_address
from rolehost.host.paths import DataDirectory, only_one
from rolehost.host.plan import marker_prefix
from rolehost.host.probes import ask, reserve_port
from rolehost.host.reaping import reap_orphans
from rolehost.host.stopping import HURRY_SECONDS, StopRequests
from rolehost.processes import Child, become_subreaper, end_strays
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.telemetry import emit

_LOOPBACK = "127.0.0.1"
# What a bootstrapper gets beyond the drain time, to kill its role and to end by itself.
_MARGIN_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.1, 10.0, 60.0
_DYING_SECONDS = 1.0


async def up(
    model: ServiceModel,
    *,
    data: Path,
    host: str = _LOOPBACK,
    port: int | None = None,
    drain_seconds: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Run every instance of the service until SIGTERM or SIGINT; another one, a second or more later, makes it hurry.

    Once the first instance of the front end is ready, `rolehost listening on http://HOST:PORT` is written to stdout.

    Args:
        model: the service; its definition is read again by each bootstrapper.
        data: the data directory.
        host: where the endpoints listen.
        port: the port of the front end (the first http endpoint) in place of the declared one; 0: a free one.
        drain_seconds: in place of the model's.
        environ: the variables that roles start from, by default `os.environ`.

    Returns:
        0 after a stop; 1 if it can't begin, with the reason on stderr.
    """
    model = model if drain_seconds is None else replace(model, drain_seconds=drain_seconds)
    try:
        directory = DataDirectory.at(data)
        with ExitStack() as held:
            sentence = f"the data directory {directory.root} is in use by another `rolehost up` (process {{pid}})"
            held.enter_context(only_one(directory.root / "up.lock", sentence))
            become_subreaper()
            reap_orphans()
            fabric = Fabric(model, directory, os.environ if environ is None else environ)
            await fabric.end_leftovers()
            fabric.prepare(held, host, port)
            await fabric.run()
    except RoleHostError as error:
        sys.stderr.write(f"rolehost: {error}\n")
        return 1
    return 0


@dataclass(slots=True)
class _Member:
    role: RoleModel
    instance_id: str
    sockets: Mapping[str, socket.socket]
    probe: socket.socket
    child: Child | None = None

    @property
    def probe_port(self) -> int:
        return int(self.probe.getsockname()[1])


class Fabric:
    """Keeps every bootstrapper running, until told to stop.

    Args:
        model: the service.
        data: the data directory, locked.
        environ: the variables that bootstrappers start from.
    """

    def __init__(self, model: ServiceModel, data: DataDirectory, environ: Mapping[str, str]) -> None:
        self._model = model
        self._data = data
        self._environ = environ
        self._deployment_id = data.deployment_id()
        self._members: list[_Member] = []
        self._front: socket.socket | None = None
        self._requests = StopRequests()
        self._stopping = self._requests.stop

    async def end_leftovers(self) -> None:
        """End what an `up` that was killed left behind; an instance that another host runs is left alone."""
        for path in sorted((self._data.root / "resources").glob("*_IN_*/")):
            if await _nobody_holds(path.with_name(f"{path.name}.lock")):
                await end_strays(marker_prefix(self._deployment_id, path.name))

    def prepare(self, held: ExitStack, host: str, port: int | None) -> None:
        """Bind every port, before anything starts.

        Args:
            held: closes the sockets in the end.
            host: where the endpoints listen.
            port: the front end's, in place of the declared one.

        Raises:
            RoleHostError: a port is in use.
        """
        for role in self._model.roles.values():
            sockets = {}
            for endpoint in role.endpoints.values():
                is_front = self._front is None and endpoint.protocol == "http"
                listening = listen(host, port if is_front and port is not None else endpoint.port)
                sockets[endpoint.name] = held.enter_context(listening)
                if is_front:
                    self._front = listening
            for instance_id in role.instance_ids():
                probe = held.enter_context(reserve_port(_LOOPBACK))
                self._members.append(_Member(role, instance_id, sockets, probe))

    async def run(self) -> None:
        """Run the service."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._request_stop)
        emit("service.started", service=self._model.name, instances=len(self._members))
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._announce()), tasks.create_task(self._enforce_stop())]
            await asyncio.gather(*[tasks.create_task(self._keep(member)) for member in self._members])
            for helper in helpers:
                helper.cancel()
        emit("service.stopped", service=self._model.name)

    def _request_stop(self) -> None:
        if not self._requests.note():
            return
        seconds = HURRY_SECONDS if self._requests.hurry.is_set() else self._model.drain_seconds
        emit("service.stopping", service=self._model.name, seconds=seconds)
        for member in self._members:
            _tell(member)

    async def _enforce_stop(self) -> None:
        await self._stopping.wait()
        try:
            async with asyncio.timeout(self._model.drain_seconds + _MARGIN_SECONDS):
                await self._requests.hurry.wait()
                await clock.sleep(HURRY_SECONDS + _MARGIN_SECONDS)
        except TimeoutError:
            pass
        for member in self._members:
            if member.child is not None:
                emit("instance.killed", instance=member.instance_id)
                member.child.kill()

    async def _keep(self, member: _Member) -> None:
        """Start the bootstrapper, and again whenever it ends, once nothing of it is left."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = clock.monotonic()
            try:
                await self._host(member)
            except (RoleHostError, OSError) as error:
                emit("instance.host_lost", instance=member.instance_id, reason=str(error))
            if self._stopping.is_set():
                return
            pause = _FIRST_PAUSE if clock.monotonic() - began > _LONG_LIFE else pause
            await self._wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _host(self, member: _Member) -> None:
        child = member.child = await self._spawn(member)
        if self._stopping.is_set():
            _tell(member)
        end = await child.wait()
        member.child = None
        await end_strays(marker_prefix(self._deployment_id, member.instance_id))
        if not self._stopping.is_set():
            emit("instance.host_lost", instance=member.instance_id, exit_code=end.code, signal=end.signal)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _spawn(self, member: _Member) -> Child:
        definition = str(self._model.source) if self._model.source else BUILT_IN_DEFINITION
        argv = [sys.executable, "-P", "-m", "rolehost.host.bootstrapper", "--instance", member.instance_id]
        argv += ["--definition", definition, "--data", str(self._data.root)]
        argv += ["--probe-port", str(member.probe_port), "--parent", str(os.getpid()), "--emulated"]
        variables = {VARIABLE: described(member.sockets), "ROLEHOST_DRAIN_SECONDS": f"{self._model.drain_seconds:f}"}
        return await Child.spawn(
            argv,
            env={**self._environ, **variables},
            cwd=self._model.directory,
            marker=f"{marker_prefix(self._deployment_id, member.instance_id)}bootstrapper",
            capture=None,
            pass_fds=[listening.fileno() for listening in member.sockets.values()],
        )

    async def _announce(self) -> None:
        if self._front is None:
            return
        front = [member for member in self._members if self._front in member.sockets.values()]
        while True:
            for member in front:
                answer = await ask(_LOOPBACK, member.probe_port)
                if answer is not None and answer[0] == 200:  # noqa: PLR2004 - HTTP's OK
                    with suppress(OSError):  # nobody reads our stdout: the service is up all the same
                        sys.stdout.write(f"rolehost listening on http://{shown_address(self._front)}\n")
                        sys.stdout.flush()
                    return
            await clock.sleep(0.05)


def _tell(member: _Member) -> None:
    # Not `Child.stop`: that would send TERM to the whole tree, and the role is told by its bootstrapper.
    if member.child is not None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(member.child.pid, signal.SIGTERM)


async def _nobody_holds(lock: Path) -> bool:
    deadline = clock.monotonic() + _DYING_SECONDS
    while True:
        try:
            with only_one(lock, ""):
                return True
        except RoleHostError:
            if clock.monotonic() > deadline:
                return False
            await clock.sleep(0.02)
