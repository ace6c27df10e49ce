"""Values of a definition, taken out one at a time: what doesn't fit is noted, and a stand-in goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from rolehost.service_model.model import frozen
from rolehost.service_model.problems import Keys, Problems, suggest

_Part = TypeVar("_Part")

# Roles, resources and endpoints become directories, variables and identifiers.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}")
PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_. -]{0,125}[A-Za-z0-9_.-])?")
SETTING = re.compile(r"(?=\S)[^\x00-\x1f\x7f]{0,254}(?<=\S)")
VARIABLE = re.compile(r"[^\s=\x00-\x1f\x7f]{1,255}")
_ALLOWED = {
    NAME: "letters, digits, . - and _, none of . - first",
    PART: "letters, digits, spaces, . - and _, none of space . - first",
    SETTING: "up to 254 characters, no control characters, no space at either end",
    VARIABLE: "up to 255 characters, no spaces, no control characters, no =",
}
MOST_SECONDS = 2**31 - 1
_MOST_SHOWN = 100
_ENDLESS = "a number of thousands of digits"
# A temporary directory of its own is what a role may choose; who it is, it may not.
_RESERVED_VARIABLES = frozenset(
    {"rdroleid", "roledeploymentid", "roleinstanceid", "rolename", "roleroot", "waruntimeendpoint"}
)
# What no document or environment can carry.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def check_value(problems: Problems, keys: Keys, value: str) -> None:
    """Note characters that no environment and no document can carry."""
    if _UNPRINTABLE.search(value):
        problems.add("N02", keys, f'the value of "{keys[-1]}" holds characters that can\'t be passed to a role')


def as_text(value: str | float) -> str:
    """What a role sees of a value: TOML's numbers and booleans are texts to it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_reserved(variable: str) -> bool:
    """Whether the host itself sets a variable, so that a definition can't."""
    name = variable.casefold()
    return name in _RESERVED_VARIABLES or name.startswith("rolehost_")


class Values:
    """Takes values out of tables.

    Args:
        problems: gets what is wrong, with the place of the value's keys.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def _parts(
        self, keys: Keys, role: dict[str, Any], read: Callable[[Keys, dict[str, Any]], _Part]
    ) -> Mapping[str, _Part]:
        table = self._table(keys, role.get(keys[-1], {}))
        self._unlike(keys, table)
        for name in table:
            self._name((*keys, name), PART)
        return frozen({name: read((*keys, name), self._table((*keys, name), part)) for name, part in table.items()})

    def _strings(self, keys: Keys, role: dict[str, Any], form: re.Pattern[str]) -> Mapping[str, str]:
        table: dict[str, Any] = {}
        for name, value in _flat(self._table(keys, role.get(keys[-1], {}))):
            if name in table:
                self._problems.add("M08", (*keys, name), f'"{name}" is set twice, once as a name with dots in it')
            table[name] = value
        self._unlike(keys, table)
        return frozen(self._texts(keys, table, form))

    def _texts(self, keys: Keys, table: dict[str, Any], form: re.Pattern[str]) -> dict[str, str]:
        values = {}
        for name, value in table.items():
            self._name((*keys, name), form)
            if isinstance(value, str | int | float) and (isinstance(value, str) or shown(value) != _ENDLESS):
                values[name] = as_text(value)
                check_value(self._problems, (*keys, name), values[name])
            else:
                self._problems.add("N04", (*keys, name), f'the value of "{name}" is text, a number, true or false')
        return values

    def _unlike(self, keys: Keys, table: dict[str, Any]) -> None:
        seen: dict[str, str] = {}
        for name in table:
            if other := seen.get(name.casefold()):
                self._problems.add("M08", (*keys, name), f'"{name}" and "{other}" differ in case only')
            seen[name.casefold()] = name

    def _known(
        self, keys: Keys, table: dict[str, Any], known: tuple[str, ...], elsewhere: Mapping[str, str] | None = None
    ) -> None:
        """Note keys that mean nothing; `elsewhere` has words that mean it in other places."""
        where = ".".join(keys)
        for key in sorted(table.keys() - set(known)):
            place = f"in [{where}]" if where else "at the top"
            meant = (elsewhere or {}).get(key, key)
            self._problems.add("M28", (*keys, key), f'unknown key "{key}" {place}{suggest(meant, known)}')

    def _name(self, keys: Keys, form: re.Pattern[str]) -> None:
        if not form.fullmatch(keys[-1]) or _UNPRINTABLE.search(keys[-1]):
            told = f'"{keys[-1]}" is no name in {".".join(keys[:-1])}: allowed are {_ALLOWED[form]}'
            self._problems.add("N05", keys, told)

    def _table(self, keys: Keys, value: object) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._problems.add("N04", keys, f'"{".".join(keys)}" is a table: write it as [{".".join(keys)}]')
        return {}

    def _text(self, keys: Keys, value: object, *, required: bool = False) -> str:
        if isinstance(value, str) and (value or not required):
            check_value(self._problems, keys, value)
            return value
        self._problems.add("N06", keys, f'{".".join(keys[:-1])} needs "{keys[-1]}", a text')
        return ""

    def _choice(self, keys: Keys, value: object, choices: Collection[str], what: str) -> str:
        if isinstance(value, str) and value in choices:
            return value
        *most, last = choices
        self._problems.add("M21", keys, f"{what} is {', '.join(most)} or {last}, not {_quoted(value)}")
        return last

    def _switch(self, keys: Keys, table: dict[str, Any], *, default: bool) -> bool:
        value = table.get(keys[-1], default)
        if not isinstance(value, bool):
            self._problems.add("N04", keys, f"{self._problems.word(keys)} is true or false")
        return bool(value)

    def _seconds(self, keys: Keys, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MOST_SECONDS:
            return float(value)
        told = f"{keys[-1]} is a number of seconds above 0, at most {MOST_SECONDS}, not {shown(value)}"
        self._problems.add("N04", keys, told)
        return 1.0

    def _whole(self, keys: Keys, value: object, code: str, least: int, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        word = self._problems.word(keys)
        self._problems.add(code, keys, f"{word} is a whole number from {least} to {most}, not {shown(value)}")
        return least


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) and len(value) <= _MOST_SHOWN else shown(value)


def shown(value: object) -> str:
    """A value, as a sentence quotes it: in a few words."""
    try:
        text = repr(value)
    except ValueError:  # the language writes no number of more than some thousand digits
        return _ENDLESS
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # TOML reads an unquoted `Worker.Slots = 2` as a table: here it is a name with a dot.
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
