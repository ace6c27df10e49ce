"""From csdef and cscfg to a `service.toml` that says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rolehost.errors import ServiceModelError
from rolehost.service_model.pair import Pair, read_pair
from rolehost.service_model.writing import write_native


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a pair of files.

    Args:
        text: of the `service.toml`.
        warnings: what was left out, and what has to be filled in.
        unmapped: roles whose entry point isn't known.
    """

    text: str
    warnings: tuple[str, ...]
    unmapped: tuple[str, ...]


def convert_pair(definition: Path, configuration: Path, entry_points: Mapping[str, str] | None = None) -> Converted:
    """Write a pair of files of the old service as one `service.toml`.

    Args:
        definition: the `.csdef`.
        configuration: the `.cscfg`.
        entry_points: `module:Class` by role, over those that the files name.

    Raises:
        ServiceModelError: with every problem of the pair.
    """
    pair = Pair(definition.absolute(), configuration.absolute(), str(definition), str(configuration))
    read = read_pair(pair, entry_points)
    model, problems = read.model, read.problems
    if model is None:
        raise ServiceModelError([str(problem) for problem in problems.errors])
    unmapped = tuple(role.name for role in model.roles.values() if not role.entry_point and not role.program)
    comments = [f"The service {model.name}, converted from {definition.name} and {configuration.name}."]
    left_out = [problem for problem in problems.warnings if problem.code != "N09"]
    if left_out:
        comments.append("What was left out, and why:")
        comments += [f"- {Path(each.file).name}:{each.line}: {each.sentence}" for each in left_out]
    text = write_native(read.document, comments, unmapped)
    return Converted(text, tuple(str(problem) for problem in problems.warnings), unmapped)
