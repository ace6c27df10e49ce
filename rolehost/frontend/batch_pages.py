"""Pages of batches: the list, one of them, its items; cancel all, and the results as one ZIP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rolehost.errors import InvalidParameterError
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.batch_api import items_told, results_answer
from rolehost.frontend.batch_requests import batch_of
from rolehost.frontend.problems import refusal
from rolehost.frontend.views import page
from rolehost.jobs.batches.model import COUNTED, MOST_TROUBLES, WAITING, BatchState

if TYPE_CHECKING:
    from rolehost.frontend.services import Services
    from rolehost.jobs.batches import Batch

Endpoint = Callable[[Request], Awaitable[Response]]

PER_PAGE = 40
REFRESH = 2
LOOKS = {"open": "queued", "sealing": "queued", "running": "running", "cancelling": "cancelled", "done": "completed"}
"""How the states of batches look: as those of jobs do."""
# What is over stands first, so that the bar fills from its beginning.
ORDER = ("completed", "failed", "poisoned", "cancelled", "removed", "running", "queued", WAITING)
LONGEST_CURSOR = 9


@needs(Permission.READ)
async def list_batches(request: Request) -> Response:
    """The batches, the newest first."""
    try:
        found = await _services(request).batches.list(limit=PER_PAGE, cursor=request.query_params.get("cursor") or None)
    except InvalidParameterError as error:
        raise refusal(404, "not-found", "There is no such page of this list.") from error
    return page(
        "batches.html",
        batches=[(batch, look(batch), bar(batch)) for batch in found.batches],
        first=not request.query_params.get("cursor"),
        older=f"/batches?{urlencode({'cursor': found.cursor})}" if found.cursor else None,
        refresh=REFRESH if any(batch.state not in _STILL for batch in found.batches) else None,
    )


@needs(Permission.READ)
async def show_batch(request: Request) -> Response:
    """How a batch stands, and what is to be done with it."""
    services = _services(request)
    batch = await batch_of(services, request.path_params["batch_id"])
    return page(
        "batch.html",
        batch=batch,
        look=look(batch),
        bar=bar(batch),
        counts={state: batch.tally[state] for state in ORDER},
        added=batch.items if batch.items is not None else await services.batches.manifest(batch.id).added(),
        most=MOST_TROUBLES,
        troubles=(*batch.troubles, *batch.seen_troubles)[:MOST_TROUBLES],
        follows=batch.asked.then is not None and batch.state is BatchState.DONE and batch.tally["completed"] > 0,
        refresh=None if batch.state.over else REFRESH,
    )


@needs(Permission.READ)
async def list_items(request: Request) -> Response:
    """The items in their order."""
    services = _services(request)
    batch = await batch_of(services, request.path_params["batch_id"])
    cursor = request.query_params.get("cursor") or "0"
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= LONGEST_CURSOR):
        raise refusal(404, "not-found", "There is no such page of this list.")
    start = int(cursor)
    items = await items_told(services, batch, start, PER_PAGE)
    after = start + len(items)
    more = f"/batches/{batch.id}/items?cursor={after}" if after < (batch.items or 0) else None
    return page("batch_items.html", batch=batch, items=items, first=not start, more=more)


@needs(Permission.READ)
async def download(request: Request) -> Response:
    """The results in one ZIP."""
    services = _services(request)
    return results_answer(services, await batch_of(services, request.path_params["batch_id"]))


@needs(Permission.OPERATE)
async def cancel(request: Request) -> Response:
    """Cancel all of a batch; its page is shown."""
    services = _services(request)
    batch = await batch_of(services, request.path_params["batch_id"])
    await services.batches.cancel(batch.id)
    services.driver.kick()
    return RedirectResponse(f"/batches/{batch.id}", 303)


def look(batch: Batch) -> str:
    """The state of a job that looks as the batch's."""
    if batch.state is BatchState.DONE and not batch.all_completed:
        return "failed"
    return LOOKS.get(batch.state, batch.state)


def bar(batch: Batch) -> list[tuple[str, float, float]]:
    """A bar of 100: state, begin and length of each part that is there."""
    parts, begin, total = [], 0.0, batch.items or 1
    for state in ORDER:
        length = 100 * batch.tally[state] / total
        if length > 0:
            parts.append((state, round(begin, 3), round(length, 3)))
        begin += length
    return parts


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


_STILL = {BatchState.OPEN, BatchState.DONE, BatchState.CANCELLED}
assert set(ORDER) == set(COUNTED)  # noqa: S101 - a state that is counted and not shown would be a gap in the bar
ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("/batches", "GET", list_batches),
    ("/batches/{batch_id}", "GET", show_batch),
    ("/batches/{batch_id}/items", "GET", list_items),
    ("/batches/{batch_id}/results.zip", "GET", download),
    ("/batches/{batch_id}/cancel", "POST", cancel),
)
