"""What an exit of a console application means, as data: the first rule that fits decides."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rolehost.jobs.job import End
from rolehost.processes import Exit


class Verdict(StrEnum):
    """What becomes of an attempt whose application ended so."""

    SUCCESS = "success"
    """It did its work; the result is looked at next."""
    RETRY = "retry"
    """Charged, and tried again."""
    FAIL = "fail"
    """The input is at fault: no retry helps."""
    POISON_NOW = "poison_now"
    """The job is set aside at once, for a person to look at."""
    PUT_BACK = "put_back"
    """Nobody's fault, as a licence that isn't free: tried again later, and not charged."""

    @property
    def end(self) -> End:
        """The attempt's end."""
        return _ENDS[self]


_ENDS = {
    Verdict.SUCCESS: End.OK,
    Verdict.RETRY: End.APP_ERROR,
    Verdict.FAIL: End.BAD_INPUT,
    Verdict.POISON_NOW: End.POISON_NOW,
    Verdict.PUT_BACK: End.PUT_BACK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRule:
    """One rule. It fits when the exit is among its codes or signals (where it names any) and its pattern is found.

    Args:
        verdict: what follows.
        codes: exit codes; a `range` is a collection, too.
        signals: numbers of signals that ended it.
        stderr: a regular expression, searched in what it wrote to stderr.

    Raises:
        ValueError: the rule has no condition, or its pattern is none.
    """

    verdict: Verdict
    codes: Collection[int] = ()
    signals: Collection[int] = ()
    stderr: str = ""

    def __post_init__(self) -> None:
        if not (self.codes or self.signals or self.stderr):
            raise ValueError("an exit rule needs exit codes, signals or a pattern of stderr: else it fits every exit")
        try:
            re.compile(self.stderr)
        except re.error as error:
            raise ValueError(f"{self.stderr!r} is no regular expression: {error}") from error

    def fits(self, ended: Exit, stderr: str) -> bool:
        """Whether it is about this exit."""
        if (self.codes or self.signals) and not (ended.code in self.codes or ended.signal in self.signals):
            return False
        return not self.stderr or re.search(self.stderr, stderr) is not None


def end_of(ended: Exit, stderr: str, rules: Sequence[ExitRule], bad_input: Collection[int]) -> End:
    """The end that an exit means: by the first rule that fits, else by the usual ones.

    Args:
        ended: how the application ended by itself.
        stderr: what it wrote there.
        rules: the application's own.
        bad_input: exit codes that say that the input is at fault.
    """
    for rule in rules:
        if rule.fits(ended, stderr):
            return rule.verdict.end
    if ended.signal:
        return End.KILLED
    if ended.code in bad_input:
        return End.BAD_INPUT
    return End.OK if ended.code == 0 else End.APP_ERROR
