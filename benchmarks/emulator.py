"""Azurite as a benchmark needs it: a fresh one for each run, with the log of who asked it for what."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.azurite import Azurite

ROOT = Path(__file__).parent.parent
_LINE = re.compile(rb'"(?P<verb>[A-Z]+) /[^/ ]+/(?P<path>\S*) HTTP/1\.1" (?P<status>[0-9]{3})')
_MESSAGE = re.compile(rb"[^/]+/messages(/|\?|$)")
_TABLE = re.compile(rb"\$batch|Tables|[A-Za-z0-9]+\(")
DELETED = "delete message"


class AccessLog:
    """What an emulator was asked, by what it was; it is read on as it grows.

    Args:
        path: the file that the emulator writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._rest = b""
        self.requests: Counter[str] = Counter()

    def read(self) -> Counter[str]:
        """How many requests there were until now, by `request_named`."""
        with self._path.open("rb") as file:
            file.seek(self._place)
            new = file.read()
        self._place += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.requests.update(named(lines))
        return Counter(self.requests)


def named(lines: Iterable[bytes]) -> Iterator[str]:
    """The requests in lines of the log; what is none is left out."""
    for line in lines:
        if found := _LINE.search(line):
            yield request_named(found["verb"], found["path"], int(found["status"]))


def request_named(verb: bytes, path: bytes, status: int) -> str:
    """What a request was: what it did to a message, or the service and the verb.

    Args:
        verb: HTTP's.
        path: behind the account's name, with the query.
        status: the answer; a deletion counts as one only if it was.
    """
    if _MESSAGE.match(path):
        if verb == b"DELETE" and status < 300:  # noqa: PLR2004 - HTTP: all went well
            return DELETED
        peek = b"peekonly=" in path
        return {b"GET": "peek" if peek else "receive", b"POST": "put message"}.get(verb, "other of a message")
    if path.startswith(b"$batch"):
        return "table transaction"
    if _TABLE.match(path):
        return f"table {verb.decode()}"
    return f"{'blob' if b'/' in path.partition(b'?')[0] else 'queue or container'} {verb.decode()}"


@contextmanager
def emulator(log: Path) -> Iterator[tuple[Azurite, AccessLog]]:
    """An Azurite of its own, in memory, for a block.

    Args:
        log: the file that its access log goes into.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from support.azurite import Azurite  # noqa: PLC0415 - the tests' own, found only now

    log.touch()
    started = Azurite(access_log=log).start()
    try:
        yield started, AccessLog(log)
    finally:
        started.stop()
