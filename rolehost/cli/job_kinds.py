"""Which kinds of job a command knows: those of the definition in the working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rolehost.jobs.declared import all_told, kinds_of
from rolehost.jobs.kinds import KINDS, learn
from rolehost.service_model import examine
from rolehost.service_model.problems import suggest


def learn_kinds() -> None:
    """Know the kinds of the definition in the working directory, or of the built-in service, until the command ends.

    Within a role they are known already. A definition with errors says nothing: what it would declare is any kind then,
    with any parameters, and the worker looks at them again.
    """
    model = None if KINDS in os.environ else examine(None, os.environ).model
    if model is not None:
        learn(kinds_of(model))


def unknown_kind(kind: str, environ: Mapping[str, str]) -> str | None:
    """A sentence where no role of the definition in the working directory, or of the built-in service, does such jobs.

    Args:
        kind: the kind of job.
        environ: the variables that go over the definition.

    Returns:
        None also where the roles' source doesn't say which kinds they work on.
    """
    model = examine(None, environ).model
    known = {each.name for each in kinds_of(model)} if model else set()
    if model is None or not all_told(model) or kind in known:
        return None
    definition = model.source.name if model.source else "the built-in service"
    return f'no role of {definition} works on jobs of the kind "{kind}"{suggest(kind, known)}'
