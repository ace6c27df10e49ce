"""Several clients of a role instance: what one says of its own lease touches no other's."""

from __future__ import annotations

import pytest

from rolehost.host.channel.leases import StatusLeases
from rolehost.host.channel.wire import CurrentState


@pytest.mark.parametrize("status", ["Recycle", "Stopped", "Busy", "Started"])
async def test_a_release_leaves_the_leases_of_others(status: str) -> None:
    changes: list[str | None] = []
    leases = StatusLeases(lambda: changes.append(leases.status))
    leases.note(CurrentState("first", status, 1, detail="The first's."))
    leases.note(CurrentState("second", "Started", 2))
    leases.note(CurrentState("third", None))  # it never held one
    leases.note(CurrentState("second", None))
    assert (leases.status, leases.detail) == (status, "The first's.")
    assert None not in changes
    leases.note(CurrentState("first", None))
    assert leases.status is None


async def test_a_release_of_the_gravest_restores_what_the_others_say() -> None:
    leases = StatusLeases(lambda: None)
    leases.note(CurrentState("first", "Started", 1))
    leases.note(CurrentState("second", "Busy", 2, detail="The second's."))
    leases.note(CurrentState("third", "Stopped", 3))
    leases.note(CurrentState("third", None))
    assert (leases.status, leases.detail) == ("Busy", "The second's.")
    leases.note(CurrentState("second", None))
    assert leases.status == "Started"
