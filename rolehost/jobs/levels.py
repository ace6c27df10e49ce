"""Which queue wakes a job: one for each level of each kind, so that a level is a queue that workers look at first.

Jobs of normal priority keep the queue that a kind without levels has. This is the only place that tells a job's queue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import Priority
from rolehost.jobs.kinds import kind_named
from rolehost.stores.queues import ORDERED

if TYPE_CHECKING:
    from rolehost.jobs.job import JobSpec
    from rolehost.stores import Stores

LONGEST_GROUP: Final = 128
_ENDS: Final = {Priority.HIGH: "-high", Priority.NORMAL: "", Priority.LOW: "-low"}
# A kind's own name may end like a level: the last `-jobs` is the one that counts.
_QUEUE: Final = re.compile(r"(?=.{3,63}\Z)([a-z0-9]+(?:-[a-z0-9]+)*)-jobs(?:-high|-low|-ordered)?", re.ASCII)


def queue_of(spec: JobSpec) -> str:
    """The queue that wakes a job's workers."""
    return ordered_queue_of(spec.kind) if spec.group else queues_of(spec.kind)[spec.priority]


def ordered_queue_of(kind: str) -> str:
    """The queue of a kind's jobs that are in groups, where the engine has sessions."""
    return kind_named(kind).queue + ORDERED


def queues_of(kind: str) -> Mapping[Priority, str]:
    """The queues of a kind by level, the highest first.

    Raises:
        InvalidParameterError: it can't be the name of a kind.
    """
    normal = kind_named(kind).queue
    return {level: normal + end for level, end in _ENDS.items()}


def kind_of(queue: str) -> str | None:
    """The kind whose jobs a queue wakes; None if it is no queue of jobs."""
    found = _QUEUE.fullmatch(queue)
    return found[1] if found else None


def parse_priority(text: str) -> Priority:
    """A level by its name; normal where nothing is said.

    Raises:
        InvalidParameterError: there is no such level.
    """
    try:
        return Priority(text.strip().lower() or Priority.NORMAL)
    except ValueError:
        told = ", ".join(Priority)
        raise InvalidParameterError(f"priority must be one of {told}, not {text[:40]!r}", field="priority") from None


def parse_group(text: str) -> str:
    """The name of a group; empty for none.

    Raises:
        InvalidParameterError: it is too long, or has characters that nobody sees.
    """
    group = text.strip()
    if len(group) > LONGEST_GROUP or not group.isprintable():
        raise InvalidParameterError(f"group must be a name of up to {LONGEST_GROUP} characters", field="group")
    return group


def check_group(stores: Stores, kind: str, group: str, priority: Priority) -> None:
    """Refuse a job of a group where jobs can't be kept in order.

    Raises:
        InvalidParameterError: the queues have no sessions, or the job has a priority, too.
    """
    if not group:
        return
    if priority is not Priority.NORMAL:
        raise InvalidParameterError("a job of a group has no priority: its turn is in its group", field="priority")
    if not stores.queue(kind_named(kind).queue).capabilities.sessions:
        raise InvalidParameterError(
            "this service can't keep the jobs of a group in order: that needs queues on Azure Service Bus",
            field="group",
        )
