"""What a message looks like on the wire: base64 of a header line and the body.

The service gives each message an id of its own, and a text of XML: ours has its own id, a reason once it is dead, the
name of a blob when it is too long, and any characters.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any, Final

_MARK: Final = "rolehost1"
LARGEST: Final = 64 * 1024
"""Bytes that a message of the service has at most, encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message's parts.

    Args:
        id: the message's own id, stable over copies.
        body: the body, unless it is in a blob.
        blob: the blob that holds the body.
        reason: why it is dead.
        description: the same, for a person.
        at: when it died, as text that sorts.
    """

    id: str
    body: str = ""
    blob: str = ""
    reason: str = ""
    description: str = ""
    at: str = ""

    def encode(self) -> str:
        """As the service gets it."""
        header = {name: value for name in _HEADER if (value := getattr(self, name))}
        line = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
        return b64encode(f"{_MARK}{line}\n{self.body}".encode()).decode()

    def checked_in(self, blob: str) -> Envelope:
        """The same with its body in a blob."""
        return replace(self, body="", blob=blob)

    def with_body(self, body: str) -> Envelope:
        """The same with the body that its blob held."""
        return replace(self, body=body)


_HEADER: Final = ("id", "blob", "reason", "description", "at")
_BLOB: Final = re.compile(r"[a-z0-9-]{3,63}/[0-9a-f]{32}", re.ASCII)


def decode(text: str, service_id: str) -> Envelope:
    """Read a message; one that is not ours is its own body, under the service's id."""
    try:
        plain = b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return Envelope(id=service_id, body=text)
    if plain.startswith(_MARK):
        line, newline, body = plain.removeprefix(_MARK).partition("\n")
        try:
            return _ours(json.loads(line) if newline else {}, body)
        except (ValueError, TypeError, RecursionError):
            pass
    return Envelope(id=service_id, body=plain)


def _ours(header: dict[str, Any], body: str) -> Envelope:
    """A message of ours.

    Raises:
        ValueError: it only looks like one: nobody here has put it so.
        TypeError: the same.
    """
    told = {name: str(header[name]) for name in _HEADER if name in header}
    "".join(told.values()).encode()  # half a surrogate pair could not be put again
    if (blob := told.get("blob")) and not _BLOB.fullmatch(blob):
        raise ValueError("no body of ours has this name")
    return Envelope(body=body, **told)
