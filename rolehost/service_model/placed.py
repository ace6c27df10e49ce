"""Problems of a definition in two files: the places of its values are noted while they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rolehost.service_model.markup import Element
from rolehost.service_model.problems import Keys, Problems

# What a value is called in the XML files, where it isn't just the native name with capitals.
_WORDS = {
    "instances": "the count of <Instances>",
    "size_in_mb": "sizeInMB",
    "ports": "FixedPortRange",
    "public_ports": "<AllocatePublicPortFrom>",
    "interval_seconds": "intervalInSeconds",
    "timeout_seconds": "timeoutInSeconds",
}


@dataclass(slots=True)
class PlacedProblems(Problems):
    """Every problem of a pair of files; `file` is the definition.

    Args:
        places: file and line of the value at these keys, as they would be in `service.toml`.
    """

    places: dict[Keys, tuple[str, int]] = field(default_factory=dict)

    def put(self, keys: Keys, file: str, element: Element, attribute: str = "") -> None:
        """Note where the value at `keys` stands."""
        self.places[keys] = (file, element.line_of(attribute))

    def word(self, keys: Keys) -> str:
        """What the value at `keys` is called in the file."""
        last = keys[-1]
        if last.isdecimal():  # the ends of a range
            return ("min", "max")[int(last) % 2]
        return _WORDS.get(last) or re.sub(r"_([a-z])", lambda letter: letter[1].upper(), last)

    def place_of(self, keys: Keys) -> tuple[str, int]:
        """The file and the line of the value at `keys`, or of the nearest one around it."""
        for length in range(len(keys), 0, -1):
            if place := self.places.get(keys[:length]):
                return place
        return self.file, 0


@dataclass(slots=True)
class Source:
    """One of the two files, while it is read.

    Args:
        problems: gets what is wrong.
        file: how messages call the file.
    """

    problems: PlacedProblems
    file: str

    def note(self, code: str, element: Element, sentence: str, attribute: str = "", *, warning: bool = False) -> None:
        """Note a problem with an element, or with its attribute."""
        self.problems.note(code, self.file, element.line_of(attribute), sentence, warning=warning)

    def needed(self, element: Element, attribute: str) -> str:
        """The attribute's value; empty, and a problem, if it isn't there."""
        value = element.attributes.get(attribute, "")
        if not value:
            self.note("N07", element, f'<{element.name}> needs the attribute "{attribute}"')
        return value

    def table(self, keys: Keys, element: Element, names: Mapping[str, str]) -> dict[str, object]:
        """Attributes that are there, under their native names.

        Args:
            keys: where the table would be in `service.toml`.
            element: the element.
            names: of the attributes, each with its native name.
        """
        self.problems.put(keys, self.file, element)
        table: dict[str, object] = {}
        for attribute, native in names.items():
            if (value := element.attributes.get(attribute)) is not None:
                table[native] = value
                self.problems.put((*keys, native), self.file, element, attribute)
        return table

    def named(self, parents: list[Element], child: str, what: str) -> dict[str, Element]:
        """Children by their names; a name that comes twice is a problem.

        Args:
            parents: elements that hold such children.
            child: the children's element.
            what: what they are called in a sentence.
        """
        found: dict[str, Element] = {}
        for element in (each for parent in parents for each in parent.all(child)):
            name = self.needed(element, "name")
            if name in found:
                code = "M03" if what == "role" else "M08"
                self.note(code, element, f'the {what} "{name}" is declared twice', "name")
            elif name:
                found[name] = element
        return found


def number(value: object) -> object:
    """A text as a whole number; what is none stays a text, and is refused where a number belongs."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else value


def switch(value: object) -> object:
    """A text as a boolean, as XML writes it; what is none stays a text."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower(), value)


def convert(table: dict[str, object], *, numbers: tuple[str, ...] = (), switches: tuple[str, ...] = ()) -> None:
    """Turn the texts of these keys into numbers and booleans."""
    for key in numbers:
        if key in table:
            table[key] = number(table[key])
    for key in switches:
        if key in table:
            table[key] = switch(table[key])
