"""The form: several pictures at once, one job each. What can't be accepted is told; the others are on their way."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse

from rolehost.errors import InvalidParameterError, SubmissionError
from rolehost.frontend.authentication.permissions import Permission, may, needs
from rolehost.frontend.forms import FILE, Form, FormRules, Upload, read_form
from rolehost.frontend.problems import problem_of
from rolehost.frontend.services import KIND
from rolehost.frontend.views import human_size, page
from rolehost.jobs.kinds import CUSTOM, DEFAULT_SIZE, FORMATS, LARGEST_SIDE, SIZES, kind_named
from rolehost.jobs.sniffing import UNKNOWN
from rolehost.jobs.submission import Submission
from rolehost.jobs.webhook_settings import FIELD as WEBHOOK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job

NEWEST = 6
FIELDS = frozenset({"size", "width", "height", "format", "form", WEBHOOK})


@dataclass(slots=True)
class Outcome:
    """What became of a sent form.

    Args:
        accepted: the jobs that are on their way.
        refused: names of files, and why they are not.
        wrong: what is wrong with which field.
        status: of the first refusal.
    """

    accepted: list[Job] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    status: int = 200

    def refuse(self, name: str, error: Exception) -> None:
        """Note a file that can't be accepted."""
        problem = problem_of(error)
        self.refused.append((name, problem.detail))
        self.status = max(self.status, problem.status)


@needs(Permission.READ)
async def show_form(request: Request) -> Response:
    """The form, and the newest jobs beside it; the jobs alone to whoever may not submit any."""
    if not may(Permission.SUBMIT):
        return RedirectResponse("/jobs", 303)
    return await _page(request, {}, Outcome())


@needs(Permission.SUBMIT)
async def submit_form(request: Request) -> Response:
    """One job for each file; when all went well the list of jobs is shown, else the form with what did not."""
    services: Services = request.app.state.services
    async with services.spool.folder() as folder:
        settings = services.settings
        rules = FormRules(fields=FIELDS, largest_file=settings.upload_cap, most_files=settings.form_files, lenient=True)
        form = await read_form(request, folder, rules)
        outcome = await _submit_all(services, form)
    if outcome.refused or outcome.wrong:
        return await _page(request, form.fields, outcome)
    only = outcome.accepted[0]
    return RedirectResponse(f"/jobs/{only.id}" if len(outcome.accepted) == 1 else "/jobs", 303)


async def _submit_all(services: Services, form: Form) -> Outcome:
    outcome = Outcome()
    given = parameters(form.fields)
    for check in (lambda: kind_named(KIND).parse(given, UNKNOWN), lambda: services.webhook(form.fields)):
        try:
            check()
        except InvalidParameterError as error:
            outcome.wrong[error.field] = str(error)
    if not form.files:
        outcome.wrong[FILE] = "Choose one or more pictures."
    if outcome.wrong:
        outcome.status = 422
        return outcome
    for index, upload in enumerate(form.files):
        try:
            outcome.accepted.append(await _submit_one(services, form, index, upload))
        except (SubmissionError, OSError) as error:
            outcome.refuse(upload.name or "unnamed", error)
        except Exception as error:
            if not outcome.accepted:
                raise
            outcome.refuse(upload.name or "unnamed", error)
    return outcome


async def _submit_one(services: Services, form: Form, index: int, upload: Upload) -> Job:
    if upload.refusal is not None:
        raise upload.refusal
    if not upload.size:
        raise InvalidParameterError(f"{upload.name or 'the file'} is empty", field=FILE)
    given = parameters(form.fields)
    asked = Submission(
        path=upload.path,
        name=upload.name,
        kind=KIND,
        given=given,
        key=_key(form, index, upload),
        webhook=services.webhook(form.fields),
        consume=True,
    )
    return await services.submitter.submit(asked)


def parameters(fields: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a form: a width that stands in it beside a preset is left over from a change of mind."""
    given = {name: value for name, value in fields.items() if name not in {"form", WEBHOOK}}
    if given.get("size", "") != CUSTOM:
        given.pop("width", None)
        given.pop("height", None)
    return given


def _key(form: Form, index: int, upload: Upload) -> str | None:
    """An idempotency key for a file of a form, so that a page that is loaded again makes no job twice."""
    nonce = form.fields.get("form", "")
    if not nonce:
        return None
    told = [nonce, str(index), upload.name, upload.hash.hexdigest(), repr(sorted(parameters(form.fields).items()))]
    told.append(form.fields.get(WEBHOOK, ""))
    return f"form-{sha256(chr(0).join(told).encode()).hexdigest()}"


async def _page(request: Request, fields: Mapping[str, str], outcome: Outcome) -> Response:
    services: Services = request.app.state.services
    newest = await services.jobs.list(limit=NEWEST)
    counts = await services.jobs.counts()
    kept = {"size": DEFAULT_SIZE, "width": "", "height": "", "format": "", WEBHOOK: ""} | dict(fields)
    return page(
        "form.html",
        200 if outcome.accepted else outcome.status,
        fields=kept,
        nonce=secrets.token_urlsafe(16),
        outcome=outcome,
        jobs=newest.jobs,
        counts=counts,
        sizes=SIZES,
        custom=CUSTOM,
        formats=FORMATS,
        largest_side=LARGEST_SIDE,
        cap=human_size(services.settings.upload_cap),
        most=services.settings.form_files,
        webhooks=services.settings.webhooks.configured,
    )
