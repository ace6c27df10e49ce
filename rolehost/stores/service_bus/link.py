"""A link to a queue: opened when it is needed, shared by all who use the queue, opened anew after a drop.

The SDK's own retries are off. A call is never cut off in the middle by its caller's cancellation, for that would leave
the SDK's state half changed; it ends by its own bound in time, and a link that did not answer is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from rolehost import clock
from rolehost.errors import NotFoundError, StoreError, StoreUnavailableError
from rolehost.stores.service_bus.failures import keeps_link, link_is_gone, safe, translate
from rolehost.stores.service_bus.namespace import Bounds
from rolehost.telemetry import emit

T = TypeVar("T")

CLOSING: Final = 8.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_MOST_DOUBLINGS: Final = 10


class SdkLink(Protocol):
    """What the SDK's senders and receivers have in common; entering one is the only public way to open it."""

    async def __aenter__(self) -> Any: ...

    async def close(self) -> None:
        """Close it."""


Handle = TypeVar("Handle", bound=SdkLink)


class Pulse:
    """When the broker last proved that it is there. An empty receive proves nothing, and is never counted."""

    def __init__(self) -> None:
        self._proven: float | None = None

    def beat(self) -> None:
        """It answered."""
        self._proven = clock.monotonic()

    @property
    def age(self) -> float | None:
        """Seconds since the last proven round trip; None if there was none."""
        return None if self._proven is None else clock.monotonic() - self._proven


class Link(Generic[Handle]):
    """A sender or a receiver of the SDK that comes back.

    Args:
        store: the queue and its namespace, for people.
        make: makes the SDK's object.
        make_queue: called when the queue does not exist; raises `NotFoundError` if it can't make it.
        pulse: told of every answer.
        bounds: how long the broker is waited for.
    """

    def __init__(
        self,
        store: str,
        make: Callable[[], Handle],
        make_queue: Callable[[], Awaitable[None]],
        pulse: Pulse,
        bounds: Bounds,
    ) -> None:
        self._store = store
        self._make = make
        self._make_queue = make_queue
        self._pulse = pulse
        self.bounds = bounds
        self._handle: Handle | None = None
        self._socket: asyncio.Transport | None = None
        self._opening = asyncio.Lock()
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self._running: set[asyncio.Task[Any]] = set()
        self._closings: set[asyncio.Task[None]] = set()

    async def use(
        self, what: str, verb: Callable[[Handle], Awaitable[T]], *, seconds: float | None = None, proves: bool = True
    ) -> T:
        """Do something over the link; once more on a new one if the link turns out to be dead.

        Args:
            what: what is done, for people.
            verb: does it; must bear being done twice.
            seconds: how long it may take; None: what the bounds say.
            proves: whether its success proves that the broker is there.

        Raises:
            StoreError: as `translate` has it.
        """
        for again in (False, True):
            handle = await self.opened()
            try:
                answer = await self._uncut(verb(handle), self.bounds.operation if seconds is None else seconds)
            except Exception as error:
                if not keeps_link(error):
                    self._give_up(handle, error)
                if again or not link_is_gone(error):
                    raise translate(error, what, self._store) from error
            else:
                if proves:
                    self._pulse.beat()
                return answer
        raise AssertionError("one of two tries ends it")  # pragma: no cover

    async def opened(self) -> Handle:
        """The link, opened if it isn't.

        Raises:
            StoreError: it can't be opened, or was tried too recently.
        """
        if self._handle is None:
            try:
                await self._uncut(self._open(), 2 * self.bounds.opening + self.bounds.operation)
            except TimeoutError as error:
                raise translate(error, "open", self._store) from error
        if self._handle is None:
            raise StoreUnavailableError(f"{self._store}: the link is closed")
        return self._handle

    async def _open(self) -> None:
        async with self._opening:
            if self._handle is not None:
                return
            if self._closed:
                raise StoreUnavailableError(f"{self._store}: the stores are closed")
            await self._pause()
            try:
                try:
                    self._handle = await self._attach()
                except NotFoundError:
                    await self._make_queue()
                    self._handle = await self._attach()
            except StoreError:
                pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
                self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
                self._not_before = clock.monotonic() + pause
                raise
            self._failures = 0
            self._pulse.beat()

    async def _pause(self) -> None:
        """Wait until the broker may be asked again; a wait that is longer than an operation is refused."""
        pause = self._not_before - clock.monotonic()
        if pause > self.bounds.operation:
            raise StoreUnavailableError(f"{self._store}: could not be reached; it is tried again in {pause:.0f} s")
        await clock.sleep(max(pause, 0))

    async def _attach(self) -> Handle:
        handle = self._make()
        opening = asyncio.ensure_future(handle.__aenter__())
        try:
            await asyncio.wait([opening], timeout=self.bounds.opening)
            self._socket = socket_of(handle)
            if opening.done():
                opening.result()
                return handle
        except Exception as error:
            self._let_close(handle)
            raise translate(error, "open", self._store) from error
        except asyncio.CancelledError:
            self._let_close(handle, opening)
            raise
        self._let_close(handle, opening)
        raise StoreUnavailableError(f"open, {self._store}: no answer in time")

    def _give_up(self, handle: Handle, error: Exception) -> None:
        """A link that failed is closed behind our back; the next call opens another."""
        if self._handle is handle:
            emit("queue.link_lost", queue=self._store, why=safe(error))
            self._handle = None
            self._let_close(handle)

    def _let_close(self, handle: Handle, opening: asyncio.Future[Any] | None = None) -> None:
        socket, self._socket = self._socket, None
        task = asyncio.create_task(close_handle(handle, socket, opening), name=f"close a link of {self._store}")
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def _uncut(self, call: Awaitable[T], seconds: float) -> T:
        """Await a call that goes on to its end, or to its bound, when its caller is cancelled."""
        task = asyncio.create_task(_bounded(call, seconds))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StoreUnavailableError(f"{self._store}: the link was closed") from None
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody else hears of it
            raise

    async def close(self) -> None:
        """Close it for good; harmless when called twice."""
        self._closed = True
        for task in set(self._running):
            task.cancel()
            await asyncio.wait([task])
        handle, self._handle = self._handle, None
        if handle is not None:
            self._let_close(handle)
        if self._closings:
            await asyncio.wait(set(self._closings))


async def close_handle(
    handle: SdkLink, socket: asyncio.Transport | None, opening: asyncio.Future[Any] | None = None
) -> None:
    """Close a link of the SDK's, whatever becomes of it, and the socket below.

    Args:
        handle: the link.
        socket: see `socket_of`; asked for before the link is closed.
        opening: what opens it, if that isn't over.
    """
    try:
        async with asyncio.timeout(CLOSING):
            if opening is not None:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            await handle.close()
    except Exception as error:  # noqa: BLE001 - it is of no use any more, whatever it says
        emit("queue.link_closed_badly", why=safe(error))
    finally:
        if socket is not None:
            socket.abort()


def socket_of(handle: SdkLink) -> asyncio.Transport | None:
    """The socket below a link. The SDK forgets to close it when the other side has vanished."""
    found: Any = handle
    for name in ("_handler", "_connection", "_transport", "writer", "transport"):
        found = getattr(found, name, None)
    return found if isinstance(found, asyncio.Transport) else None


async def _bounded(call: Awaitable[T], seconds: float) -> T:
    async with asyncio.timeout(seconds):
        return await call
