"""Kinds of jobs as a service's definition declares them, for tests of whoever shows or takes them."""

from __future__ import annotations

import json
from typing import Any

JPEG: dict[str, Any] = {
    "name": "jpeg",
    "title": "JPEG from bitmaps",
    "accepts": ["image/png", "image/bmp", ".tga"],
    "parameters": [
        {
            "name": "quality",
            "type": "integer",
            "default": 75,
            "least": 0,
            "most": 100,
            "label": "Quality",
            "help": "More is better and larger.",
        },
        {"name": "gamma", "type": "number", "default": 1.5, "least": 0.1, "label": "Gamma"},
        {"name": "progressive", "type": "boolean", "default": True, "label": "Progressive"},
        {"name": "grey", "type": "boolean", "default": False, "label": "Shades of grey", "help": "Smaller."},
        {"name": "sampling", "choices": ["4:4:4", "4:2:0"], "default": "4:2:0", "label": "Sampling"},
        {"name": "profile", "choices": ["web", "print"], "label": "Profile"},
        {"name": "comment", "optional": True, "longest": 600, "label": "Comment", "help": "Stands in the file."},
        {"name": "code", "pattern": "[A-Z]{3}-[0-9]+", "label": "Order code"},
    ],
}
NOTES: dict[str, Any] = {"name": "notes", "accepts": ["text/plain", ".md"], "parameters": []}
ANY: dict[str, Any] = {"name": "shout"}


def told(*kinds: dict[str, Any] | str) -> str:
    """The kinds as the bootstrapper tells a role of them."""
    return json.dumps(kinds)
