"""What a console application does when it is run, as a value: what it says and when, what it leaves, how it ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import IO, Any, Self, TypeAlias

from rolehost import clock

_CHUNK = 65536
_LAST_CODE = 255


class Stream(StrEnum):
    """Where bytes go."""

    STDOUT = "stdout"
    STDERR = "stderr"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes that an application wrote in one go.

    Args:
        data: what.
        stream: where to; `result` is the file that the application makes.
    """

    data: bytes
    stream: Stream = Stream.STDOUT


Step: TypeAlias = "str | bytes | float | Said"
"""A text or bytes go to stdout; a number is a pause in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One run of a console application.

    Args:
        steps: what it does, one after the other, before what is named below.
        stdout: what it says at the end.
        stderr: the same.
        result: what it leaves as its result; None: no file, unless a step writes one.
        exit_code: its end.
        signal: the signal that it dies of, in place of an exit code; 0 for none.
        ignores_term: it doesn't listen when it is asked to end, and has to be killed.

    Raises:
        ValueError: no process can end so.
    """

    steps: Sequence[Step] = ()
    stdout: str | bytes = b""
    stderr: str | bytes = b""
    result: str | bytes | None = None
    exit_code: int = 0
    signal: int = 0
    ignores_term: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.exit_code <= _LAST_CODE and 0 <= self.signal < signal.NSIG):
            raise ValueError(f"no process ends with exit code {self.exit_code} and signal {self.signal}")

    def played(self) -> list[float | Said]:
        """All of it in order: pauses, and what is written."""
        steps = [each if isinstance(each, int | float | Said) else Said(_bytes(each)) for each in self.steps]
        steps += [Said(_bytes(self.stdout))] if self.stdout else []
        steps += [Said(_bytes(self.stderr), Stream.STDERR)] if self.stderr else []
        steps += [] if self.result is None else [Said(_bytes(self.result), Stream.RESULT)]
        return steps

    def faster(self, factor: float) -> Recording:
        """The same with pauses that are so many times shorter."""
        steps = [each / factor if isinstance(each, int | float) else each for each in self.steps]
        return replace(self, steps=tuple(steps))

    @classmethod
    def of(
        cls,
        argv: Sequence[str | PathLike[str]],
        *,
        result: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Self:
        """Run a real program, and keep what it does.

        Args:
            argv: the program and its arguments.
            result: the file that it makes.
            cwd: where it runs; None: here.
            env: its environment; None: ours.
            timeout: seconds.

        Raises:
            FileNotFoundError: there is no such program.
            subprocess.TimeoutExpired: it ran for longer.
        """
        pipe, began = subprocess.PIPE, clock.monotonic()
        with subprocess.Popen(
            [str(each) for each in argv],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        ) as process:
            heard = _Listener(process, began)
            try:
                code = process.wait(timeout)
            finally:
                with suppress(ProcessLookupError):  # what it left behind holds its pipes open
                    os.killpg(process.pid, signal.SIGKILL)
                heard.join()
        left = result.read_bytes() if result is not None and result.is_file() else None
        return cls(steps=tuple(heard.steps), result=left, exit_code=max(code, 0), signal=max(-code, 0))

    def save(self, path: Path) -> None:
        """Write it to a JSON file, which a test can be given where the program isn't."""
        steps = [each if isinstance(each, int | float) else _to_json(each) for each in self.played()]
        told: dict[str, Any] = {"steps": steps, "exit_code": self.exit_code, "signal": self.signal}
        path.write_text(json.dumps(told | {"ignores_term": self.ignores_term}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The reverse of `save`."""
        told = json.loads(path.read_text(encoding="utf-8"))
        steps = [each if isinstance(each, int | float) else _from_json(each) for each in told.pop("steps")]
        return cls(steps=tuple(steps), **told)


class _Listener:
    """Hears what a process says, and when."""

    def __init__(self, process: subprocess.Popen[bytes], began: float) -> None:
        self.steps: list[Step] = []
        self._last = began
        self._lock = threading.Lock()
        streams = ((process.stdout, Stream.STDOUT), (process.stderr, Stream.STDERR))
        self._threads = [threading.Thread(target=self._hear, args=each) for each in streams if each[0] is not None]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _hear(self, pipe: IO[bytes], stream: Stream) -> None:
        while data := pipe.read1(_CHUNK):  # type: ignore[attr-defined] # a BufferedReader, which typeshed calls IO
            with self._lock:
                moment = clock.monotonic()
                self.steps += [round(moment - self._last, 3), Said(data, stream)]
                self._last = moment


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _to_json(said: Said) -> dict[str, str]:
    try:
        told = {"text": said.data.decode()}
    except UnicodeDecodeError:
        told = {"base64": base64.b64encode(said.data).decode("ascii")}
    return {"to": said.stream, **told}


def _from_json(told: Mapping[str, str]) -> Said:
    data = told["text"].encode() if "text" in told else base64.b64decode(told["base64"])
    return Said(data, Stream(told["to"]))
