"""Rows as entities: fields as properties, within the limits that the service has and the emulator does not check.

See "Understanding the Table service data model": 1 MiB for an entity, 252 properties, 64 KiB for one. A text that is
longer is cut into several binary properties. A merge can't take a property away, so that a field which is gone holds an
empty binary, until the row is written whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from azure.data.tables import EdmType, EntityProperty

from rolehost.errors import InvalidParameterError, LimitExceededError, VersionMismatchError
from rolehost.stores import names
from rolehost.stores.tables import Fields, Row, Scalar, TableLimits

LIMITS: Final = TableLimits(largest_field=256 * 1024, largest_row=960 * 1024, fields_per_row=240)
TAG: Final = "rh_tag"
GONE: Final = b""
_PIECE: Final = 64 * 1024
_READABLE: Final = 1024  # characters: shorter texts stay texts, for whoever looks at the table with other tools
_LARGEST_ENTITY: Final = 1024 * 1024
_MOST_PROPERTIES: Final = 252
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}", re.ASCII)
_MORE: Final = re.compile(r"rh_more_[0-9]+_.*", re.ASCII)
_RESERVED: Final = {"PartitionKey", "RowKey", "Timestamp", TAG}
_ETAG: Final = re.compile(r"W/\"datetime'([^']+)'\"")
_LARGEST_NUMBER: Final = 2**63
_INT32: Final = 2**31


def version(etag: str, tag: str) -> str:
    """A row's version: the service's time stamp, and the tag, which a later write has to take off its lists."""
    plain = _ETAG.fullmatch(etag)
    return f"{unquote(plain[1]) if plain else etag}|{tag}"


def etag_and_tag(version: str) -> tuple[str, str]:
    """The reverse of `version`.

    Raises:
        VersionMismatchError: no row ever had this version.
    """
    stamp, bar, tag = version.partition("|")
    if not bar or not stamp:
        raise VersionMismatchError("no row has this version")
    return (stamp if stamp.startswith("W/") else f"W/\"datetime'{quote(stamp, safe='')}'\""), tag


def properties(fields: Fields) -> dict[str, Any]:
    """Fields as properties of a new entity; those that are None are left out.

    Raises:
        InvalidParameterError: a name or a value is none that a row may have.
        LimitExceededError: a field, or all together, are over a limit.
    """
    return changed({name: value for name, value in fields.items() if value is not None})


def changed(changes: Fields) -> dict[str, Any]:
    """Fields as properties to merge into an entity; None takes one away."""
    if len(changes) > LIMITS.fields_per_row:
        raise LimitExceededError(f"a row has up to {LIMITS.fields_per_row} fields")
    made: dict[str, Any] = {}
    for name, value in changes.items():
        if not _FIELD.fullmatch(name) or name in _RESERVED or _MORE.fullmatch(name):
            raise InvalidParameterError(f"{name[:80]!r} is no name of a field", name)
        made |= _property(name, value)
    _check_size(made)
    return made


def row(entity: Mapping[str, Any], etag: str) -> Row:
    """An entity as a row."""
    tag = str(entity.get(TAG, ""))
    fields = {name: value for name, value in _fields(entity) if value is not None}
    return Row(key=str(entity["RowKey"])[1:], version=version(etag, tag), tag=tag, fields=fields)


def _property(name: str, value: Scalar) -> dict[str, Any]:
    if value is None:
        return {name: GONE}
    if isinstance(value, bool):
        return {name: value}
    if isinstance(value, int):
        if not -_LARGEST_NUMBER <= value < _LARGEST_NUMBER:
            raise InvalidParameterError(f"the number of {name!r} does not fit into 64 bits", name)
        return {name: value if -_INT32 <= value < _INT32 else EntityProperty(value, EdmType.INT64)}
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidParameterError(f"the number of {name!r} is not finite", name)
        return {name: value}
    if isinstance(value, str):
        return _text(name, str(value))
    raise InvalidParameterError(f"the field {name!r} is no scalar", name)  # not every caller is checked by mypy


def _text(name: str, value: str) -> dict[str, Any]:
    raw = names.text(value, name).encode()
    if len(raw) > LIMITS.largest_field:
        raise LimitExceededError(f"the field {name!r} has {len(raw)} bytes; the most is {LIMITS.largest_field}")
    if len(value) <= _READABLE:
        return {name: value}
    # The first byte says how many pieces follow: those of an earlier, longer text may still be there.
    first, rest = raw[: _PIECE - 1], raw[_PIECE - 1 :]
    pieces = [rest[place : place + _PIECE] for place in range(0, len(rest), _PIECE)]
    made: dict[str, Any] = {name: bytes([len(pieces)]) + first}
    return made | {f"rh_more_{number}_{name}": piece for number, piece in enumerate(pieces)}


def _fields(entity: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for name, value in entity.items():
        if name in _RESERVED or _MORE.fullmatch(name):
            continue
        if isinstance(value, bytes):
            yield name, _joined(entity, name, value)
        elif isinstance(value, EntityProperty):
            yield name, int(value.value)
        else:
            yield name, value


def _joined(entity: Mapping[str, Any], name: str, first: bytes) -> str | None:
    if first == GONE:
        return None
    pieces = [entity[f"rh_more_{number}_{name}"] for number in range(first[0])]
    return b"".join([first[1:], *pieces]).decode()


def _check_size(made: Mapping[str, Any]) -> None:
    if len(made) > _MOST_PROPERTIES - 2:
        raise LimitExceededError(f"the row needs {len(made)} properties; an entity has up to {_MOST_PROPERTIES}")
    # The service counts texts and names in UTF-16, and a few bytes for each property.
    size = 2048 + sum(8 + 2 * len(name) + _size(value) for name, value in made.items())
    if size > _LARGEST_ENTITY:
        raise LimitExceededError(f"the row has {size} bytes as an entity; the most is {_LARGEST_ENTITY}")


def _size(value: object) -> int:
    if isinstance(value, str):
        return 4 + len(value.encode("utf-16-le"))
    return 4 + len(value) if isinstance(value, bytes) else 8
