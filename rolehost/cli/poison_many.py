"""`rolehost poison replay|purge`: by ids, by a filter, or all; paced, bounded, and first as a dry run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace as changed
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.poison_options import (
    All,
    BadState,
    Cause,
    DryRun,
    Ids,
    Kind,
    Most,
    Newer,
    Older,
    Reason,
    State,
    Text,
    WasReplayed,
    YesOrNo,
    check_choice,
    filter_of,
)
from rolehost.cli.printing import one_line, print_json
from rolehost.jobs.poison import Pace, PoisonDesk, Step, Wanted, parse_rate

Steps: TypeAlias = "AsyncGenerator[Step, None]"
Rate: TypeAlias = Annotated[
    str | None, typer.Option("--rate", metavar="RATE", help="Not faster than this: 5/s, 30/min, 100/h.")
]
Again: TypeAlias = Annotated[bool, typer.Option("--again", help="Also what was replayed before.")]
Act: TypeAlias = "Callable[[PoisonDesk, list[str]], Steps]"


def replay(
    ids: Ids = None,
    *,
    everything: All = False,
    text: Text = "",
    reason: Reason = "",
    cause: Cause = "",
    kind: Kind = "",
    state: State = BadState.POISONED,
    older: Older = None,
    newer: Newer = None,
    limit: Most = None,
    rate: Rate = None,
    again: Again = False,
    dry_run: DryRun = False,
    data: Data = DATA,
    as_json: AsJson = False,
) -> None:
    """Submit jobs again, each as a new job that names its origin; the old ones stay as they are, and leave the desk."""
    before = YesOrNo.ANY if again else YesOrNo.NO
    wanted = filter_of(
        text=text, reason=reason, cause=cause, kind=kind, state=state, older=older, newer=newer, replayed=before
    )
    check_choice(ids, wanted, everything=everything)
    pace = Pace(parse_rate(rate, "--rate") if rate is not None and not dry_run else None)
    chosen = asyncio.run(_chosen(data, ids, changed(wanted, jobs_only=True), limit))
    steps = _run(
        data,
        chosen,
        lambda desk, ids: desk.replay_each(ids, pace=pace, again=again, dry_run=dry_run),
        lambda step: f"is replayed as {step.job.id}" if step.job else "would be replayed",
        quiet=as_json,
    )
    if as_json:
        print_json(_replayed_json(steps, dry_run=dry_run))
    if any(step.refused for step in steps):
        raise typer.Exit(FAILED)


def purge(
    ids: Ids = None,
    *,
    everything: All = False,
    text: Text = "",
    reason: Reason = "",
    cause: Cause = "",
    kind: Kind = "",
    state: State = BadState.POISONED,
    older: Older = None,
    newer: Newer = None,
    replayed: WasReplayed = YesOrNo.ANY,
    limit: Most = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    data: Data = DATA,
) -> None:
    """Remove jobs for good, with their files and messages; and messages that are no job's."""
    wanted = filter_of(
        text=text, reason=reason, cause=cause, kind=kind, state=state, older=older, newer=newer, replayed=replayed
    )
    check_choice(ids, wanted, everything=everything or replayed is not YesOrNo.ANY)
    chosen = asyncio.run(_chosen(data, ids, wanted, limit))
    if chosen and not yes and not dry_run:
        number = "1 job" if len(chosen) == 1 else f"{len(chosen)} jobs"
        if not _agreed(f"Remove {number} for good?"):
            complain("nothing was purged")
            raise typer.Exit(FAILED)
    word = "would be purged" if dry_run else "is purged"
    steps = _run(data, chosen, lambda desk, ids: desk.purge_each(ids, dry_run=dry_run), lambda _: word)
    if any(step.refused for step in steps):
        raise typer.Exit(FAILED)


def _agreed(question: str) -> bool:
    """Ask on stderr; whatever isn't yes is no, also the end of the input."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _chosen(data: Path, ids: list[str] | None, wanted: Wanted, limit: int | None) -> list[str]:
    """The ids that are meant, the oldest first where a filter says which."""
    if ids:
        return list(dict.fromkeys(ids))[:limit]
    async with opened(data) as stores, aclosing(PoisonDesk(stores).ids(wanted, limit=limit)) as found:
        return [each async for each in found]


def _run(data: Path, ids: list[str], act: Act, words: Callable[[Step], str], *, quiet: bool = False) -> Sequence[Step]:
    """Act on each, and tell of it as soon as it is done."""
    steps: list[Step] = []

    def told(step: Step) -> None:
        steps.append(step)
        if step.refused:
            complain(one_line(step.refused))
        elif not quiet:
            print(f"{step.id} {words(step)}", flush=True)

    if ids:
        asyncio.run(_each(data, ids, act, told))
    else:
        print("no job is poisoned", file=sys.stderr)
    return steps


async def _each(data: Path, ids: list[str], act: Act, told: Callable[[Step], None]) -> None:
    """An interruption says how far it came."""
    done = 0
    async with opened(data) as stores, aclosing(act(PoisonDesk(stores), ids)) as steps:
        try:
            async for step in steps:
                told(step)
                done += 1
        except asyncio.CancelledError:
            rest = f": the others, from {ids[done]} on, are as they were" if done < len(ids) else ""
            complain(f"interrupted after {done} of {len(ids)}{rest}")
            raise


def _replayed_json(steps: Sequence[Step], *, dry_run: bool) -> dict[str, object]:
    """`{"dry_run": ..., "jobs": [...], "would_replay": [...], "refused": [...]}`."""
    return {
        "dry_run": dry_run,
        "jobs": [step.job.to_json() for step in steps if step.job],
        "would_replay": [step.id for step in steps if dry_run and not step.refused],
        "refused": [{"id": step.id, "why": step.refused} for step in steps if step.refused],
    }
