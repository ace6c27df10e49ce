"""The instance directory, as a bootstrapper or the fabric sees it: a helper process does the work with the stores.

The helper may die and the stores may be away: what it is to know is kept here and told again, and no role waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.directory.instance_metadata import InstanceMetadata
from rolehost.host.directory.mail import Mail
from rolehost.host.link import Link
from rolehost.processes import Child
from rolehost.telemetry import emit

IMDS, OFF = "ROLEHOST_IMDS", "off"
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.5, 30.0, 60.0
_METADATA_SECONDS = 5.0
_SLOW_START = 4

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryTimes:
    """Seconds.

    Args:
        lease: a number whose row stands still for so long is free. WebJobs' heartbeats expire after as long.
        heartbeat: between two renewals: three may fail before the lease runs out.
        throttle: between two writes of one row when its facts change faster than that.
        peers: between two looks at the other instances.
        refresh: between two uploads of an output that goes on (WebJobs' output logs).
        prune: between two removals of what is too old.
        closing: that an orderly stop may take.
        silence: a helper that leaves ticks unanswered for so long hangs; four times that while it has yet to begin.
    """

    lease: float = 45.0
    heartbeat: float = 10.0
    throttle: float = 1.0
    peers: float = 10.0
    refresh: float = 60.0
    prune: float = 600.0
    closing: float = 3.0
    silence: float = 30.0


class DirectoryClient:
    """Takes numbers, tells what instances do, hears who the others are.

    Use it as an async context manager; leaving it gives the numbers back. It is a `Reporter`, too.

    Args:
        environ: names the stores, and is the helper's environment.
        data: the data directory, in place of `ROLEHOST_DATA`.
        metadata: ask for the instance metadata of Azure; always so when `ROLEHOST_IMDS` is set to an address, never
            when it is `off`.
        on_peers: called with the facts of all live instances, ours among them, when who they are, where they listen
            or what they do has changed.
        on_lost: called with an instance's id when another holder has taken its number: it is no longer ours.
        times: how often.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        data: Path | None = None,
        metadata: bool = False,
        on_peers: Callable[[Sequence[Facts]], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        times: DirectoryTimes | None = None,
    ) -> None:
        self._environ = {**environ} | ({} if data is None else {"ROLEHOST_DATA": str(data.absolute())})
        address = environ.get(IMDS, "")
        self._wants_metadata = (metadata or bool(address)) and address != OFF
        self._on_peers = on_peers
        self._on_lost = on_lost
        self._times = times or DirectoryTimes()
        self._mail = Mail()
        self._peers: Sequence[Facts] = ()
        self._metadata: asyncio.Future[InstanceMetadata | None] | None = None
        self._link: Link | None = None
        self._unanswered = 0
        self._has_spoken = False
        self._child: Child | None = None
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._metadata = asyncio.get_running_loop().create_future()
        if not self._wants_metadata:
            self._metadata.set_result(None)
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._beat())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def take(self, role: str, wanted: int | None = None, count: int | None = None) -> int:
        """Take a number; waits for one as long as none is free, or the stores are away.

        Args:
            role: the role's name.
            wanted: this number and no other; by default the lowest that is free.
            count: numbers below it only.
        """
        held = asyncio.get_running_loop().create_future()
        self._send(self._mail.hold(role, wanted, count, secrets.token_hex(8), held))
        return int(await held)

    def hold(self, role: str, number: int) -> None:
        """Take a number in the background: for a fabric, which gives out its numbers itself, and never waits."""
        self._send(self._mail.hold(role, number, None, secrets.token_hex(8), None))

    def release(self, instance: str) -> None:
        """Give an instance's number back: the instance has gone."""
        self._send(self._mail.release(instance))

    def status(self, facts: Facts) -> None:
        """See `Reporter.status`; `facts["instance"]` says whose."""
        self._send(self._mail.status(facts))

    def event(self, name: str, facts: Facts, *, at: str = "") -> None:
        """See `Reporter.event`.

        Args:
            name: as `role.ready`.
            facts: of it; `instance` says whose it is where several are held.
            at: when, if not now.
        """
        for message in self._mail.event(name, facts, at or clock.iso(clock.now())):
            self._send(message)

    def output(self, facts: Facts) -> None:
        """See `Reporter.output`."""
        for message in self._mail.output(facts):
            self._send(message)

    def peers(self) -> Sequence[Facts]:
        """The live instances as last seen: `instance`, `role`, `state`, `endpoints`, domains."""
        return self._peers

    async def metadata(self) -> InstanceMetadata | None:
        """What Azure's instance metadata service knows of this machine; None where there is none."""
        if self._metadata is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(_METADATA_SECONDS):
                return await asyncio.shield(self._metadata)
        return None

    async def close(self) -> None:
        """Tell what is not told yet, give the numbers back, end the helper; harmless when called twice."""
        self._closing.set()
        self._send({"close": True})
        tasks, self._tasks = self._tasks, []
        if tasks and self._link is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._times.closing + 1.0):
                    await asyncio.shield(tasks[0])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _send(self, message: Facts | None) -> None:
        if self._link is not None and message is not None:
            self._link.send(message)

    async def _beat(self) -> None:
        """Without this the helper stops renewing: a heartbeat is ours, not the helper's. It answers each.

        Ticks are counted, not seconds: a machine that stood still finds no fault with a helper that stood still, too.
        """
        pause = self._times.heartbeat / 2
        while True:
            self._send({"alive": True})
            await clock.sleep(pause)
            self._unanswered += 1
            silent = self._unanswered * pause
            if self._link is not None and silent >= self._times.silence * (1 if self._has_spoken else _SLOW_START):
                emit("directory.failed", reason=f"the helper has said nothing for {silent:.0f} s and is ended")
                self._unanswered = 0
                self._link.abort()  # its end ends the helper

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            began = clock.monotonic()
            try:
                await self._helped()
            except (RoleHostError, OSError) as error:
                emit("directory.failed", reason=str(error))
            if self._closing.is_set():
                return
            emit("directory.restarted")
            pause = _FIRST_PAUSE if clock.monotonic() - began > _LONG_LIFE else pause
            await clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _helped(self) -> None:
        """One life of the helper."""
        ours, theirs = socket.socketpair()
        with theirs:
            child = await self._spawn(theirs.fileno())
        link = None
        try:
            link = await Link.open(ours)
            for waiting in self._mail.everything():
                link.send(waiting)
            self._link, self._unanswered, self._has_spoken = link, 0, False
            while (message := await link.receive()) is not None:
                self._unanswered, self._has_spoken = 0, True
                self._hear(message)
        finally:
            self._link = None
            if link is not None:
                link.close()
            else:
                ours.close()
            await child.stop(0.5)

    async def _spawn(self, descriptor: int) -> Child:
        argv = [sys.executable, "-P", "-m", "rolehost.host.directory.directory_process", "--link", str(descriptor)]
        argv += ["--times", json.dumps(asdict(self._times))]
        argv += ["--metadata"] if self._wants_metadata else []
        return await Child.spawn(
            argv,
            env=self._environ,
            cwd=Path.cwd(),
            marker=f"directory/{os.getpid()}/{secrets.token_hex(4)}",
            capture=None,
            pass_fds=[descriptor],
        )

    def _hear(self, message: Facts) -> None:
        match message:
            case {"held": {"id": request, "number": number}}:
                self._mail.held(request, number)
            case {"lost": {"id": request, "instance": instance}}:
                self._mail.lost(request)
                if self._on_lost is not None:
                    self._on_lost(instance)
            case {"done": number}:
                self._mail.done(number)
            case {"peers": peers}:
                self._peers = tuple(peers)
                if self._on_peers is not None:
                    self._on_peers(self._peers)
            case {"metadata": found} if self._metadata is not None and not self._metadata.done():
                self._metadata.set_result(None if found is None else InstanceMetadata.from_json(found))
