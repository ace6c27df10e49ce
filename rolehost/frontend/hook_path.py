"""Where hooks are: their senders prove themselves, each in its own way, and are no clients of the API."""

from __future__ import annotations

HOOKS_PATH = "/api/v1/hooks/"


def is_hook(path: str) -> bool:
    """Whether a request is a hook's: neither keys nor cookies nor the page that it comes from say who sends it."""
    return path.startswith(HOOKS_PATH)
