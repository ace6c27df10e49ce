"""The kinds of job of a service, from its definition: what is declared, what ships, and what its classes' source says.

Nothing of the roles' code is run for it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path

from rolehost.jobs.kinds import BUILT_IN, JobKind, is_kind
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.service_model.worker import WorkerDeclaration

_PACKAGE = Path(__file__).resolve().parents[2]
_LARGEST_SOURCE = 1 << 20
# Classes of the package that others derive from, with the kind that they work on.
_OF_THE_PACKAGE = {
    **dict.fromkeys(("RoleEntryPoint", "ServedRole", "ThumbnailFrontend"), ""),
    "ThumbnailWorker": "thumbnail",
    "TranscodeWorker": "transcode",
    "ContactSheetWorker": "contact-sheet",
}


def kind_of(worker: WorkerDeclaration) -> JobKind:
    """The kind of job that a table declares."""
    return JobKind(name=worker.kind, title=worker.title, accepts=worker.accepts, parameters=worker.parameters)


def kinds_of(model: ServiceModel) -> tuple[JobKind, ...]:
    """The kinds that the service's roles work on, as far as that can be told, in the order of the definition."""
    found: dict[str, JobKind] = {}
    for role in model.roles.values():
        kind = _kind(role, model)
        if kind and (role.worker or kind.name not in found):  # a table says more than a class
            found[kind.name] = kind
    return tuple(found.values())


def all_told(model: ServiceModel) -> bool:
    """Whether `kinds_of` is all: a guest program, or a class that makes its kind as it goes, may work on others."""
    return all(role.worker or kind_in_source(role, model) is not None for role in model.roles.values())


def told_kinds(model: ServiceModel) -> str:
    """What a role is told of them: `ROLEHOST_KINDS`."""
    kinds = kinds_of(model)
    return json.dumps([kind.name if kind is BUILT_IN.get(kind.name) else kind.to_json() for kind in kinds])


def _kind(role: RoleModel, model: ServiceModel) -> JobKind | None:
    if role.worker is not None:
        return kind_of(role.worker)
    name = kind_in_source(role, model) or ""
    return BUILT_IN.get(name) or (JobKind(name=name) if is_kind(name) else None)


def kind_in_source(role: RoleModel, model: ServiceModel) -> str | None:
    """The kind of job that a role's class names in its source, "" for none; None where that can't be told."""
    module, _, name = role.entry_point.partition(":")
    if not module:
        return None
    if module == "rolehost":
        return _OF_THE_PACKAGE.get(name)
    root = _PACKAGE if module.partition(".")[0] == "rolehost" else model.directory
    base = root.joinpath(*module.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if (classes := _classes(path)) is not None:
            return _in_class(classes, name)
    return None


def _classes(path: Path) -> Mapping[str, ast.ClassDef] | None:
    try:
        if path.stat().st_size > _LARGEST_SOURCE:
            return None
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}


def _in_class(classes: Mapping[str, ast.ClassDef], name: str, depth: int = 0) -> str | None:
    found = classes.get(name)
    if found is None or depth > len(classes):
        return _OF_THE_PACKAGE.get(name)
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
