"""The import rules of the package, each with its reason; read from the source, not from what happens to be loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "rolehost"

# Lowest first. A part imports its own layer and those below, so that each can be read, tested and replaced
# without what stands on top of it. The longest name that fits a module decides its layer.
LAYERS = (
    ("_version", "errors", "clock", "telemetry", "failpoints"),
    # What a job may be given is declared in a definition: the values that say so stand below it.
    ("processes", "outbound", "service_model", "stores", "jobs.parameters"),
    ("environment", "service_runtime", "user_code"),
    ("stores.embedded", "stores.azure_storage", "stores.service_bus", "entrypoint"),
    ("stores.connect", "jobs"),
    ("workers", "frontend", "host"),
    ("testing",),
    ("cli", "__main__"),
)
NOT_BUILT_YET = {"__main__"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ENGINES = ("stores.embedded", "stores.azure_storage", "stores.service_bus")

# What makes a process big or slow to start, and what a fault in a dependency would take down with it.
TOO_BIG_FOR_THE_BOOTSTRAPPER = {
    *("aiohttp", "azure", "PIL"),
    *("fastapi", "jinja2", "multipart", "pydantic", "starlette", "uvicorn"),
    *("click", "rich", "typer"),
}
BOOTSTRAPPER_MODULES = 370  # about a tenth over what it is; a third of it is structlog


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name below `rolehost`; the package itself is the empty name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "approot":  # content of the role, not part of the package
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the package that a module names, also in functions and for type checkers: all are dependencies."""
    path = modules()[module]
    package = f"rolehost.{module if path.name == '__init__.py' else module.rpartition('.')[0]}".rstrip(".")
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            members = {f"{base}.{alias.name}" for alias in node.names}
            named |= {name if name.removeprefix("rolehost.") in modules() else base for name in members}
    own = {name for name in named if within(name, "rolehost")}
    return frozenset(name.removeprefix("rolehost").removeprefix(".") for name in own)


def within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def level(module: str) -> int:
    fitting = [name for name in LEVEL if within(module, name)]
    assert fitting, f"rolehost.{module} stands in no layer: add it to LAYERS, and say in the commit why there"
    return LEVEL[max(fitting, key=len)]


def edges() -> list[tuple[str, str]]:
    return [(module, target) for module in modules() if module for target in sorted(imports(module))]


def test_every_listed_part_exists() -> None:
    missing = {part for part in LEVEL if part not in modules()} - NOT_BUILT_YET
    assert not missing, "a rule about a part that is not there holds nothing"


def test_imports_point_down() -> None:
    assert len(edges()) > 50, "the package was not read"
    levels = {module: level(module) for module in modules() if module}
    assert [f"{a} -> {b}" for a, b in edges() if b and level(b) > levels[a]] == []


def test_nothing_imports_the_facade() -> None:
    """`rolehost` loads everything on demand: an import of it from inside would hide a layer, or close a cycle."""
    assert [a for a, b in edges() if not b] == []


def test_only_connect_imports_an_engine() -> None:
    """An engine is chosen by settings in one place; whoever names one elsewhere works with that one only."""
    named = [(a, b) for a, b in edges() for engine in ENGINES if within(b, engine) and not within(a, engine)]
    assert {a for a, _ in named} == {"stores.connect"}


def test_frontend_and_workers_meet_in_jobs() -> None:
    """They are deployed, scaled and restarted apart: what one needs of the other is a row in the jobs table."""
    parts = {frozenset((a.split(".")[0], b.split(".")[0])) for a, b in edges()}
    assert frozenset(("frontend", "workers")) not in parts


def test_no_import_cycles() -> None:
    """What imports in a circle can't be understood, tested or moved one part at a time."""
    try:
        TopologicalSorter({module: imports(module) - {module, ""} for module in modules() if module}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_module_is_named_like_the_standard_library() -> None:
    """A reader has to know which `queue` is meant, and a script run from its own folder gets the wrong one."""
    assert [m for m in modules() if {*m.split(".")} & sys.stdlib_module_names] == []


def test_bootstrapper_stays_small() -> None:
    """It outlives every fault of the role process, so it loads nothing that could be one, and starts quickly."""
    program = "import sys, rolehost.host.bootstrapper; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PACKAGE.parent).stdout.split()
    print(f"the bootstrapper imports {len(loaded)} modules")  # noqa: T201 - pytest shows it with -s and on failure
    assert "rolehost.host.bootstrapper" in loaded
    assert {name.split(".")[0] for name in loaded} & TOO_BIG_FOR_THE_BOOTSTRAPPER == set()
    assert len(loaded) <= BOOTSTRAPPER_MODULES


def test_files_and_functions_stay_small() -> None:
    """A file is read in one sitting, a function on one screen. A docstring is no part of the count."""
    too_long = []
    for module, path in modules().items():
        source = path.read_text(encoding="utf-8")
        if (lines := source.count("\n")) > 400:
            too_long.append(f"rolehost.{module}: {lines} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if ast.get_docstring(node):
                    lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                if lines > 40:
                    too_long.append(f"rolehost.{module}.{node.name}: {lines} lines")
    assert too_long == []
