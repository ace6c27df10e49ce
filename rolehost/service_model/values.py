"""Values of a definition, taken out one at a time: what doesn't fit is noted, and a stand-in goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from rolehost.service_model.model import frozen
from rolehost.service_model.problems import Keys, Problems, suggest

_Part = TypeVar("_Part")

# Roles, resources and endpoints become directories, variables and identifiers.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,126}")
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What no document or environment can carry.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def check_value(problems: Problems, keys: Keys, value: str) -> None:
    """Note characters that no environment and no document can carry."""
    if _UNPRINTABLE.search(value):
        problems.add("N02", keys, f'the value of "{keys[-1]}" holds characters that can\'t be passed to a role')


def as_text(value: str | float) -> str:
    """What a role sees of a value: TOML's numbers and booleans are texts to it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
            self._name((*keys, name), NAME, "letters, digits, . - and _, a letter first")
        return frozen({name: read((*keys, name), self._table((*keys, name), part)) for name, part in table.items()})

    def _strings(self, keys: Keys, role: dict[str, Any], form: re.Pattern[str]) -> Mapping[str, str]:
        table = _flat(self._table(keys, role.get(keys[-1], {})))
        self._unlike(keys, table)
        return frozen(self._texts(keys, table, form))

    def _texts(self, keys: Keys, table: dict[str, Any], form: re.Pattern[str]) -> dict[str, str]:
        allowed = "letters, digits and _" if form is VARIABLE else "letters, digits, . - and _"
        values = {}
        for name, value in table.items():
            self._name((*keys, name), form, allowed)
            if isinstance(value, str | int | float):
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

    def _known(self, keys: Keys, table: dict[str, Any], known: tuple[str, ...]) -> None:
        where = ".".join(keys)
        for key in sorted(table.keys() - set(known)):
            place = f"in [{where}]" if where else "at the top"
            self._problems.add("M28", (*keys, key), f'unknown key "{key}" {place}{suggest(key, known)}')

    def _name(self, keys: Keys, form: re.Pattern[str], allowed: str) -> None:
        if not form.fullmatch(keys[-1]):
            self._problems.add("N05", keys, f'"{keys[-1]}" is no name in {".".join(keys[:-1])}: allowed are {allowed}')

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
        self._problems.add("M21", keys, f'{what} is {", ".join(most)} or {last}, not "{value}"')
        return last

    def _switch(self, keys: Keys, table: dict[str, Any], *, default: bool) -> bool:
        value = table.get(keys[-1], default)
        if not isinstance(value, bool):
            self._problems.add("N04", keys, f"{self._problems.word(keys)} is true or false")
        return bool(value)

    def _seconds(self, keys: Keys, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        self._problems.add("N04", keys, f"{keys[-1]} is a number of seconds above 0, not {value!r}")
        return 1.0

    def _whole(self, keys: Keys, value: object, code: str, least: int, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        word = self._problems.word(keys)
        self._problems.add(code, keys, f"{word} is a whole number from {least} to {most}, not {value!r}")
        return least


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    # TOML reads an unquoted `Worker.Slots = 2` as a table: here it is a name with a dot.
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
