"""Reasons in words that a person understands."""

from __future__ import annotations

from rolehost.jobs.job import CAPS

LONGEST = 2000
DRAINED = "the worker was asked to stop"


def budget_spent(budget: str, last: str) -> str:
    """Why a job was poisoned: the budget, and what the last attempt said."""
    what = {
        "app": f"app: the console application failed {CAPS['app']} times",
        "resource": f"resource: the console application was killed {CAPS['resource']} times",
        "lost": f"lost: the worker vanished {CAPS['lost']} times while it ran this job",
    }[budget]
    return shortened(f"{what}; at last {last}" if last else what)


def exited(program: str, code: int | None, signal: int | None, stderr: str) -> str:
    """How a console application ended, with the last thing that it said on stderr."""
    how = f"{program} was ended by signal {signal}" if signal else f"{program} exited with code {code}"
    said = last_line(stderr)
    return shortened(f"{how}: {said}" if said else how)


def last_line(text: str) -> str:
    """The last line that says anything."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def shortened(text: str) -> str:
    """A reason that fits a row and a screen."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
