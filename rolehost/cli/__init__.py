"""The command line: one file per command; what is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def main() -> None:
    """The command `rolehost`; always leaves by SystemExit."""
    from rolehost.cli.application import app  # noqa: PLC0415 - `cli.instance` is imported without it
    from rolehost.cli.failures import FAILED, flush_quietly  # noqa: PLC0415 - the same

    _open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal can't show is no reason to fail
    try:
        app(prog_name="rolehost")
    finally:
        if not flush_quietly():
            sys.exit(FAILED)


def _open_missing() -> None:
    """Stand in for streams that the caller closed (`>&-`): a file that is opened later must not get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)  # noqa: FBT003 - the standard library's positional flag
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 - it stays open
