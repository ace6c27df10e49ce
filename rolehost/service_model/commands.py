"""Command lines of startup tasks and guest programs."""

from __future__ import annotations

import re

_FIRST = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|(\S+))")


def first_word(command: str) -> str:
    """What a command line starts, without the quotes around it; empty where it starts nothing."""
    words = _FIRST.match(command)
    return next((word for word in words.groups() if word), "") if words else ""
