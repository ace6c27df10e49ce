"""What a role and its startup tasks print: copied to our own streams, and kept in a bounded file for each run."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.host.instance.own_streams import Lines, OwnStreams
from rolehost.host.reporting import Reporter
from rolehost.processes import Output
from rolehost.telemetry import emit

KEPT_RUNS = 20
_KEPT_BYTES = 1 << 20
WRITE_EVERY = 2.0
_FLUSH_SECONDS, _LAST_WRITE_SECONDS = 1.0, 5.0


class RunLogs:
    """An instance's log files, `<data>/logs/<instance>/<run>.log`; the oldest go.

    Args:
        data: the data directory.
        instance: the instance's id.
        reporter: hears where each is.
        streams: where everything is copied to.
    """

    def __init__(self, data: Path, instance: str, reporter: Reporter, streams: OwnStreams | None = None) -> None:
        self._directory = data / "logs" / instance
        self._instance = instance
        self._reporter = reporter
        self._streams = streams or OwnStreams()
        self._open: set[RunLog] = set()

    def begin(self, kind: str, name: str) -> RunLog:
        """A program is about to run.

        Args:
            kind: `role` or `task`.
            name: the role's, or the task's command line.
        """
        moment = clock.now()
        run = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"
        facts = {
            "run": run,
            "instance": self._instance,
            "kind": kind,
            "name": name,
            "path": str(self._directory / f"{run}.log"),
            "started_at": clock.iso(moment),
            "ended_at": None,
            "exit_code": None,
        }
        self._make_room()
        log = RunLog(Path(str(facts["path"])), self._streams)
        self._open.add(log)
        self._reporter.output(facts)
        log.on_end = lambda code: self._ended(log, facts, code)
        return log

    async def close(self) -> None:
        """Write what is left; a disk that takes nothing is not waited for long."""
        unfinished = tuple(self._open)
        for log in unfinished:
            log.end(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_SECONDS):
                for log in unfinished:
                    await log.complete.wait()
        await asyncio.to_thread(self._streams.flush, _FLUSH_SECONDS)

    def _ended(self, log: RunLog, facts: dict[str, Any], code: int | None) -> None:
        self._open.discard(log)
        self._reporter.output({**facts, "ended_at": clock.iso(clock.now()), "exit_code": code})

    def _make_room(self) -> None:
        try:
            self._directory.parent.mkdir(mode=0o700, exist_ok=True)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            open_files = {log.path for log in self._open}
            kept = sorted(path for path in self._directory.glob("*.log") if path not in open_files)
            for old in kept[: -(KEPT_RUNS - 1)]:
                old.unlink(missing_ok=True)
        except OSError as error:
            emit("log.not_kept", path=str(self._directory), reason=str(error))


class RunLog:
    """The output of one run: its head and its tail are kept, with a line between them that counts what is left out.

    Args:
        path: the file; 0600.
        streams: where everything is copied to.

    Attributes:
        complete: the run has ended, and the file has all of it.
    """

    def __init__(self, path: Path, streams: OwnStreams) -> None:
        self.path = path
        self.on_end: Callable[[int | None], None] = lambda _: None
        self.complete = asyncio.Event()
        self._streams = streams
        self._output = Output(_KEPT_BYTES)
        self._lines = {"stdout": Lines(), "stderr": Lines()}
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        self._ended = False
        self._writing = threading.Lock()
        self._is_last = False
        self._write(b"")

    def add(self, stream: str, data: bytes) -> None:
        """Take in what the program wrote to `stdout` or `stderr`."""
        self._take(stream, self._lines[stream].whole(data))

    def end(self, exit_code: int | None) -> None:
        """The program has ended; what it printed last is written in a thread, and `on_end` is called after that."""
        if self._ended:
            return
        for stream, lines in self._lines.items():
            self._take(stream, lines.rest())
        self._ended = True
        if self._due is not None:
            self._due.cancel()
        self._finishing = self._loop.create_task(self._finish(exit_code))

    async def _finish(self, exit_code: int | None) -> None:
        await asyncio.to_thread(self._write_last)
        self.complete.set()
        self.on_end(exit_code)

    def _take(self, stream: str, data: bytes) -> None:
        if not data:
            return
        self._streams.write(stream, data)
        if self._ended:
            return  # a thread reads what there is
        self._output.add(data)
        if self._due is None:
            self._due = self._loop.call_later(WRITE_EVERY, self._write_so_far)

    def _write_so_far(self) -> None:
        self._due = None
        self._loop.run_in_executor(None, self._write, self._output.text().encode())

    def _write_last(self) -> None:
        self._write(self._output.text().encode(), last=True)

    def _write(self, text: bytes, *, last: bool = False) -> None:
        try:
            with self._writing:
                if self._is_last:
                    return  # a thread that comes too late
                self._is_last = last
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(text)
        except OSError as error:
            emit("log.not_kept", path=str(self.path), reason=str(error))
