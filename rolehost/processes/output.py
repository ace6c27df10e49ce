"""What a child prints: counted in full, kept in bounded memory as its head and its tail."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import IO

_READ_BYTES = 65536  # what a pipe holds


class Output:
    """One stream of a child.

    Args:
        capture: bytes kept, half for the head and half for the tail.
        tee: gets all that comes, too; it must not wait.
    """

    def __init__(self, capture: int, tee: Callable[[bytes], None] | None = None) -> None:
        self.total = 0
        self._tee = tee
        self._head_room = (capture + 1) // 2
        self._tail_room = capture // 2
        self._head = bytearray()
        self._tail = bytearray()  # a ring once it is full; `_oldest` is where it begins
        self._oldest = 0

    @property
    def truncated(self) -> bool:
        """Whether bytes were left out of what is kept."""
        return self.total > len(self._head) + len(self._tail)

    def text(self, limit: int | None = None) -> str:
        """The stream as text: all of it, or its head, a line that counts what is left out, and its tail.

        Args:
            limit: bytes shown at most, the line in the middle not counted; by default all that is kept.
        """
        head, tail = bytes(self._head), bytes(self._tail[self._oldest :] + self._tail[: self._oldest])
        if not self.truncated and (limit is None or self.total <= limit):
            return (head + tail).decode(errors="replace")
        if limit is not None and limit < len(head) + len(tail):
            kept = head + tail if not self.truncated else b""
            head = (kept or head)[: (limit + 1) // 2]
            tail = (kept or tail)[max(len(kept or tail) - limit // 2, 0) :]
        left_out = self.total - len(head) - len(tail)
        return f"{head.decode(errors='replace')}\n[... {left_out} bytes left out ...]\n{tail.decode(errors='replace')}"

    def tail(self, limit: int) -> bytes:
        """The end of the stream, as far as it is kept: so many bytes at most."""
        tail = bytes(self._tail[self._oldest :] + self._tail[: self._oldest])
        return (tail if self.truncated else bytes(self._head) + tail)[-limit:]

    def add(self, data: bytes) -> None:
        """Take in what was read."""
        if self._tee is not None:
            self._tee(data)
        self.total += len(data)
        if room := self._head_room - len(self._head):
            self._head += data[:room]
            data = data[room:]
        if data and self._tail_room:
            self._add_to_tail(data[-self._tail_room :])

    def _add_to_tail(self, data: bytes) -> None:
        if room := self._tail_room - len(self._tail):
            self._tail += data[:room]
            data = data[room:]
        while data:
            size = min(len(data), self._tail_room - self._oldest)
            self._tail[self._oldest : self._oldest + size] = data[:size]
            self._oldest = (self._oldest + size) % self._tail_room
            data = data[size:]


class Drain:
    """Reads a pipe into an `Output` as fast as it fills, so that the child never waits for us.

    Args:
        pipe: the reading end; the drain owns and closes it.
        output: where the bytes go.
    """

    def __init__(self, pipe: IO[bytes], output: Output) -> None:
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        os.set_blocking(self._fd, False)
        self._loop.add_reader(self._fd, self._read)

    async def finish(self, seconds: float) -> bool:
        """Read until every writer is gone, or for so long; then close. Answers whether the end was seen."""
        for _ in range(64):  # usually all is there: this saves waiting for the loop to come round
            if not self._read():
                break
        if not self._ended.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
            except TimeoutError:
                self.close()
                return False
        return True

    def close(self) -> None:
        """Stop reading."""
        if not self._ended.is_set():
            self._ended.set()
            self._loop.remove_reader(self._fd)
            self._pipe.close()

    def _read(self) -> bool:
        if self._ended.is_set():
            return False
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._output.add(data)
            return True
        self.close()
        return False
