"""Inbound hooks: `POST /api/v1/hooks/{name}` makes jobs of another system's messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.attempts import Attempts
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.hook_mapping import check_time, counts, events_of, key_of, parameters_of, resolved, source_of
from rolehost.frontend.hook_path import HOOKS_PATH
from rolehost.frontend.hook_proofs import NotProvedError, check_proof, proves_by_header, secrets_of
from rolehost.frontend.json_body import is_json, parsed, read_body
from rolehost.frontend.json_submission import checked, found_at, source_url
from rolehost.frontend.kinds import chosen_kind
from rolehost.frontend.problems import Problem, refusal
from rolehost.jobs.submission import Submission
from rolehost.service_model.hooks import Handshake, HookDeclaration, ProofKind
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.frontend.services import Services

LARGEST_VALIDATION = 16 * 1024
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_CODE = re.compile(r"[A-Za-z0-9-]{1,200}", re.ASCII)
_ORIGIN = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?", re.ASCII)
_TELLS = {
    ProofKind.BASIC: 'Basic realm="rolehost hooks"',
    ProofKind.HEADER: 'Secret realm="rolehost hooks"',
    ProofKind.GITHUB: 'Signature realm="rolehost hooks"',
    ProofKind.STANDARD_WEBHOOKS: 'Signature realm="rolehost hooks"',
}

router = APIRouter(prefix=HOOKS_PATH.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Hooks:
    """The service's hooks, and who was wrong how often.

    Args:
        declared: by name.
        settings: those that hold secrets.
    """

    declared: Mapping[str, HookDeclaration] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    attempts: Attempts = field(default_factory=Attempts)


@router.post("/{name}", include_in_schema=False)
@needs(Permission.OPEN)
async def receive(request: Request, name: str) -> Response:
    """Make jobs of a message, once each; what the hook is not for is passed over."""
    hook = _named(request, name)
    if not is_json(request.headers):
        raise refusal(415, "unsupported-media-type", "A hook takes JSON: set the sender's content type to that.")
    if hook.handshake is Handshake.EVENT_GRID and _is_validation(request):
        return _validated(parsed(await read_body(request, LARGEST_VALIDATION)))
    body = await _proved_body(request, name, hook)
    events = [(number, event) for number, event in enumerate(events_of(parsed(body))) if counts(hook, event)]
    asked = [_submission(request, name, body, event) for event in events]
    services: Services = request.app.state.services
    if len(asked) > 1:  # all of them before the first is stored: what is refused is sent again as a whole
        for each in asked:
            await found_at(services.submitter.check(each), hook.source_blob)
    jobs = [await found_at(services.submitter.submit(each), hook.source_blob) for each in asked]
    emit("hook.received", hook=name, jobs=len(jobs))
    if not jobs:
        return Response(status_code=204)
    told = [{"id": job.id, "href": f"/api/v1/jobs/{job.id}"} for job in jobs]
    return JSONResponse({"jobs": told}, 202, headers={"Cache-Control": "no-store"})


@router.options("/{name}", include_in_schema=False)
@needs(Permission.OPEN)
async def agree(request: Request, name: str) -> Response:
    """CloudEvents' question whether events may be sent here (HTTP Webhook specification 1.0, section 4)."""
    hook = _named(request, name)
    origin = request.headers.get("webhook-request-origin", "")
    headers = {"Allow": "POST, OPTIONS", "Cache-Control": "no-store"}
    if hook.handshake is Handshake.CLOUD_EVENTS and _ORIGIN.fullmatch(origin):
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return Response(status_code=200, headers=headers)


def _named(request: Request, name: str) -> HookDeclaration:
    hooks: Hooks = request.app.state.hooks
    hook = hooks.declared.get(name)
    if hook is None:
        raise refusal(404, "unknown-hook", "There is no hook of this name.")
    return hook


async def _proved_body(request: Request, name: str, hook: HookDeclaration) -> bytes:
    """The message, once its sender has proved himself: before it is read, where a header is the proof."""
    hooks: Hooks = request.app.state.hooks
    try:
        secrets = await secrets_of(hook, hooks.settings)
    except RoleEnvironmentError as error:
        emit("hook.misconfigured", hook=name, why=str(error))
        raise refusal(503, "hook-not-ready", "This hook has no secret to know its senders by.") from error
    try:
        if proves_by_header(hook):
            check_proof(hook, secrets, request.headers, b"")
            return await read_body(request, hook.most_bytes)
        body = await read_body(request, hook.most_bytes)
        check_proof(hook, secrets, request.headers, body)
    except NotProvedError as error:
        problem = _unproved(request, name, hook, str(error))
        raise HTTPException(problem.status, problem) from None
    return body


def _unproved(request: Request, name: str, hook: HookDeclaration, why: str) -> Problem:
    """Why a message is not taken. What was wrong with its proof is told to our log, and not to its sender."""
    hooks: Hooks = request.app.state.hooks
    address = request.client.host if request.client else "unknown"
    if wait := hooks.attempts.failed(address):
        told = "There were too many wrong proofs; a good one is accepted at once."
        return Problem(status=429, kind="too-many-attempts", detail=told, headers={"Retry-After": f"{wait + 1:.0f}"})
    emit("hook.refused", hook=name, address=address, why=why)
    headers = {"WWW-Authenticate": _TELLS[hook.proof], "Cache-Control": "no-store"}
    return Problem(status=401, kind="not-proved", detail="The sender's proof is not accepted.", headers=headers)


def _submission(request: Request, name: str, body: bytes, event: tuple[int, Any]) -> Submission:
    """The job that an event asks for, checked as one that a client asks for."""
    hook, content = _named(request, name), event[1]
    services: Services = request.app.state.services
    check_time(hook, content)
    kind = chosen_kind(hook.kind)
    text = source_of(hook, content)
    if hook.source_url:
        source = {"url": source_url(request, services, text, hook.source_url)}
    else:
        source = {"blob": services.settings.sources.check_blob(text, hook.source_blob)}
    return Submission(
        kind=kind.name,
        given=checked(kind, parameters_of(hook, content)),
        key=key_of(name, hook, request.headers, body, event),
        url=source.get("url", ""),
        blob=source.get("blob", ""),
    )


def _is_validation(request: Request) -> bool:
    return request.headers.get("aeg-event-type", "").lower() == "subscriptionvalidation"


def _validated(message: Any) -> Response:
    """Event Grid's handshake: whoever answers with the code of its one event agrees to get more.

    It is answered to anybody: Event Grid sends no header of the subscription's with it, and what follows needs a proof.
    """
    event = events_of(message)[0]
    code = resolved(event, "/data/validationCode")
    if resolved(event, "/eventType") != VALIDATION or not (isinstance(code, str) and _CODE.fullmatch(code)):
        raise refusal(422, "invalid-message", "This is no validation event of Event Grid.")
    return JSONResponse({"validationResponse": code}, headers={"Cache-Control": "no-store"})
