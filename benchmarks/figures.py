"""Medians with their spread, and ratios paired by round."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """`25.5 [24.0-26.1]`."""
    return f"{median(values):{form}} [{min(values):{form}}-{max(values):{form}}]"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The ratio of what was measured side by side, paired by round."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)], ".2f")


def line(what: str, text: str) -> None:
    """One figure."""
    print(f"{what:<58} {text}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
