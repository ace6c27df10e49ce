"""The filter of the poison desk, as options that `list`, `replay` and `purge` share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import JobState
from rolehost.jobs.poison import Wanted, parse_age


class BadState(StrEnum):
    """Which jobs that ended badly."""

    POISONED = "poisoned"
    FAILED = "failed"
    ANY = "any"


class YesOrNo(StrEnum):
    """Whether it was replayed."""

    NO = "no"
    YES = "yes"
    ANY = "any"


Text: TypeAlias = Annotated[
    str, typer.Option("--text", metavar="TEXT", help="With this in the reason, stderr, source's name or message.")
]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", metavar="TEXT", help="With this in the reason.")]
Cause: TypeAlias = Annotated[
    str,
    typer.Option(
        "--cause",
        metavar="CAUSE",
        help="A budget (app, resource, lost), deadline, poison_now, orphan, malformed, or the last attempt's end.",
    ),
]
Kind: TypeAlias = Annotated[str, typer.Option("--kind", metavar="KIND", help="Of this kind of job.")]
State: TypeAlias = Annotated[BadState, typer.Option("--state", help="Jobs in this state.")]
Older: TypeAlias = Annotated[
    str | None, typer.Option("--older", metavar="AGE", help="Set aside so long ago, or longer: 45s, 90m, 36h, 7d.")
]
Newer: TypeAlias = Annotated[str | None, typer.Option("--newer", metavar="AGE", help="Set aside since then.")]
WasReplayed: TypeAlias = Annotated[YesOrNo, typer.Option("--replayed", help="Jobs that were replayed before.")]
Most: TypeAlias = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="So many at most, the oldest first.")
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Poisoned or failed jobs, or messages (m-...).")
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Take all of them.")]


def filter_of(
    *,
    text: str,
    reason: str,
    cause: str,
    kind: str,
    state: BadState,
    older: str | None,
    newer: str | None,
    replayed: YesOrNo,
) -> Wanted:
    """The filter that the options describe."""
    return Wanted(
        text=text,
        reason=reason,
        cause=cause,
        kind=kind,
        state=None if state is BadState.ANY else JobState(state),
        older=parse_age(older, "--older") if older is not None else None,
        newer=parse_age(newer, "--newer") if newer is not None else None,
        replayed=None if replayed is YesOrNo.ANY else replayed is YesOrNo.YES,
    )


def check_choice(ids: list[str] | None, wanted: Wanted, *, everything: bool) -> None:
    """Ids, or a filter, or all: one of them, and no accident.

    Raises:
        InvalidParameterError: none is given, or ids beside something else.
    """
    filtered = not wanted.everything or wanted.state is not JobState.POISONED
    if ids and (everything or filtered):
        raise InvalidParameterError("name the jobs by their ids, or by a filter, or take --all: not two of them")
    if not ids and not everything and not filtered:
        raise InvalidParameterError("name the jobs by their ids, by a filter such as --reason or --older, or by --all")
