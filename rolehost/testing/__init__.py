"""What tests of roles and workers need: import it in tests only."""

from __future__ import annotations

from rolehost.testing.faulty import Faults, FaultyStores

__all__ = ["Faults", "FaultyStores"]
