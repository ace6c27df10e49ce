"""Hears what a console application prints, on its way into what is kept of it, and asks a parser how far it has come.

The application never waits for us: its output is taken as it comes into memory of a bounded size, and parsed in a
thread, some four times a second. What a parser is too slow for is left out, from the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rolehost import clock
from rolehost.workers.progress import KeyValueProgress, Lines, Meter, PatternProgress, ProgressSpec, ResultProgress

if TYPE_CHECKING:
    from rolehost.user_code import UserCode

LISTEN_EVERY = 0.25
STUCK_AFTER = 5.0
"""Seconds in which a parser has to have read what was printed in a quarter of one, when its application has ended."""
MOST_HEARD = 128 * 1024
"""Bytes of a stream that are kept for the parser, which has them a moment later."""
_HALF = MOST_HEARD // 2


class Heard:
    """What a stream brought since the last look, in bounded memory."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._lines = Lines()

    def add(self, data: bytes) -> None:
        """Take in what was read; of what is too much the middle is left out, and the line around it is no text."""
        self._data += data
        if len(self._data) > MOST_HEARD:
            self._data[_HALF:-_HALF] = b"\0"

    def take(self) -> bytes:
        """What has come; it is forgotten here."""
        taken = bytes(self._data)
        self._data.clear()
        return taken

    def lines(self, taken: bytes, *, unfinished: bool) -> Iterator[str]:
        """What was taken, in lines."""
        yield from self._lines.feed(taken)
        if unfinished and taken:
            yield self._lines.rest


class Listener:
    """Listens to one run of a console application.

    Args:
        spec: what makes progress of what is printed, or of the result; copied, so that each run begins anew.
        meter: gets what it says.
        result: the file that the application makes.
        source: bytes of the job's asset.
        user_code: calls parsers that aren't ours.
        failed: told of each exception of a parser; in whatever thread.
    """

    def __init__(
        self,
        spec: ProgressSpec,
        meter: Meter,
        *,
        result: Path,
        source: int,
        user_code: UserCode,
        failed: Callable[[Exception], None],
    ) -> None:
        self._spec = spec.of(source) if isinstance(spec, ResultProgress) else deepcopy(spec)
        self._meter = meter
        self._result = result
        self._user_code = user_code
        self._failed = failed
        self._heard = {"stdout": Heard(), "stderr": Heard()}
        self._news = asyncio.Event()
        self._asked: float | None = None

    @property
    def hears(self) -> bool:
        """Whether it wants the output; else it looks at the result."""
        return not isinstance(self._spec, ResultProgress)

    @property
    def stuck(self) -> bool:
        """Whether a parser was asked long ago and has not answered."""
        return self._asked is not None and clock.monotonic() - self._asked > STUCK_AFTER

    def hear(self, stream: str, data: bytes) -> None:
        """Take in a piece of the output, without waiting and without raising."""
        self._heard[stream].add(data)
        self._news.set()

    async def listen(self) -> NoReturn:
        """Until cancelled: note what the parser makes of what was heard, or of the result's size."""
        while True:
            if isinstance(self._spec, ResultProgress):
                self._meter.note(await asyncio.to_thread(self._spec.look, self._result))
            else:
                await self._news.wait()
                self._news.clear()
                await self._parse([(heard, heard.take()) for heard in self._heard.values()])
            await clock.sleep(LISTEN_EVERY)

    async def _parse(self, taken: Sequence[tuple[Heard, bytes]]) -> None:
        self._asked = clock.monotonic()
        try:
            if isinstance(self._spec, PatternProgress | KeyValueProgress):
                await asyncio.to_thread(self._read, taken)
            else:  # it may take for ever: then it must not hold one of the threads that others need
                await self._user_code.call(self._read, taken)
        except Exception as error:  # noqa: BLE001 - a user's code that raised SystemExit or the like
            self._failed(error)
        self._asked = None

    def _read(self, taken: Sequence[tuple[Heard, bytes]]) -> None:
        """In a thread: the lines, one by one; an exception costs what this line tells."""
        if isinstance(self._spec, ResultProgress):
            return
        unfinished = isinstance(self._spec, PatternProgress) and self._spec.unfinished
        for heard, data in taken:
            for line in heard.lines(data, unfinished=unfinished):
                try:
                    self._meter.note(_percent(self._spec.read(line)))
                except Exception as error:  # noqa: BLE001 - a user's code
                    self._failed(error)


class OwnParser:
    """A worker's `parse_progress` as a parser.

    Args:
        read: the method.
    """

    def __init__(self, read: Callable[[str], float | None]) -> None:
        self.read = read

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnParser:
        """The worker is one for all runs."""
        return self


def _percent(said: Any) -> float | None:
    """What a parser returned, if it is what parsers return.

    Raises:
        TypeError: it is something else.
    """
    if said is None:
        return None
    with suppress(TypeError, ValueError):
        return float(said)
    raise TypeError(f"a parser returns percent or None, not {said!r}"[:200])
