"""Start the bundled console applications as a user of a shell would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEGACY_BIN = Path(__file__).resolve().parents[2] / "legacy_bin"


def application(name: str, *arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a console application to its end.

    Args:
        name: "thumbnail" or "transcode".
        arguments: Its arguments.
        python: Options of the interpreter.
    """
    command = [sys.executable, *python, str(LEGACY_BIN / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def names(folder: Path) -> list[str]:
    """List what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
