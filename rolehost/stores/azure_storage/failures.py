"""Azure's errors into ours: the only place that looks at status codes, and none of its texts holds a secret."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import aiohttp
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from rolehost.errors import (
    LimitExceededError,
    StoreError,
    StoreForbiddenError,
    StoreFullError,
    StoreThrottledError,
    StoreUnavailableError,
)

_FORBIDDEN: Final = {401, 403}
_THROTTLED: Final = {429, 503}
ENTITY_FULL: Final = {"EntityTooLarge", "TooManyProperties", "PropertyLimitExceeded"}
_TOO_LARGE: Final = {
    *ENTITY_FULL,
    *("PropertyValueTooLarge", "KeyValueTooLarge", "PropertyNameTooLong"),
    *("RequestBodyTooLarge", "MessageTooLarge"),
}
GONE_SOON: Final = {"TableBeingDeleted", "QueueBeingDeleted", "ContainerBeingDeleted", "AccountBeingCreated"}
_NOT_BACK_YET: Final = {"TableNotFound", "QueueNotFound", "ContainerNotFound"}
"""What is made on first use can't be made while its predecessor is being deleted, which takes the service a minute."""


@contextmanager
def translated(store: str) -> Iterator[None]:
    """Raise what Azure raises as one of ours.

    The chain is cut: a response may quote the request, and a request may carry a signature.

    Args:
        store: how a person calls what is being used, `the queue "thumbnails"`.
    """
    try:
        yield
    except HttpResponseError as error:
        raise _from_status(error, store) from None
    except (AzureError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise StoreUnavailableError(f"{store} does not answer: {_no_answer(error)}") from None


def status(error: HttpResponseError) -> int:
    """The answer's HTTP status; 0 if there is none."""
    return error.status_code or 0


def code(error: HttpResponseError) -> str:
    """Azure's own word for the error, `TableNotFound`."""
    told = getattr(error, "error_code", None)
    if told is None:
        told = _header(error, "x-ms-error-code")
    if told is None and "{" in str(error.message):
        # One call of the table client raises its error undecoded.
        told = next((word for word in _UNDECODED if f'"{word}"' in str(error)), None)
    return str(getattr(told, "value", told) or "")


_UNDECODED: Final = ("TableNotFound", "EntityAlreadyExists", "TableBeingDeleted", *sorted(_TOO_LARGE))


def _from_status(error: HttpResponseError, store: str) -> StoreError:
    answer, word = status(error), code(error)
    told = f"HTTP {answer}{f' {word}' if word else ''}{_request_id(error)}"
    if isinstance(error, ClientAuthenticationError) or answer in _FORBIDDEN:
        refused = f"refuses our credentials: {told}"
        without = f"can't be asked, for no identity here gives a token: {_short(error)}"
        return StoreForbiddenError(f"{store} {refused if answer else without}", store=store)
    if answer in _THROTTLED:
        return StoreThrottledError(f"{store} is busy: {told}", retry_after=_retry_after(error))
    if answer == 507:  # noqa: PLR2004 - HTTP: insufficient storage
        return StoreFullError(f"{store} is full: {told}")
    if answer == 413 or word in _TOO_LARGE:  # noqa: PLR2004 - HTTP: request too large
        return LimitExceededError(f"a value is over a limit of {store}: {told}")
    if answer == 0 or answer >= 500 or answer == 408 or word in GONE_SOON | _NOT_BACK_YET:  # noqa: PLR2004 - HTTP: server errors
        return StoreUnavailableError(f"{store} does not answer: {told}")
    return StoreError(f"{store} refuses: {told}")


def _retry_after(error: HttpResponseError) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("Retry-After", 1.0)):
        with suppress(ValueError):
            if told := _header(error, name):
                return max(0.0, float(told) * unit)
    return None


def _request_id(error: HttpResponseError) -> str:
    """What Azure's support asks for."""
    told = _header(error, "x-ms-request-id")
    return f", request {told}" if told else ""


def _header(error: HttpResponseError, name: str) -> str | None:
    told = getattr(error.response, "headers", {}).get(name)
    return None if told is None else str(told)


def _no_answer(error: BaseException) -> str:
    if isinstance(error, ServiceRequestError):
        inner = getattr(error, "inner_exception", None)
        return f"no connection ({type(inner).__name__})" if inner else "no connection"
    if isinstance(error, ServiceResponseError | TimeoutError):
        return "no answer in time"
    return type(error).__name__


def _short(error: BaseException) -> str:
    """The first sentence of what a credential says; it names what it tried and never a secret."""
    return str(error).partition("\n")[0][:200] or type(error).__name__
