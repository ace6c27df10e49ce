"""What clients ask of batches: the JSON that makes one, and the files that are added to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from rolehost.errors import (
    BatchStateError,
    InvalidParameterError,
    KeyReusedError,
    SubmissionError,
    UnknownBatchError,
)
from rolehost.frontend.authentication.identity import identity
from rolehost.frontend.common_fields import common_values
from rolehost.frontend.json_body import is_json, parsed, read_body
from rolehost.frontend.kinds import FILE, chosen_kind
from rolehost.frontend.problems import refusal
from rolehost.frontend.services import is_job_id
from rolehost.jobs.batches.adding import Adder, Addition
from rolehost.jobs.batches.ending import ZIP
from rolehost.jobs.batches.model import BatchState, NewBatch, Then
from rolehost.jobs.job import new_id
from rolehost.jobs.levels import parse_priority
from rolehost.jobs.parameters import text_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from rolehost.frontend.forms import Form
    from rolehost.frontend.services import Services
    from rolehost.jobs.batches import Batch, Item

LARGEST_JSON = 64 * 1024
_NAMES = ("name", "kind", "parameters", "then", "webhook", "priority")


async def asked_for(request: Request, services: Services) -> NewBatch:
    """The batch that a request's body describes.

    Raises:
        HTTPException: it is no JSON object of this form.
        InvalidParameterError: a value can't be accepted.
    """
    told = _known(await _json_of(request), _NAMES)
    kind = chosen_kind(_text(told, "kind"))
    texts = {name: _text(told, name) for name in ("webhook", "priority")}
    return NewBatch(
        name=_text(told, "name"),
        kind=kind.name,
        given=_parameters(told),
        then=_then(told["then"]) if told.get("then") is not None else None,
        webhook=str(common_values(services, {"webhook": texts["webhook"]}).get("webhook", "")),
        priority=parse_priority(texts["priority"]),
        submitter=submitter(),
    )


def submitter() -> str:
    """Who asks, where that is known."""
    who = identity()
    return "" if who.how == "local" else f"{who.how}:{who.name}"


async def batch_of(services: Services, batch: str) -> Batch:
    """A batch by an id that a client gave.

    Raises:
        UnknownBatchError: there is none; an id that can't be one is unknown too.
    """
    if not is_job_id(batch):
        raise UnknownBatchError("no batch has this id")
    return await services.batches.get(batch)


async def added_before(services: Services, batch: Batch, key: str | None) -> Sequence[Item] | None:
    """What an earlier request with this key added; None if there was none.

    Raises:
        BatchStateError: there was none, or it came too late, and nothing can be added any more.
    """
    manifest = services.batches.manifest(batch.id)
    before = await manifest.slice_named(_slice(key)) if key else None
    if batch.state is not BatchState.OPEN and (key is None or before is None or not await manifest.holds(_slice(key))):
        raise BatchStateError(f"the batch {batch.name} is {batch.state}: nothing can be added to it")
    return before


async def add(
    services: Services, batch: Batch, form: Form, key: str | None, before: Sequence[Item] | None
) -> dict[str, Any]:
    """Add the files of a form; those that can't be accepted are named.

    Raises:
        SubmissionError: none could be accepted, or the key belongs to other files.
    """
    adder = Adder(services.stores, batch)
    items: list[Item] = []
    refused: list[tuple[str, SubmissionError]] = []
    for upload in form.files:
        addition = Addition(path=upload.path, name=upload.name, consume=True)
        try:
            if upload.refusal is not None:
                raise upload.refusal
            if not upload.size:  # nothing of it is in the spool
                raise InvalidParameterError(f"{upload.name or 'the file'} is empty", field=FILE)
            items.append(item := await adder.item(addition))
            if before is None:
                await adder.upload(item, addition)
        except SubmissionError as error:
            refused.append((upload.name or "unnamed", error))
    if refused and not items:
        raise refused[0][1]
    if before is None and not await adder.append(_slice(key) if key else new_id(), items) and key:
        before = await services.batches.manifest(batch.id).slice_named(_slice(key))  # another was faster with this key
    if before is not None and [item.id for item in before] != [item.id for item in items]:
        raise KeyReusedError("this Idempotency-Key belongs to a request with other files")
    return {
        "batch": batch.id,
        "added": [{"id": item.id, "name": item.name} for item in items],
        "refused": [{"name": name, "reason": str(error)} for name, error in refused],
    }


def _slice(key: str) -> str:
    return f"k-{sha256(key.encode()).hexdigest()[:32]}"


async def _json_of(request: Request) -> Mapping[str, Any]:
    if not is_json(request.headers):
        raise refusal(415, "unsupported-media-type", "The body must be application/json.")
    told = parsed(await read_body(request, LARGEST_JSON))
    if not isinstance(told, dict):
        raise refusal(422, "invalid-parameter", "The body must be a JSON object.")
    return told


def _known(told: Mapping[str, Any], names: tuple[str, ...], where: str = "a batch") -> Mapping[str, Any]:
    for name in told:
        if name not in names:
            shown = name[:80]
            raise refusal(422, "unknown-field", f"There is no field {shown!r} in {where}.", wrong=shown)
    return told


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str | None):
        raise InvalidParameterError(f"{name} must be a text", field=name)
    return value or ""


def _parameters(told: Mapping[str, Any]) -> dict[str, str]:
    values = told.get("parameters")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InvalidParameterError("parameters must be an object", field="parameters")
    return {name: _as_text(name, value) for name, value in values.items()}


def _as_text(name: str, value: object) -> str:
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return text_of(value)
    raise InvalidParameterError(f"{name} must be a text, a number, true or false", field=name)


def _then(told: object) -> Then:
    if not isinstance(told, dict):
        raise InvalidParameterError("then must be an object with a kind", field="then")
    known = _known(told, ("kind", "parameters"), "then")
    kind = chosen_kind(_text(known, "kind") or "-")
    if not kind.takes(ZIP, "results.zip"):
        raise InvalidParameterError(f"jobs of kind {kind.name} don't take a ZIP of results", field="then")
    return Then(kind=kind.name, parameters=kind.parse(_parameters(known), ZIP))
