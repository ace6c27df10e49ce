"""The command line: one file per command; what is heavy is imported by the command that needs it."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """The command `rolehost`; always leaves by SystemExit."""
    from rolehost.cli.application import app  # noqa: PLC0415 - `cli.instance` is imported without it
    from rolehost.cli.failures import FAILED, flush_quietly  # noqa: PLC0415 - the same

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal can't show is no reason to fail
    try:
        app(prog_name="rolehost")
    finally:
        if not flush_quietly():
            sys.exit(FAILED)
