"""Facts: code says what happened, subscribers decide what becomes of it (log lines, metrics, traces)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

Subscriber = Callable[[str, dict[str, Any]], None]

_subscribers: list[Subscriber] = []


def emit(event: str, **facts: Any) -> None:
    """Tell every subscriber that something happened.

    Args:
        event: a dotted name in the past tense, `job.claimed`.
        facts: values that can be written as JSON; never a secret, never an asset.
    """
    for subscriber in _subscribers:
        subscriber(event, facts)


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Add a subscriber; the answer is a function that takes it away again."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


def on_terminal() -> bool:
    """Whether log lines are for a person who looks at a terminal."""
    return sys.stderr is not None and sys.stderr.isatty() and "NO_COLOR" not in os.environ
