"""The generations of a deployment: each accepted model as a file, and what the instances are told of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rolehost.environment import RoleInstance
from rolehost.errors import RoleHostError
from rolehost.host.assignment import Assignment, Topology
from rolehost.service_model import ServiceModel, needs_restart, write_model

_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Goal:
    """What an instance is told: an assignment, and the model that its file holds."""

    assignment: Assignment
    model: ServiceModel

    @property
    def generation(self) -> int:
        """The assignment's."""
        return self.assignment.generation

    def at_once(self) -> Goal:
        """The same, as it is told to all instances at one time."""
        return replace(self, assignment=replace(self.assignment, simultaneous=True))

    def with_topology(self, later: Goal) -> Goal:
        """This model with another topology, told before the rest of what is to come; the number before is kept free."""
        assignment = replace(
            self.assignment,
            generation=later.generation - 1,
            topology=later.assignment.topology,
            simultaneous=True,
        )
        return Goal(assignment, self.model)


class Generations:
    """The models as files, in a directory that is the owner's alone: settings are secrets.

    Args:
        directory: it is made, and what an `up` before left in it goes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.newest = 0

    def clear(self) -> None:
        """Make the directory, empty.

        Raises:
            RoleHostError: it can't be made.
        """
        try:
            self._directory.mkdir(mode=_PRIVATE, exist_ok=True)
            self._directory.chmod(_PRIVATE)
            self.keep(())
        except OSError as error:
            raise RoleHostError(f"{self._directory} can't be used: {error.strerror}") from error

    def make(self, model: ServiceModel, placed: Callable[[], Topology], *, skip: int = 0) -> Goal:
        """The next generation, its model written.

        Args:
            model: what was accepted; the built-in one needs no file.
            placed: every role's instances; called once the model is written, as it may not be asked in vain.
            skip: numbers that are left out.

        Raises:
            RoleHostError: the disk is full, or such; there is no next generation then.
        """
        number = self.newest + 1 + skip
        path = None if model.source is None else self._directory / f"{number}.toml"
        try:
            if path is not None:
                told = f"Generation {number} of the running service; read with its variables."
                _write(path, write_model(model, [told]))
            topology = placed()
        except BaseException:
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        self.newest = number
        return Goal(Assignment(generation=number, model=path, directory=model.directory, topology=topology), model)

    def keep(self, goals: Collection[Goal]) -> None:
        """Remove the files that none of these needs.

        Raises:
            OSError: one can't be removed.
        """
        needed = {goal.assignment.model for goal in goals}
        for path in self._directory.iterdir():
            if path not in needed:
                path.unlink(missing_ok=True)


def is_other(before: Goal, after: Goal, instance: RoleInstance) -> bool:
    """Whether a change is more to an instance than another topology: settings, certificates, what starts it again."""
    name = instance.role.name
    old, new = before.model.roles[name], after.model.roles[name]
    told = dict(old.settings) != dict(new.settings) or dict(old.certificates) != dict(new.certificates)
    return told or needs_restart(before.model, after.model, name)


def sees_other(before: Goal, after: Goal, instance: RoleInstance) -> bool:
    """Whether an instance sees another topology than before."""
    return _seen(before, instance) != _seen(after, instance)


def _seen(goal: Goal, instance: RoleInstance) -> dict[str, tuple[RoleInstance, ...]]:
    """What an instance sees of the topology: of a role without internal endpoints no instance but its own."""
    roles = goal.model.roles
    return {
        name: tuple(
            each
            for each in role.instances
            if each.id == instance.id or (name in roles and roles[name].internal_endpoints)
        )
        for name, role in goal.assignment.topology.items()
    }


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(text)
    except OSError as error:
        raise RoleHostError(f"{path} can't be written: {error.strerror}") from error
