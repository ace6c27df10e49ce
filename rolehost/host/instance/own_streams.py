"""Our own stdout and stderr: others' output is copied there, without ever waiting for whoever reads them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import TextIO

from rolehost.telemetry import on_terminal

_ROOM = 1 << 20
_LONGEST_LINE = 8192


class OwnStreams:
    """Copies whole lines; what doesn't fit because nobody reads is left out, and counted.

    Args:
        room: bytes that may wait.
    """

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._descriptors = {"stdout": _descriptor(sys.stdout), "stderr": _descriptor(sys.stderr)}
        self._terminal = on_terminal()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, stream: str, data: bytes) -> None:
        """Copy what was written to `stdout` or `stderr`."""
        descriptor = self._descriptors[stream]
        if descriptor is None or not data:
            return
        if stream == "stderr" and self._terminal:
            from rolehost.telemetry.logs import prettied  # noqa: PLC0415 - structlog is big, and is loaded for terminals

            data = prettied(data)  # the role writes into a pipe, and its log lines are JSON
        with self._changed:
            if self._bytes + len(data) > self._room:
                self._left_out += len(data)
                return
            if self._left_out:
                data = b"[... %d bytes left out: nobody reads fast enough ...]\n" % self._left_out + data
                self._left_out = 0
            self._waiting.append((descriptor, data))
            self._bytes += len(data)
            self._changed.notify_all()
        if self._thread is None:
            # A thread, because a write may block, and a non-blocking stream would be that for our siblings, too.
            self._thread = threading.Thread(target=self._copy, name="own-streams", daemon=True)
            self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, for so many seconds at most; whether it is."""
        deadline = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(lambda: self._bytes == 0, max(deadline - time.monotonic(), 0))

    def _copy(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                descriptor, data = self._waiting.popleft()
            _write(descriptor, data)
            with self._changed:
                self._bytes -= len(data)
                self._changed.notify_all()


class Lines:
    """Holds back the beginning of a line until it is whole, so that several processes' lines don't mix."""

    def __init__(self) -> None:
        self._begun = b""

    def whole(self, data: bytes) -> bytes:
        """What can be written now; a very long line goes in pieces."""
        begun = self._begun + data
        end = max(begun.rfind(b"\n"), begun.rfind(b"\r")) + 1
        if end == 0 and len(begun) > _LONGEST_LINE:
            end = len(begun)
        self._begun = begun[end:]
        return begun[:end]

    def rest(self) -> bytes:
        """What is held back, once no more comes."""
        rest, self._begun = self._begun, b""
        return rest


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()  # the number of a closed one may be anything else's by now
    except (OSError, ValueError):
        return None


def _write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass  # nobody reads any more
