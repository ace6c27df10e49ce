"""Parameters of jobs on a command line: read, and checked as the kind of job declares them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import typer

from rolehost.errors import InvalidParameterError
from rolehost.jobs.kinds import CUSTOM, kind_named

_BOX = re.compile(r"([0-9]+)[xX]([0-9]+)")


def checked_kind(kind: str) -> str:
    """The name of a kind.

    Raises:
        BadParameter: it can't be one.
    """
    try:
        return kind_named(kind).name
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from None


def pairs_of(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, each.

    Raises:
        BadParameter: one is none.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"a parameter is NAME=VALUE, not {text!r}")
        given[name.strip()] = value
    return given


def checked_parameters(
    kind: str, texts: Sequence[str], size: str | None = None, output_format: str | None = None
) -> dict[str, str]:
    """What is given to a kind of job.

    Raises:
        BadParameter: the kind doesn't take it.
    """
    given = pairs_of(texts)
    if size is not None and (box := _BOX.fullmatch(size.strip())):
        given |= {"size": CUSTOM, "width": box[1], "height": box[2]}
    elif size is not None:
        given["size"] = size
    if output_format is not None:
        given["format"] = output_format
    try:
        kind_named(kind).parse(given, "")
    except InvalidParameterError as error:
        sentence = str(error)
        if error.field == "size" and size is not None:
            sentence = f"a size is Small, Medium, Large or WIDTHxHEIGHT, not {size!r}"
        raise typer.BadParameter(sentence) from None
    return given
