"""The form of each kind of job: several files at once, one job each.

What can't be accepted is told; the others are on their way.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from starlette.responses import RedirectResponse

from rolehost.errors import InvalidParameterError, SubmissionError
from rolehost.frontend.authentication.identity import Permission, may
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.common_fields import COMMON, common_faults, common_values
from rolehost.frontend.controls import (
    accepted_sorts,
    common_controls,
    elsewhere_control,
    parameter_controls,
    with_unticked,
)
from rolehost.frontend.forms import Form, FormRules, Upload, read_form
from rolehost.frontend.json_submission import source_url
from rolehost.frontend.kinds import FILE, FORM, LONGEST_FIELD, faults, is_thumbnail, parameters_given
from rolehost.frontend.problems import problem_of, refusal
from rolehost.frontend.views import human_size, page
from rolehost.jobs.kinds import CUSTOM, DEFAULT_SIZE, FORMATS, LARGEST_SIDE, SIZES, offered_kinds
from rolehost.jobs.sources import URL_FIELD, name_of_url
from rolehost.jobs.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job
    from rolehost.jobs.kinds import JobKind

NEWEST = 6
_THUMBNAIL = {"size": DEFAULT_SIZE, "width": "", "height": "", "format": ""}


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
    """A kind's form, and the newest jobs beside it; the jobs alone to whoever may not submit any."""
    if not may(Permission.SUBMIT):
        return RedirectResponse("/jobs", 303)
    name = request.path_params.get("kind")
    kind = next((each for each in offered_kinds() if name in {None, each.name}), None)
    if kind is None and name is not None:
        raise refusal(404, "unknown-kind", "There is no such kind of job here.")
    return await _page(request, kind, {}, Outcome())


@needs(Permission.SUBMIT)
async def submit_form(request: Request) -> Response:
    """One job for each file; when all went well the list of jobs is shown, else the form with what did not."""
    services: Services = request.app.state.services
    async with services.spool.folder() as folder:
        settings = services.settings
        rules = FormRules(
            others={FORM: LONGEST_FIELD, URL_FIELD: LONGEST_FIELD},
            largest_file=settings.upload_cap,
            most_files=settings.form_files,
            lenient=True,
        )
        form = await read_form(request, folder, rules)
        if FORM in form.fields:
            form.fields = with_unticked(form.kind, form.fields)
        outcome = await _submit_all(request, services, form)
    if outcome.refused or outcome.wrong:
        return await _page(request, form.kind, form.fields, outcome)
    only = outcome.accepted[0]
    return RedirectResponse(f"/jobs/{only.id}" if len(outcome.accepted) == 1 else "/jobs", 303)


async def _submit_all(request: Request, services: Services, form: Form) -> Outcome:
    outcome = Outcome()
    outcome.wrong = faults(form.kind, parameters(form)) | common_faults(services, form.fields)
    outcome.wrong |= _url_faults(request, services, form)
    if not form.files and not _url(form):
        outcome.wrong[FILE] = f"Choose one or more {'pictures' if is_thumbnail(form.kind) else 'files'}."
    if outcome.wrong:
        outcome.status = 422
        return outcome
    asked = [(each.name, partial(_submit_one, services, form, index, each)) for index, each in enumerate(form.files)]
    if _url(form):
        asked.append((name_of_url(_url(form)), partial(_submit_url, services, form)))
    for name, submit in asked:
        try:
            outcome.accepted.append(await submit())
        except (SubmissionError, OSError) as error:
            outcome.refuse(name or "unnamed", error)
        except Exception as error:
            if not outcome.accepted:
                raise
            outcome.refuse(name or "unnamed", error)
    return outcome


def _url(form: Form) -> str:
    return form.fields.get(URL_FIELD, "").strip()


def _url_faults(request: Request, services: Services, form: Form) -> dict[str, str]:
    try:
        if _url(form):
            source_url(request, services, _url(form))
    except InvalidParameterError as error:
        return {URL_FIELD: str(error)}
    return {}


async def _submit_url(services: Services, form: Form) -> Job:
    asked = Submission(
        url=_url(form),
        kind=form.kind.name,
        given=parameters(form),
        key=_key(form, len(form.files), _url(form), ""),
        **common_values(services, form.fields),
    )
    return await services.submitter.submit(asked)


async def _submit_one(services: Services, form: Form, index: int, upload: Upload) -> Job:
    if upload.refusal is not None:
        raise upload.refusal
    if not upload.size:
        raise InvalidParameterError(f"{upload.name or 'the file'} is empty", field=FILE)
    asked = Submission(
        path=upload.path,
        name=upload.name,
        kind=form.kind.name,
        given=parameters(form),
        key=_key(form, index, upload.name, upload.hash.hexdigest()),
        consume=True,
        **common_values(services, form.fields),
    )
    return await services.submitter.submit(asked)


def parameters(form: Form) -> dict[str, str]:
    """The parameters of a form: a width that stands in it beside a preset is left over from a change of mind."""
    given = parameters_given(form.kind, form.fields)
    given.pop(URL_FIELD, None)
    if is_thumbnail(form.kind) and given.get("size", "") != CUSTOM:
        given.pop("width", None)
        given.pop("height", None)
    return given


def _key(form: Form, index: int, name: str, content: str) -> str | None:
    """An idempotency key for a source of a form, so that a page that is loaded again makes no job twice."""
    nonce = form.fields.get(FORM, "")
    if not nonce:
        return None
    told = [nonce, str(index), name, content, repr(sorted(parameters(form).items()))]
    told += [form.kind.name, *(form.fields.get(each.name, "") for each in COMMON)]
    return f"form-{sha256(chr(0).join(told).encode()).hexdigest()}"


async def _page(request: Request, kind: JobKind | None, fields: Mapping[str, str], outcome: Outcome) -> Response:
    services: Services = request.app.state.services
    newest = await services.jobs.list(limit=NEWEST)
    return page(
        "form.html",
        200 if outcome.accepted else outcome.status,
        kind=kind,
        kinds=offered_kinds(),
        thumbnails=kind is not None and is_thumbnail(kind),
        nonce=secrets.token_urlsafe(16),
        outcome=outcome,
        jobs=newest.jobs,
        cap=human_size(services.settings.upload_cap),
        most=services.settings.form_files,
        **(_controls(services, kind, fields, outcome) if kind else {}),
    )


def _controls(services: Services, kind: JobKind, fields: Mapping[str, str], outcome: Outcome) -> dict[str, Any]:
    """What the form of a kind asks for; that of thumbnails has a look of its own."""
    elsewhere = elsewhere_control(services, fields, outcome.wrong)
    common, own = common_controls(services, fields, outcome.wrong), parameter_controls(kind, fields)
    marked = {FILE, *(each.name for each in (elsewhere, *common, *own) if each)}
    told: dict[str, Any] = {"elsewhere": elsewhere, "common": common, "accepted": accepted_sorts(kind)}
    if not is_thumbnail(kind):
        return told | {"controls": own, "marked": marked}
    sizes = {"sizes": SIZES, "custom": CUSTOM, "formats": FORMATS, "largest_side": LARGEST_SIDE}
    return told | sizes | {"fields": _THUMBNAIL | dict(fields), "marked": marked | _THUMBNAIL.keys()}
