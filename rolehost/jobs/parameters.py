"""Parameters of a kind of job, declared once: what a form shows, an API's schema says, and a submission is held to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias

from rolehost.errors import InvalidParameterError

Value: TypeAlias = "str | int | float | bool"
LONGEST = 1000
STARTERS = "-@|"
"""What programs take for an option, for a file of arguments, or for a command, where an argument begins with it."""
MOST_DIGITS = 18
"""Of a whole number: what fits into 64 bits, in every program and every store."""

_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{MOST_DIGITS}}}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_HALF = re.compile("[\\ud800-\\udfff]")
_OF_PYTHON = re.compile(r"\(\?(?![:=!]|<[=!])|\\[AZ]")
"""What only Python's regular expressions have: schemas are of another dialect, and say nothing of such a pattern."""
_SWITCH = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


class ParameterType(StrEnum):
    """What a parameter's text is read as."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter.

    Args:
        name: letters, digits and underscores; the placeholder in an argv template.
        type: what its text is read as.
        default: taken where nothing, or nothing but spaces, is given; None: it has to be given.
        least: the smallest number that is accepted.
        most: the largest.
        choices: the texts that are accepted, by their exact spelling; empty for any.
        pattern: a regular expression that a text has to match as a whole; empty for none.
        longest: characters of a text.
        any_start: whether a text may begin with `-`, `@` or `|`, which programs take for an option, for a file of
            arguments, or for a command: only where the program is known not to.
        optional: it needn't be given although it has no default; the job has no such parameter then.
        label: what a form calls it; empty: its name.
        help: a sentence beside it in a form.
    """

    name: str
    type: ParameterType = ParameterType.TEXT
    default: Value | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    longest: int = LONGEST
    any_start: bool = False
    optional: bool = False
    label: str = ""
    help: str = ""

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is None and not self.optional

    def parse(self, text: str | None) -> Value:
        """The value of what was given.

        Args:
            text: as it came; None where nothing did.

        Raises:
            InvalidParameterError: it is missing, or none that the declaration allows.
        """
        if text is None or not text.strip():
            if self.default is None:
                raise self._wrong("is missing")
            return self.default
        if "\0" in text:  # no program can be given it
            raise self._wrong("holds a NUL character")
        if _HALF.search(text):  # the same
            raise self._wrong("holds half a character")
        match self.type:
            case ParameterType.TEXT:
                return self._text(text)
            case ParameterType.BOOLEAN:
                return self._boolean(text.strip())
            case ParameterType.INTEGER | ParameterType.NUMBER:
                return self._number(text.strip())

    def schema(self) -> dict[str, Any]:
        """The parameter as a JSON schema (draft 2020-12), as OpenAPI has it."""
        told: dict[str, Any] = {"type": "string" if self.type is ParameterType.TEXT else self.type.value}
        told |= {"title": self.label} if self.label else {}
        told |= {"description": self.help} if self.help else {}
        told |= {"default": self.default} if self.default is not None else {}
        told |= {"minimum": self.least} if self.least is not None else {}
        told |= {"maximum": self.most} if self.most is not None else {}
        told |= {"enum": list(self.choices)} if self.choices else {}
        if self.type is ParameterType.TEXT and not self.choices:
            start = "" if self.any_start else f"(?![{STARTERS}])"
            whole = f"(?:{self.pattern})$" if self.pattern and not _OF_PYTHON.search(self.pattern) else ""
            told |= {"minLength": 1} if self.required else {}
            told |= {"maxLength": self.longest} | ({"pattern": f"^{start}{whole}"} if start or whole else {})
        return told

    def to_json(self) -> dict[str, Any]:
        """The declaration, without what is as usual."""
        usual = {each.name: each.default for each in fields(self)}
        told = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Parameter:
        """The reverse of `to_json`."""
        facts = dict(told)
        if "choices" in facts:
            facts["choices"] = tuple(facts["choices"])
        return cls(**facts | {"type": ParameterType(facts.get("type", ParameterType.TEXT))})

    def _text(self, text: str) -> str:
        if self.choices:
            if text.strip() not in self.choices:
                raise self._wrong(f"must be {_listed(self.choices)}, not {text.strip()!r}")
            return text.strip()
        if len(text) > self.longest:
            raise self._wrong(f"is longer than {self.longest} characters")
        if text[0] in STARTERS and not self.any_start:
            raise self._wrong(f"must not begin with {text[0]}")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise self._wrong(f"must match {self.pattern}, which {text!r} does not")
        return text

    def _boolean(self, text: str) -> bool:
        if (value := _SWITCH.get(text.lower())) is None:
            raise self._wrong(f"must be true or false, not {text!r}")
        return value

    def _number(self, text: str) -> int | float:
        whole = self.type is ParameterType.INTEGER
        if not (_WHOLE if whole else _NUMBER).fullmatch(text):
            raise self._wrong(f"must be a {'whole ' if whole else ''}number{self._bounds()}, not {text!r}")
        value = int(text) if whole else float(text)
        low, high = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        if not (low <= value <= high and math.isfinite(value)):
            raise self._wrong(f"must be a {'whole ' if whole else ''}number{self._bounds()}, not {text}")
        return value

    def _bounds(self) -> str:
        least, most = self.least, self.most
        if least is None:
            return "" if most is None else f" up to {text_of(most)}"
        return f" from {text_of(least)}{'' if most is None else f' to {text_of(most)}'}"

    def _wrong(self, why: str) -> InvalidParameterError:
        return InvalidParameterError(f"{self.name} {why}", field=self.name)


def text_of(value: Value) -> str:
    """A value as programs, forms and sentences have it: `true`, `5` also where it is 5.0, and never an exponent."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if "e" not in (text := repr(value)):
        return text.removesuffix(".0")
    from decimal import Decimal  # noqa: PLC0415 - what hosts roles never needs it

    return f"{Decimal(text):f}"


def parse_all(
    declared: tuple[Parameter, ...], given: Mapping[str, str], what: str = "this kind of job"
) -> dict[str, Value]:
    """The values of all parameters that have one, in the order of their declaration.

    Raises:
        InvalidParameterError: one is unknown, missing or wrong; its `field` names it.
    """
    known = [parameter.name for parameter in declared]
    for name in sorted(set(given) - set(known)):
        told = f"{_listed(known, 'and')} {'are' if len(known) > 1 else 'is'}" if known else "it has none"
        raise InvalidParameterError(f"{name} is not a parameter of {what}: {told}", field=name)
    asked = [each for each in declared if not each.optional or given.get(each.name, "").strip()]
    return {parameter.name: parameter.parse(given.get(parameter.name)) for parameter in asked}


def _listed(names: tuple[str, ...] | list[str], word: str = "or") -> str:
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last
