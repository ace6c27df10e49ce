"""Where an entity is: its partition, and row keys that sort the way that they are listed.

A row has companions in its partition, which are written in one transaction with it. The first letter tells them apart:

    a <key>                    the row
    n <key, reversed>          lists all rows, the newest first
    o <tag>:<key>              lists a tag's rows, the oldest first
    t <tag>:<key, reversed>    lists a tag's rows, the newest first
    x <kind>:<key>             a note
    c <number>                 what the rows' tags add up to: see `tallies`

Tables list in one direction only, hence the reversed keys. Rows come first in their partition: a look at a table's
beginning shows whether it has but a few.
"""

from __future__ import annotations

import zlib
from typing import Final

from rolehost.errors import LimitExceededError

PARTITIONS: Final = tuple(f"{number:x}" for number in range(16))
ROW: Final = "a"
NEWEST: Final = "n"
_OLDEST_OF_TAG: Final = "o"
_NEWEST_OF_TAG: Final = "t"
_NOTE: Final = "x"
_LONGEST: Final = 512  # of UTF-16 units: a row key has up to 1 KiB
_ASCII: Final = 0x80
_END: Final = "~"  # above every hexadecimal digit: of two keys, the one that goes on is listed first


def partition(key: str) -> str:
    """The partition of a row and its companions; never to change, or no row is found again."""
    return PARTITIONS[zlib.crc32(key.encode(errors="surrogatepass")) % len(PARTITIONS)]


def of_row(key: str) -> str:
    """The row key of a row."""
    return _bounded(ROW + key)


def of_newest(key: str) -> str:
    """The row key of its entity in the list of all rows."""
    return _bounded(NEWEST + backwards(key))


def of_tag(tag: str, key: str) -> tuple[str, str]:
    """The row keys of its two entities in the lists of a tag."""
    return (_bounded(in_tag(tag, newest_first=False) + key), _bounded(in_tag(tag, newest_first=True) + backwards(key)))


def of_note(kind: str, key: str) -> str:
    """The row key of a note."""
    return _bounded(in_notes(kind) + key)


def in_tag(tag: str, *, newest_first: bool) -> str:
    """What the row keys of a tag's list begin with."""
    return f"{_NEWEST_OF_TAG if newest_first else _OLDEST_OF_TAG}{_escaped(tag)}:"


def in_notes(kind: str) -> str:
    """What the row keys of the notes of a kind begin with."""
    return f"{_NOTE}{_escaped(kind)}:"


def backwards(key: str) -> str:
    """A text that sorts in the reverse order of the key: two digits for each ASCII character, five for others."""
    return "".join(f"{0xFF - unit:02x}" if unit < _ASCII else f"0{0xFFFF - unit:04x}" for unit in units(key)) + _END


def forwards(text: str) -> str:
    """The reverse of `backwards`."""
    found: list[int] = []
    place = 0
    while text[place] != _END:
        wide = text[place] == "0"
        digits = text[place + 1 : place + 5] if wide else text[place : place + 2]
        found.append((0xFFFF if wide else 0xFF) - int(digits, 16))
        place += 5 if wide else 2
    return b"".join(unit.to_bytes(2, "big") for unit in found).decode("utf-16-be", "surrogatepass")


def units(text: str) -> tuple[int, ...]:
    """A text's UTF-16 units, in whose order tables sort."""
    raw = text.encode("utf-16-be", "surrogatepass")
    return tuple(raw[place] << 8 | raw[place + 1] for place in range(0, len(raw), 2))


def _escaped(word: str) -> str:
    """A tag or a kind as a part of a row key."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character in "-_.")
        else "".join(f"={byte:02x}" for byte in character.encode(errors="surrogatepass"))
        for character in word
    )


def _bounded(row_key: str) -> str:
    if len(units(row_key)) > _LONGEST:
        raise LimitExceededError("the key is too long for a table: with its tag, 240 ASCII characters always fit")
    return row_key
