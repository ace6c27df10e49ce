"""A `service.toml`, written from the tables that it will be read into."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_native(document: dict[str, Any], comments: Iterable[str], unmapped: Iterable[str]) -> str:
    """The text of a `service.toml`.

    Args:
        document: its tables, of texts, numbers, booleans, lists of those and tables.
        comments: lines for its beginning.
        unmapped: roles whose entry point isn't known: a line for it is put in as a comment.
    """
    open_roles = set(unmapped)
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    lines += _table(("service",), document["service"])
    for name, role in document["roles"].items():
        lines += _table(("roles", name), role, missing=name in open_roles)
    for name, hook in document.get("hooks", {}).items():
        lines += _table(("hooks", name), hook)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(keys: tuple[str, ...], table: dict[str, Any], *, missing: bool = False) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not _has_tables(keys, value)}
    if plain or missing or len(keys) != 1:
        yield ""
        yield f"[{_dotted(keys)}]"
    if missing:
        yield '# entry_point = "module:Class"  # to be filled in: without it the service does not start'
    for key, value in plain.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if key in plain:
            continue
        if isinstance(value, list):
            yield from _tables((*keys, key), value)
        elif _holds_values(keys, key):
            yield from _table((*keys, key), value)
        else:
            for name, part in value.items():
                yield from _table((*keys, key, name), part)


def _tables(keys: tuple[str, ...], tables: list[dict[str, Any]]) -> Iterator[str]:
    for table in tables:
        yield ""
        yield f"[[{_dotted(keys)}]]"
        for key, value in table.items():
            yield f"{_key(key)} = {_value(value)}"


def _has_tables(keys: tuple[str, ...], value: Any) -> bool:
    if keys[-1] == "environment" and len(keys) > len(("roles", "name")):
        return False  # a variable with an XPath is a table in a line
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value))


def _holds_values(keys: tuple[str, ...], key: str) -> bool:
    if keys[-1] == "worker":
        return key != "parameters"
    return keys[0] == "hooks" or key in {"settings", "environment", "contents", "worker"}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if type(value) in {int, float} else _quoted(str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _quoted(key)


def _dotted(keys: tuple[str, ...]) -> str:
    return ".".join(_key(key) for key in keys)
