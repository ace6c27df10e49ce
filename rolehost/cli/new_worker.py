"""What `rolehost new worker` writes: skeletons filled in, each file new or, as service.toml, longer at its end."""

from __future__ import annotations

import json
import keyword
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from string import Template
from typing import Self

from rolehost.errors import InvalidParameterError, ServiceModelError
from rolehost.jobs.kinds import kind_named
from rolehost.service_model import DEFINITION_FILE, examine

_SKELETONS = Path(__file__).parent / "skeletons"
_README = "README.md"
_STANDARD = frozenset({"source", "target", "scratch", "resources", "python", "approot"})
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OF_A_SHELL = frozenset({"|", "||", "&", "&&", "<", ">", ">>", ";", "2>", "2>&1"})
_WIDTH = 88
"""Of a line, as formatters want it who weren't told anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A worker that is asked for.

    Args:
        kind: the kind of job.
        argv: the template of a program's command line; empty: the class does the work.
        python: by a class.
    """

    kind: str
    argv: tuple[str, ...]
    python: bool

    @classmethod
    def of(cls, name: str, program: str | None, *, python: bool | None) -> Self:
        """What a command line asks for.

        Raises:
            InvalidParameterError: it can't be had, and why.
        """
        kind_named(name)
        argv = _argv(program) if program is not None else ()
        if python is False and not argv:
            raise InvalidParameterError("--toml needs --program: without one, a class does the work", "program")
        wanted = cls(kind=name, argv=argv, python=not argv if python is None else python)
        wanted.check_module()
        return wanted

    @property
    def module(self) -> str:
        """The module's name, which is the stem of its test's name, too."""
        return self.kind.replace("-", "_")

    @property
    def role(self) -> str:
        """The role's name."""
        return "".join(word.capitalize() for word in self.kind.split("-"))

    @property
    def class_name(self) -> str:
        """The name of the class."""
        return f"{self.role}Worker"

    @property
    def title(self) -> str:
        """What people may call such jobs."""
        return self.kind.replace("-", " ").capitalize()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in braces that a job has to give."""
        names = [name for argument in self.argv for name in _PLACEHOLDER.findall(argument)]
        return tuple(dict.fromkeys(name for name in names if name not in _STANDARD))

    def check_module(self) -> None:
        """Refuse a name that Python can't import, or under which it finds something else.

        Raises:
            InvalidParameterError: it is such a name.
        """
        if not self.module.isidentifier() or keyword.iskeyword(self.module):
            raise InvalidParameterError(f"{self.kind}: {self.module} can't be the name of a Python module", "name")
        found = find_spec(self.module) if self.module not in sys.stdlib_module_names else None
        own = found is not None and found.origin is not None and Path(found.origin).parent == Path.cwd()
        if self.module in sys.stdlib_module_names or (found is not None and not own):
            told = f"{self.kind}: there is a Python module {self.module} already, which a new one would hide"
            raise InvalidParameterError(told, "name")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Args:
        files: how, by the file's name.
        lines: what a README that was there already didn't get.
    """

    files: Mapping[str, str]
    lines: str


def write_worker(wanted: Wanted, folder: Path) -> Written:
    """Write it, or nothing.

    Args:
        wanted: which.
        folder: where the service is, or is to be.

    Raises:
        InvalidParameterError: a file is there already, or the service has such a role or kind.
        ServiceModelError: the service.toml that is there is not valid.
    """
    values = _values(wanted, folder)
    new = {f"test_{wanted.module}.py": _filled("program_test.py" if wanted.argv else "process_test.py", values)}
    if wanted.python:
        new = {f"{wanted.module}.py": _filled("program.py" if wanted.argv else "process.py", values), **new}
    if there := [name for name in new if (folder / name).exists()]:
        raise InvalidParameterError(f"{' and '.join(there)} would be written over: take another name", "name")
    definition = folder / DEFINITION_FILE
    before = _text_of(definition)
    added = _added(before, wanted, values)
    _check(definition, before, added, wanted)
    lines = _filled("readme.md", values)
    readme = {} if (folder / _README).exists() else {_README: lines}
    for name, text in {**new, **readme}.items():
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(text)
    with definition.open("a" if before else "x", encoding="utf-8") as file:
        file.write(added)
    told = {**dict.fromkeys([*new, *readme], "wrote"), definition.name: "added a role to" if before else "wrote"}
    return Written(told, "" if readme else lines)


def _argv(program: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(program))
    except ValueError as error:
        raise InvalidParameterError(f"--program can't be read as words: {error}", "program") from None
    if not argv:
        raise InvalidParameterError("--program is a command line: a program and its arguments", "program")
    if "/" in argv[0] and not argv[0].startswith(("/", "{approot}/")):
        told = f"a program of the service's own folder is {{approot}}/{argv[0].removeprefix('./')}"
        raise InvalidParameterError(f"{argv[0]} would be looked for in each job's scratch directory: {told}", "program")
    if of_a_shell := [each for each in argv if each in _OF_A_SHELL]:
        told = f"there is no shell here, the program would get {of_a_shell[0]} as an argument"
        raise InvalidParameterError(f"{told}: put such a line into a script of the service's folder", "program")
    ways = (("source", "the file of a job", "stdin"), ("target", "its result", "stdout"))
    for name, what, stream in ways:
        if not any(f"{{{name}}}" in argument for argument in argv[1:]):
            told = f"--program has no {{{name}}}: the program can't know {what}"
            raise InvalidParameterError(f"{told}, unless service.toml says that it is its {stream}", "program")
    return argv


def _values(wanted: Wanted, folder: Path) -> dict[str, str]:
    """What stands for the names in skeletons."""
    program = next((each for each in wanted.argv if each != "{python}"), wanted.kind)
    service = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip(".-") or "service"
    declared = f'DEFINITION = Path(__file__).with_name("{DEFINITION_FILE}")\nROLE = "{wanted.role}"\n'
    return {
        "kind": wanted.kind,
        "module": wanted.module,
        "class_name": wanted.class_name,
        "role": wanted.role,
        "title": json.dumps(wanted.title),
        "heading": wanted.title,
        "service": json.dumps(service),
        "program": json.dumps(list(wanted.argv), ensure_ascii=False),
        "program_name": PurePath(program).name,
        "argv_lines": "\n".join(f"            {_literal(each)}," for each in wanted.argv),
        "arguments": str(len(wanted.argv) - 1),
        "result": _result(wanted.argv),
        "parameters": _parameters(wanted),
        "parameter_tables": "".join(_parameter_table(wanted.role, name) for name in wanted.parameters),
        "parameter_options": "".join(f" --parameter {name}=1" for name in wanted.parameters),
        "more_imports": "" if wanted.python else ", worker_in",
        "worker_import": _import(wanted) if wanted.python else f"{declared}WORKER = worker_in(DEFINITION, ROLE)",
        "worker": wanted.class_name if wanted.python else "WORKER",
    }


def _filled(skeleton: str, values: Mapping[str, str]) -> str:
    return Template((_SKELETONS / f"{skeleton}.txt").read_text(encoding="utf-8")).substitute(values)


def _result(argv: tuple[str, ...]) -> str:
    """Which argument names the result, as `RecordedApp` takes it."""
    for position, argument in enumerate(argv):
        if "{target}" in argument:
            return str(position) if argument == "{target}" else _literal(argument)
    return "-1"


def _literal(text: str) -> str:
    """A text in Python, with the quotes that formatters like."""
    return json.dumps(text, ensure_ascii=False)


def _import(wanted: Wanted) -> str:
    line = f"from {wanted.module} import {wanted.class_name}\n"
    return line if len(line) <= _WIDTH + 1 else f"from {wanted.module} import (\n    {wanted.class_name},\n)\n"


def _parameters(wanted: Wanted) -> str:
    lines = "".join(f'    "{name}": "1",\n' for name in wanted.parameters)
    return f"{{\n{lines}}}" if lines else "{}"


def _parameter_table(role: str, name: str) -> str:
    label = name.replace("_", " ").strip().capitalize() or name
    kinds = "# or integer, number, boolean; with default, least, most, choices"
    return f'\n[roles.{role}.worker.parameters.{name}]\ntype = "text" {kinds}\nlabel = {json.dumps(label)}\n'


def _text_of(definition: Path) -> str:
    """What a definition says that is to be gone on with; empty: there is none."""
    if definition.exists():
        return definition.read_text(encoding="utf-8")
    if other := next(definition.parent.glob("*.csdef"), None):
        told = f"`rolehost convert` makes a {definition.name} of it"
        raise InvalidParameterError(f"the service in this folder is {other.name}: {told}", "name")
    return ""


def _added(before: str, wanted: Wanted, values: Mapping[str, str]) -> str:
    """What a definition gets at its end, or all of it where there is none."""
    role = _filled("role.toml" if wanted.python else "declared_role.toml", values)
    if not before:
        return _filled("service.toml", values) + role
    return role if before.endswith("\n") else f"\n{role}"


def _check(definition: Path, before: str, added: str, wanted: Wanted) -> None:
    """Refuse a definition that isn't valid, or wouldn't be with the role."""
    if before:
        examined = examine(definition, {})
        if examined.model is None:
            raise ServiceModelError([str(problem) for problem in examined.errors])
    roles = tomllib.loads(before or _filled("service.toml", {"service": '"new"'})).get("roles", {})
    same = [name for name in roles if name.casefold() == wanted.role.casefold()]
    if same:
        raise InvalidParameterError(f'{definition.name} has a role "{same[0]}" already: take another name', "name")
    with tempfile.TemporaryDirectory() as elsewhere:
        (tried := Path(elsewhere) / definition.name).write_text(before + added, encoding="utf-8")
        if errors := examine(tried, {}, directory=definition.parent).errors:
            raise InvalidParameterError("; ".join(problem.sentence for problem in errors))
