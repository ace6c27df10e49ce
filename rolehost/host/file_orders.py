"""The orders of an instance that is alone in its container: from the definition's files, and from its peers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from rolehost import clock
from rolehost.environment import Role, RoleInstance, RoleInstanceEndpoint
from rolehost.errors import RoleHostError
from rolehost.host.assignment import Topology
from rolehost.host.orders import NewPlan, Order, Planner, Refusal
from rolehost.host.ports.addresses import Net, run_topology
from rolehost.host.watching import WatchedFiles
from rolehost.service_model import ServiceModel
from rolehost.service_model.updating import differences, refusals
from rolehost.telemetry import emit

SPREAD = "ROLEHOST_UPDATE_SPREAD_SECONDS"
_SPREAD_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the instance is.

    Args:
        host: the address that its endpoints are bound to.
        port: of its first input endpoint, in place of the declared one; 0: a free one.
        fault_domain: None: by its number.
        update_domain: None: by its number.
    """

    host: str
    port: int | None = None
    fault_domain: int | None = None
    update_domain: int | None = None


class FileOrders:
    """Watches the files that the model was read from; what is wrong with a change is told, and the old model stays.

    A change is applied after a random time, so that the instances of a service don't all restart at once: across
    containers there is no walk.

    Args:
        planner: which instance.
        model: as it was read.
        read: reads it again.
        place: where the instance is.
        spread: the longest time before a change is applied, in seconds.
    """

    def __init__(
        self, planner: Planner, model: ServiceModel, read: Callable[[], ServiceModel], place: Place, spread: float
    ) -> None:
        self._planner = planner
        self._model = model
        self._read = read
        self._place = place
        self._spread = spread
        self._net = Net.single(place.host)
        self._peers: dict[str, dict[str, RoleInstance]] = {}
        self._unread: set[str] = set()
        self._generation = 0
        self._refused = Refusal("")
        self._news: asyncio.Queue[Refusal | None] = asyncio.Queue()
        self._watch: asyncio.Task[None] | None = None
        self._files = WatchedFiles([each for each in (model.source, model.configuration) if each is not None])

    async def next(self) -> Order | None:
        """The plan to begin with; then one for each change of the files, or of the peers, or why it can't be taken.

        Raises:
            RoleHostError: an endpoint's port can't be bound.
        """
        if self._watch is None:
            self._watch = asyncio.create_task(self._files.run(self._changed))
            return self._plan()
        if (refusal := await self._news.get()) is not None:
            return refusal
        if self._refused.sentence:  # the files can't be taken still, whatever comes of the peers
            self._news.put_nowait(self._refused)
        try:
            return self._plan()
        except RoleHostError as error:  # an endpoint that can't be bound: what runs goes on
            return self._refusal(str(error))

    def _plan(self) -> NewPlan:
        plan = self._planner.plan(self._model, self._topology(), self._generation + 1)
        self._generation += 1
        return NewPlan(plan)

    def close(self) -> None:
        """Watch no longer."""
        if self._watch is not None:
            self._watch.cancel()

    def heard_of(self, peers: Sequence[Mapping[str, Any]]) -> None:
        """The directory's rows of all live instances."""
        found: dict[str, dict[str, RoleInstance]] = {}
        for facts in peers:
            if facts.get("instance") != self._planner.instance_id and (peer := self._read_peer(facts)) is not None:
                found.setdefault(peer.id.rpartition("_IN_")[0], {})[peer.id] = peer
        if found != self._peers:
            self._peers = found
            self._news.put_nowait(None)

    def _read_peer(self, facts: Mapping[str, Any]) -> RoleInstance | None:
        """None for a row that another release has written, and that can't be read."""
        name = str(facts.get("instance"))
        try:
            peer = _instance(facts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if name not in self._unread:
                emit("directory.row_skipped", instance=name, reason=repr(error))
                self._unread.add(name)
            return None
        self._unread.discard(name)
        return peer

    async def _changed(self) -> None:
        if await self._read_again() is None:
            return
        seconds = random.SystemRandom().uniform(0, self._spread)
        emit("assignment.changed", seconds=round(seconds, 3))
        await clock.sleep(seconds)
        model = await self._read_again()  # it may have changed again
        if model is not None:
            self._model = model
            self._news.put_nowait(None)

    async def _read_again(self) -> ServiceModel | None:
        """The model that the files have now, if it is another, and may take the place of this one."""
        try:
            model = await asyncio.to_thread(self._read)
        except RoleHostError as error:
            self._tell(self._refusal(str(error)))
            return None
        if refused := refusals(self._model, model):
            self._tell(self._refusal("; ".join(refused)))
            return None
        self._tell(Refusal(""))
        found = differences(self._model, model)
        if masked := found.masked.get(self._planner.role):
            emit("assignment.masked", settings=list(masked), reason="the environment has other values for them")
        return model if found else None

    def _refusal(self, reason: str) -> Refusal:
        emit("assignment.refused", reason=reason)
        return Refusal(f"The changed definition is refused: {reason.removesuffix('.')}.")

    def _tell(self, refusal: Refusal) -> None:
        if refusal != self._refused:
            self._refused = refusal
            self._news.put_nowait(refusal)

    def _topology(self) -> Topology:
        planner, place = self._planner, self._place
        own = run_topology(self._model, planner.role, planner.number, place.host, place.port, net=self._net)
        roles = {}
        for name, role in own.items():
            instances = {each.id: _placed(each, place) for each in role.instances} | self._peers.get(name, {})
            ordered = sorted(instances.values(), key=lambda each: int(each.id.rpartition("_")[2]))
            roles[name] = Role(name, tuple(replace(each) for each in ordered))
        return MappingProxyType(roles)


def spread_of(environ: Mapping[str, str]) -> float:
    """The longest time before a change of the files is applied, in seconds.

    Raises:
        RoleHostError: the variable is no number.
    """
    try:
        seconds = float(environ.get(SPREAD, _SPREAD_SECONDS))
    except ValueError as error:
        raise RoleHostError(f"{SPREAD} is a number of seconds, not {environ[SPREAD]!r}") from error
    if not 0 <= seconds < float("inf"):
        raise RoleHostError(f"{SPREAD} is a number of seconds from 0, not {environ[SPREAD]!r}")
    return seconds


def _placed(instance: RoleInstance, place: Place) -> RoleInstance:
    fault, update = place.fault_domain, place.update_domain
    return replace(
        instance,
        fault_domain=instance.fault_domain if fault is None else fault,
        update_domain=instance.update_domain if update is None else update,
    )


def _instance(facts: Mapping[str, Any]) -> RoleInstance:
    name = str(facts["instance"])
    role, _, number = name.rpartition("_IN_")
    if not role or not number.isdecimal():
        raise ValueError(f"{name!r} is no name of an instance")
    endpoints = {
        endpoint: RoleInstanceEndpoint(endpoint, (str(each["address"]), int(each["port"])), str(each["protocol"]))
        for endpoint, each in facts["endpoints"].items()
    }
    return RoleInstance(name, int(facts["fault_domain"]), int(facts["update_domain"]), MappingProxyType(endpoints))
