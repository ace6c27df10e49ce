"""Workers by configuration as a definition has them, and what is told of one that is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

from rolehost.service_model import Examined, examine

PROGRAM = 'program = ["p", "{source}", "{target}"]\n'
PLAIN = f'kind = "k"\n{PROGRAM}'


def examined(folder: Path, text: str) -> Examined:
    path = folder / "service.toml"
    path.write_text(text)
    return examine(path, {})


def of_worker(folder: Path, table: str) -> list[str]:
    """The problems of a worker's table, which begins on line 4, without the file's name."""
    found = examined(folder, f'[service]\nname = "s"\n[roles.A.worker]\n{textwrap.dedent(table)}')
    problems = sorted((*found.errors, *found.warnings), key=lambda problem: problem.line)
    return [str(problem).removeprefix(f"{folder}/service.toml:") for problem in problems]
