"""`rolehost convert`: the old service's csdef and cscfg as one service.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.failures import complain
from rolehost.errors import InvalidParameterError


def convert(
    definition: Annotated[Path, typer.Argument(metavar="CSDEF", help="The ServiceDefinition.csdef.")],
    configuration: Annotated[Path, typer.Argument(metavar="CSCFG", help="A ServiceConfiguration.cscfg of it.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; by default to stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    entry_point: Annotated[
        list[str] | None,
        typer.Option("--entry-point", metavar="ROLE=MODULE:CLASS", help="Which Python class a role is. Repeatable."),
    ] = None,
) -> None:
    """Turn ServiceDefinition.csdef and ServiceConfiguration.cscfg into a service.toml that says the same.

    What has no meaning here is named in comments at its beginning.
    """
    from rolehost.service_model.conversion import convert_pair  # noqa: PLC0415 - the XML library comes with it

    if output is not None and output.exists() and not force:
        raise InvalidParameterError(f"{output} exists: name another file, or write over it with --force", "output")
    converted = convert_pair(definition, configuration, _entry_points(entry_point or []))
    for warning in converted.warnings:
        complain(warning)
    if output is None:
        print(converted.text, end="")
    else:
        _write(output, converted.text)
    if converted.unmapped:
        complain(f"fill in the entry points of {', '.join(converted.unmapped)} before you start the service")


def _entry_points(options: list[str]) -> dict[str, str]:
    entry_points = {}
    for option in options:
        role, separator, name = option.partition("=")
        if not (role and separator and name):
            raise InvalidParameterError(f"--entry-point is ROLE=module:Class, not {option}", "entry_point")
        entry_points[role] = name
    return entry_points


def _write(output: Path, text: str) -> None:
    # Settings may be secrets: a new file is its owner's only, one that is there keeps its mode.
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
