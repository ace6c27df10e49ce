"""Threads that serve requests in groups: what the reader and the writer have in common."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, cast

from rolehost.errors import StoreUnavailableError

Tool = TypeVar("Tool")  # what a request works with: a connection, a transaction
Result = TypeVar("Result")

GROUP = 256
PATIENCE = 30.0  # seconds; another process may be stopped while it holds the lock


@dataclass(slots=True, eq=False)
class Request(Generic[Tool]):
    """Work that waits for its thread, then for its answer to be delivered.

    Args:
        work: what to do.
        future: where the answer goes; None if nobody waits for it.
        regret: called with the answer when the caller has gone in the meantime.
        durable: whether the answer has to survive a power failure.
    """

    work: Callable[[Tool], Any]
    future: asyncio.Future[Any] | None
    regret: Callable[[Any], None] | None = None
    durable: bool = True
    answer: Any = None
    error: BaseException | None = None

    def given_up(self) -> bool:
        """Whether the caller no longer waits."""
        return self.future is not None and self.future.done()

    def settle(self) -> None:
        """Deliver the answer, on the caller's loop."""
        if self.future is None:
            return
        if not self.future.done():
            if self.error is None:
                self.future.set_result(self.answer)
            else:
                self.future.set_exception(self.error)
        elif self.error is None and self.answer is not None and self.regret is not None:
            self.regret(self.answer)


class Lane(ABC, Generic[Tool]):
    """A thread with an inbox. It may be called from any thread and any event loop.

    Args:
        name: the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._inbox: SimpleQueue[Request[Tool] | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def do(
        self,
        work: Callable[[Tool], Result],
        *,
        durable: bool = True,
        regret: Callable[[Result], None] | None = None,
    ) -> Result:
        """Have work done and wait for its answer.

        Args:
            work: what to do, in the lane's thread.
            durable: whether the answer has to survive a power failure.
            regret: called with the answer if the caller is cancelled before it hears it.

        Raises:
            StoreUnavailableError: the store is closed, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._send(Request(work, future, regret, durable))
        timer = loop.call_later(PATIENCE, _give_up, future)  # a third of what asyncio.timeout costs
        try:
            return cast("Result", await future)
        except asyncio.CancelledError:
            # Cancelled between the answer and the caller's next step: the answer would be lost.
            answered = future.done() and not future.cancelled() and future.exception() is None
            if answered and regret is not None:
                regret(future.result())
            raise
        finally:
            timer.cancel()

    def post(self, work: Callable[[Tool], Any]) -> None:
        """Have work done some time; nobody waits for it, and it may be lost."""
        with suppress(StoreUnavailableError):
            self._send(Request(work, None))

    def close(self) -> None:
        """Finish what waits, and end the thread; harmless when called twice."""
        with self._gate:
            if self._open:
                self._open = False
                self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _send(self, request: Request[Tool]) -> None:
        with self._gate:
            if not self._open:
                raise StoreUnavailableError("the store is closed")
            self._inbox.put(request)

    def _main(self) -> None:
        try:
            while (first := self._inbox.get()) is not None:
                group = self._gather(first)
                self._serve(group)
                _deliver(group)
                self._afterwards()
        finally:
            self._end()

    def _gather(self, first: Request[Tool]) -> Sequence[Request[Tool]]:
        group = [first]
        with suppress(Empty):
            while len(group) < GROUP:
                following = self._inbox.get_nowait()
                if following is None:
                    self._inbox.put(None)
                    break
                group.append(following)
        return group

    @abstractmethod
    def _serve(self, group: Sequence[Request[Tool]]) -> None:
        """Set each request's answer or error; raise nothing."""

    def _afterwards(self) -> None:
        """Called when a group's answers are on their way."""

    @abstractmethod
    def _end(self) -> None:
        """Close what was opened."""


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(StoreUnavailableError(f"the store did not answer within {PATIENCE:.0f} seconds"))


def _deliver(group: Sequence[Request[Any]]) -> None:
    """One wake-up per event loop, however many of its requests were served."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request[Any]]] = {}
    for request in group:
        if request.future is not None:
            by_loop.setdefault(request.future.get_loop(), []).append(request)
    for loop, requests in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, requests)


def _settle(requests: Sequence[Request[Any]]) -> None:
    for request in requests:
        request.settle()
