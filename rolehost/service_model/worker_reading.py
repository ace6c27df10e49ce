"""`[roles.X.worker]`, read: what kind of job, by which program, with which results."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping
from typing import Any

from rolehost.service_model.model import frozen
from rolehost.service_model.problems import Keys, Problems
from rolehost.service_model.values import MOST_SECONDS, VARIABLE, is_reserved, shown
from rolehost.service_model.worker import (
    THEN,
    ExitDeclaration,
    Group,
    LimitsDeclaration,
    ProgressDeclaration,
    WorkerDeclaration,
)
from rolehost.service_model.worker_parameters import ParameterReader
from rolehost.service_model.worker_rules import check_worker

_OF_THE_KIND = ("kind", "title", "accepts", "parameters")
_OF_THE_PROGRAM = (
    *("program", "stdin", "stdout", "result_type", "result_name", "timeout_seconds", "stall_seconds", "concurrency"),
    *("bad_input_exit_codes", "verify", "version", "environment", "limits", "exits", "progress"),
)
# As `rolehost.jobs.kinds` has it: a queue's name is made of it.
_KIND = re.compile(r"(?=.{1,46}\Z)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/(\*|[a-z0-9][a-z0-9.+-]{0,126})", re.ASCII)
_ENDING = re.compile(r"\.[a-z0-9]{1,16}", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,3})-([0-9]{1,3})", re.ASCII)
_LAST_CODE = 255
_LAST_SIGNAL = 64
_MOST_CONCURRENT = 1000
_MOST_MEGABYTES = 2**31
_LIMITS = {
    "memory_mb": (1, _MOST_MEGABYTES),
    "cpu_seconds": (1, MOST_SECONDS),
    "file_mb": (1, _MOST_MEGABYTES),
    "open_files": (8, 2**20),
    "processes": (1, 2**22),
}
_PARSERS = ("pattern", "key", "result_bytes", "result_of_source")


class WorkerReader(ParameterReader):
    """Reads a worker's table; the problems are noted, and stand-ins go on.

    Args:
        problems: gets what is wrong.
    """

    def read(self, keys: Keys, value: object) -> WorkerDeclaration:
        """The declaration.

        Args:
            keys: of the table.
            value: what stands there.
        """
        table = self._table(keys, value)
        self._known(keys, table, (*_OF_THE_KIND, *_OF_THE_PROGRAM))
        parameters, flags = self._parameters((*keys, "parameters"), table)
        before = len(self._problems.errors)
        worker = WorkerDeclaration(
            kind=self._kind((*keys, "kind"), table.get("kind")),
            title=self._text((*keys, "title"), table.get("title", "")),
            program=self._template((*keys, "program"), table),
            stdin=self._redirect((*keys, "stdin"), table, "source"),
            stdout=self._redirect((*keys, "stdout"), table, "target"),
            accepts=self._accepts((*keys, "accepts"), table),
            parameters=parameters,
            flags=frozen(flags),
            result_type=self._text((*keys, "result_type"), table.get("result_type", "")),
            result_name=self._text((*keys, "result_name"), table.get("result_name", "")),
            concurrency=self._optional_whole((*keys, "concurrency"), table, 1, _MOST_CONCURRENT),
            bad_input_exit_codes=self._codes((*keys, "bad_input_exit_codes"), table),
            verify=self._command((*keys, "verify"), table),
            version=self._command((*keys, "version"), table),
            environment=self._environment((*keys, "environment"), table),
            limits=self._limits((*keys, "limits"), table),
            exits=self._exits((*keys, "exits"), table),
            progress=self._progress((*keys, "progress"), table),
            **self._times(keys, table),
        )
        self._of_the_program_only(keys, table)
        check_worker(worker, keys, self._problems, whole=len(self._problems.errors) == before)
        return worker

    def _of_the_program_only(self, keys: Keys, table: dict[str, Any]) -> None:
        if "program" in table:
            return
        for key in _OF_THE_PROGRAM:
            if key in table:
                told = f'"{key}" has no effect: the table names no program, and the role\'s class does the work'
                self._problems.add("N16", (*keys, key), told)

    def _kind(self, keys: Keys, value: object) -> str:
        if isinstance(value, str) and _KIND.fullmatch(value):
            return value
        if value is None:
            self._problems.add("N16", keys[:-1], f"{'.'.join(keys[:-1])} needs a kind, the name of its jobs")
        else:
            told = "up to 46 lower-case letters, digits and single hyphens"
            self._problems.add("N16", keys, f"a kind of job is named by {told}, not {shown(value)}")
        return ""

    def _times(self, keys: Keys, table: dict[str, Any]) -> dict[str, float]:
        names = ("timeout_seconds", "stall_seconds")
        return {name: self._seconds((*keys, name), table[name]) for name in names if name in table}

    def _optional_whole(self, keys: Keys, table: dict[str, Any], least: int, most: int) -> int | None:
        return self._whole(keys, table[keys[-1]], "N16", least, most) if keys[-1] in table else None

    def _template(self, keys: Keys, table: dict[str, Any]) -> tuple[str | Group, ...]:
        value = table.get(keys[-1], [])
        if not isinstance(value, list) or (keys[-1] in table and not value):
            self._not_a_command(keys, value)
            return ()
        arguments: list[str | Group] = []
        for each in value:
            if isinstance(each, list) and each and all(isinstance(one, str) for one in each):
                arguments.append(tuple(self._argument(keys, one) for one in each))
            elif isinstance(each, str):
                arguments.append(self._argument(keys, each))
            else:
                told = "an argument is a text, or a list of texts that are left out together"
                self._problems.add("N18", keys, f"{told}, not {shown(each)}")
        return tuple(arguments)

    def _redirect(self, keys: Keys, table: dict[str, Any], to: str) -> str:
        if keys[-1] not in table:
            return ""
        if table[keys[-1]] != to:
            told = f'"{keys[-1]}" is "{to}", or it is left out'
            self._problems.add("N16", keys, f"{told}, not {shown(table[keys[-1]])}")
        return to

    def _command(self, keys: Keys, table: dict[str, Any]) -> tuple[str, ...]:
        value = table.get(keys[-1], [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._not_a_command(keys, value)
            return ()
        if keys[-1] in table and not value:
            self._not_a_command(keys, value)
        return tuple(self._argument(keys, each) for each in value)

    def _not_a_command(self, keys: Keys, value: object) -> None:
        told = f'"{keys[-1]}" is a list of texts, the program and its arguments'
        self._problems.add("N18", keys, f"{told}, not {shown(value)}")

    def _argument(self, keys: Keys, text: str) -> str:
        self._text(keys, text)
        return text

    def _accepts(self, keys: Keys, table: dict[str, Any]) -> tuple[str, ...]:
        accepted = self._list(keys, table, "media types and endings of names")
        for each in accepted:
            if not isinstance(each, str) or not (_TYPE.fullmatch(each) or _ENDING.fullmatch(each)):
                hint = '"image/png", "audio/*" and ".md" are, in small letters'
                self._problems.add("N16", keys, f"{shown(each)} is no media type and no ending of a name: {hint}")
        return tuple(dict.fromkeys(each for each in accepted if isinstance(each, str)))

    def _list(self, keys: Keys, table: Mapping[str, Any], what: str) -> list[Any]:
        value = table.get(keys[-1], [])
        if isinstance(value, list):
            return value
        self._problems.add("N04", keys, f'"{keys[-1]}" is a list of {what}, not {shown(value)}')
        return []

    def _codes(self, keys: Keys, table: Mapping[str, Any]) -> tuple[int, ...]:
        value = table.get(keys[-1], [])
        codes: set[int] = set()
        for each in [value] if isinstance(value, str) else self._list(keys, table, "exit codes"):
            found = _RANGE.fullmatch(each) if isinstance(each, str) else None
            first, last = (int(found[1]), int(found[2])) if found else (each, each)
            if type(first) is int and type(last) is int and 0 <= first <= last <= _LAST_CODE:
                codes |= {*range(first, last + 1)}
            else:
                told = f'exit codes are whole numbers up to {_LAST_CODE}, or texts as "2-9"'
                self._problems.add("N19", keys, f"{told}, not {shown(each)}")
        return tuple(sorted(codes))

    def _environment(self, keys: Keys, table: dict[str, Any]) -> Mapping[str, str]:
        variables = self._table(keys, table.get(keys[-1], {}))
        self._unlike(keys, variables)
        for name in variables:
            if is_reserved(name):
                self._problems.add("N03", (*keys, name), f'the host sets the variable "{name}" itself')
        return frozen(self._texts(keys, variables, VARIABLE))

    def _limits(self, keys: Keys, table: dict[str, Any]) -> LimitsDeclaration:
        limits = self._table(keys, table.get(keys[-1], {}))
        self._known(keys, limits, tuple(_LIMITS))
        return LimitsDeclaration(
            **{
                name: self._whole((*keys, name), limits[name], "N16", least, most)
                for name, (least, most) in _LIMITS.items()
                if name in limits
            }
        )

    def _exits(self, keys: Keys, table: dict[str, Any]) -> tuple[ExitDeclaration, ...]:
        numbered = enumerate(self._list(keys, table, f"tables: write each as [[{'.'.join(keys)}]]"))
        return tuple(self._exit((*keys, str(index)), self._table(keys, each)) for index, each in numbered)

    def _exit(self, keys: Keys, table: dict[str, Any]) -> ExitDeclaration:
        self._known(keys, table, ("codes", "signals", "stderr", "then"))
        then = self._choice((*keys, "then"), table.get("then"), THEN, "what follows from an exit")
        stderr = self._text((*keys, "stderr"), table.get("stderr", ""))
        self._expression((*keys, "stderr"), stderr)
        codes, signals = self._codes((*keys, "codes"), table), self._signals((*keys, "signals"), table)
        if not (codes or signals or stderr or table.keys() & {"codes", "signals"}) or [] in table.values():
            self._problems.add("N19", keys, "a rule for exits needs codes, signals or stderr: else it fits every exit")
        return ExitDeclaration(then=then, codes=codes, signals=signals, stderr=stderr)

    def _signals(self, keys: Keys, table: dict[str, Any]) -> tuple[int, ...]:
        names = {each.name: int(each) for each in signal.Signals}
        signals = set()
        for each in self._list(keys, table, "signals"):
            number = names.get(each) if isinstance(each, str) else each
            if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= _LAST_SIGNAL:
                signals.add(number)
            else:
                told = f'a signal is a number from 1 to {_LAST_SIGNAL} or a name as "SIGSEGV"'
                self._problems.add("N19", keys, f"{told}, not {shown(each)}")
        return tuple(sorted(signals))

    def _progress(self, keys: Keys, table: dict[str, Any]) -> ProgressDeclaration | None:
        if keys[-1] not in table:
            return None
        progress = self._table(keys, table[keys[-1]])
        self._known(keys, progress, (*_PARSERS, "total", "unfinished"))
        if len([each for each in _PARSERS if each in progress]) != 1:
            self._problems.add("N19", keys, f"progress is read by one of {', '.join(_PARSERS)}")
        if ("total" in progress) is not ("key" in progress):
            self._problems.add("N19", keys, "a key's progress needs a total, and nothing else does")
        if "unfinished" in progress and "pattern" not in progress:
            self._problems.add("N19", (*keys, "unfinished"), '"unfinished" goes with a pattern')
        return ProgressDeclaration(
            pattern=self._text((*keys, "pattern"), progress.get("pattern", "")),
            unfinished=self._switch((*keys, "unfinished"), progress, default=False),
            key=self._text((*keys, "key"), progress.get("key", "")),
            total=self._total((*keys, "total"), progress),
            result_bytes=self._optional_whole((*keys, "result_bytes"), progress, 1, 2**62),
            result_of_source=self._amount((*keys, "result_of_source"), progress),
        )

    def _total(self, keys: Keys, table: dict[str, Any]) -> float | str | None:
        value = table.get(keys[-1])
        return value if isinstance(value, str) else self._amount(keys, table)

    def _amount(self, keys: Keys, table: dict[str, Any]) -> float | None:
        value = table.get(keys[-1])
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return value
        self._problems.add("N19", keys, f'"{keys[-1]}" is a number above 0, not {shown(value)}')
        return 1


def read_worker(table: Mapping[str, Any]) -> WorkerDeclaration:
    """The declaration that a role's process is given.

    Args:
        table: as `WorkerDeclaration.to_table` made it.

    Raises:
        ValueError: it is none; the message has every problem.
    """
    problems = Problems("the worker's declaration")
    worker = WorkerReader(problems).read(("worker",), dict(table))
    if problems.errors:
        raise ValueError("; ".join(problem.sentence for problem in problems.errors))
    return worker
