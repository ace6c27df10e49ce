"""The running service as it was accepted last, and how a change of it reaches the instances."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.environment import RoleInstance
from rolehost.errors import RoleHostError, UpdateRefusedError
from rolehost.host.assignment import Topology
from rolehost.host.fabric.fleet import Crew, Fleet
from rolehost.host.fabric.generations import Generations, Goal, is_other, sees_other
from rolehost.host.fabric.member import Member
from rolehost.host.fabric.news import News
from rolehost.host.fabric.walk import Concern, Mode, Standing, Walk, steps
from rolehost.host.ports.addresses import Net, up_topology
from rolehost.service_model import ServiceModel, TopologyChangeDiscovery
from rolehost.telemetry import emit


class Deployment:
    """Brings a model to its instances, and each accepted change after it.

    Args:
        crew: what the instances are run with.
        generations: where the models are written.
        net: where the instances' addresses are from.
    """

    def __init__(self, crew: Crew, generations: Generations, net: Net) -> None:
        self.news = News()
        self.fleet = Fleet(crew, self._changed)
        self.walk = Walk((), start_seconds=0.0)
        self._crew = crew
        self._generations = generations
        self._net = net
        self._goal: Goal | None = None
        self._before: Goal | None = None
        self._finished: Goal | None = None
        self._places: Mapping[str, RoleInstance] = {}
        self._bound: dict[str, int] = {}
        self._refused: dict[str, Any] | None = None
        self._bell = asyncio.Event()

    @property
    def goal(self) -> Goal:
        """The newest generation; there is one from the first `apply` on."""
        if self._goal is None:
            raise RoleHostError("the service has not begun")
        return self._goal

    @property
    def model(self) -> ServiceModel:
        """What was accepted last."""
        return self.goal.model

    @property
    def is_settled(self) -> bool:
        """Whether every instance has the newest generation, or was given up, and those that had to leave have left."""
        return self.walk.is_over and not self.fleet.leaving

    def apply(self, model: ServiceModel, mode: Mode = Mode.AUTO) -> Goal:
        """Take a model; the first one starts all instances at once, each one after that walks them.

        Args:
            model: it is valid, and may follow what runs.
            mode: who leads the walk.

        Raises:
            RoleHostError: a port is in use, or there is none, or the model can't be written; nothing has changed.
        """
        counts = {name: role.instances for name, role in model.roles.items()}
        blast = model.topology_change_discovery is TopologyChangeDiscovery.BLAST
        placed = partial(self._placed, model, counts)
        goal = self._generations.make(model, placed, skip=1 if blast and self._goal else 0)
        unsettled = self._unsettled()
        if self.is_settled or self._before is None:
            self._before = self._goal
        is_first, self._goal, self._places = self._goal is None, goal, _instances(goal.assignment.topology)
        concerned = [self._announce(goal, member, blast=blast) for member in self.fleet.here.values()]
        arriving = [each for name, each in self._places.items() if name not in self.fleet.here]
        if is_first:  # nothing is up that could go down
            for each in arriving:
                self.fleet.arrive(each, goal)
                unsettled.append(each.id)
        else:
            concerned += [(each.id, each.update_domain, Concern.ARRIVAL) for each in arriving]
        leaving = [name for name, _, what in concerned if what is Concern.DEPARTURE]
        walked = [name for name, _, what in concerned if what in {Concern.TOPOLOGY, Concern.WHOLE}]
        unsettled += walked if blast else []
        self.walk = Walk(
            steps(concerned), start_seconds=model.start_seconds, mode=mode, unsettled=dict.fromkeys(unsettled)
        )
        self._tell("began", mode=str(mode), walked=walked, new=[each.id for each in arriving], leaving=leaving)
        self._bell.set()
        return goal

    def rollback(self) -> Goal:
        """Go back to what every instance had before the change that is under way.

        Raises:
            UpdateRefusedError: none is.
        """
        if self._before is None or self.is_settled:
            raise UpdateRefusedError(["there is nothing to roll back: no update is under way"])
        return self.apply(self._before.model)

    def allow(self, domain: int) -> None:
        """Let a manual walk go on to a domain.

        Raises:
            UpdateRefusedError: no walk waits for it.
        """
        if self.walk.mode is not Mode.MANUAL or self.walk.is_over:
            raise UpdateRefusedError(["no update waits to be walked; `rolehost update FILE --mode manual` begins one"])
        if not self.walk.allow(domain):
            left = ", ".join(map(str, self.walk.domains_left)) or "none"
            raise UpdateRefusedError([f"no instance of domain {domain} waits for the update; domains that do: {left}"])
        self._bell.set()

    def refuse(self, file: Path, problems: Sequence[str]) -> None:
        """Show what is wrong with the service's files, until something better comes: no problems."""
        told = {"at": clock.iso(clock.now()), "file": str(file), "problems": list(problems)}
        self._refused = told if problems else None
        self._publish()

    def status(self) -> dict[str, Any]:
        """The service as `rolehost status --json` writes it."""
        order = {name: place for place, name in enumerate(self.model.roles)}
        members = sorted(self.fleet.members, key=lambda each: (order[each.instance.role.name], each.number))
        return {
            "service": self.model.name,
            "deployment": self._crew.grounds.deployment_id,
            "generation": self.goal.generation,
            "at": clock.iso(clock.now()),
            "walk": self._walk_facts(),
            "refused": self._refused,
            "instances": [dict(member.facts) for member in members],
        }

    async def run(self) -> None:
        """Lead the walks, one after the other."""
        while True:
            self._bell.clear()
            self._advance()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.walk.seconds_left(clock.monotonic())):
                    await self._bell.wait()

    def _advance(self) -> None:
        if self.fleet.is_stopping:
            return  # all of them go: nobody is told of a change any more
        walk, domain, late = self.walk, self.walk.domain, len(self.walk.late)
        while told := walk.advance(clock.monotonic(), self.fleet.look):
            (how, *_) = [self._reach(name) for name in told]  # those of a domain's step are reached in one way
            if walk.domain is not None:
                self._tell(how, domain=walk.domain, instances=list(told))
        if walk.domain is None and domain is not None:
            self._publish()  # this domain is done, and no other was begun
        if given_up := walk.late[late:]:
            self._tell("late", instances=given_up)
        if self.is_settled and self._finished is not self._goal:
            self._finished = self._goal
            counts = {name: role.instances for name, role in self.model.roles.items()}
            if counts != self._bound:  # they have left
                self._bind(self.model, counts)
            self._forget()
            self._tell("finished", late=list(walk.late))

    def _reach(self, name: str) -> str:
        """Bring the newest generation to an instance, be it to start it or to end it; the answer is the news of it."""
        member = self.fleet.here.get(name)
        if name not in self._places:
            if member is not None:
                self.fleet.retire(name, self.model.on_stop_seconds)
            return "departure"
        if member is None:
            self.fleet.arrive(self._places[name], self.goal)
            return "arrival"
        if member.goal is not self.goal:
            member.tell(self.goal)
        return "domain"

    def _tell(self, event: str, **facts: Any) -> None:
        if self.goal.generation > 1:  # else it is the start
            emit(f"update.{event}", generation=self.goal.generation, **facts)
        self.news.tell({"update": event, "generation": self.goal.generation, **facts})
        self._publish()

    def _changed(self) -> None:
        self._publish()
        self._bell.set()

    def _publish(self) -> None:
        if self.news.is_heard:
            self.news.tell({"status": self.status()})

    def _placed(self, model: ServiceModel, counts: Mapping[str, int]) -> Topology:
        """Bind the public ports, then give the instances theirs; where that fails, the public ports are as before.

        Who is to leave keeps its public ports until all have left.
        """
        for name, count in counts.items():
            if count:
                self._net.address(name, count - 1)  # too many of them are told before a port is touched
        bound = {name: max([count, *self._numbers(name)]) for name, count in counts.items()}
        before = self._bound
        try:
            self._bind(model, bound)
            topology = up_topology(model, counts, self._net)
            self.fleet.expect([name for name in _instances(topology) if name not in self.fleet.here])
        except BaseException:
            if self._goal is not None:  # what was closed on the way is opened again
                self._bind(self.model, before)
            raise
        return topology

    def _numbers(self, role: str) -> list[int]:
        """How many of a role there must have been, by each one that is here."""
        return [member.number + 1 for member in self.fleet.here.values() if member.instance.role.name == role]

    def _bind(self, model: ServiceModel, counts: dict[str, int]) -> None:
        self._crew.ports.bind(model, counts)
        self._bound = counts

    def _forget(self) -> None:
        """Remove the models that nobody needs; one that stays is no reason for a service to end."""
        try:
            self._generations.keep([member.goal for member in self.fleet.members] + [self.goal])
        except OSError as error:
            emit("generation.not_removed", reason=str(error))

    def _unsettled(self) -> list[str]:
        """Who was reached by the change before this one, and is under way still."""
        involved = set() if self.walk.is_over else self.walk.involved
        known = [member for name, member in self.fleet.here.items() if name in involved]
        return [member.id for member in known if member.standing is not Standing.READY] + [*self.fleet.leaving]

    def _announce(self, goal: Goal, member: Member, *, blast: bool) -> tuple[str, int, Concern]:
        """Tell an instance at once what it needn't be walked for; the answer is what is left for the walk."""
        instance = self._places.get(member.id)
        if instance is None:
            return member.id, member.instance.update_domain, Concern.DEPARTURE
        other, sees = is_other(member.goal, goal, instance), sees_other(member.goal, goal, instance)
        member.instance = instance
        what = Concern.NOTHING
        if other:
            what = Concern.WHOLE
            if blast and sees:
                member.tell(member.goal.with_topology(goal))
        elif sees and not blast:
            what = Concern.TOPOLOGY
        else:
            member.tell(goal.at_once() if sees else goal)
        return instance.id, instance.update_domain, what

    def _walk_facts(self) -> dict[str, Any] | None:
        if self.goal.generation == 1 or self.is_settled:
            return None
        staying = [member for name, member in self.fleet.here.items() if name in self._places]
        generation = self.goal.generation
        return {
            "mode": str(self.walk.mode),
            "generation": generation,
            "domain": self.walk.domain,
            "updated": sum(member.facts["generation"] >= generation for member in staying),
            "of": len(self._places),
        }


def _instances(topology: Topology) -> dict[str, RoleInstance]:
    return {each.id: each for role in topology.values() for each in role.instances}
