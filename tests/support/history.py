"""Judges what happened: a history of a run as JSON Lines, and the figures of what was lost, rewritten or left over.

    python -m tests.support.history FILE

Each line is an event with its time, `at`, in seconds: `asked` (a submission began), `accepted` (it was answered),
`killed` (a process: `instance`, `what`), `row` (a job's row changed, as the job's JSON and its result's blob),
`removed` (a job's row went, by retention or a person), and at the end one `left` (blobs, their hashes, dead letters,
scratch directories, processes). Which program wrote it doesn't matter: the simulation, the soak and the tests with real
processes are judged alike. What can't be judged is told, too (`unseen`): a history without its end, a line that is cut
off or says something else.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

TERMINAL = frozenset({"completed", "failed", "poisoned", "cancelled"})
CAPS = {"app": 5, "resource": 2, "lost": 3}


@dataclass
class Figures:
    """What the checker found; everything but the counts in `ran` and `recovery` has to be empty."""

    lost: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    overcharged: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    unburied: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    ran: dict[str, int] = field(default_factory=dict)
    recovery: dict[str, float] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(value for value in asdict(self).values() if isinstance(value, list))

    def lines(self) -> Iterator[str]:
        """The figures for people."""
        for name, value in asdict(self).items():
            if isinstance(value, list):
                yield f"{name}: {len(value)}{''.join(f' {each}' for each in value[:5])}"
            else:
                yield f"{name}: " + ", ".join(f"{key} {number:g}" for key, number in value.items())


def check(events: Iterable[Mapping[str, Any]]) -> Figures:
    """Judge a history.

    Args:
        events: in the order in which they happened.
    """
    asked, accepted, kills = set[str](), set[str](), list[Mapping[str, Any]]()
    last: dict[str, Mapping[str, Any]] = {}
    gone = set[str]()
    left: Mapping[str, Any] = {}
    figures = Figures()
    for number, event in enumerate(events, 1):
        match event["event"]:
            case "asked":
                asked.add(event["job"])
            case "accepted":
                accepted.add(event["job"])
            case "killed":
                kills.append(event)
            case "row":
                _compare(figures, last.get(event["job"]["id"]), event)
                last[event["job"]["id"]] = event
            case "removed":
                gone.add(event["job"])
            case "left":
                left = event
            case _:
                figures.unseen.append(f"{number}:{event['event']}")
    if not left:
        figures.unseen.append("left")
    figures.lost = sorted(job for job in accepted if job not in last or last[job]["job"]["state"] not in TERMINAL)
    figures.unexpected = sorted(last.keys() - asked - accepted)
    _judge(figures, last, gone, left)
    figures.ran = _counts(last, kills)
    figures.recovery = _recovery(last, kills)
    return figures


def _compare(figures: Figures, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
    if (
        before
        and before["job"]["state"] in TERMINAL
        and (before["job"], before["blob"]) != (after["job"], after["blob"])
    ):
        figures.rewritten.append(after["job"]["id"])


def _judge(
    figures: Figures,
    last: Mapping[str, Mapping[str, Any]],
    gone: Collection[str],
    left: Mapping[str, Any],
) -> None:
    hashes, dead = left.get("results", {}), set(left.get("dead", ()))
    named = set()
    for job_id, event in last.items():
        job, blob = event["job"], event["blob"]
        if job_id not in gone:
            named.add(blob)
            if job["state"] == "completed" and hashes.get(blob) != job["result"]["sha256"]:
                figures.broken.append(job_id)
            if job["state"] == "poisoned" and job_id not in dead:
                figures.unburied.append(job_id)
        if any(job["charges"][budget] > cap for budget, cap in CAPS.items()):
            figures.overcharged.append(job_id)
        if job["state"] in TERMINAL and any(attempt["end"] is None for attempt in job["attempts"]):
            figures.unended.append(job_id)
    figures.orphans = [*sorted(set(hashes) - named), *left.get("scratch", ()), *left.get("processes", ())]


def _counts(last: Mapping[str, Mapping[str, Any]], kills: list[Mapping[str, Any]]) -> dict[str, int]:
    jobs = [event["job"] for event in last.values()]
    counts = {"jobs": len(jobs), "kills": len(kills), "attempts": sum(len(job["attempts"]) for job in jobs)}
    for state in sorted(TERMINAL):
        counts[state] = sum(job["state"] == state for job in jobs)
    return counts


def _recovery(last: Mapping[str, Mapping[str, Any]], kills: list[Mapping[str, Any]]) -> dict[str, float]:
    """From a worker's death to the next attempt of what it ran, in seconds.

    Where the whole service was killed in between the count begins anew: nobody was left who could recover anything.
    """
    waits, ups = [], [kill["at"] for kill in kills if kill["what"] == "up"]
    for event in last.values():
        attempts = event["job"]["attempts"]
        for lost, following in itertools.pairwise(attempts):
            if lost["end"] == "worker_lost":
                began = _seconds(lost["started_at"])
                died = [kill["at"] for kill in kills if kill["at"] >= began and kill["instance"] == lost["instance"]]
                again = _seconds(following["started_at"])
                if died:
                    waits.append(again - max([min(died), *(at for at in ups if min(died) <= at <= again)]))
    waits.sort()
    if not waits:
        return {"measured": 0}
    return {"measured": len(waits), "p50": waits[len(waits) // 2], "p99": waits[int(len(waits) * 0.99)]}


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a file; a line that is none is an event that the checker doesn't know, wherever it is."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            event = None
        yield event if isinstance(event, dict) and "event" in event else {"event": "torn"}


def main(arguments: list[str]) -> int:
    """Print a history's figures; 1 if anything is wrong."""
    figures = check(read(Path(arguments[0])))
    sys.stdout.write("\n".join(figures.lines()) + "\n")
    return 0 if figures.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
