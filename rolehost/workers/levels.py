"""The queues of a worker's kind, one for each level of priority, as one: what is received, and in which turn.

Higher levels come first, and none starves: see `Turns`. Queues that can wait are waited for together. Where somebody
has to look, and pays for it, levels besides the normal one are looked at only once they are there: see `KnownLevels`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from rolehost import clock
from rolehost.errors import StoreError
from rolehost.jobs.job import Priority
from rolehost.jobs.levels import ordered_queue_of, queues_of
from rolehost.stores.nudges import Nudged
from rolehost.telemetry import emit
from rolehost.workers.known_levels import KnownLevels
from rolehost.workers.standing import GRACE, Messages, Standing

if TYPE_CHECKING:
    from rolehost.stores import Queue, QueueCapabilities, QueueLimits, QueueMessage, Stores

ORDERED: Final = "ordered"
"""The level, so to say, of the jobs that are in ordered groups."""
PASSED: Final = 9
"""So many messages of higher levels are received before one of a level that waits."""
AHEAD: Final = 1.0
"""Seconds of work that is fetched ahead: what is urgent stands behind no more than that."""
LOOK_AGAIN: Final = 1.0
"""A level that was empty is looked at so often at the most while another has work, where a look costs a request."""
LEFT_ALONE: Final = 10.0
"""Seconds that a level is left alone after an error that the normal one may not have."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a receive begins, and how many messages of that first level it takes at the most."""

    order: Sequence[str]
    most: int

    def count(self, level: str, wanted: int) -> int:
        """How many to ask a level for."""
        return min(wanted, self.most) if level == self.order[0] else wanted


class Turns:
    """Higher levels first; but after nine messages of levels above it, a level that waits gets one.

    While all levels have work, nine of eleven messages are high, one is normal and one low; where two have work, nine
    of ten are of the higher one.
    Jobs of ordered groups have a queue of their own, which takes turns with the normal level.

    Args:
        levels: those that there are, the highest first.
    """

    def __init__(self, levels: Iterable[str] = tuple(Priority)) -> None:
        self._levels = tuple(levels)
        self._passed = dict.fromkeys(self._levels, 0)

    def next(self) -> Turn:
        """The next receive's turn; a level that is empty when its turn comes waits for the next one."""
        for level in reversed(self._levels[1:]):
            if (owed := self._passed[level] // PASSED) > 0:
                self._passed[level] = 0
                return Turn((level, *(each for each in self._levels if each != level)), owed)
        return Turn(self._levels, sys.maxsize)

    def received(self, turn: Turn, level: str, number: int) -> None:
        """Messages of a level were received: those below it were passed over, and what it got too much is owed."""
        if level == turn.order[0]:
            self._passed[level] -= PASSED * max(0, number - turn.most)
        for lower in self._levels[self._levels.index(level) + 1 :]:
            one_each = level == Priority.NORMAL and lower == ORDERED
            self._passed[lower] += number * (PASSED if one_each else 1)


class _Work(Enum):
    """What the last look brought."""

    UNKNOWN = "unknown"
    SOME = "some"
    NONE = "none"


class Levels:
    """A worker's inbox (see `Inbox`) over the queues of all levels; its messages tell where they came from.

    Args:
        stores: where the queues are.
        kind: the kind of job.
    """

    def __init__(self, stores: Stores, kind: str) -> None:
        self._normal = stores.queue(queues_of(kind)[Priority.NORMAL])
        self._queues = _queues(stores, kind, ordered=self._normal.capabilities.sessions)
        self._by_name = {queue.name: queue for queue in self._queues.values()}
        self._known = KnownLevels(stores, self._queues)
        self._turns = Turns(self._queues)
        self._standing = Standing(self.release, grace=0.0 if self.capabilities.answers_at_once else GRACE)
        self._work = _Work.UNKNOWN
        self._rung = False
        self._empty_until = dict.fromkeys(self._queues, 0.0)
        self._failing: set[str] = set()
        self._alone_until = dict.fromkeys(self._queues, 0.0)

    @property
    def name(self) -> str:
        """The name of the normal level's queue."""
        return self._normal.name

    @property
    def limits(self) -> QueueLimits:
        """See `Inbox.limits`."""
        return self._normal.limits

    @property
    def capabilities(self) -> QueueCapabilities:
        """See `Inbox.capabilities`."""
        return self._normal.capabilities

    def ahead(self, lease: float) -> float:
        """Seconds of work that is fetched ahead: a quarter of the lease while nothing can be more urgent."""
        alone = not self.capabilities.waits and len(self._known.levels) == 1
        return lease / 4 if alone else min(AHEAD, lease / 4)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Messages:
        """See `Inbox.receive`; all that comes at a time is of one level."""
        turn = self._turns.next()
        if not self.capabilities.waits:
            found = await self._polled(turn, count, hide)
        else:
            found = await self._look(turn, turn.order, count, hide) if self.capabilities.answers_at_once else ()
            if not found and (wait > 0 or not self.capabilities.answers_at_once):
                found = await self._first(turn, count, hide, wait)
        return found

    async def nudged(self, seconds: float) -> None:
        """See `Nudged`: any level's message ends the wait."""
        began = clock.monotonic()
        bells = [
            asyncio.create_task(each.nudged(seconds)) for each in self._by_name.values() if isinstance(each, Nudged)
        ]
        if not bells:
            await clock.sleep(seconds)
            return
        try:
            await asyncio.wait(bells, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for bell in bells:
                bell.cancel()
            await asyncio.wait(bells)
        self._rung = clock.monotonic() - began < seconds

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Inbox.renew`."""
        queue = self._of(message)
        return replace(await queue.renew(message, hide=hide, body=body), queue=queue.name)

    async def complete(self, message: QueueMessage) -> None:
        """See `Inbox.complete`."""
        await self._of(message).complete(message)

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Inbox.release`."""
        await self._of(message).release(message, delay=delay, body=body)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Inbox.dead_letter`."""
        await self._of(message).dead_letter(message, reason=reason, description=description)

    def _of(self, message: QueueMessage) -> Queue:
        return self._by_name.get(message.queue, self._normal)

    async def _polled(self, turn: Turn, count: int, hide: float) -> Messages:
        """A look at the levels that are there, as far as it is worth its requests."""
        await self._known.refresh(busy=self._work is _Work.SOME)
        found = await self._look(turn, self._worth_a_look(turn), count, hide)
        if not found and self._rung:  # somebody on this machine has put a message: is there another level now?
            found = await self._look(turn, await self._known.rung(), count, hide)
        self._work, self._rung = _Work.SOME if found else _Work.NONE, False
        return found

    def _worth_a_look(self, turn: Turn) -> Sequence[str]:
        """While there is work, all but those that were empty just now; without, one after the other."""
        now = clock.monotonic()
        there = [each for each in turn.order if each in self._known.levels and self._alone_until[each] <= now]
        if self._work is _Work.SOME:
            return [each for each in there if self._empty_until[each] <= now]
        if self._work is _Work.NONE and not self._rung:
            return [min(there, key=self._empty_until.__getitem__)]
        return there

    async def _look(self, turn: Turn, levels: Iterable[str], count: int, hide: float) -> Messages:
        for level in levels:
            if messages := await self._from(level, turn.count(level, count), hide):
                return self._chosen(turn, level, messages)
        return ()

    async def _from(self, level: str, count: int, hide: float, wait: float = 0.0) -> Messages:
        """What a level has; an error of another level than the normal one must not keep that from being worked on."""
        queue = self._queues[level]
        if self._alone_until[level] > clock.monotonic():
            return ()
        try:
            messages = await queue.receive(count, hide=hide, wait=wait)
        except StoreError as error:
            if level == Priority.NORMAL:
                raise
            self._alone_until[level] = clock.monotonic() + LEFT_ALONE
            if level not in self._failing:  # once: a queue that nobody has made and nobody uses is no news
                emit("store.unavailable", what="receive", queue=queue.name, why=str(error))
            self._failing.add(level)
            return ()
        self._failing.discard(level)
        self._empty_until[level] = 0.0 if messages else clock.monotonic() + LOOK_AGAIN
        return [replace(message, queue=queue.name) for message in messages]

    def _chosen(self, turn: Turn, level: str, messages: Messages) -> Messages:
        self._turns.received(turn, level, len(messages))
        return messages

    async def _first(self, turn: Turn, count: int, hide: float, wait: float) -> Messages:
        """Wait for all levels together."""

        async def ask(level: str, *, wait: float) -> Messages:
            return await self._from(level, count, hide, wait)

        try:
            now = clock.monotonic()
            usable = [level for level in turn.order if self._alone_until[level] <= now]
            found = await self._standing.first(usable, ask, wait=wait)
        except BaseException:
            await self._standing.end()
            raise
        if self.capabilities.answers_at_once:
            await self._standing.end()
        return self._chosen(turn, *found) if found else ()

    async def end(self) -> None:
        """Receive no more; what came meanwhile is given back."""
        await self._standing.end()


def _queues(stores: Stores, kind: str, *, ordered: bool) -> Mapping[str, Queue]:
    """The queues by level; that of the ordered groups stands behind the normal one."""
    found: dict[str, Queue] = {}
    for level, name in queues_of(kind).items():
        found[level] = stores.queue(name)
        if ordered and level is Priority.NORMAL:
            found[ORDERED] = stores.queue(ordered_queue_of(kind))
    return found
