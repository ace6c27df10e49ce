"""What came of a submission, for people and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rolehost.cli.assets import Refused
from rolehost.cli.failures import complain
from rolehost.cli.jobs import outcome
from rolehost.cli.printing import one_line, print_json, print_table
from rolehost.cli.sending import Sent
from rolehost.jobs.job import Job, JobState

_ENDS = ("completed", "failed", "poisoned", "cancelled", "removed", "open")


@dataclass(slots=True)
class Report:
    """What came of each file.

    Args:
        outcomes: what came of each file, by its position, as far as is known.
        ended: the jobs that were seen to have ended, by id; None for one that was removed.
        written: where results were written to, by job id.
        unwritten: why they were not.
    """

    outcomes: dict[int, Sent | Refused] = field(default_factory=dict)
    ended: dict[str, Job | None] = field(default_factory=dict)
    written: dict[str, Path] = field(default_factory=dict)
    unwritten: dict[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> list[Sent]:
        """The files of which jobs were made."""
        return [each for each in self._in_order() if isinstance(each, Sent)]

    @property
    def refused(self) -> list[Refused]:
        """The files of which none was made."""
        return [each for each in self._in_order() if isinstance(each, Refused)]

    @property
    def completed(self) -> list[Job]:
        """The completed jobs."""
        jobs = [self._latest(sent) for sent in self.sent]
        return [job for job in jobs if job is not None and job.state is JobState.COMPLETED]

    def good(self, *, waited: bool) -> bool:
        """Whether all went as it was asked for."""
        complete = not waited or len(self.completed) == len(self.sent)
        return not self.refused and not self.unwritten and complete

    def print_lines(self, *, waited: bool) -> None:
        """One line for each job on stdout; what was refused, and the sum, on stderr."""
        if waited:
            print_table(("FILE", "STATE", "OUTCOME"), [self._ended_row(sent) for sent in self.sent], heading=False)
        else:
            print_table(("ID", "FILE"), [(sent.job.id, sent.shown) for sent in self.sent], heading=False)
        sys.stdout.flush()
        for refused in self.refused:
            complain(f"{one_line(refused.shown)} was refused: {one_line(refused.reason)}")
        print(self._sum(waited=waited), file=sys.stderr)

    def print_json(self) -> None:
        """One document: the jobs, what was refused, and where results are."""
        jobs = [(sent, self._latest(sent)) for sent in self.sent]
        print_json(
            {
                "jobs": [(job or sent.job).to_json() for sent, job in jobs],
                "refused": [{"file": each.shown, "reason": each.reason} for each in self.refused],
                "written": {job_id: str(path) for job_id, path in self.written.items()},
                "not_written": self.unwritten,
            }
        )

    def tell_interrupted(self) -> None:
        """Say what goes on although nobody waits for it."""
        going = [sent.job.id for sent in self.sent if sent.job.id not in self.ended]
        if going:
            number = "1 job goes" if len(going) == 1 else f"{len(going)} jobs go"
            complain(f"interrupted; {number} on: `rolehost jobs` lists them")
        else:
            complain("interrupted")

    def _in_order(self) -> Iterator[Sent | Refused]:
        return (self.outcomes[position] for position in sorted(self.outcomes))

    def _latest(self, sent: Sent) -> Job | None:
        return self.ended.get(sent.job.id, sent.job)

    def _ended_row(self, sent: Sent) -> tuple[str, str, str]:
        job = self._latest(sent)
        if job is None:
            return (sent.shown, "removed", f"job {sent.job.id} was purged")
        if reason := self.unwritten.get(job.id):
            return (sent.shown, job.state, f"the result was not written: {reason}")
        if path := self.written.get(job.id):
            return (sent.shown, job.state, str(path))
        return (sent.shown, _state(job), outcome(job) or f"job {job.id}")

    def _sum(self, *, waited: bool) -> str:
        states = [_state(self._latest(sent)) for sent in self.sent] if waited else []
        counts = {"submitted": len(self.sent), "refused": len(self.refused)}
        counts |= {state: states.count(state) for state in _ENDS}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing was submitted"


def _state(job: Job | None) -> str:
    if job is None:
        return "removed"
    return job.state if job.state.terminal else "open"
