"""Who may a console application run as? Somebody who reaches all that its command line names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rolehost.workers.console_app import fill

_APPROOT = "{approot}/"
_STAT = "import os, sys; [os.stat(path) for path in sys.argv[1:]]"


def probe(argv: Sequence[str], values: Mapping[str, str], root: Path) -> Sequence[str]:
    """A command that succeeds for whoever reaches what an application needs, each by its path.

    Args:
        argv: the template of its command line.
        values: for `{python}` and `{approot}`.
        root: where scratch directories are made.
    """
    program = fill(argv[:1], values)[0]
    needed = [f"{root}/.", *_own_files(argv[1:], values)]
    if program == values["python"]:
        return [program, "-c", _STAT, f"{values['approot']}/.", *needed]
    return ["stat", "-L", "--", shutil.which(program) or "/", *needed]


def _own_files(arguments: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    """What arguments name of the service's folder: links of approot lead there, and a link is not its target."""
    for argument in arguments:
        path = argument.replace(_APPROOT, f"{values['approot']}{os.sep}", 1)
        if argument.startswith(_APPROOT) and Path(path).exists():  # what isn't there keeps nobody away
            yield path
