"""What the directory's helper is to know, kept until it is done, so that a helper that dies costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rolehost.telemetry import emit

# A store that is away for an hour must not fill our memory; a crash loop makes some ten events a minute.
MOST_WAITING = 1000
_MOST_OUTPUTS = 200

Message = dict[str, Any]


@dataclass(slots=True)
class _Hold:
    role: str
    number: int | None
    count: int | None
    token: str
    held: asyncio.Future[int] | None
    is_held: bool = False

    @property
    def instance(self) -> str:
        return "" if self.number is None else f"{self.role}_IN_{self.number}"


class Mail:
    """All that was said and not yet done with. Each method answers with the message to send now."""

    def __init__(self) -> None:
        self._holds: dict[int, _Hold] = {}
        self._status: dict[str, Message] = {}
        self._waiting: dict[int, Message] = {}
        self._outputs: dict[str, int] = {}
        self._last = 0

    def hold(
        self, role: str, wanted: int | None, count: int | None, token: str, held: asyncio.Future[int] | None
    ) -> Message:
        """A number is wanted; `held` gets it."""
        self._last += 1
        self._holds[self._last] = _Hold(role, wanted, count, token, held)
        return self._holding(self._last)

    def release(self, instance: str) -> Message:
        """It is wanted no longer."""
        self._holds = {request: hold for request, hold in self._holds.items() if hold.instance != instance}
        self._status.pop(instance, None)
        return {"release": instance}

    def held(self, request: int, number: int) -> None:
        """It is ours."""
        if (hold := self._holds.get(request)) is not None:
            hold.number, hold.is_held = number, True
            if hold.held is not None and not hold.held.done():
                hold.held.set_result(number)

    def lost(self, request: int) -> None:
        """It is somebody else's."""
        self._holds.pop(request, None)

    def status(self, facts: Mapping[str, Any]) -> Message:
        """Only the last facts of an instance matter."""
        self._status[str(facts.get("instance", ""))] = {**facts}
        return {"status": {**facts}}

    def event(self, name: str, facts: Mapping[str, Any], at: str) -> Iterator[Message]:
        """Each event matters, as far as they fit."""
        instance = facts.get("instance") or self._only_instance()
        told = {name: value for name, value in facts.items() if name != "instance"}
        yield self._keep({"event": {"name": name, "instance": instance, "at": at, "facts": told}})

    def output(self, facts: Mapping[str, Any]) -> Iterator[Message]:
        """The last facts of a run matter; one that goes on is told again to every helper."""
        run = str(facts.get("run", ""))
        if before := self._outputs.pop(run, None):
            self._waiting.pop(before, None)
        message = self._keep({"output": {**facts}})
        self._outputs[run] = message["number"]
        if len(self._outputs) > _MOST_OUTPUTS:
            oldest = next(iter(self._outputs))
            self._waiting.pop(self._outputs.pop(oldest), None)
        yield message

    def done(self, number: int) -> None:
        """The helper has stored it."""
        message = self._waiting.get(number)
        if message is None:
            return
        output = message.get("output")
        if output is not None and output.get("ended_at") is None:
            return
        del self._waiting[number]
        if output is not None:
            self._outputs.pop(str(output.get("run", "")), None)

    def everything(self) -> Iterator[Message]:
        """For a helper that knows nothing yet."""
        yield from [self._holding(request) for request in self._holds]
        yield from [{"status": facts} for facts in self._status.values()]
        yield from list(self._waiting.values())

    def _holding(self, request: int) -> Message:
        hold = self._holds[request]
        facts: Message = {"id": request, "role": hold.role, "wanted": hold.number, "count": hold.count}
        facts |= {"token": hold.token, "held": hold.is_held}
        return {"hold": facts}

    def _keep(self, message: Message) -> Message:
        self._last += 1
        numbered = self._waiting[self._last] = {**message, "number": self._last}
        if len(self._waiting) > MOST_WAITING:
            oldest = next(iter(self._waiting))
            dropped = self._waiting.pop(oldest)
            emit("directory.dropped", what="event" if "event" in dropped else "output")
        return numbered

    def _only_instance(self) -> str:
        known = {hold.instance for hold in self._holds.values() if hold.instance}
        return known.pop() if len(known) == 1 else ""
