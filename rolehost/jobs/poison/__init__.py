"""The poison desk: list, search, inspect, replay and purge what was set aside."""

from __future__ import annotations

from rolehost.jobs.poison.desk import PoisonDesk, Step
from rolehost.jobs.poison.entries import Entry, Letter, Sort
from rolehost.jobs.poison.pace import Pace
from rolehost.jobs.poison.provenance import Kin, Provenance
from rolehost.jobs.poison.scan import DeskPage
from rolehost.jobs.poison.wanted import Wanted, parse_age, parse_rate
from rolehost.jobs.replays import REPLAYABLE

__all__ = [
    "REPLAYABLE",
    "DeskPage",
    "Entry",
    "Kin",
    "Letter",
    "Pace",
    "PoisonDesk",
    "Provenance",
    "Sort",
    "Step",
    "Wanted",
    "parse_age",
    "parse_rate",
]
