"""Who is let in next, and how many: several batches share a queue, and none of them fills it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FIRST = 16
LEAST = 4
MOST = 1000
_WEIGHT = 0.4
"""Of the latest look, in the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A batch that could let items in.

    Args:
        batch: its id.
        submitter: whose it is.
        open: items of it that are in the queue or run.
        left: items that wait.
    """

    batch: str
    submitter: str
    open: int
    left: int


def shares(turns: Iterable[Turn], room: int) -> Mapping[str, int]:
    """How many items of each batch go in: one after the other, always of the submitter who has the fewest there.

    Args:
        turns: the batches, in the order in which equals come.
        room: items that there is room for.
    """
    given: dict[str, int] = {}
    theirs: dict[str, list[tuple[int, int, int, str]]] = {}
    opened: dict[str, int] = {}
    for order, turn in enumerate(turns):
        opened[turn.submitter] = opened.get(turn.submitter, 0) + turn.open
        if turn.left > 0:
            heapq.heappush(theirs.setdefault(turn.submitter, []), (turn.open, order, turn.left, turn.batch))
    submitters = [(opened[name], order, name) for order, name in enumerate(theirs)]
    heapq.heapify(submitters)
    for _ in range(max(room, 0)):
        if not submitters:
            break
        count, place, name = heapq.heappop(submitters)
        mine, order, left, batch = heapq.heappop(theirs[name])
        given[batch] = given.get(batch, 0) + 1
        if left > 1:
            heapq.heappush(theirs[name], (mine + 1, order, left - 1, batch))
        if theirs[name]:
            heapq.heappush(submitters, (count + 1, place, name))
    return given


class Pace:
    """How fast a queue's jobs end, and so how many may wait in it.

    Args:
        ahead: seconds of work that may wait: as long is what a job that is submitted alone waits for.
    """

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead
        self._rate: float | None = None
        self._looked: float | None = None
        self._depth = float(FIRST)

    def look(self, now: float, *, ended: int, running: int, queued: int) -> int:
        """Take note of a look; how many there is room for.

        Args:
            now: monotonic seconds.
            ended: jobs that ended since the look before.
            running: that run.
            queued: that could be begun now.
        """
        before, self._looked = self._looked, now
        if before is not None and now > before and (ended or running or queued):
            latest = ended / (now - before)
            self._rate = latest if self._rate is None else self._rate + _WEIGHT * (latest - self._rate)
            wanted = self._rate * self._ahead
            # None was left waiting: they could have done more, and nobody knows how much.
            self._depth = max(wanted, 2 * self._depth) if ended and not queued else max(wanted, running)
        self._depth = min(max(self._depth, LEAST), MOST)
        return max(0, int(self._depth) - queued)
