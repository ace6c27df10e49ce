"""Why an instance is started again, and how long it waits before."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

_GROWTH_READY = 2.0
_LONGEST_READY = 10.0
_FIRST_FAILED = 10.0
_GROWTH_FAILED = 1.5
_LONGEST_FAILED = 3600.0
SETTLED_SECONDS = 300.0
"""A life that lasted as long makes the failures before it forgotten."""
_KUDU_PAUSE = 60.0
_KUDU_LONG_LIFE = 120.0
_MOST_STEPS = 20


class RecycleReason(StrEnum):
    """Why a life ends: the original's causes of a restart, each by its name, and those that only we can tell."""

    STOPPED = "stopped"
    UPDATED = "updated"
    ENVIRONMENT_CHANGED = "environment changed"
    REQUESTED = "recycle requested"
    CHANGE_CANCELLED = "change cancelled"
    RUN_RETURNED = "run returned"
    CRASHED = "crashed"
    HUNG = "hung"
    START_TIMED_OUT = "start timed out"
    TASK_FAILED = "startup task failed"
    NOT_STARTED = "not started"
    OVER_QUOTA = "local resource over its size"

    @property
    def is_orderly(self) -> bool:
        """Whether the role is told before: Stopping and OnStop."""
        return self in _ORDERLY


_ORDERLY = frozenset(
    {
        RecycleReason.STOPPED,
        RecycleReason.UPDATED,
        RecycleReason.ENVIRONMENT_CHANGED,
        RecycleReason.REQUESTED,
        RecycleReason.CHANGE_CANCELLED,
        RecycleReason.RUN_RETURNED,
        RecycleReason.OVER_QUOTA,
    }
)


class Pauses(Protocol):
    """The pauses between an instance's lives."""

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds.

        Args:
            was_ready: whether it reached ready.
            lasted: its seconds.
        """


class RecyclePauses:
    """The default: Service Fabric's series for starts that never reach ready, short pauses for the others.

    An instance that had been ready waits 1 s, growing to 10 s; the count is forgotten once a life lasted five minutes.
    One that never reached ready waits 10 s, each time half as long again, at most an hour.

    Args:
        unit: what one of these seconds lasts; tests make it short.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit
        self._ready = 0
        self._failed = 0

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds."""
        if not was_ready:
            self._failed += 1
            return _grown(self._failed - 1) * self._unit
        self._failed = 0
        self._ready = 1 if lasted >= SETTLED_SECONDS * self._unit else self._ready + 1
        return min(_GROWTH_READY ** min(self._ready - 1, _MOST_STEPS), _LONGEST_READY) * self._unit


class ServiceFabricPauses:
    """Service Fabric's series for every end: 10 s, each half as long again, at most an hour.

    It is forgotten once a life lasted five minutes.

    Args:
        unit: what one of these seconds lasts.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit
        self._failed = 0

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds."""
        self._failed = 0 if was_ready and lasted >= SETTLED_SECONDS * self._unit else self._failed
        self._failed += 1
        return _grown(self._failed - 1) * self._unit


class KuduPauses:
    """Kudu's: a minute, and none after a life of two minutes or more.

    Args:
        unit: what one of these seconds lasts.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self._unit = unit

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds."""
        del was_ready
        return 0.0 if lasted >= _KUDU_LONG_LIFE * self._unit else _KUDU_PAUSE * self._unit


class NoPauses:
    """None, for those who would rather see it spin.

    Args:
        unit: without effect.
    """

    def __init__(self, unit: float = 1.0) -> None:
        del unit

    def after(self, *, was_ready: bool, lasted: float) -> float:
        """The pause after a life, in seconds."""
        del was_ready, lasted
        return 0.0


_PRESETS: dict[str, type[RecyclePauses | ServiceFabricPauses | KuduPauses | NoPauses]] = {
    "rolehost": RecyclePauses,
    "service_fabric": ServiceFabricPauses,
    "kudu": KuduPauses,
    "none": NoPauses,
}


def pauses_of(preset: str, unit: float) -> Pauses:
    """The pauses of this name.

    Args:
        preset: as the service model has checked it.
        unit: what one of their seconds lasts.
    """
    return _PRESETS[preset](unit)


def _grown(steps: int) -> float:
    return min(_FIRST_FAILED * _GROWTH_FAILED ** min(steps, _MOST_STEPS), _LONGEST_FAILED)
