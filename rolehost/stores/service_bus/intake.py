"""Receiving: one link takes for all who wait, and hands out in turn.

The broker pushes; nobody polls. A receiver that leaves while messages are on their way to it loses none of them: they
go to the next one, or back to the broker if there is none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from rolehost import clock
from rolehost.errors import StoreError, StoreUnavailableError
from rolehost.stores.service_bus.link import Link, Pulse

Messages: TypeAlias = "list[ServiceBusReceivedMessage]"

MOST: Final = 32
PATIENCE: Final = 0.2
"""Seconds that the broker has to push what is there, for who does not want to wait."""
_SLICE: Final = 2.0
_SHORTEST_SLICE: Final = 0.2
_SPARE_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class _Waiter:
    count: int
    until: float
    answer: asyncio.Future[Messages] = field(default_factory=asyncio.Future)


class Intake:
    """What comes in over one receiver's link.

    Args:
        link: the receiver.
        pulse: told when messages prove that the broker is there.
        ask: asks the broker for a sign of life.
        abandon: gives a message back to the broker.
    """

    def __init__(
        self,
        link: Link[ServiceBusReceiver],
        pulse: Pulse,
        ask: Callable[[], Awaitable[object]],
        abandon: Callable[[ServiceBusReceivedMessage], Awaitable[object]],
    ) -> None:
        self._link = link
        self._pulse = pulse
        self._ask = ask
        self._abandon = abandon
        self._waiters: deque[_Waiter] = deque()
        self._spare: deque[ServiceBusReceivedMessage] = deque()
        self._pumping: asyncio.Task[None] | None = None
        self._giving_back: asyncio.Task[None] | None = None

    async def take(self, count: int, wait: float) -> Sequence[ServiceBusReceivedMessage]:
        """Up to `count` messages; none if none came in time.

        Raises:
            StoreError: the broker does not answer, or refuses.
        """
        if self._spare:
            return [self._spare.popleft() for _ in range(min(count, len(self._spare)))]
        await self._link.opened()
        messages = await self._wait(count, wait)
        age = self._pulse.age
        if not messages and (age is None or age > self._link.bounds.silence):
            await self._ask()
        return messages

    async def _wait(self, count: int, wait: float) -> Messages:
        waiter = _Waiter(count, clock.monotonic() + max(wait, PATIENCE))
        self._waiters.append(waiter)
        if self._pumping is None or self._pumping.done():
            self._pumping = asyncio.create_task(self._pump(), name="intake of a queue")
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + waiter.until - clock.monotonic()):
                return await waiter.answer
        except TimeoutError:
            return waiter.answer.result() if _answered(waiter) else []
        except asyncio.CancelledError:
            if _answered(waiter):
                self._keep(waiter.answer.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def _pump(self) -> None:
        """Receive for as long as somebody waits."""
        while self._waiters:
            count = min(sum(waiter.count for waiter in self._waiters), MOST)
            longest = max(waiter.until for waiter in self._waiters) - clock.monotonic()
            try:
                messages = await self._receive(count, min(max(longest, _SHORTEST_SLICE), _SLICE))
            except StoreError as error:
                self._fail(error)
                return
            self._hand_out(messages)

    async def _receive(self, count: int, seconds: float) -> Messages:
        messages = await self._link.use(
            "receive",
            lambda receiver: receiver.receive_messages(max_message_count=count, max_wait_time=seconds),
            seconds=seconds + self._link.bounds.operation,
            proves=False,
        )
        if messages:
            self._pulse.beat()
        return messages

    def _hand_out(self, messages: Messages) -> None:
        left = deque(messages)
        while left and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.answer.done():
                waiter.answer.set_result([left.popleft() for _ in range(min(waiter.count, len(left)))])
        self._keep(left)

    def _fail(self, error: StoreError) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.answer.done():
                waiter.answer.set_exception(error)

    def _keep(self, messages: Sequence[ServiceBusReceivedMessage] | Messages) -> None:
        """Messages that nobody waits for any more: for the next one who comes soon."""
        if not messages:
            return
        self._spare.extendleft(reversed(messages))
        self._hand_out_spare()
        if self._spare and (self._giving_back is None or self._giving_back.done()):
            self._giving_back = asyncio.create_task(self._give_back_later(), name="spare messages of a queue")

    def _hand_out_spare(self) -> None:
        while self._spare and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.answer.done():
                waiter.answer.set_result([self._spare.popleft() for _ in range(min(waiter.count, len(self._spare)))])

    async def _give_back_later(self) -> None:
        await clock.sleep(_SPARE_SECONDS)
        await self.give_back()

    async def give_back(self) -> None:
        """Let the broker have what nobody took."""
        while self._spare:
            try:
                await self._abandon(self._spare.popleft())
            except StoreError:
                continue  # its lock ends by itself

    async def close(self) -> None:
        """Receive no more, and give back what nobody took."""
        self._fail(StoreUnavailableError("the queue is closed"))
        for task in (self._giving_back, self._pumping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self.give_back()


def _answered(waiter: _Waiter) -> bool:
    return waiter.answer.done() and not waiter.answer.cancelled() and waiter.answer.exception() is None
