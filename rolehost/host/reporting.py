"""Who hears what happens to an instance: the fabric over its link, or the instance directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rolehost import clock
from rolehost.host.link import Link


class Reporter(Protocol):
    """Hears of an instance. None of these waits, and none of them fails."""

    def status(self, facts: Mapping[str, Any]) -> None:
        """The instance's facts: at each change, and as a heartbeat."""

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Something happened to the instance, as `role.ready`."""

    def output(self, facts: Mapping[str, Any]) -> None:
        """A program's output has begun, or ended, to be kept in a file."""


class LinkReporter:
    """Tells the fabric.

    Args:
        link: the line to it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def status(self, facts: Mapping[str, Any]) -> None:
        """Send the facts."""
        self._link.send({"status": dict(facts)})

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Send the event, with the time."""
        self._link.send({"event": {"name": name, "at": clock.iso(clock.now()), "facts": dict(facts)}})

    def output(self, facts: Mapping[str, Any]) -> None:
        """Send where the output is."""
        self._link.send({"output": dict(facts)})


class SilentReporter:
    """Tells nobody."""

    def status(self, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    def output(self, facts: Mapping[str, Any]) -> None:
        """Nothing."""
