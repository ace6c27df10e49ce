"""`[roles.X.worker.parameters.P]`: what a job of the kind may be given."""

from __future__ import annotations

import math
import re
from typing import Any

from rolehost.errors import InvalidParameterError
from rolehost.jobs.parameters import LONGEST, MOST_DIGITS, Parameter, ParameterType, Value, text_of
from rolehost.service_model.problems import Keys
from rolehost.service_model.values import Values, shown

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}", re.ASCII)
# What forms, APIs and argv templates have under these names already.
_TAKEN = (
    *("file", "form", "kind", "webhook", "priority", "group", "batch", "source", "source_url", "target"),
    *("scratch", "resources", "approot", "python", "name", "stem", "result"),
)
_OF_A_TYPE = {
    "least": (ParameterType.INTEGER, ParameterType.NUMBER),
    "most": (ParameterType.INTEGER, ParameterType.NUMBER),
    "choices": (ParameterType.TEXT,),
    "pattern": (ParameterType.TEXT,),
    "longest": (ParameterType.TEXT,),
    "any_start": (ParameterType.TEXT,),
    "flag": (ParameterType.BOOLEAN,),
    "optional": (ParameterType.TEXT, ParameterType.INTEGER, ParameterType.NUMBER),
}
_KEYS = ("type", "default", *_OF_A_TYPE, "label", "help")
# What other languages of schemas call them.
_ELSEWHERE = {"min": "least", "minimum": "least", "max": "most", "maximum": "most", "maxLength": "longest"} | {
    "enum": "choices",
    "values": "choices",
    "regex": "pattern",
    "title": "label",
    "description": "help",
}
_LONGEST = 10_000
_MOST_PARAMETERS = 100
_MOST_CHOICES = 1000
_PYTHON: dict[ParameterType, type | tuple[type, ...]] = {
    ParameterType.TEXT: str,
    ParameterType.INTEGER: int,
    ParameterType.NUMBER: (int, float),
    ParameterType.BOOLEAN: bool,
}


class ParameterReader(Values):
    """Reads the parameters of a kind of job."""

    def _parameters(self, keys: Keys, worker: dict[str, Any]) -> tuple[tuple[Parameter, ...], dict[str, str]]:
        """The parameters, and the flags of those that are switches."""
        tables = self._table(keys, worker.get(keys[-1], {}))
        self._unlike(keys, tables)
        if len(tables) > _MOST_PARAMETERS:
            self._problems.add("N17", keys, f"a kind has at most {_MOST_PARAMETERS} parameters, not {len(tables)}")
        parameters, flags = [], {}
        for name, value in tables.items():
            table = self._table((*keys, name), value)
            parameters.append(self._parameter((*keys, name), table))
            if flag := self._text((*keys, name, "flag"), table.get("flag", ""), required="flag" in table):
                flags[name] = flag
        return tuple(parameters), flags

    def _parameter(self, keys: Keys, table: dict[str, Any]) -> Parameter:
        self._parameter_name(keys)
        self._known(keys, table, _KEYS, _ELSEWHERE)
        kind = ParameterType(
            self._choice((*keys, "type"), table.get("type", "text"), [*ParameterType], "a parameter's type")
        )
        for key, types in _OF_A_TYPE.items():
            if key in table and kind not in types:
                self._problems.add("N17", (*keys, key), f'"{key}" goes with {" or ".join(types)}, not with {kind}')
        before = len(self._problems.errors)
        parameter = Parameter(
            name=keys[-1],
            type=kind,
            default=self._default((*keys, "default"), table, kind),
            least=self._bound((*keys, "least"), table, kind),
            most=self._bound((*keys, "most"), table, kind),
            choices=self._choices((*keys, "choices"), table),
            pattern=self._pattern((*keys, "pattern"), table),
            longest=self._whole((*keys, "longest"), table.get("longest", LONGEST), "N17", 1, _LONGEST),
            any_start=self._switch((*keys, "any_start"), table, default=False),
            optional=self._switch((*keys, "optional"), table, default=False),
            label=self._text((*keys, "label"), table.get("label", "")),
            help=self._text((*keys, "help"), table.get("help", "")),
        )
        if len(self._problems.errors) == before:
            self._together(keys, parameter)
        return parameter

    def _parameter_name(self, keys: Keys) -> None:
        if not _NAME.fullmatch(keys[-1]):
            told = "allowed are up to 50 letters, digits and _, a letter first"
            self._problems.add("N17", keys, f'"{keys[-1]}" is no name of a parameter: {told}')
        elif keys[-1].casefold() in _TAKEN:
            told = "forms and programs know something else by it"
            self._problems.add("N17", keys, f'"{keys[-1]}" can\'t be the name of a parameter: {told}')

    def _default(self, keys: Keys, table: dict[str, Any], kind: ParameterType) -> Value | None:
        value = table.get(keys[-1], False if kind is ParameterType.BOOLEAN else None)
        if value is None:
            return None
        whole = isinstance(value, bool) is (kind is ParameterType.BOOLEAN) and isinstance(value, _PYTHON[kind])
        endless = isinstance(value, int) and abs(value) >= 10**MOST_DIGITS
        if not whole or endless or (isinstance(value, float) and not math.isfinite(value)):
            what = "a text" if kind is ParameterType.TEXT else "true or false" if kind is ParameterType.BOOLEAN else ""
            told = what or ("a whole number" if kind is ParameterType.INTEGER else "a number")
            told += f" of up to {MOST_DIGITS} digits" if endless and not what else ""
            self._problems.add("N17", keys, f"the default is {told}, not {shown(value)}")
            return None
        return self._text(keys, value) if isinstance(value, str) else value

    def _bound(self, keys: Keys, table: dict[str, Any], kind: ParameterType) -> float | None:
        value = table.get(keys[-1])
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**MOST_DIGITS:
            return value
        if isinstance(value, float) and math.isfinite(value) and kind is not ParameterType.INTEGER:
            return value
        whole = f"a whole number of up to {MOST_DIGITS} digits, as the parameter is"
        told = whole if kind is ParameterType.INTEGER else "a number"
        self._problems.add("N17", keys, f'"{keys[-1]}" is {told}, not {shown(value)}')
        return None

    def _choices(self, keys: Keys, table: dict[str, Any]) -> tuple[str, ...]:
        value = table.get(keys[-1])
        if value is None:
            return ()
        fit = isinstance(value, list) and 1 <= len(value) <= _MOST_CHOICES and all(map(_is_choice, value))
        if not fit or len(set(value)) < len(value):
            told = f"choices are a list of 1 to {_MOST_CHOICES} different texts, without spaces around them"
            self._problems.add("N17", keys, f"{told}, not {shown(value)}")
            return ()
        return tuple(self._text(keys, each) for each in value)

    def _pattern(self, keys: Keys, table: dict[str, Any]) -> str:
        pattern = self._text(keys, table.get(keys[-1], ""))
        self._expression(keys, pattern)
        return pattern

    def _expression(self, keys: Keys, pattern: str) -> None:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            self._problems.add("N19", keys, f"{shown(pattern)} is no regular expression: {error}")

    def _together(self, keys: Keys, parameter: Parameter) -> None:
        """What must fit: bounds, choices and the default."""
        if parameter.least is not None and parameter.most is not None and parameter.least > parameter.most:
            told = f"the least ({text_of(parameter.least)}) is above the most ({text_of(parameter.most)})"
            self._problems.add("N17", (*keys, "least"), told)
            return
        if parameter.choices and parameter.pattern:
            self._problems.add("N17", (*keys, "pattern"), "a parameter has choices or a pattern, not both")
        if parameter.optional and parameter.default is not None:
            self._problems.add("N17", (*keys, "optional"), "what has a default needn't be given: leave `optional` out")
        if parameter.default is not None:
            self._check_default((*keys, "default"), parameter, parameter.default)

    def _check_default(self, keys: Keys, parameter: Parameter, default: Value) -> None:
        if default == "" and parameter.choices:
            told = "an empty text is none of the choices: where none needs to be taken, say `optional = true`"
            self._problems.add("N17", keys, told)
        elif default != "":
            try:
                fits = parameter.parse(text_of(default)) == default
                told = "" if fits else f"the default {shown(default)} has spaces around it"
            except InvalidParameterError as error:
                told = f"the default is none that the parameter allows: {error}"
            if told:
                self._problems.add("N17", keys, told)


def _is_choice(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value == value.strip()
