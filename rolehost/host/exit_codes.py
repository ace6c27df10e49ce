"""How a role process ends, for the bootstrapper and for people; an orderly end is 0."""

from __future__ import annotations

FAILED = 1
START_REFUSED = 3
HOST_GONE = 4
NOT_LOADED = 78
