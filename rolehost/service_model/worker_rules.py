"""What the parts of a worker's declaration keep together, and what the workers of one service do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from rolehost.jobs.parameters import ParameterType
from rolehost.service_model.problems import Keys, Problems, suggest
from rolehost.service_model.worker import PLACEHOLDER, ProgressDeclaration, WorkerDeclaration, placeholders

_FIXED = ("python", "approot")
_OF_A_RUN = (*_FIXED, "source", "target", "scratch", "resources")
_OF_A_NAME = ("name", "stem")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*", re.IGNORECASE | re.ASCII)
_GROUPS = {"percent", "part", "parts", "done", "total"}
# A variable of the environment holds 128 KiB, and every role is told of every kind.
_LARGEST = 100_000
_OF_A_SHELL = frozenset({"|", "||", "&", "&&", "<", ">", ">>", "2>", "2>&1"})
_STREAMS = {"<": 'stdin = "source"', ">": 'stdout = "target"'}
_OPTION_AND_VALUE = re.compile(r"(--?[A-Za-z][A-Za-z0-9-]*) +(\S.*)", re.DOTALL)


def check_worker(worker: WorkerDeclaration, keys: Keys, problems: Problems, *, whole: bool) -> None:
    """Note what doesn't fit together in one declaration.

    Args:
        worker: as read.
        keys: of its table.
        problems: gets what is wrong.
        whole: nothing was wrong so far, so that what isn't used is told, too.
    """
    check = _Rules(worker, keys, problems)
    check.templates()
    check.result()
    check.progress()
    if worker.program and whole:
        check.unused()
        check.vanishing()
        check.habits()


def check_kinds(workers: Mapping[str, WorkerDeclaration], problems: Problems) -> None:
    """Note what the workers of a service don't keep together.

    Args:
        workers: by role.
        problems: gets what is wrong.
    """
    first: dict[str, str] = {}
    for role, worker in workers.items():
        other = first.setdefault(worker.kind, role)
        if worker.kind and replace(workers[other], concurrency=None) != replace(worker, concurrency=None):
            told = f'the role "{other}" declares the kind "{worker.kind}", too, but not the same'
            problems.add("N16", ("roles", role, "worker", "kind"), told)
    size = sum(len(json.dumps(worker.to_table())) for worker in workers.values())
    if size > _LARGEST:
        told = f"the workers' tables are too large together: {size} characters of at most {_LARGEST}"
        problems.add("N16", ("roles",), told)


class _Rules:
    def __init__(self, worker: WorkerDeclaration, keys: Keys, problems: Problems) -> None:
        self._worker = worker
        self._keys = keys
        self._add = problems.add
        self._parameters = {each.name: each for each in worker.parameters}

    def templates(self) -> None:
        worker = self._worker
        if not worker.program:
            return
        arguments = [each for group in worker.groups for each in group]
        self._first("program", worker.program[0] if isinstance(worker.program[0], str) else "")
        self._names("program", arguments, _OF_A_RUN)
        self._ways({name for each in arguments for name in placeholders(each)})
        for name, known in (("verify", (*_OF_A_RUN, "result")), ("version", _FIXED)):
            if command := getattr(worker, name):
                self._first(name, command[0])
                self._names(name, command, known, job=name == "verify")
        for parameter, flag in worker.flags.items():
            self._names(f"parameters.{parameter}.flag", [flag], (), job=False)

    def _ways(self, used: set[str]) -> None:
        """How the asset gets to the program, and the result from it."""
        keys = (*self._keys, "program")
        ways = (("source", "stdin", "what to read"), ("target", "stdout", "where its result goes"))
        for name, stream, what in ways:
            if not (used & {name, "scratch"} or getattr(self._worker, stream)):
                told = f"no argument has {{{name}}}: the program can't know {what}"
                self._add("N18", keys, f'{told}, unless it is its {stream}: {stream} = "{name}"')
        if self._worker.stdout and "target" in used:
            told = 'an argument has {target}, and stdout = "target" makes the same file of what it prints'
            self._add("N18", keys, f"{told}: leave one of them out")

    def vanishing(self) -> None:
        """Values that may be missing, while the option before them stays and takes the next argument for its own."""
        empty = {each.name for each in self._worker.parameters if each.optional or each.default == ""}
        bare = [each if isinstance(each, str) else "" for each in self._worker.program]
        for option, value in pairwise(bare):
            found = PLACEHOLDER.fullmatch(value)
            if found and found[1] in empty and option.startswith("-"):
                told = f"without {value} the argument {option} stays alone: write them as [{option!r}, {value!r}]"
                self._add("N18", (*self._keys, "program"), f"{told}, so that they are left out together", warning=True)

    def habits(self) -> None:
        """What a shell would make something of, and nobody does here."""
        worker = self._worker
        texts = [("program", each) for group in worker.groups for each in group]
        texts += [(key, each) for key in ("verify", "version") for each in getattr(worker, key)]
        texts += [(f"parameters.{name}.flag", flag) for name, flag in worker.flags.items()]
        for key, text in texts:
            keys = (*self._keys, *key.split("."))
            if text in _OF_A_SHELL:
                instead = f": say {_STREAMS[text]}" if text in _STREAMS else ""
                told = f'there is no shell here, the program gets "{text}" as an argument{instead}'
                self._add("N18", keys, told, warning=True)
            elif found := _OPTION_AND_VALUE.fullmatch(text):
                told = f'"{text}" is one argument: an option and its value are two, "{found[1]}" and "{found[2]}"'
                self._add("N18", keys, told, warning=True)
        for name, value in worker.environment.items():
            for each in {*placeholders(value)} & {*_OF_A_RUN, *self._parameters}:
                told = f'nothing is filled in here: the variable "{name}" has the text {{{each}}}'
                self._add("N18", (*self._keys, "environment", name), told, warning=True)

    def result(self) -> None:
        self._names("result_name", [self._worker.result_name], _OF_A_NAME)
        self._names("result_type", [self._worker.result_type], ())
        filled = PLACEHOLDER.sub("x", self._worker.result_type)
        if filled and not MEDIA_TYPE.fullmatch(filled):
            told = f'"{self._worker.result_type}" is no media type, as "image/jpeg" is'
            self._add("N16", (*self._keys, "result_type"), told)

    def progress(self) -> None:
        progress = self._worker.progress
        if progress is None:
            return
        if progress.pattern:
            self._pattern(progress)
        if isinstance(progress.total, str):
            found = PLACEHOLDER.fullmatch(progress.total)
            parameter = self._parameters.get(found[1]) if found else None
            if parameter is None or parameter.type not in {ParameterType.INTEGER, ParameterType.NUMBER}:
                told = f'the total is a number, or a parameter that is one, not "{progress.total}"'
                self._add("N19", (*self._keys, "progress", "total"), f"{told}{self._near(found)}")

    def _pattern(self, progress: ProgressDeclaration) -> None:
        keys = (*self._keys, "progress", "pattern")
        try:
            groups = re.compile(progress.pattern).groupindex.keys()
        except (re.error, OverflowError, RecursionError) as error:
            self._add("N19", keys, f'"{progress.pattern}" is no regular expression: {error}')
            return
        if not (groups >= {"percent"} or groups >= {"done", "total"}):
            told = "needs a group (?P<percent>...), or the groups (?P<done>...) and (?P<total>...)"
            self._add("N19", keys, f"the pattern of the progress {told}")
        elif unknown := sorted(groups - _GROUPS):
            self._add("N19", keys, f"the group {unknown[0]} of the pattern means nothing{suggest(unknown[0], _GROUPS)}")

    def unused(self) -> None:
        """Parameters that a client may give and nothing takes."""
        worker = self._worker
        texts = [each for group in worker.groups for each in group]
        texts += [*worker.verify, worker.result_name, worker.result_type]
        if worker.progress is not None and isinstance(worker.progress.total, str):
            texts.append(worker.progress.total)
        used = {name for text in texts for name in placeholders(text)}
        for name in self._parameters:
            if name not in used:
                told = f'the parameter "{name}" is used nowhere: no argument has {{{name}}}'
                self._add("N18", (*self._keys, "parameters", name), told, warning=True)

    def _first(self, key: str, program: str) -> None:
        keys = (*self._keys, key)
        if not program.strip():
            self._add("N18", keys, f'"{key}" begins with the program, a text')
        elif wrong := [name for name in placeholders(program) if name not in _FIXED]:
            self._add("N18", keys, f"the program is the same for every job: it can't be named by {{{wrong[0]}}}")
        elif "/" in program and not program.startswith(("/", "{approot}/")):
            told = f"the program {program} is a relative path, and would be looked for in each job's scratch directory"
            self._add("N18", keys, f'{told}: what comes with the service is "{{approot}}/{program}"')

    def _names(self, key: str, texts: Iterable[str], known: tuple[str, ...], *, job: bool = True) -> None:
        allowed = (*known, *self._parameters) if job else known
        for name in dict.fromkeys(name for text in texts for name in placeholders(text)):
            if name not in allowed:
                what = "is no parameter" if job else "means nothing here"
                told = f'{{{name}}} in "{key}" {what}{suggest(name, allowed)}'
                literal = "" if suggest(name, allowed) else f"; if it is meant as text: {{{{{name}}}}}"
                self._add("N18", (*self._keys, *key.split(".")), f"{told}{literal}")

    def _near(self, found: re.Match[str] | None) -> str:
        return suggest(found[1], self._parameters) if found and found[1] not in self._parameters else ""
