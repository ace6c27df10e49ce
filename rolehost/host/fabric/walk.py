"""The walk: a change is brought to the instances, one update domain after the other.

Only decisions are made here: no process is told anything, and no clock is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum, auto
from typing import TypeAlias


class Mode(StrEnum):
    """Who leads the walk: it goes on by itself, or the caller names each domain."""

    AUTO = "auto"
    MANUAL = "manual"


class Concern(IntEnum):
    """What a change is to an instance."""

    NOTHING = auto()
    TOPOLOGY = auto()
    WHOLE = auto()
    ARRIVAL = auto()
    DEPARTURE = auto()


class Standing(Enum):
    """How an instance stands to what it was told last."""

    READY = auto()
    UNDER_WAY = auto()
    FAILING = auto()
    LEAVING = auto()


Look: TypeAlias = Callable[[str], Standing]


@dataclass(frozen=True, slots=True)
class Step:
    """Instances of a domain that are reached at once; without a domain: those that are only waited for."""

    domain: int | None
    instances: tuple[str, ...]


def steps(concerned: Iterable[tuple[str, int, Concern]]) -> tuple[Step, ...]:
    """The steps of a walk: domain by domain; for the topology's sake alone instance by instance.

    "Sequential manner after the previous instance has successfully accepted" is what is said of UpgradeDomainWalk.
    Who is new gets ready before the others hear of it, and who leaves goes when they know: nobody counts on an instance
    that isn't there, and a change of the count takes no more than one domain down, either.

    Args:
        concerned: each instance's id, its update domain, and what the change is to it.
    """
    every = list(concerned)
    domains = sorted({domain for _, domain, _ in every})

    def together(concern: Concern, domain: int) -> list[Step]:
        instances = tuple(instance for instance, its, what in every if (its, what) == (domain, concern))
        return [Step(domain, instances)] if instances else []

    found = [step for domain in domains for step in together(Concern.ARRIVAL, domain)]
    for domain in domains:
        found += together(Concern.WHOLE, domain)
        found += [Step(domain, (name,)) for name, its, what in every if (its, what) == (domain, Concern.TOPOLOGY)]
    return (*found, *(step for domain in domains for step in together(Concern.DEPARTURE, domain)))


class Walk:
    """One change on its way through the domains; never is a domain begun while another one is under way.

    Args:
        steps: in their order.
        start_seconds: how long a step is waited for before the walk goes on without (the original's 30 minutes).
        mode: who leads it.
        unsettled: instances that are under way before the first step: those that the service began with, and those that
            a walk before this one has left so. They get ready, or are gone, first, but for those that fail: they are
            told at once, as they can't be taken down twice, and the change may be what mends them.
    """

    def __init__(
        self, steps: Sequence[Step], *, start_seconds: float, mode: Mode = Mode.AUTO, unsettled: Iterable[str] = ()
    ) -> None:
        self.mode = mode
        self.late: list[str] = []
        self.involved = set(unsettled := tuple(unsettled))
        self._open = list(steps)
        self._told: set[str] = set()
        self._start_seconds = start_seconds
        self._allowed: set[int] = set()
        self._awaited = Step(None, unsettled)
        self._settling = bool(unsettled)
        self._since: float | None = None
        self._only_leaving = False

    @property
    def is_over(self) -> bool:
        """Whether every step was taken and is done, or was given up."""
        return not self._open and not self._awaited.instances

    @property
    def domain(self) -> int | None:
        """The domain that is under way."""
        return self._awaited.domain

    @property
    def domains_left(self) -> tuple[int, ...]:
        """The domains that were not begun, in order."""
        return tuple(dict.fromkeys(step.domain for step in self._open if step.domain is not None))

    def allow(self, domain: int) -> bool:
        """Let a manual walk go on to a domain; False: there is nothing left to do in it."""
        self._allowed.add(domain)
        return domain in self.domains_left

    def is_done(self, domain: int) -> bool:
        """Whether a domain is neither waiting nor under way."""
        return domain not in self.domains_left and domain != self._awaited.domain

    def advance(self, now: float, look: Look) -> tuple[str, ...]:
        """Go as far as can be gone; the answer is who is to be told now. Ask again until nobody is.

        Args:
            now: seconds, on a clock that never steps back.
            look: how an instance stands to what it was told last; one that is gone is ready. One that leaves has a
                deadline of its own, and is waited for until it is gone.
        """
        self._since = now if self._since is None else self._since
        if self._settling and (failing := self._failing(look)):
            return self._tell(failing)
        waiting = [each for each in self._awaited.instances if look(each) is not Standing.READY]
        overdue = now >= self._since + self._start_seconds
        self._only_leaving = overdue and any(look(each) is Standing.LEAVING for each in waiting)
        if waiting and (not overdue or self._only_leaving):
            return ()
        self.late += waiting
        self._awaited, self._settling, self._since = Step(None, ()), False, None
        following = next((step for step in self._open if self._may_begin(step)), None)
        if following is None:
            return ()
        self._open.remove(following)
        self._awaited, self._since = following, now
        return self._tell(following.instances)

    def seconds_left(self, now: float) -> float | None:
        """When to ask again although nobody was heard of; None: whenever somebody is."""
        if self._since is None or not self._awaited.instances or self._only_leaving:
            return None
        return max(self._since + self._start_seconds - now, 0.0)

    def _may_begin(self, step: Step) -> bool:
        return self.mode is Mode.AUTO or step.domain in self._allowed

    def _failing(self, look: Look) -> tuple[str, ...]:
        """Those unsettled that fail: they are to be told, where this change is for them, else they are given up."""
        failing = [
            each for each in self._awaited.instances if each not in self._told and look(each) is Standing.FAILING
        ]
        mended = [each for step in self._open if self._may_begin(step) for each in step.instances if each in failing]
        given_up = [each for each in failing if each not in mended]
        self.late += given_up
        self._awaited = Step(None, tuple(each for each in self._awaited.instances if each not in given_up))
        rest = [(step.domain, tuple(each for each in step.instances if each not in mended)) for step in self._open]
        self._open = [Step(domain, instances) for domain, instances in rest if instances]
        return tuple(mended)

    def _tell(self, instances: tuple[str, ...]) -> tuple[str, ...]:
        self.involved |= set(instances)
        self._told |= set(instances)
        return instances
