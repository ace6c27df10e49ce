"""What wakes a waiting receiver: a call within the process, a byte in a FIFO between processes.

A bell only saves waiting. Who dies between its commit and the ringing is made up for by the regular look.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path

from rolehost.stores.embedded.files import translated
from rolehost.stores.embedded.layout import PRIVATE_FILE

LOOK_EVERY = 5.0  # seconds
_TIMER_SLACK = 0.001  # seconds: a timer that ends a moment too early would look once more
_NOT_YET = "."  # names of FIFOs that nobody may ring or clear away yet begin with it


class Listener:
    """One waiting receiver. Made by `Bells.listen`."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the wait, on the receiver's loop."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Until the queue changes, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0) + _TIMER_SLACK):
                await self._rung.wait()
        self._rung.clear()


class _Bell:
    """The FIFO of one event loop. It is watched only while someone waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        self.loop = loop
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._path = directory / self.name
        self._listeners: dict[str, set[Listener]] = {}
        hidden = directory / f"{_NOT_YET}{self.name}"
        os.mkfifo(hidden, PRIVATE_FILE)
        try:
            # Reading and writing: it neither waits for a writer nor ever sees an end of file.
            self._fifo = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            hidden.unlink(missing_ok=True)
            raise
        hidden.rename(self._path)

    def add(self, queue: str, listener: Listener) -> None:
        """Listen for a queue."""
        if not self._listeners:
            self._drain()
            self.loop.add_reader(self._fifo, self._rung_by_another_process)
        self._listeners.setdefault(queue, set()).add(listener)

    def remove(self, queue: str, listener: Listener) -> None:
        """Listen no longer."""
        if not self._listeners:
            return  # closed in the meantime
        self._listeners[queue].discard(listener)
        if not self._listeners[queue]:
            del self._listeners[queue]
        if not self._listeners:
            self.loop.remove_reader(self._fifo)

    def ring(self, queues: AbstractSet[str]) -> None:
        """Wake the receivers of some queues, on the bell's loop."""
        for queue in queues & self._listeners.keys():
            for listener in self._listeners[queue]:
                listener.ring()

    def has_listeners(self) -> bool:
        """Whether anyone waits."""
        return bool(self._listeners)

    def close(self) -> None:
        """Remove the FIFO and wake whoever still waits."""
        self._path.unlink(missing_ok=True)
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if here or self.loop.is_closed():
            self._finish()
        else:
            with suppress(RuntimeError):  # closed at this very moment
                self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self._listeners and not self.loop.is_closed():
            self.loop.remove_reader(self._fifo)
        self.ring(set(self._listeners))
        self._listeners = {}
        os.close(self._fifo)

    def _rung_by_another_process(self) -> None:
        self._drain()
        self.ring(set(self._listeners))

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self._fifo, 4096)) == 4096:  # noqa: PLR2004 - a full read: there may be more
                pass


class Bells:
    """The bells of this process, one per event loop that waits, and the way to ring everyone's.

    Args:
        directory: where the FIFOs of all processes are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._gate = threading.Lock()
        self._own: dict[asyncio.AbstractEventLoop, _Bell] = {}

    @contextmanager
    def listen(self, queue: str) -> Iterator[Listener]:
        """Be woken when the queue changes, from now until the end of the block.

        Raises:
            StoreError: the machine has no descriptor left, or no room for a file.
        """
        listener = Listener()
        try:
            bell = self._bell()
            bell.add(queue, listener)
        except OSError as error:
            raise translated(error) from error
        try:
            yield listener
        finally:
            bell.remove(queue, listener)

    def ring(self, queues: AbstractSet[str]) -> None:
        """Tell every process that these queues changed; called from the writer's thread, and never fails."""
        with self._gate:
            own = list(self._own.values())
        for bell in own:
            if bell.has_listeners():
                with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    bell.loop.call_soon_threadsafe(bell.ring, frozenset(queues))
        with suppress(OSError):
            others = set(os.listdir(self._directory)) - {bell.name for bell in own}  # noqa: PTH208 - names are enough
            for name in others:
                if not name.startswith(_NOT_YET):
                    _ring_other(self._directory / name)

    def close(self) -> None:
        """Remove this process's bells."""
        with self._gate:
            own, self._own = self._own, {}
        for bell in own.values():
            bell.close()

    def _bell(self) -> _Bell:
        loop = asyncio.get_running_loop()
        with self._gate:
            for other in [other for other in self._own if other.is_closed()]:
                self._own.pop(other).close()
            if loop not in self._own:
                self._own[loop] = _Bell(loop, self._directory)
            return self._own[loop]


def _ring_other(path: Path) -> None:
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody has it open: its process is gone
            path.unlink(missing_ok=True)
        return
    try:
        with suppress(BlockingIOError):  # full: it has been rung often enough
            os.write(fifo, b"\0")
    finally:
        os.close(fifo)
