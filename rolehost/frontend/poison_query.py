"""The desk's filter as query parameters: the same for list, replay and purge, for the API and for the pages."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import Query
from pydantic import BeforeValidator

from rolehost.errors import InvalidParameterError
from rolehost.frontend.problems import refusal
from rolehost.jobs.job import JobState
from rolehost.jobs.poison import Wanted, parse_age

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 200
MOST = 100
"""Entries that one request replays or purges."""
MOST_SECONDS = 20.0
"""How long a request may take for its pace."""


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


def _or(usual: str) -> BeforeValidator:
    return BeforeValidator(lambda text: text or usual)


FIELDS = ("text", "reason", "cause", "kind", "state", "older", "newer", "replayed")
_TEXT = "In the reason, the attempts' stderr (what the row holds of it), the source's name, or a message's body."
_CAUSE = (
    "The budget that was spent (app, resource, lost), deadline, poison_now, orphan, malformed; "
    "or how the last attempt ended."
)
_OLDER = "Set aside so long ago or longer: 45s, 90m, 36h, 7d. Messages don't say when, so none of them passes."


def filter_in_query(
    *,
    text: Annotated[str, Query(max_length=LONGEST, description=_TEXT)] = "",
    reason: Annotated[str, Query(max_length=LONGEST, description="In the reason.")] = "",
    cause: Annotated[str, Query(max_length=LONGEST, description=_CAUSE)] = "",
    kind: Annotated[str, Query(max_length=LONGEST, description="The kind of job.")] = "",
    state: Annotated[
        BadState, Query(description="Jobs in this state; messages count as poisoned."), _or("poisoned")
    ] = BadState.POISONED,
    older: Annotated[str, Query(max_length=LONGEST, description=_OLDER)] = "",
    newer: Annotated[str, Query(max_length=LONGEST, description="Set aside since then, as `older`.")] = "",
    replayed: Annotated[
        YesOrNo, Query(description="Jobs that were replayed: they leave the list, and stay stored."), _or("no")
    ] = YesOrNo.NO,
) -> Wanted:
    """The filter."""
    return Wanted(
        text=text,
        reason=reason,
        cause=cause.strip(),
        kind=kind.strip(),
        state=None if state is BadState.ANY else JobState(state),
        older=parse_age(older, "older") if older.strip() else None,
        newer=parse_age(newer, "newer") if newer.strip() else None,
        replayed=None if replayed is YesOrNo.ANY else replayed is YesOrNo.YES,
    )


def filter_of_page(given: Mapping[str, str]) -> Wanted:
    """The filter of a page's address.

    Raises:
        HTTPException: an address that the page's own form never makes.
        InvalidParameterError: an age that is none.
    """
    try:
        state, replayed = BadState(given.get("state") or "poisoned"), YesOrNo(given.get("replayed") or "no")
    except ValueError:
        raise refusal(404, "not-found", "There is no such list.") from None
    texts = {name: given.get(name, "")[:LONGEST] for name in FIELDS if name not in {"state", "replayed"}}
    return filter_in_query(**texts, state=state, replayed=replayed)


def query_of(given: Mapping[str, str], **more: str | None) -> str:
    """The filter as an address's query, with what is more; what is empty is left out."""
    told = {name: given.get(name, "") for name in FIELDS} | more
    return urlencode({name: value for name, value in told.items() if value})


def check_narrowed(wanted: Wanted, *, everything: bool) -> None:
    """No accident: a filter that takes all has to be asked for.

    Raises:
        InvalidParameterError: it was not.
    """
    if wanted.everything and wanted.state is JobState.POISONED and not everything:
        raise InvalidParameterError("name a filter, or say all=true to take everything", "all")


def check_pace(limit: int, rate: float | None) -> None:
    """A request doesn't take longer than this.

    Raises:
        InvalidParameterError: it would.
    """
    if rate and (limit - 1) / rate > MOST_SECONDS:
        raise InvalidParameterError(
            f"{limit} at this rate take longer than the {MOST_SECONDS:.0f} seconds that a request may: "
            "take fewer at once, and go on with the cursor",
            "rate",
        )
