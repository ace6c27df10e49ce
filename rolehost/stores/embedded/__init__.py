"""The embedded engine: SQLite and plain files in one data directory of one machine."""

from __future__ import annotations

from rolehost.stores.embedded.engine import EmbeddedStores

__all__ = ["EmbeddedStores"]
