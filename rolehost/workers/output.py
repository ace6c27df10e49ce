"""What a console application printed: a little of it in the row, the rest in a blob."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import StoreError, StoreUnavailableError
from rolehost.jobs.job import Attempt

if TYPE_CHECKING:
    from rolehost.jobs.table import Claim
    from rolehost.workers.desk import Desk
    from rolehost.workers.outcome import Outcome

IN_ROW = 4096
KEEP_SECONDS = 5.0
"""What a log may delay a commit by: it is written before the row that names it."""
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127) if chr(code) not in "\n\r\t"}


async def keep_log(desk: Desk, claim: Claim, outcome: Outcome) -> str:
    """Keep all of the output in a blob, if the row leaves any out; the answer is its name, or empty."""
    if len(outcome.stdout) <= IN_ROW and len(outcome.stderr) <= IN_ROW:
        return ""
    name = f"logs/{claim.spec.id}/{claim.attempt.number}-{claim.token}.txt"
    content = archive(outcome.stdout, outcome.stderr).encode(errors="replace")
    with suppress(StoreError, TimeoutError):  # a log that can't be kept is no reason to lose the attempt, or to wait
        async with asyncio.timeout(KEEP_SECONDS):
            return await _put(desk, name, content)
    return ""


async def _put(desk: Desk, name: str, content: bytes) -> str:
    """The name is ours alone: when no answer comes, what is there was put by us."""
    try:
        await desk.stores.blobs.put(name, content)
    except StoreUnavailableError:
        await desk.stores.blobs.facts(name)
    return name


def ended(claim: Claim, outcome: Outcome, log: str) -> Attempt:
    """The attempt as its row keeps it: its end, and head and tail of its output."""
    return replace(
        claim.attempt,
        ended_at=clock.now(),
        end=outcome.end,
        exit_code=outcome.exit_code,
        detail=storable(outcome.detail),
        stdout=storable(head_and_tail(outcome.stdout, IN_ROW)),
        stderr=storable(head_and_tail(outcome.stderr, IN_ROW)),
        log=log,
        fetched=outcome.fetched,
    )


def storable(text: str) -> str:
    """Text that every store takes, and that no control character blows up sixfold in JSON."""
    return text.translate(_CONTROLS).encode(errors="replace").decode()


def archive(stdout: str, stderr: str) -> str:
    """Both streams as one text, as the log blob has it."""
    parts = [
        f"--- {name}\n{text}" + ("" if text.endswith("\n") else "\n")
        for name, text in (("stdout", stdout), ("stderr", stderr))
        if text
    ]
    return "".join(parts)


def head_and_tail(text: str, limit: int) -> str:
    """At most about `limit` characters: the beginning and the end, and how much is left out between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
