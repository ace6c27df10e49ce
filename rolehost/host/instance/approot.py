"""RoleRoot: the directory whose `approot` has what a role consists of.

It is the instance's own: links to the service's files, put together again at each start. What the role or its startup
tasks made there themselves stays for as long as this host runs, as on the original's disk: a recycle keeps it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

from rolehost.errors import StartupError
from rolehost.host import paths
from rolehost.host.instance.certificates import DIRECTORY as CERTIFICATES
from rolehost.host.instance.certificates import place_of
from rolehost.host.instance.plan_facts import PlanFacts

APPROOT = "approot"
# Definitions hold settings, certificates hold keys: no content of a role. Python's caches come and go.
_LEFT_OUT = frozenset({CERTIFICATES, "__pycache__"})
_DEFINITION = re.compile(r"service.*\.toml|.*\.(csdef|cscfg)", re.IGNORECASE)
# Settings of the package's own that name a file: keys and secrets. A role's own settings name what it wants to find.
_NAMES_A_SECRET = re.compile(r"(Frontend|Webhooks)\.\w*File")
_BUNDLED = "legacy_bin"
_STAMP = ".rolehost.json"
# A source directory may name variables of the machine, in the original's form.
_VARIABLE = re.compile(r"%(\w+)%")
_READABLE = 0o755
_this_host = secrets.token_hex(8)


def role_root(plan: PlanFacts) -> Path:
    """The parent of the instance's `approot`; `build` makes it. The built-in service's is the package's own."""
    return paths.role_root() if plan.model.source is None else plan.data.role_root(plan.instance_id)


def build(plan: PlanFacts) -> Path:
    """Put the instance's RoleRoot together, or bring it up to date; the answer is its `approot`.

    `approot` has the entries of the service's directory, those of its folders `approot` and `<the role's name>` where
    it has these, the definition's Contents at their destinations, and the bundled console applications.

    Args:
        plan: the instance.

    Raises:
        StartupError: a directory of the definition's Contents is missing.
        OSError: it can't be made.
    """
    root = role_root(plan)
    if plan.model.source is None:
        return root / APPROOT
    links = {str(name): str(target) for name, target in _wanted(plan).items()}
    before = _links_before(root, plan.model.directory)
    if before is None:
        paths.remove(root)
    for directory in (root.parent, root, root / APPROOT):
        if not directory.is_dir():
            directory.mkdir()
            directory.chmod(_READABLE)
    _link(root / APPROOT, links, before or {})
    stamp = {"host": _this_host, "of": str(plan.model.directory), "links": links}
    (root / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    return root / APPROOT


def _wanted(plan: PlanFacts) -> Mapping[PurePosixPath, Path]:
    """What to link to, by its path below approot; a directory that several sources share is made, not linked."""
    found: dict[PurePosixPath, Path] = {}
    directory = plan.model.directory.absolute()
    bundled = paths.role_root() / APPROOT / _BUNDLED
    if bundled.is_dir():
        _lay(found, PurePosixPath(_BUNDLED), bundled.resolve())
    certificates = place_of(plan)
    left_out = {
        plan.data.root.resolve(),
        directory / APPROOT,
        certificates.absolute(),
        certificates.resolve(),
    }
    left_out |= {each.absolute() for each in (plan.model.source, plan.model.configuration) if each}
    left_out |= set(_secrets(plan, directory))
    for source in (directory, directory / APPROOT, directory / plan.role.name):
        for entry in _entries(source, left_out):
            _lay(found, PurePosixPath(entry.relative_to(source)), entry)
    for destination, source in plan.role.contents.items():
        content = directory / _VARIABLE.sub(lambda match: plan.environ.get(match[1], match[0]), str(source))
        if not content.is_dir():
            raise StartupError(f"the content {destination!r} of the role {plan.role.name}: {content} is no directory")
        _lay(found, PurePosixPath(destination.replace("\\", "/")), content)
    return found


def _secrets(plan: PlanFacts, directory: Path) -> Iterator[Path]:
    """The files that settings of any role and hooks name as keys or secrets, as they are written and where they are."""
    named = [hook.secret_file for hook in plan.model.hooks.values()]
    for role in plan.model.roles.values():
        named += [value for name, value in role.settings.items() if _NAMES_A_SECRET.fullmatch(name)]
    for value in filter(None, named):
        yield directory / value
        yield (directory / value).resolve()


def _entries(directory: Path, left_out: AbstractSet[Path]) -> list[Path]:
    """A directory's entries; those of a folder in the place of the folder where something within it is left out."""
    try:
        entries = sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for each in entries:
        if each.name.startswith(".") or each.name in _LEFT_OUT or _DEFINITION.fullmatch(each.name):
            continue
        if left_out & {each, each.resolve()}:
            continue
        inside = any(each in path.parents for path in left_out)
        found += _entries(each, left_out) if inside else [each]
    return found


def _lay(found: dict[PurePosixPath, Path], place: PurePosixPath, source: Path) -> None:
    """Lay a file or a directory over what there is: directories become one, of two files the later one is seen."""
    if ".." in place.parts or place.is_absolute():
        raise StartupError(f"the content's destination {str(place)!r} is not below approot")
    for parent in reversed(place.parents[:-1]):
        if parent in found:
            _open_up(found, parent)
    inside = [each for each in found if place in each.parents]
    if source.is_dir() and (place in found or inside or not place.parts):
        _open_up(found, place)
        for entry in sorted(source.iterdir()):
            _lay(found, place / entry.name, entry)
        return
    for each in inside:
        del found[each]
    found[place] = source


def _open_up(found: dict[PurePosixPath, Path], place: PurePosixPath) -> None:
    """Put the entries of a linked directory in its place."""
    source = found.pop(place, None)
    if source is not None and source.is_dir():
        found |= {place / entry.name: entry for entry in sorted(source.iterdir())}


def _link(approot: Path, links: Mapping[str, str], before: Mapping[str, str]) -> None:
    for name, target in before.items():
        if name not in links and _leads_to(approot / name, target):
            (approot / name).unlink()
    for name, target in links.items():
        place = approot / name
        for parent in _parents(place, approot):
            if _leads_to(parent, before.get(str(parent.relative_to(approot)), "")):
                parent.unlink()
            if not parent.is_dir():
                parent.mkdir()
                parent.chmod(_READABLE)
        if os.path.lexists(place):
            if _leads_to(place, target) or not _leads_to(place, before.get(name, "")):
                continue  # up to date, or the role's own by now
            place.unlink()
        place.symlink_to(target)


def _parents(place: Path, approot: Path) -> Iterator[Path]:
    """The directories between, from the outermost in."""
    between = [each for each in place.parents if approot in each.parents]
    return reversed(between)


def _leads_to(place: Path, target: str) -> bool:
    return bool(target) and place.is_symlink() and os.readlink(place) == target  # noqa: PTH115 - as text, unresolved


def _links_before(root: Path, directory: Path) -> Mapping[str, str] | None:
    """The links that this host has made there for the same service; None: whatever is there is of no use."""
    try:
        stamp = json.loads((root / _STAMP).read_text(encoding="utf-8"))
        same = (stamp["host"], stamp["of"]) == (_this_host, str(directory))
        return dict(stamp["links"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
