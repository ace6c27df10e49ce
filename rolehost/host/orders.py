"""What an instance is told to be and to do: by the fabric over its link, or by files in a container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from rolehost.errors import RoleHostError
from rolehost.host.assignment import Assignment, Topology
from rolehost.host.instance.plan import InstancePlan, find_role, marker_prefix
from rolehost.host.link import Link
from rolehost.host.paths import DataDirectory
from rolehost.service_model import ServiceModel, load
from rolehost.telemetry import emit

PUBLIC = "ROLEHOST_PUBLIC"
"""The variable that tells a role where clients reach it: `host:port` by endpoint, as JSON."""


@dataclass(frozen=True, slots=True)
class UserStop:
    """The user wants the instance to stop; `seconds` None: however long that takes."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class NewPlan:
    """The instance is to be this; `simultaneous`: a change of the topology in it is told to all instances at once."""

    plan: InstancePlan
    simultaneous: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came last can't be taken, and why, a sentence for people; empty: what was wrong with it is mended."""

    sentence: str


Order: TypeAlias = NewPlan | UserStop | Refusal


class Orders(Protocol):
    """Where orders come from."""

    async def next(self) -> Order | None:
        """The next one; None: whoever gave them is gone.

        Raises:
            RoleHostError: the first plan can't be made.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Makes an instance's plans.

    Args:
        role: the role's name.
        number: the instance's number within it.
        emulated: the whole service runs on this machine.
        environ: the variables that roles start from, and that go over the definition.
    """

    role: str
    number: int
    data: DataDirectory
    environ: Mapping[str, str]
    emulated: bool = False

    @property
    def instance_id(self) -> str:
        """`<role>_IN_<n>`."""
        return f"{self.role}_IN_{self.number}"

    @property
    def marker_prefix(self) -> str:
        """How the markers of all the instance's processes begin."""
        return marker_prefix(self.data.deployment_id(), self.instance_id)

    def read(self, assignment: Assignment) -> InstancePlan:
        """The plan of an assignment, its model read.

        Raises:
            RoleHostError: the model can't be read, or lacks the role.
        """
        path: Path | None = assignment.model
        model = load(path, self.environ, built_in=path is None, directory=assignment.directory)
        plan = self.plan(model, assignment.topology, assignment.generation)
        if assignment.public is None:
            return plan
        return replace(plan, environ={**plan.environ, PUBLIC: json.dumps(dict(assignment.public))})

    def plan(self, model: ServiceModel, topology: Topology, generation: int) -> InstancePlan:
        """The plan of a model.

        Raises:
            RoleHostError: it lacks the role.
        """
        return InstancePlan(
            model=model,
            role=find_role(model, self.role),
            number=self.number,
            data=self.data,
            deployment_id=self.data.deployment_id(),
            topology=topology,
            generation=generation,
            emulated=self.emulated,
            environ=self.environ,
        )


class LinkOrders:
    """The fabric's orders.

    Args:
        link: the line to it.
        planner: makes plans of its assignments.
    """

    def __init__(self, link: Link, planner: Planner) -> None:
        self._link = link
        self._planner = planner
        self._has_plan = False

    async def next(self) -> Order | None:
        """The next one; messages that are no orders are passed over."""
        while (message := await self._link.receive()) is not None:
            if "stop" in message:
                return UserStop(message["stop"].get("seconds"))
            if "assign" in message:
                return self._planned(Assignment.from_json(message["assign"]))
        return None

    def _planned(self, assignment: Assignment) -> NewPlan | Refusal:
        try:
            plan = self._planner.read(assignment)
        except RoleHostError as error:
            if not self._has_plan:
                raise
            emit("assignment.refused", generation=assignment.generation, reason=str(error))  # the old one is kept
            return Refusal(f"Generation {assignment.generation} is refused: {error}.")
        self._has_plan = True
        return NewPlan(plan, assignment.simultaneous)
