"""One bootstrapper, kept running: its process, its link, and what it says of its instance."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from rolehost import clock
from rolehost.environment import RoleInstance
from rolehost.errors import RoleHostError
from rolehost.host.fabric.generations import Goal
from rolehost.host.fabric.leftovers import remove_sockets
from rolehost.host.fabric.walk import Standing
from rolehost.host.instance.plan import marker_prefix
from rolehost.host.instance.role_end import lost_host
from rolehost.host.instance.silence import Silence
from rolehost.host.link import Link
from rolehost.host.paths import DataDirectory
from rolehost.host.reporting import Reporter
from rolehost.processes import Child, Exit, end_strays
from rolehost.telemetry import emit

LOOPBACK = "127.0.0.1"
MARGIN_SECONDS = 1.0
"""What a bootstrapper gets beyond the time of a stop, to kill its role and to end by itself."""
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.1, 10.0, 60.0
_LAST_WORDS_SECONDS = 1.0
# It says something every five seconds, once it has begun.
_SHORTEST_SILENCE, _FIRST_SILENCE = 15.0, 60.0
_GONE = {"state": "Recycling", "status": "RestartingRole", "pid": None, "generation": 0, "ready_at": None}
_FAILING = frozenset({"CyclingRole", "FailedStartingRole", "UnresponsiveRole"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What all members stand on.

    Args:
        data: the data directory.
        deployment_id: its name.
        environ: the variables that bootstrappers start from.
        public: `host:port` of the public endpoints of a role, or of one instance, by name.
        reporter: hears of every instance.
    """

    data: DataDirectory
    deployment_id: str
    environ: Mapping[str, str]
    public: Callable[[str], Mapping[str, str]]
    reporter: Reporter


class Member:
    """An instance as the fabric knows it.

    Args:
        instance: its place in the topology.
        goal: what it is told first.
        grounds: what all members stand on.
        on_change: called whenever its facts have changed, with whether more changed than its heartbeat.
        probe: keeps the port of its probes; closed at its end.
    """

    def __init__(
        self,
        instance: RoleInstance,
        goal: Goal,
        grounds: Grounds,
        on_change: Callable[[Member, bool], None],
        probe: socket.socket,
    ) -> None:
        self.instance = instance
        self.goal = goal
        self.ended = asyncio.Event()
        self._grounds = grounds
        self._on_change = on_change
        self._probe = probe
        self._child: Child | None = None
        self._link: Link | None = None
        self._stopping = asyncio.Event()
        self._draining = False
        self._last_order: dict[str, Any] | None = None
        self._hosts_lost = 0
        self._open_runs: dict[str, Mapping[str, Any]] = {}
        self._may_be_ended = 0.0
        self.facts: dict[str, Any] = _unknown(instance)

    @property
    def id(self) -> str:
        """The instance's."""
        return self.instance.id

    @property
    def number(self) -> int:
        """Its number within the role."""
        return int(self.id.rpartition("_IN_")[2])

    @property
    def standing(self) -> Standing:
        """How it stands to what it was told last."""
        if self.facts["state"] == "Ready" and self.facts["generation"] >= self.goal.generation:
            return Standing.READY
        return Standing.FAILING if self.facts["status"] in _FAILING else Standing.UNDER_WAY

    def tell(self, goal: Goal) -> None:
        """Tell it of another generation; a bootstrapper that is started again gets the newest."""
        self.goal = goal
        if self._link is not None:
            self._link.send(self._assigned())

    def drain(self) -> None:
        """Stop it within the drain time; asked again, in haste."""
        self._stopping.set()
        self._draining = True
        self._may_be_ended = clock.monotonic() + self.goal.model.drain_seconds
        # Not `Child.stop`: that would send TERM to the whole tree, and the role is told by its bootstrapper.
        if self._child is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(self._child.pid, signal.SIGTERM)

    def leave(self, seconds: float | None) -> None:
        """Stop it in order, within so many seconds; None: as long as it takes, but for a host that hangs."""
        self._stopping.set()
        self._may_be_ended = clock.monotonic() + (self.goal.model.on_stop_seconds if seconds is None else seconds)
        self._last_order = {"stop": {"seconds": seconds}}
        if self._link is not None:
            self._link.send(self._last_order)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            emit("instance.killed", instance=self.id)
            self._child.kill()

    async def keep(self, after: asyncio.Event | None = None) -> None:
        """Start the bootstrapper, and again whenever it ends and nothing of it is left, until it is to stop.

        Args:
            after: a predecessor of the same name, which has to end first.
        """
        try:
            if after is not None:
                await after.wait()
            pause = _FIRST_PAUSE
            while not self._stopping.is_set():
                began = clock.monotonic()
                try:
                    await self._host()
                except (RoleHostError, OSError) as error:
                    self._lost(str(error))
                if self._stopping.is_set():
                    return
                pause = _FIRST_PAUSE if clock.monotonic() - began > _LONG_LIFE else pause
                await self._wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._probe.close()
            self.ended.set()

    async def _host(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._link = await Link.open(ours)
            try:
                self._link.send(self._assigned())
                if self._last_order is not None:  # it came just now
                    self._link.send(self._last_order)
                child = self._child = await self._spawn(theirs)
                theirs.close()  # or its end would not be seen
                if self._draining:
                    self.drain()
                end = await self._over(child, self._link)
            finally:
                self._child = None
                self._link.close()
                self._link = None
        await end_strays(marker_prefix(self._grounds.deployment_id, self.id))
        await asyncio.to_thread(remove_sockets, self._grounds.deployment_id, self.id)  # it may have had no time to
        if not self._stopping.is_set():
            self._lost("", end)

    async def _over(self, child: Child, link: Link) -> Exit:
        silence = Silence(max(self.goal.model.heartbeat_seconds, _SHORTEST_SILENCE))
        silence.begin(_FIRST_SILENCE)
        listening = asyncio.create_task(self._listen(link, silence))
        watching = asyncio.create_task(self._watch(child, silence))
        try:
            end = await child.wait()
            await asyncio.wait([listening], timeout=_LAST_WORDS_SECONDS)
            return end
        finally:
            listening.cancel()
            watching.cancel()

    async def _watch(self, child: Child, silence: Silence) -> None:
        """End a bootstrapper that hangs; one that stops has the time of its stop, at least, for its role to end."""
        while True:
            await silence.over()
            if not self._stopping.is_set():
                detail = "The instance's host says nothing any more and is ended."
                self._change({**self.facts, **_GONE, "detail": detail})
                break
            if (left := self._may_be_ended - clock.monotonic()) <= 0:
                break
            await clock.sleep(left)
        emit("instance.host_silent", instance=self.id)
        child.kill()

    async def _listen(self, link: Link, silence: Silence) -> None:
        while (message := await link.receive()) is not None:
            silence.broken()
            match message:
                case {"status": {"state": _, "status": _, "generation": _} as facts}:
                    self._heard(facts)
                case {"event": {"name": str(name), "facts": facts}}:
                    self._grounds.reporter.event(name, {"instance": self.id, **facts})
                case {"output": {"run": str(run)} as facts}:
                    self._open_runs[run] = facts
                    if facts.get("ended_at") is not None:
                        del self._open_runs[run]
                    self._grounds.reporter.output(facts)
                case _:  # of another release's; what is understood is enough
                    pass

    def _heard(self, facts: Mapping[str, Any]) -> None:
        merged = {**self.facts, **facts}
        merged["recycles"] = int(facts.get("recycles", 0)) + self._hosts_lost
        merged["last_crash"] = facts.get("last_crash") or self.facts["last_crash"]
        self._change(merged)

    def _lost(self, reason: str, end: Exit | None = None) -> None:
        """The bootstrapper is gone, and with it the role: it starts again as after a recycle."""
        if end is None:
            emit("instance.host_lost", instance=self.id, reason=reason)
        else:
            emit("instance.host_lost", instance=self.id, exit_code=end.code, signal=end.signal)
        self._hosts_lost = self.facts["recycles"] + 1
        now = clock.iso(clock.now())
        while self._open_runs:  # nobody is left who could tell how they end
            self._grounds.reporter.output({**self._open_runs.popitem()[1], "ended_at": now, "lost": True})
        detail = "The instance's host has ended and is started again."
        told = {"detail": detail, "recycles": self._hosts_lost, "last_crash": asdict(lost_host(end, reason))}
        self._change({**self.facts, **_GONE, **told})

    def _change(self, facts: dict[str, Any]) -> None:
        before, self.facts = self.facts, facts
        self._grounds.reporter.status(facts)
        self._on_change(self, {**before, "heartbeat_at": None} != {**facts, "heartbeat_at": None})

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _assigned(self) -> dict[str, Any]:
        """The order to be what it is to be, with the public ports as they are at the moment."""
        return {"assign": {**self.goal.assignment.to_json(), "public": self._public()}}

    def _public(self) -> dict[str, str]:
        return {**self._grounds.public(self.instance.role.name), **self._grounds.public(self.id)}

    async def _spawn(self, end: socket.socket) -> Child:
        argv = [sys.executable, "-P", "-m", "rolehost.host.bootstrapper", "--instance", self.id]
        argv += ["--data", str(self._grounds.data.root), "--probe-port", str(self._probe.getsockname()[1])]
        argv += ["--parent", str(os.getpid()), "--emulated", "--link", str(end.fileno())]
        return await Child.spawn(
            argv,
            env={**self._grounds.environ, "ROLEHOST_PUBLIC": json.dumps(self._public())},
            cwd=self.goal.model.directory,
            marker=f"{marker_prefix(self._grounds.deployment_id, self.id)}bootstrapper",
            capture=None,
            pass_fds=[end.fileno()],
        )


def _unknown(instance: RoleInstance) -> dict[str, Any]:
    """The facts of an instance that nothing was heard of."""
    endpoints = {
        name: {"protocol": each.protocol, "address": each.ip_endpoint[0], "port": each.ip_endpoint[1]}
        for name, each in instance.instance_endpoints.items()
    }
    return {
        "instance": instance.id,
        "role": instance.role.name,
        "state": "Starting",
        "status": "StartingRole",
        "detail": "The host is starting.",
        "generation": 0,
        "recycles": 0,
        "fault_domain": instance.fault_domain,
        "update_domain": instance.update_domain,
        "pid": None,
        "started_at": None,
        "ready_at": None,
        "heartbeat_at": clock.iso(clock.now()),
        "endpoints": endpoints,
        "last_crash": None,
    }
