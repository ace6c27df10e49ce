"""What a bootstrapper says about its instance."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class InstanceState(StrEnum):
    """Where an instance is in its life; it takes requests in Ready only."""

    STARTING = "Starting"
    BUSY = "Busy"
    READY = "Ready"
    STOPPING = "Stopping"
    RECYCLING = "Recycling"
    STOPPED = "Stopped"


@dataclass(slots=True)
class InstanceStatus:
    """The instance's state as its probes answer it.

    Args:
        instance: its id.
        detail: a sentence for people.
        recycles: how often it was started again.
    """

    instance: str
    state: InstanceState = InstanceState.STARTING
    detail: str = "The host is starting."
    recycles: int = 0

    def change(self, state: InstanceState, detail: str) -> None:
        """Go to another state."""
        self.state, self.detail = state, detail

    def facts(self) -> dict[str, str | int]:
        """What a probe answers."""
        return {
            "instance": self.instance,
            "state": str(self.state),
            "detail": self.detail,
            "recycles": self.recycles,
        }
