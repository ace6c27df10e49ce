"""Which kinds of job the roles of a definition work on, read from their source: nothing of theirs is run for it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from rolehost.service_model import ServiceModel, examine
from rolehost.service_model.problems import suggest

_PACKAGE = Path(__file__).resolve().parents[2]
# Roles that derive from these alone work on no kind of job.
_WITHOUT_KIND = {"RoleEntryPoint", "ServedRole", "ThumbnailFrontend"}


def unknown_kind(kind: str, environ: Mapping[str, str]) -> str | None:
    """A sentence where no role of the definition in the working directory, or of the built-in service, does such jobs.

    Args:
        kind: the kind of job.
        environ: the variables that go over the definition.

    Returns:
        None also where the roles' source doesn't say which kinds they work on.
    """
    model = examine(None, environ).model
    known = _kinds(model) if model else None
    if model is None or known is None or kind in known:
        return None
    definition = model.source.name if model.source else "the built-in service"
    return f'no role of {definition} works on jobs of the kind "{kind}"{suggest(kind, known)}'


def _kinds(model: ServiceModel) -> set[str] | None:
    kinds = set()
    for role in model.roles.values():
        kind = None if role.program else _kind_of(role.entry_point, model.directory)
        if kind is None:
            return None
        kinds.add(kind)
    return kinds - {""}


def _kind_of(entry_point: str, directory: Path) -> str | None:
    """The kind of an entry point, "" for none; None where that can't be told."""
    module, _, name = entry_point.partition(":")
    root = _PACKAGE if module.partition(".")[0] == "rolehost" else directory
    base = root.joinpath(*module.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        return _in_class({each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}, name)
    return None


def _in_class(classes: Mapping[str, ast.ClassDef], name: str, depth: int = 0) -> str | None:
    found = classes.get(name)
    if found is None or depth > len(classes):
        return "" if name in _WITHOUT_KIND else None
    for line in found.body:
        match line:
            case (
                ast.Assign(targets=[ast.Name(id="kind")], value=value)
                | ast.AnnAssign(target=ast.Name(id="kind"), value=value)
            ):
                return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
            case _:
                pass
    bases = [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in found.bases]
    kinds = {_in_class(classes, base, depth + 1) for base in bases}
    return kinds.pop() if len(kinds) == 1 else None
