"""What of a hook's message becomes a job: places are JSON Pointers (RFC 6901)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.frontend.json_submission import as_text
from rolehost.frontend.problems import refusal
from rolehost.service_model.hooks import HookDeclaration, ProofKind

if TYPE_CHECKING:
    from starlette.datastructures import Headers

MOST_EVENTS = 100
LONGEST = 2048
"""Characters of a value that is taken out of a message."""
MISSING: Final = object()
_LONGEST_INDEX = 9


def resolved(document: Any, pointer: str) -> Any:
    """What stands at a place of a document, or `MISSING`.

    Args:
        document: JSON, as Python has it.
        pointer: a JSON Pointer; empty for the whole document.
    """
    found = document
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and _is_index(name) and int(name) < len(found):
            found = found[int(name)]
        else:
            return MISSING
    return found


def events_of(message: Any) -> list[Any]:
    """The events of a message: those of its list, or itself.

    Raises:
        HTTPException: 422, they are no objects, none, or too many.
    """
    events = message if isinstance(message, list) else [message]
    if not events or len(events) > MOST_EVENTS or not all(isinstance(each, dict) for each in events):
        told = f"A message is an object, or a list of 1 to {MOST_EVENTS} of them."
        raise refusal(422, "invalid-message", told)
    return events


def counts(hook: HookDeclaration, event: Any) -> bool:
    """Whether an event is one that the hook is for."""
    return all(_as_word(resolved(event, place)) in values for place, values in hook.when.items())


def check_time(hook: HookDeclaration, event: Any) -> None:
    """Refuse an event that is older than the hook accepts.

    Raises:
        HTTPException: 422, it is, or it doesn't say its time.
    """
    if not hook.time:
        return
    try:
        moment = datetime.fromisoformat(_taken(event, hook.time))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise refusal(422, "invalid-message", f"{hook.time} must be a time with its zone.", wrong=hook.time)
    if abs((clock.now() - moment).total_seconds()) > hook.tolerance_seconds:
        raise refusal(422, "too-old", "The event was made too long ago, or in the future.", wrong=hook.time)


def source_of(hook: HookDeclaration, event: Any) -> str:
    """The URL, or the name of the blob.

    Raises:
        HTTPException: 422, it isn't there.
        InvalidParameterError: it does not begin as it has to.
    """
    place = hook.source_url or hook.source_blob
    text = _taken(event, place)
    if not text.startswith(hook.after):
        raise InvalidParameterError(f"{place} does not begin with {hook.after}", place)
    return text[len(hook.after) :]


def parameters_of(hook: HookDeclaration, event: Any) -> Mapping[str, str]:
    """The job's parameters: the constant ones, and those that the event has.

    Raises:
        HTTPException: 422, one is no scalar.
    """
    found = {name: resolved(event, place) for name, place in hook.parameters_from.items()}
    told = {name: value for name, value in found.items() if value is not MISSING and value is not None}
    return {**hook.parameters, **{name: as_text(value, hook.parameters_from[name]) for name, value in told.items()}}


def key_of(name: str, hook: HookDeclaration, headers: Headers, body: bytes, event: tuple[int, Any]) -> str | None:
    """The idempotency key of an event, of a form that no client's own has; None where nothing tells events apart.

    Args:
        name: the hook's.
        hook: says where the sender's id is.
        headers: of the request.
        body: as it came: where only it is signed, it is the id, for whoever repeats it can change all the rest.
        event: its number in the message, and itself.

    Raises:
        HTTPException: 422, the id is missing.
    """
    number, content = event
    if hook.key:
        told = _taken(content, hook.key)
    elif hook.key_header or hook.proof is ProofKind.STANDARD_WEBHOOKS:
        header = hook.key_header or "webhook-id"
        if not (told := headers.get(header, "").strip()):
            raise refusal(422, "missing-id", f"The header {header} is missing.", wrong=header)
        told = f"{told} {number}"
    elif hook.proof is ProofKind.GITHUB:
        told = f"{hashlib.sha256(body).hexdigest()} {number}"
    else:
        return None
    return f"hook-{name}-{hashlib.sha256(told.encode()).hexdigest()[:48]}"


def _taken(event: Any, place: str) -> str:
    value = resolved(event, place)
    if value is MISSING or value is None:
        raise refusal(422, "missing-value", f"There is nothing at {place}.", wrong=place)
    text = as_text(value, place)
    if not text or len(text) > LONGEST:
        raise refusal(422, "invalid-message", f"{place} must have 1 to {LONGEST} characters.", wrong=place)
    return text


def _as_word(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def _is_index(name: str) -> bool:
    plain = name.isascii() and name.isdigit() and len(name) <= _LONGEST_INDEX
    return plain and (name == "0" or not name.startswith("0"))
