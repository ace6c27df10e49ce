"""The instances of a running service: those that are here, and those that leave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from rolehost.environment import RoleInstance
from rolehost.errors import RoleHostError
from rolehost.host.fabric.generations import Goal
from rolehost.host.fabric.member import LOOPBACK, MARGIN_SECONDS, Grounds, Member
from rolehost.host.fabric.walk import Standing
from rolehost.host.probes import reserve_port
from rolehost.host.reporting import Reporter
from rolehost.telemetry import emit

Start: TypeAlias = "Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]"


class Ports(Protocol):
    """The service's public ports."""

    def bind(self, model: Any, counts: Mapping[str, int]) -> None:
        """Bind what the model declares, and close what it doesn't any more."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """An instance's facts, for the choice of who gets connections."""

    def forget(self, instance: str) -> None:
        """An instance gets no more connections."""


class Directory(Reporter, Protocol):
    """Where instances are written down for others to read."""

    def hold(self, role: str, number: int) -> None:
        """An instance is ours."""

    def release(self, instance: str) -> None:
        """It has gone for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What the instances are run with.

    Args:
        grounds: what all of them stand on.
        ports: the load balancer.
        directory: where they are written down.
        start: begins a task that lives as long as the service.
    """

    grounds: Grounds
    ports: Ports
    directory: Directory
    start: Start


class Fleet:
    """Starts, stops and knows the instances.

    Args:
        crew: what they are run with.
        on_change: called whenever the facts of one have changed, beyond its heartbeat.
    """

    def __init__(self, crew: Crew, on_change: Callable[[], None]) -> None:
        self.here: dict[str, Member] = {}
        self.leaving: dict[str, Member] = {}
        self._crew = crew
        self._on_change = on_change
        self._expected: dict[str, socket.socket] = {}
        self._last_word: Callable[[Member], None] | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether all of them were told to stop."""
        return self._last_word is not None

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, those that leave too."""
        return (*self.here.values(), *self.leaving.values())

    def look(self, instance: str) -> Standing:
        """How an instance stands to what it was told last; one that is gone is ready."""
        if (member := self.here.get(instance)) is not None:
            return member.standing
        return Standing.LEAVING if instance in self.leaving else Standing.READY

    def is_ready(self, role: str) -> bool:
        """Whether an instance of the role takes requests."""
        return any(each.facts["state"] == "Ready" for each in self.here.values() if each.instance.role.name == role)

    def expect(self, instances: Collection[str]) -> None:
        """Reserve what these instances need, so that their arrival can't fail; whoever was expected before isn't.

        Args:
            instances: the ids of all that are to arrive.

        Raises:
            RoleHostError: the machine has no port or descriptor left; nothing has changed.
        """
        reserved: dict[str, socket.socket] = {}
        try:
            for name in instances:
                if name not in self._expected:
                    reserved[name] = reserve_port(LOOPBACK)
        except OSError as error:
            for each in reserved.values():
                each.close()
            raise RoleHostError(f"no port for the probes of another instance can be had: {error.strerror}") from error
        for name in self._expected.keys() - set(instances):
            self._expected.pop(name).close()
        self._expected |= reserved

    def arrive(self, instance: RoleInstance, goal: Goal) -> None:
        """An instance that is expected starts, once one of the same name has left."""
        probe = self._expected.pop(instance.id)
        member = self.here[instance.id] = Member(instance, goal, self._crew.grounds, self._changed, probe)
        before = self.leaving.get(instance.id)
        self._crew.directory.hold(instance.role.name, member.number)
        self._crew.start(member.keep(before.ended if before else None))

    def retire(self, instance: str, seconds: float) -> None:
        """An instance is one too many: no connections any more, a stop in order within so many seconds, and it is gone.

        Args:
            instance: its id.
            seconds: what its `on_stop` may take.
        """
        member = self.leaving[instance] = self.here.pop(instance)
        self._crew.ports.forget(instance)
        emit("instance.leaving", instance=instance)
        self._crew.start(self._leave(member, seconds))

    def stop(self, tell: Callable[[Member], None]) -> None:
        """Tell all of them to stop, nobody comes after that; called again, the newer word counts."""
        self._last_word = tell
        self.expect(())
        for member in self.members:
            tell(member)

    async def ended(self) -> None:
        """Return once none is left."""
        while waiting := [member for member in self.members if not member.ended.is_set()]:
            await waiting[0].ended.wait()

    def number_lost(self, instance: str) -> None:
        """Another holder has an instance's number in the directory: ours waits for it there, and goes on meanwhile."""
        if (member := self.here.get(instance) or self.leaving.get(instance)) is None:
            return
        emit("instance.number_lost", instance=instance)
        directory = self._crew.directory
        directory.release(instance)  # what its helper still knows of the hold that was lost
        directory.hold(member.instance.role.name, member.number)
        directory.status(member.facts)

    async def _leave(self, member: Member, seconds: float) -> None:
        member.leave(seconds)
        try:
            async with asyncio.timeout(seconds + MARGIN_SECONDS):
                await member.ended.wait()
        except TimeoutError:
            member.kill()
            await member.ended.wait()
        with suppress(KeyError):
            del self.leaving[member.id]
        if member.id not in self.here:
            self._crew.directory.release(member.id)
        emit("instance.left", instance=member.id)
        self._on_change()

    def _changed(self, member: Member, more: bool) -> None:  # noqa: FBT001 - a callback
        if self.here.get(member.id) is member:
            self._crew.ports.note(member.facts)
        if more:
            self._on_change()
