"""The SDK's errors, translated once into ours. No text of ours carries a key, a signature or a token."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.servicebus.exceptions import (
    MessageAlreadySettled,
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusCommunicationError,
    ServiceBusConnectionError,
    ServiceBusQuotaExceededError,
    ServiceBusServerBusyError,
    SessionLockLostError,
)

from rolehost.errors import (
    LimitExceededError,
    NotFoundError,
    ReceiptMismatchError,
    StoreError,
    StoreForbiddenError,
    StoreFullError,
    StoreThrottledError,
    StoreUnavailableError,
)

BUSY_SECONDS: Final = 10.0
"""How long a client waits for a namespace that throttles, by Azure's page "Throttling operations on Service Bus"."""

_LOST: Final = (MessageLockLostError, MessageAlreadySettled, MessageNotFoundError, SessionLockLostError)
_FORBIDDEN: Final = (ServiceBusAuthorizationError, ServiceBusAuthenticationError, ClientAuthenticationError)
_OURS: Final[Sequence[tuple[tuple[type[Exception], ...], Callable[[str], StoreError]]]] = (
    (_LOST, lambda text: ReceiptMismatchError(f"{text} (the message is no longer ours)")),
    ((ServiceBusServerBusyError,), lambda text: StoreThrottledError(text, retry_after=BUSY_SECONDS)),
    ((MessageSizeExceededError,), LimitExceededError),
    ((ServiceBusQuotaExceededError,), StoreFullError),
)
_SECRET: Final = re.compile(r"(?i)(sharedaccess\w+|sig|skn|accountkey)(\s*=\s*|%3d)[^\s;&'\"]+")
_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_LONGEST: Final = 300
_UNAUTHORIZED: Final = (401, 403)
_THROTTLED: Final = (429, 503)


def translate(error: BaseException, what: str, store: str) -> StoreError:
    """An error of the SDK in our words.

    Args:
        error: the error.
        what: what was being done: `send`, `receive`.
        store: the queue and its namespace, for a person.
    """
    if isinstance(error, StoreError):
        return error
    text = f"{what}, {store}: {safe(error)}"
    if _is_forbidden(error):
        return StoreForbiddenError(text, store=store)
    if isinstance(error, ResourceNotFoundError | MessagingEntityNotFoundError):
        return NotFoundError(f"{what}: there is no {store}")
    if isinstance(error, HttpResponseError):
        return _of_http(error, text, store)
    for kinds, ours in _OURS:
        if isinstance(error, kinds):
            return ours(text)
    return StoreUnavailableError(text)


def _is_forbidden(error: BaseException) -> bool:
    cause = getattr(error, "inner_exception", None)
    if isinstance(error, _FORBIDDEN) or isinstance(cause, _FORBIDDEN):
        return True
    # With a custom endpoint the SDK calls a refused token a connection error; the cause's class is not public.
    return any(kind.__name__ == "AuthenticationException" for kind in type(cause).__mro__)


def _of_http(error: HttpResponseError, text: str, store: str) -> StoreError:
    if error.status_code in _UNAUTHORIZED:
        return StoreForbiddenError(text, store=store)
    if error.status_code in _THROTTLED:
        said = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
        return StoreThrottledError(text, retry_after=float(said) if said.isdigit() else BUSY_SECONDS)
    return StoreUnavailableError(text)


def link_is_gone(error: BaseException) -> bool:
    """Whether the link was found dead, so that the same on a new one may succeed; the broker may have heard it."""
    # What the SDK makes of a link that was closed before it noticed, by the broker or by another call.
    cause = getattr(error, "inner_exception", None) or error
    closed = isinstance(cause, AttributeError | RuntimeError) or type(cause) is ValueError
    return closed or isinstance(error, ServiceBusConnectionError | ServiceBusCommunicationError)


def keeps_link(error: BaseException) -> bool:
    """Whether a link is as good after this error as before."""
    return isinstance(error, (*_LOST, MessageSizeExceededError)) and not isinstance(error, SessionLockLostError)


def is_silence(error: BaseException) -> bool:
    """Whether nobody answered in time."""
    return isinstance(error, TimeoutError | OperationTimeoutError)


def safe(error: BaseException) -> str:
    """What an error says, on one line and without anything secret; its type's name if it says nothing."""
    if is_silence(error) and not str(error):
        return "no answer in time"
    told = str(getattr(error, "inner_exception", None) or error)
    line = "; ".join(part.strip() for part in told.splitlines() if part.strip()) or type(error).__name__
    return _TOKEN.sub("***", _SECRET.sub(r"\1=***", line))[:_LONGEST]
