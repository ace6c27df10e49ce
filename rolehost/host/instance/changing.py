"""What another generation means for a running role: told, or started again; and which generation it has taken."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.recycling import RecycleReason
from rolehost.service_model.updating import needs_restart


def why_restart(old: InstancePlan, new: InstancePlan, installed: AbstractSet[str]) -> RecycleReason | None:
    """Why a running role has to start again for a change; None: it can be told of it.

    Args:
        old: what it runs with.
        new: what it is to run with.
        installed: the thumbprints of the certificates that were there when it started; another one has to be installed
            first, which the original did by a restart.
    """
    if needs_restart(old.model, new.model, new.role.name):
        return RecycleReason.UPDATED
    fresh = _thumbprints(new) - _thumbprints(old)
    return None if fresh <= installed else RecycleReason.ENVIRONMENT_CHANGED


def _thumbprints(plan: InstancePlan) -> frozenset[str]:
    return frozenset(certificate.thumbprint for certificate in plan.role.certificates.values())


class Offers:
    """The generations that a running role was told of, each by its incarnation."""

    def __init__(self) -> None:
        self._generations: dict[int, int] = {}

    def add(self, incarnation: int, generation: int) -> None:
        """The role is told of a generation."""
        self._generations[incarnation] = generation

    def taken(self, incarnation: int) -> int | None:
        """The generation of the newest incarnation up to this one; None: it was offered none."""
        offered = [each for each in self._generations if each <= incarnation]
        return self._generations[max(offered)] if offered else None

    def is_refused(self, incarnation: int, taken: int) -> bool:
        """Whether a recycle that is asked for in this incarnation refuses a change.

        Args:
            incarnation: the one that the request names.
            taken: the newest that the role had taken before; 0: it never said.
        """
        return incarnation in self._generations and incarnation > max(taken, min(self._generations))
