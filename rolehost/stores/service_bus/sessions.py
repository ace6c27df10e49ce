"""A session of a queue that is ours for a while: its messages come one at a time, each once the last one is settled.

The broker locks a session for one receiver, so that nobody else gets its messages. A message that is given back for a
while is kept here, at the head of its session: that is what keeps the order over retries.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from rolehost import clock
from rolehost.errors import ReceiptMismatchError, StoreError, StoreUnavailableError
from rolehost.stores.service_bus.failures import translate
from rolehost.stores.service_bus.holding import renewal
from rolehost.stores.service_bus.link import close_handle
from rolehost.telemetry import emit

T = TypeVar("T")

LINGER: Final = 0.5
"""Seconds that a session without a message is kept, for the next one."""
KEPT: Final = 1.0
"""Seconds that a message is kept for somebody who asks, before another process may have its session."""
_SOON: Final = 1.0


@dataclass(slots=True, eq=False)
class Turn:
    """A message of a session whose turn it is.

    Args:
        session: whose.
        message: the SDK's.
        until: when it is given back unless something happens, on the monotonic clock.
        body: in the place of its own, if it was given back with another.
        receipt: of the delivery; empty while nobody has it.
        rests_until: it was given back for so long, and is offered again then.
        over: it is settled, or no longer ours.
    """

    session: OpenSession
    message: ServiceBusReceivedMessage
    until: float
    body: str | None = None
    receipt: str = ""
    rests_until: float | None = None
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def taken(self, hide: float) -> str:
        """Somebody has it for so long; the answer is the receipt."""
        self.receipt = f"{self.message.sequence_number}.{secrets.token_hex(8)}"
        self.until = clock.monotonic() + hide
        self.changed.set()
        return self.receipt

    def rests(self, seconds: float, body: str | None) -> None:
        """It is given back, and offered again after a while."""
        self.receipt, self.body = "", body if body is not None else self.body
        self.rests_until = clock.monotonic() + seconds
        self.changed.set()

    def ends(self) -> None:
        """It is no longer ours."""
        self.receipt, self.over = "", True
        self.changed.set()


class OpenSession:
    """A session that was accepted.

    Args:
        receiver: of the session, open.
        socket: the one below it.
        store: the queue and its namespace, for people.
        seconds: that an operation may take.
        offer: called with each message when it is its turn.

    `started` is set once it has offered its first message, or has none.
    """

    def __init__(
        self,
        receiver: ServiceBusReceiver,
        socket: asyncio.Transport | None,
        store: str,
        seconds: float,
        offer: Callable[[Turn], None],
    ) -> None:
        self._receiver = receiver
        self._socket = socket
        self._store = store
        self._seconds = seconds
        self._offer = offer
        self._gate = asyncio.Lock()
        self._renew_at = renewal(receiver.session.locked_until_utc)
        self._ours = True
        self._closed = asyncio.Event()
        self.started = asyncio.Event()

    async def serve(self) -> None:
        """Offer its messages one after the other, until there are none, or it is no longer ours; then let it go."""
        turn: Turn | None = None
        try:
            while self._ours and (message := await self._next()) is not None:
                turn = Turn(self, message, clock.monotonic() + KEPT)
                self._offer(turn)
                self.started.set()
                await self._see_through(turn)
        except StoreError as error:
            emit("queue.link_lost", queue=self._store, why=str(error))
        finally:
            self.started.set()
            if turn is not None:
                turn.ends()
            await self.end()

    async def _next(self) -> ServiceBusReceivedMessage | None:
        messages = await self._do(
            "receive",
            lambda: self._receiver.receive_messages(max_message_count=1, max_wait_time=LINGER),
            LINGER + self._seconds,
        )
        return messages[0] if messages else None

    async def _see_through(self, turn: Turn) -> None:
        """Keep the session's lock until the message is settled; a message whose time is over ends the session."""
        while not turn.over:
            turn.changed.clear()
            now = clock.monotonic()
            if turn.rests_until is not None and turn.rests_until <= now:
                turn.rests_until, turn.until = None, now + KEPT
                self._offer(turn)
            elif turn.rests_until is None and turn.until <= now:
                self._let_go(turn)
                return
            if self._renew_at <= now:
                await self._renew()
            rest = turn.until if turn.rests_until is None else turn.rests_until
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(rest, self._renew_at) - clock.monotonic())):
                    await turn.changed.wait()

    async def renew(self) -> None:
        """Hold the session's lock for its whole length from now.

        Raises:
            ReceiptMismatchError: it is lost.
        """
        await self._do("renew", self._receiver.session.renew_lock)
        self._renew_at = renewal(self._receiver.session.locked_until_utc)

    async def _renew(self) -> None:
        self._renew_at = clock.monotonic() + _SOON
        with suppress(StoreUnavailableError):  # tried again soon: half of the lock is left
            await self.renew()

    async def give_back(self, turn: Turn) -> None:
        """The message is to be had again, at the head of its session, and the session with it."""
        self._let_go(turn)
        await self._closed.wait()

    def _let_go(self, turn: Turn) -> None:
        """Closing the link gives back what it has; abandoned by itself, the message would be pushed to us again."""
        self._ours = False
        turn.ends()

    async def settle(self, turn: Turn, what: str, verb: Callable[[ServiceBusReceiver], Awaitable[object]]) -> None:
        """Settle a message; the next one follows.

        Raises:
            ReceiptMismatchError: it is no longer ours.
            StoreUnavailableError: nobody answered: the session ends.
        """
        try:
            await self._do(what, lambda: verb(self._receiver))
        except StoreError:
            self._ours = False
            raise
        finally:
            turn.ends()

    async def _do(self, what: str, call: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """One thing at a time: the SDK's receiver is for one task."""
        try:
            async with self._gate, asyncio.timeout(self._seconds if seconds is None else seconds):
                return await call()
        except Exception as error:
            raised = translate(error, what, self._store)
            if isinstance(raised, ReceiptMismatchError):
                self._ours = False
            raise raised from error

    async def end(self) -> None:
        """Let it go."""
        try:
            await close_handle(self._receiver, self._socket)
        finally:
            self._closed.set()
