"""The pages of the poison desk: look (read), replay and purge (operate). What changes something is confirmed first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rolehost.errors import AlreadyReplayedError, InvalidParameterError
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.poison_entries import entry_of, replayed, send_input
from rolehost.frontend.poison_query import (
    FIELDS,
    LONGEST,
    MOST,
    check_pace,
    filter_of_page,
    query_of,
)
from rolehost.frontend.problems import refusal
from rolehost.frontend.views import page
from rolehost.jobs.job import CAPS, End, JobState
from rolehost.jobs.poison import REPLAYABLE, Pace, Step, Wanted, parse_rate
from rolehost.jobs.poison.scan import LOOK_AT, SECONDS, DeskPage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from rolehost.frontend.services import Services

Endpoint = Callable[[Request], Awaitable[Response]]

PER_PAGE = 40
LABELS = {"older": "Set aside before", "newer": "Set aside since"}
AT_ONCE = (5, 20, MOST)
RATES = (("", "as fast as it goes"), ("5/s", "5 a second"), ("1/s", "1 a second"))
CAUSES = (
    *CAPS,
    *("deadline", "poison_now", "orphan", "malformed"),
    *sorted(end for end in End if end.charged_to or end is End.BAD_INPUT),
)


@needs(Permission.READ)
async def show_desk(request: Request) -> Response:
    """What was set aside, and a form to search in it."""
    given = request.query_params
    wrong = wrong_field = ""
    found = DeskPage(entries=(), cursor=None, looked_at=0, total=0)
    try:
        found = await _look(request, filter_of_page(given), PER_PAGE)
    except InvalidParameterError as error:
        if error.field == "cursor":
            raise refusal(404, "not-found", "There is no such page of this list.") from error
        wrong_field = error.field
        wrong = str(error).replace(error.field, LABELS.get(error.field, error.field), 1)
    query = query_of(given)
    return page(
        "poison.html",
        422 if wrong else 200,
        wrong=wrong,
        wrong_field=wrong_field,
        found=found,
        fields=_fields(given),
        query=query,
        filtered=bool(query),
        narrowed=any(given.get(name) for name in FIELDS if name != "text"),
        older=f"/poison?{query_of(given, cursor=found.cursor)}" if found.cursor else None,
        newest=f"/poison?{query}" if query else "/poison",
        first=not given.get("cursor"),
        causes=CAUSES,
    )


@needs(Permission.READ)
async def show_entry(request: Request) -> Response:
    """A message; a job has its own page."""
    entry = await entry_of(_services(request), request.path_params["entry_id"])
    if entry.job:
        return RedirectResponse(f"/jobs/{entry.job.id}", 303)
    return page("poison_message.html", entry=entry, asked=False)


@needs(Permission.READ)
async def download_input(request: Request) -> Response:
    """The original input, to be saved."""
    return await send_input(request, await entry_of(_services(request), request.path_params["entry_id"]))


@needs(Permission.OPERATE)
async def confirm_several(request: Request) -> Response:
    """A dry run of a replay or purge of what a filter finds; nothing is changed by it."""
    given = request.query_params
    action = _action(given.get("do"))
    limit = _number(given.get("limit"), AT_ONCE[0])
    wanted = replace(filter_of_page(given), jobs_only=action == "replay")
    found = await _look(request, wanted, limit, newest_first=False)
    ids = [entry.id for entry in found.entries]
    steps = await _all(_steps(request, action, ids, dry_run=True))
    return page(
        "poison_several.html",
        action=action,
        found=found,
        why={step.id: step.refused for step in steps if step.refused},
        ids=[step.id for step in steps if not step.refused],
        fields=_fields(given),
        query=query_of(given),
        limit=limit,
        limits=AT_ONCE,
        rates=RATES,
        more=f"/poison/several?{query_of(given, do=action, limit=str(limit), cursor=found.cursor)}",
    )


@needs(Permission.OPERATE)
async def act_on_several(request: Request) -> Response:
    """Replay or purge exactly the entries that were shown; sent twice, it finds them done."""
    async with request.form(max_files=0, max_fields=MOST + len(FIELDS) + 8) as form:
        sent = {name: str(value) for name, value in form.multi_items() if name != "id"}
        ids = list(dict.fromkeys(str(value) for value in form.getlist("id")))
    action = _action(sent.get("do"))
    if not 1 <= len(ids) <= MOST:
        raise refusal(422, "invalid-parameter", f"1 to {MOST} entries can be taken at once.", wrong="id")
    rate = parse_rate(sent["rate"]) if sent.get("rate") else None
    check_pace(len(ids), rate)
    steps = await _all(_steps(request, action, ids, rate=rate))
    return page(
        "poison_done.html",
        action=action,
        steps=steps,
        done=sum(not step.refused for step in steps),
        query=query_of(sent),
        again=f"/poison/several?{query_of(sent, do=action, limit=sent.get('limit'))}",
    )


@needs(Permission.OPERATE)
async def replay(request: Request) -> Response:
    """Submit a job that ended badly again; its page is shown, also where it was replayed before."""
    job_id = request.path_params["job_id"]
    try:
        new = await replayed(_services(request), job_id, again=request.query_params.get("again") == "yes")
    except AlreadyReplayedError as error:
        return RedirectResponse(f"/jobs/{error.replay}", 303)
    return RedirectResponse(f"/jobs/{new.id}", 303)


@needs(Permission.OPERATE)
async def confirm_purge(request: Request) -> Response:
    """What a purge would remove, before it does."""
    job = await _services(request).job(request.path_params["job_id"])
    if job.state not in REPLAYABLE:
        raise refusal(409, "not-purgeable", f"The job is {job.state}; only a poisoned or failed job can be purged.")
    return page("purge.html", job=job)


@needs(Permission.OPERATE)
async def purge(request: Request) -> Response:
    """Remove a job that ended badly for good."""
    job = await _services(request).job(request.path_params["job_id"])
    try:
        await _services(request).desk.purge(job.id)
    except InvalidParameterError as error:
        raise refusal(409, "not-purgeable", str(error)) from error
    return RedirectResponse("/poison" if job.state is JobState.POISONED else "/jobs", 303)


@needs(Permission.OPERATE)
async def confirm_purge_of_message(request: Request) -> Response:
    """The message once more, and whether it may go."""
    entry = await entry_of(_services(request), request.path_params["entry_id"])
    if entry.job:
        return RedirectResponse(f"/jobs/{entry.job.id}/purge", 303)
    return page("poison_message.html", entry=entry, asked=True)


@needs(Permission.OPERATE)
async def purge_message(request: Request) -> Response:
    """Remove a message for good."""
    entry = await entry_of(_services(request), request.path_params["entry_id"])
    await _services(request).desk.purge(entry.id)
    return RedirectResponse("/poison", 303)


async def _look(request: Request, wanted: Wanted, limit: int, *, newest_first: bool = True) -> DeskPage:
    return await _services(request).desk.list(
        wanted,
        limit=limit,
        cursor=request.query_params.get("cursor") or None,
        look_at=LOOK_AT,
        seconds=SECONDS,
        newest_first=newest_first,
    )


def _steps(
    request: Request, action: str, ids: Sequence[str], *, rate: float | None = None, dry_run: bool = False
) -> AsyncGenerator[Step, None]:
    desk = _services(request).desk
    if action == "purge":
        return desk.purge_each(ids, dry_run=dry_run)
    return desk.replay_each(ids, pace=Pace(rate), dry_run=dry_run)


async def _all(steps: AsyncGenerator[Step, None]) -> Sequence[Step]:
    async with aclosing(steps):
        return [step async for step in steps]


def _action(text: str | None) -> str:
    if text not in {"replay", "purge"}:
        raise refusal(404, "not-found", "There is no such action.")
    return text


def _number(text: str | None, usual: int) -> int:
    number = int(text) if text and text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) else usual
    return max(1, min(number, MOST))


def _fields(given: Mapping[str, str]) -> dict[str, str]:
    """The form as it was filled in."""
    usual = {"state": "poisoned", "replayed": "no"}
    return {name: (given.get(name) or usual.get(name, ""))[:LONGEST] for name in FIELDS}


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("/poison", "GET", show_desk),
    ("/poison/several", "GET", confirm_several),
    ("/poison/several", "POST", act_on_several),
    ("/poison/{entry_id}", "GET", show_entry),
    ("/poison/{entry_id}/input", "GET", download_input),
    ("/poison/{entry_id}/purge", "GET", confirm_purge_of_message),
    ("/poison/{entry_id}/purge", "POST", purge_message),
    ("/jobs/{job_id}/replay", "POST", replay),
    ("/jobs/{job_id}/purge", "GET", confirm_purge),
    ("/jobs/{job_id}/purge", "POST", purge),
)
