"""A queue with sessions: the messages of one session are delivered one after the other, to one process at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusSessionFilter
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError

from rolehost import clock
from rolehost.errors import InvalidParameterError, NotFoundError, ReceiptMismatchError, StoreError
from rolehost.stores import names
from rolehost.stores.proofs import own_name
from rolehost.stores.queues import QueueMessage
from rolehost.stores.service_bus.administration import Administration
from rolehost.stores.service_bus.failures import translate
from rolehost.stores.service_bus.link import Pulse, close_handle, socket_of
from rolehost.stores.service_bus.messages import incoming, outgoing
from rolehost.stores.service_bus.namespace import Namespace
from rolehost.stores.service_bus.queues import ServiceBusQueue
from rolehost.stores.service_bus.sessions import OpenSession, Turn

Wanted: TypeAlias = str | ServiceBusSessionFilter
MOST_OPEN: Final = 100
"""Sessions that a process holds at a time, those included whose message waits for its next attempt."""
ACCEPT: Final = 20.0
"""Seconds that the broker is asked to wait for a session with a message."""
LONGEST_SESSION: Final = 128
_GLANCE: Final = 0.1


class SessionQueue(ServiceBusQueue):
    """See `ServiceBusQueue`; every message names its session, and `peek` shows nothing: it would need a session.

    A message that is released with a delay or a body stays with this process, and its session with it: it is delivered
    again after the delay, before all others of its session. When the process ends it is to be had at once, as it was.
    """

    def __init__(
        self, name: str, namespace: Namespace, client: ServiceBusClient, administration: Administration, pulse: Pulse
    ) -> None:
        super().__init__(name, namespace, client, administration, pulse)
        self._pulse = pulse
        self._seconds = namespace.bounds.operation
        self._opening_seconds = namespace.bounds.opening
        self._store = f"queue {name!r} of {namespace.host}"
        options = namespace.link_options()
        self._make_receiver: Callable[[Wanted], ServiceBusReceiver] = lambda wanted: client.get_queue_receiver(
            name, session_id=wanted, max_wait_time=ACCEPT, **options
        )
        self._offered: deque[Turn] = deque()
        self._turns: dict[str, Turn] = {}
        self._open: set[Turn] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._asking = 0
        self._error: StoreError | None = None

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        """See `Queue.put`.

        Raises:
            InvalidParameterError: it names no session, or one that is too long.
        """
        if not 0 < len(session) <= LONGEST_SESSION:
            raise InvalidParameterError(f"a session is named by 1 to {LONGEST_SESSION} characters", "session")
        size = self._checked(body, delay)
        await self._outgoing.send(outgoing(body, names.text(message_id, "message_id"), delay, session), size)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        """See `Queue.receive`: of each session one message at most."""
        self._checked("", hide)
        until = clock.monotonic() + wait
        self._asking += 1
        try:
            while not self._offered:
                self._accept_more()
                self._news.clear()
                left = until - clock.monotonic()
                if left <= 0:
                    return ()
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._news.wait()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
        finally:
            self._asking -= 1
        turns = [self._offered.popleft() for _ in range(min(count, len(self._offered)))]
        return [self._delivered(turn, hide) for turn in turns]

    def _delivered(self, turn: Turn, hide: float) -> QueueMessage:
        receipt = turn.taken(hide)
        self._turns[receipt] = turn
        told = incoming(turn.message, receipt)
        return told if turn.body is None else replace(told, body=turn.body)

    def _accept_more(self) -> None:
        """Ask the broker for a session, unless somebody does already."""
        idle = self._accepting is None or self._accepting.done()
        if idle and len(self._serving) < MOST_OPEN:
            self._accepting = asyncio.create_task(self._accept(), name="sessions of a queue")

    async def _accept(self) -> None:
        """Accept sessions, for as long as somebody waits for a message."""
        while self._asking and not self._offered and len(self._serving) < MOST_OPEN:
            try:
                session = await self._next_session()
            except StoreError as error:
                self._error = error
                self._news.set()
                return
            if session is not None:
                self._pulse.beat()
                serving = asyncio.create_task(session.serve(), name="a session")
                self._serving.add(serving)
                serving.add_done_callback(self._ended)
                await session.started.wait()

    def _ended(self, serving: asyncio.Task[None]) -> None:
        self._serving.discard(serving)
        self._offered = deque(turn for turn in self._offered if not turn.over)
        self._turns = {receipt: turn for receipt, turn in self._turns.items() if turn.receipt == receipt}

    async def _next_session(self) -> OpenSession | None:
        """The next session that has a message; None if none had one for a while."""
        for again in (False, True):
            try:
                return await self._attached(NEXT_AVAILABLE_SESSION)
            except NotFoundError:
                if again:
                    raise
                await self._administration.make_queue(self.name, sessions=True)
        return None

    async def _attached(self, wanted: Wanted) -> OpenSession | None:
        receiver = self._make_receiver(wanted)
        opening = asyncio.ensure_future(receiver.__aenter__())
        socket, session = None, None
        try:
            async with asyncio.timeout(ACCEPT + self._opening_seconds):
                while not opening.done():  # the SDK lets go of the socket before it says that it failed
                    await asyncio.wait([opening], timeout=_GLANCE)
                    socket = socket_of(receiver) or socket
            opening.result()
            session = OpenSession(receiver, socket, self._store, self._seconds, self._offer)
        except OperationTimeoutError:
            pass
        except Exception as error:
            raise translate(error, "accept a session", self._store) from error
        finally:
            if session is None:
                await close_handle(receiver, socket, opening)
        return session

    @property
    def _held(self) -> int:
        return sum(not turn.over for turn in self._open)

    def _offer(self, turn: Turn) -> None:
        self._open = {each for each in self._open if not each.over} | {turn}
        self._offered.append(turn)
        self._news.set()

    def _find(self, message: QueueMessage) -> Turn:
        turn = self._turns.get(message.receipt)
        if turn is None or turn.over or turn.receipt != message.receipt:
            raise ReceiptMismatchError(f"the message {message.id!r} is no longer ours")
        return turn

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Queue.renew`; the body stays as it is, and what is renewed is the session's lock."""
        del body
        self._checked("", hide)
        turn = self._find(message)
        try:
            await turn.session.renew()
        except ReceiptMismatchError:
            turn.ends()
            raise
        self._turns.pop(message.receipt, None)
        return self._delivered(turn, hide)

    async def complete(self, message: QueueMessage) -> None:
        """See `Queue.complete`; the next message of the session follows."""
        turn = self._forgotten(message)
        await turn.session.settle(turn, "complete", lambda receiver: receiver.complete_message(turn.message))

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Queue.release`: with a delay the session waits, too; without one any process may have both."""
        self._checked(body or "", delay)
        turn = self._forgotten(message)
        if delay:
            turn.rests(delay, body)
        else:
            await turn.session.give_back(turn)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Queue.dead_letter`; the next message of the session follows."""
        cause, story = self._explained(reason, description)
        turn = self._forgotten(message)
        await turn.session.settle(
            turn,
            "dead-letter",
            lambda receiver: receiver.dead_letter_message(turn.message, reason=cause, error_description=story),
        )

    def _forgotten(self, message: QueueMessage) -> Turn:
        turn = self._find(message)
        del self._turns[message.receipt]
        return turn

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """See `Queue.peek`; only dead letters can be looked at without taking a session."""
        return await super().peek(count, dead=True) if dead else ()

    async def prove(self) -> None:
        """See `ServiceBusQueue.prove`: by a session that nobody uses, which also shows that the queue has sessions."""
        session = await self._attached(own_name())
        if session is not None:
            await session.end()

    async def close(self) -> None:
        """Let go of all sessions, and close the links."""
        for task in [*self._serving, *([self._accepting] if self._accepting else [])]:
            task.cancel()
            await asyncio.wait([task])
        await super().close()
