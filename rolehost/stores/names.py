"""What names, keys, texts and cursors may be, the same for every engine: Azure Storage's rules."""

from __future__ import annotations

import base64
import binascii
import re

from rolehost.errors import InvalidParameterError, LimitExceededError

_QUEUE = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}", re.ASCII)
_KEY = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\#?]{1,512}")
_BLOB = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*", re.ASCII)
_BLOB_PREFIX = re.compile(r"[A-Za-z0-9._/-]*", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_LARGEST_PAGE = 5000


def queue_name(name: str) -> str:
    """The name, if it may be a queue's.

    Raises:
        InvalidParameterError: it may not.
    """
    if not _QUEUE.fullmatch(name):
        raise InvalidParameterError(
            f"{name!r} is no queue name: 3 to 63 lower-case letters, digits and single hyphens", "queue"
        )
    return name


def table_name(name: str) -> str:
    """The name, if it may be a table's.

    Raises:
        InvalidParameterError: it may not.
    """
    if not _TABLE.fullmatch(name):
        raise InvalidParameterError(
            f"{name!r} is no table name: 3 to 63 letters and digits, the first one a letter", "table"
        )
    return name


def row_key(key: str) -> str:
    r"""The key, if it may be a row's.

    Raises:
        InvalidParameterError: it may not.
    """
    if not _KEY.fullmatch(key):
        raise InvalidParameterError(
            f"{key[:80]!r} is no row key: 1 to 512 characters, no control characters and none of / \\ # ?", "key"
        )
    return text(key, "key")


def blob_name(name: str, longest: int) -> str:
    """The name, if it may be a blob's.

    Raises:
        InvalidParameterError: it may not.
        LimitExceededError: it has more than `longest` characters.
    """
    if not _BLOB.fullmatch(name):
        raise InvalidParameterError(
            f"{name[:80]!r} is no blob name: segments of letters, digits, '.', '-' and '_', divided by '/', "
            "none empty or beginning with a dot",
            "name",
        )
    if len(name) > longest:
        raise LimitExceededError(f"a blob name has up to {longest} characters")
    return name


def blob_prefix(prefix: str) -> str:
    """The text, if a blob's name may begin with it.

    Raises:
        InvalidParameterError: it may not.
    """
    if not _BLOB_PREFIX.fullmatch(prefix):
        raise InvalidParameterError(f"no blob name begins with {prefix[:80]!r}", "prefix")
    return prefix


def text(value: str, field: str) -> str:
    """The text, if it can be stored: half a surrogate pair has no UTF-8.

    Raises:
        InvalidParameterError: it can't.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidParameterError(f"the text of {field!r} is not valid Unicode", field) from None
    return value


def page_size(limit: int) -> int:
    """The limit of a list, if it is one.

    Raises:
        InvalidParameterError: it is none.
    """
    if not 1 <= limit <= _LARGEST_PAGE:
        raise InvalidParameterError(f"a page has 1 to {_LARGEST_PAGE} entries", "limit")
    return limit


def to_cursor(place: str) -> str:
    """An opaque text that stands for a place in a list."""
    return base64.urlsafe_b64encode(b"1" + place.encode()).decode().rstrip("=")


def key_from_cursor(cursor: str | None) -> str | None:
    """The row's key that the cursor of a list of rows stands for.

    Raises:
        InvalidParameterError: the cursor is not one of ours.
    """
    place = from_cursor(cursor)
    if place is not None and not _KEY.fullmatch(place):
        raise InvalidParameterError("the cursor is not one that this list gave", "cursor")
    return place


def number_from_cursor(cursor: str | None) -> int:
    """The place that the cursor of a list of messages stands for; 0 is before the first.

    Raises:
        InvalidParameterError: the cursor is not one of ours.
    """
    place = from_cursor(cursor)
    if place is None:
        return 0
    if not _NUMBER.fullmatch(place):
        raise InvalidParameterError("the cursor is not one that this list gave", "cursor")
    return int(place)


def from_cursor(cursor: str | None) -> str | None:
    """The place that a cursor stands for.

    Raises:
        InvalidParameterError: the cursor is not one of ours.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raw = ""
    if len(raw) <= 1 or raw[0] != "1" or to_cursor(raw[1:]) != cursor:
        raise InvalidParameterError("the cursor is not one that a list gave", "cursor")
    return raw[1:]
