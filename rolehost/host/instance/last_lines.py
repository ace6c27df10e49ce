"""The end of a program's stderr, as far as a person needs it to see what went wrong."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from rolehost.processes import Output

_LONGEST = 4096
_LOOKED_AT = 32768
_LONGEST_REASON = 300
# Colours and the like, which tools write into a pipe, too, where they are told to.
_STYLING = re.compile(r"\x1b\[[0-9;]*m")


def last_lines(stderr: Output) -> str:
    """Its last whole lines, 4 KiB at most; log lines of ours are left out, unless there is nothing else."""
    return shortened(stderr.tail(_LOOKED_AT).decode(errors="replace"))


def shortened(text: str) -> str:
    """The same of a text."""
    lines = [line.rstrip() for line in _STYLING.sub("", text).splitlines()]
    telling = [line for line in lines if not _is_log_line(line)]
    said = "\n".join(telling if any(telling) else lines).strip("\n")
    if len(said.encode()) <= _LONGEST:
        return said
    cut = said.encode()[-_LONGEST:].decode(errors="ignore")
    return cut.partition("\n")[2] or cut


def last_said(stderr: Output) -> str:
    """Why a program ended: as a role of ours foresaw and logged it, else its last line, as of a traceback."""
    return _own_reason(stderr) or _last_line(stderr.tail(_LOOKED_AT).decode(errors="replace"))


def _last_line(text: str) -> str:
    telling = (
        line.strip() for line in reversed(_STYLING.sub("", text).splitlines()) if not _is_log_line(line.rstrip())
    )
    return next((line for line in telling if line), "")[:_LONGEST_REASON]


def _own_reason(stderr: Output) -> str:
    for line in reversed(stderr.tail(_LOOKED_AT).decode(errors="replace").splitlines()):
        if _is_log_line(line) and '"role.crashed"' in line:
            with suppress(ValueError):
                return str(json.loads(line).get("reason", ""))
    return ""


def _is_log_line(line: str) -> bool:
    return line.startswith("{") and line.endswith("}") and '"event":' in line
