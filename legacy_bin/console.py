"""What the console applications share: arguments, exit codes, and one line on stderr for whoever reads it."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

# As in BSD's sysexits.h. Spelled out, because os.EX_* is missing on Windows.
OK = 0
USAGE = 64
BAD_INPUT = 65
NO_INPUT = 66
UNAVAILABLE = 69
INTERNAL = 70
CANNOT_CREATE = 73
IO_ERROR = 74
INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class ConsoleError(Exception):
    """The application can't do what it was asked: an exit code, what it is about, and why.

    Args:
        exit_code: One of the constants of this module.
        what: The file or the argument at fault, as the user named it.
        why: The reason, for a person.
    """

    def __init__(self, exit_code: int, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.exit_code = exit_code
        self.what = what
        self.why = why


def printable(text: str) -> str:
    """Make a file's name safe for a terminal and for a log: no control characters, no line breaks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode() for c in text)


def system_reason(error: OSError) -> str:
    """Say in the system's words why a call failed, without the path that the caller names anyway."""
    return (error.strerror or str(error)).lower()


def run(program: str, version: str, usage: str, work: Callable[[list[str]], str]) -> int:
    """Run a console application: read the arguments, do the work, report.

    Args:
        program: The name that starts each line on stderr.
        version: What `--version` prints after the name.
        usage: What `--help` prints; its first line alone answers wrong usage.
        work: Takes the positional arguments and returns the line that reports success.

    Returns:
        The exit code.
    """
    gc.disable()  # a run is too short for garbage: 3 ms of importing Pillow
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where the caller closed it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are TextIOWrappers
    try:
        arguments, option = _split(sys.argv[1:])
        if not option:
            _check_complete(arguments, usage)
        _print(f"{program} {version}" if option == "--version" else usage if option else work(arguments))
    except ConsoleError as error:
        _complain(program, error.what, error.why)
        if error.exit_code == USAGE:
            _complain(program, "usage", usage.splitlines()[0].removeprefix("usage: "))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        _complain(program, "internal error", "out of memory")
        return INTERNAL
    except Exception as error:  # noqa: BLE001 - the last resort: a reason and a documented exit code, no stack
        _complain(program, "internal error", f"{type(error).__name__}: {error}")
        return INTERNAL
    return OK


def leave(exit_code: int) -> NoReturn:
    """End the process at once: taking the interpreter down in good order takes 4 ms of each run."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
    os._exit(exit_code)


def _split(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take the options out: `--` ends them, and the first `--help` or `--version` is all that counts."""
    positional: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return positional + arguments[index + 1 :], None
        if argument in {"--help", "-h", "--version"}:
            return [], argument
        if argument.startswith("-"):
            raise ConsoleError(USAGE, printable(argument), "unknown option (-- before a name that begins with a dash)")
        positional.append(argument)
    return positional, None


def _check_complete(arguments: list[str], usage: str) -> None:
    """Name the arguments that the usage's first line asks for and that are not there; `(A | B)` counts as one."""
    asked, _, choice = usage.splitlines()[0].removeprefix("usage: ").partition(" (")
    wanted = [*asked.split()[1:], *([f"({choice}"] if choice else [])]
    if missing := wanted[len(arguments) :]:
        raise ConsoleError(USAGE, "arguments", f"{len(arguments)} of them are here, missing: {', '.join(missing)}")


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError:
        # The work is done; a reader who went away doesn't undo it. Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _complain(program: str, what: str, why: str) -> None:
    print(f"{program}: {what}: {' '.join(why.split())}", file=sys.stderr)
