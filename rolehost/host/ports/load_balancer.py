"""Which instances take connections of an endpoint: by their state, or by the endpoint's own probe.

As the original: the default probe is the agent's, which says yes only while the instance is ready. A custom probe takes
its place, so that a role which still answers it is not withdrawn before `on_stop`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from rolehost import clock
from rolehost.host.instance.status import InstanceState
from rolehost.host.ports.rotation import Backend
from rolehost.service_model import LoadBalancerProbe

_OK = b"200"
# The pauses of the first probes of a life, or after its state changed: nobody waits a whole interval for the first yes.
_FIRST_PAUSE = 0.1
_Address = tuple[str, int]
Ask = Callable[[LoadBalancerProbe, _Address, float], Awaitable[bool | None]]


class PublicPort(Protocol):
    """What the load balancer tells: `Relay` or `UdpRelay`."""

    def set_backends(self, backends: Iterable[Backend]) -> None:
        """Take these instances in place of those before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of an instance.

    Args:
        instance: its id.
        state: an `InstanceState`.
        life: names the process that runs, differently each time; empty: none does.
        address: where it listens for the endpoint.
        probe: where it listens for the endpoint's probe.
    """

    instance: str
    state: str
    life: str
    address: _Address
    probe: _Address


class LoadBalancer:
    """Tells a public port which instances are ready.

    Args:
        port: what it tells.
        probe: the endpoint's own; None: the instance's state decides.
        ignore_status: instances take connections for as long as they live.
        ask: asks a probe.
    """

    def __init__(
        self,
        port: PublicPort,
        *,
        probe: LoadBalancerProbe | None = None,
        ignore_status: bool = False,
        ask: Ask | None = None,
    ) -> None:
        self._port = port
        self._probe = None if ignore_status else probe
        self._ignore_status = ignore_status
        self._ask = ask or ask_probe
        self._seen: dict[str, Seen] = {}
        self._probings: dict[str, _Probing] = {}

    def note(self, seen: Seen) -> None:
        """Take what is now known of an instance."""
        before = self._seen.get(seen.instance)
        self._seen[seen.instance] = seen
        if self._probe is not None and before != seen:
            self._probe_now(self._probe, seen, same=before is not None and before.life == seen.life)
        self._tell()

    def forget(self, instance: str) -> None:
        """Take an instance out, until it is noted again."""
        if self._seen.pop(instance, None) is not None:
            self._end_probing(instance)
            self._tell()

    def close(self) -> None:
        """End all probing."""
        for instance in [*self._probings]:
            self._end_probing(instance)

    def _probe_now(self, probe: LoadBalancerProbe, seen: Seen, *, same: bool) -> None:
        if same and seen.instance in self._probings:
            self._probings[seen.instance].begin(seen.probe)
            return
        self._end_probing(seen.instance)
        if seen.life:
            probing = self._probings[seen.instance] = _Probing(probe, self._ask, self._tell)
            probing.begin(seen.probe)

    def _end_probing(self, instance: str) -> None:
        if probing := self._probings.pop(instance, None):
            probing.end()

    def _tell(self) -> None:
        self._port.set_backends(
            [Backend(each.instance, each.address, self._is_ready(each)) for each in self._seen.values()]
        )

    def _is_ready(self, seen: Seen) -> bool:
        if not seen.life:
            return False
        if self._probe is not None:
            return self._probings[seen.instance].healthy
        return self._ignore_status or seen.state == InstanceState.READY


class _Probing:
    """One instance, asked again and again: a no takes it out at once, silence once the timeout is over."""

    def __init__(self, probe: LoadBalancerProbe, ask: Ask, on_change: Callable[[], None]) -> None:
        self._probe = probe
        self._ask = ask
        self._on_change = on_change
        self._answered_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.healthy = False

    def begin(self, address: _Address) -> None:
        """Ask now, and then regularly."""
        self.end()
        self._task = asyncio.create_task(self._run(address))

    def end(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, address: _Address) -> None:
        interval, pause = float(self._probe.interval_seconds), _FIRST_PAUSE
        while True:
            began = clock.monotonic()
            answer = await self._ask(self._probe, address, self._patience())
            self._take(answer)
            pause = interval if answer else min(pause * 2, interval)
            await clock.sleep(max(pause - (clock.monotonic() - began), 0.0))

    def _patience(self) -> float:
        """How long the next answer may take: a healthy instance's silence counts from its last answer."""
        longest = float(min(self._probe.interval_seconds, self._probe.timeout_seconds))
        if not self.healthy:
            return longest
        left = self._answered_at + self._probe.timeout_seconds - clock.monotonic()
        return max(min(longest, left), 0.0)

    def _take(self, answer: bool | None) -> None:  # noqa: FBT001 - the probe's answer: yes, no, or none
        now = clock.monotonic()
        healthy = self.healthy and now < self._answered_at + self._probe.timeout_seconds if answer is None else answer
        if answer:
            self._answered_at = now
        if healthy != self.healthy:
            self.healthy = healthy
            self._on_change()


async def ask_probe(probe: LoadBalancerProbe, address: _Address, seconds: float) -> bool | None:
    """Whether the instance takes connections: HTTP 200, or a TCP connection at all; None: no answer came.

    Args:
        probe: how to ask.
        address: where.
        seconds: how long to wait.
    """
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*address)
            try:
                if probe.protocol == "tcp":
                    return True
                path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
                head = f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode())
                return (await reader.readline()).split(None, 2)[1:2] == [_OK]
            finally:
                writer.close()
    except TimeoutError:
        return None
    except (OSError, ValueError):
        return False
