"""A worker by configuration: what `[roles.X.worker]` of a `service.toml` declares, as frozen values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from rolehost.jobs.parameters import Parameter

CONFIGURED = "rolehost.workers.configured:ConfiguredWorker"
"""The entry point of a role whose table names a program."""
DECLARATION = "ROLEHOST_WORKER"
"""The variable that gives a role's process its own table, as JSON. What is in it is no secret."""
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
LITERAL = re.compile(r"\{(\{[A-Za-z_][A-Za-z0-9_]*\})\}")
"""A placeholder in braces of its own is text: `{{print}}` is `{print}`."""
THEN = ("success", "retry", "fail", "poison_now", "put_back")
"""What may follow from an exit."""

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitDeclaration:
    """One rule of what an exit means.

    Args:
        then: one of `THEN`.
        codes: exit codes.
        signals: numbers of signals.
        stderr: a regular expression, searched in what it wrote there; empty: whatever it wrote.
    """

    then: str
    codes: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    stderr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsDeclaration:
    """What the program may take; None: as much as there is. Megabytes are of 1,048,576 bytes."""

    memory_mb: int | None = None
    cpu_seconds: int | None = None
    file_mb: int | None = None
    open_files: int | None = None
    processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressDeclaration:
    """How the program's progress is read: by a pattern, by a key, or by the result's size.

    Args:
        pattern: with a group `percent`, or the groups `done` and `total`; searched in each line of what it prints.
        key: of lines `key=value`.
        total: the value of `key` at the end, or the name of the parameter that has it, in braces.
        unfinished: the pattern is also searched in lines that have not ended yet.
        result_bytes: the size of the result at the end.
        result_of_source: the same, as so many times the source's.
    """

    pattern: str = ""
    unfinished: bool = False
    key: str = ""
    total: float | str | None = None
    result_bytes: int | None = None
    result_of_source: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDeclaration:
    """A kind of job and, where it names a program, the worker that does it.

    Args:
        kind: of job.
        title: what people call it.
        program: the argv template: arguments, and groups of arguments that are left out as a whole where a parameter
            in them has no value; empty where the role's own class does the work.
        stdin: "source" where the program reads the asset as its standard input; else that is empty.
        stdout: "target" where its standard output is the result; else that is output.
        accepts: media types by content and endings of names; empty for any file.
        parameters: in the order of a form.
        flags: what a boolean parameter's placeholder stands for where it is true, by name.
        result_type: a media type, perhaps with parameters in it; empty: what the ending of the result's name says.
        result_name: `{name}` and `{stem}` are the source's; empty: the source's name.
        timeout_seconds: the longest run; None: the role's setting.
        stall_seconds: without a sign of life; None: the role's setting.
        concurrency: runs at a time; None: the role's setting.
        bad_input_exit_codes: exit codes that say that the input is at fault.
        verify: a command that looks at the `{result}`.
        version: a command by which the program shows that it answers.
        environment: variables for the program.
        limits: what it may take.
        exits: what other exits mean; the first that fits decides.
        progress: how far it has come; None: nobody can say.
    """

    kind: str
    title: str = ""
    program: tuple[str | Group, ...] = ()
    stdin: str = ""
    stdout: str = ""
    accepts: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    flags: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    result_type: str = ""
    result_name: str = ""
    timeout_seconds: float | None = None
    stall_seconds: float | None = None
    concurrency: int | None = None
    bad_input_exit_codes: tuple[int, ...] = ()
    verify: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    limits: LimitsDeclaration = field(default_factory=LimitsDeclaration)
    exits: tuple[ExitDeclaration, ...] = ()
    progress: ProgressDeclaration | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The argv template: every argument by itself is a group, too."""
        return tuple((each,) if isinstance(each, str) else each for each in self.program)

    def to_table(self) -> dict[str, Any]:
        """The table of a `service.toml` that says the same; a role's process is given it as JSON."""
        elsewhere = {"parameters", "flags", "limits", "exits", "progress"}
        table = _said(self, elsewhere)
        if self.parameters:
            table["parameters"] = {each.name: self._parameter(each) for each in self.parameters}
        if limits := _said(self.limits):
            table["limits"] = limits
        if self.progress is not None:
            table["progress"] = _said(self.progress)
        if self.exits:
            table["exits"] = [_said(each) for each in self.exits]
        return table

    def _parameter(self, parameter: Parameter) -> dict[str, Any]:
        table = {name: value for name, value in parameter.to_json().items() if name != "name"}
        table = {name: str(value) if name == "type" else value for name, value in table.items()}
        return table | ({"flag": self.flags[parameter.name]} if parameter.name in self.flags else {})


def placeholders(text: str) -> Iterator[str]:
    """The names in braces, those that are meant as text left out."""
    yield from PLACEHOLDER.findall(LITERAL.sub("", text))


def _said(of: Any, elsewhere: frozenset[str] | set[str] = frozenset()) -> dict[str, Any]:
    """The fields that say something, as TOML and JSON have them."""
    values = {each.name: getattr(of, each.name) for each in fields(of) if each.name not in elsewhere}
    return {name: _plain(value) for name, value in values.items() if not _is_unsaid(value)}


def _is_unsaid(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, str | tuple | Mapping) and not value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
