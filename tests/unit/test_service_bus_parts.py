"""The parts of the Service Bus engine, and of its stand-in, that need no broker."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.servicebus import exceptions as sdk
from hypothesis import given
from hypothesis import strategies as st

from rolehost import errors
from rolehost.stores.service_bus import Reach
from rolehost.stores.service_bus.failures import link_is_gone, safe, translate
from rolehost.stores.service_bus.messages import next_wake
from rolehost.stores.service_bus.namespace import Namespace
from support.service_bus.amqp_types import Array, Long, Symbol, Timestamp, Ubyte, Uint, Ulong, decode, encode

KEY = "bm90IGEgc2VjcmV0"
STRING = f"Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey={KEY}"


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (sdk.MessageLockLostError(), errors.ReceiptMismatchError),
        (sdk.MessageAlreadySettled(action="complete"), errors.ReceiptMismatchError),
        (sdk.SessionLockLostError(), errors.ReceiptMismatchError),
        (sdk.ServiceBusServerBusyError(), errors.StoreThrottledError),
        (sdk.ServiceBusAuthorizationError(), errors.StoreForbiddenError),
        (sdk.ServiceBusAuthenticationError(), errors.StoreForbiddenError),
        (ClientAuthenticationError("no identity"), errors.StoreForbiddenError),
        (sdk.ServiceBusError("failed", error=ClientAuthenticationError("no identity")), errors.StoreForbiddenError),
        (sdk.ServiceBusQuotaExceededError(), errors.StoreFullError),
        (sdk.MessageSizeExceededError(), errors.LimitExceededError),
        (sdk.MessagingEntityNotFoundError(), errors.NotFoundError),
        (sdk.ServiceBusConnectionError(), errors.StoreUnavailableError),
        (sdk.OperationTimeoutError(), errors.StoreUnavailableError),
        (TimeoutError(), errors.StoreUnavailableError),
        (OSError("refused"), errors.StoreUnavailableError),
    ],
)
def test_every_error_of_the_sdk_has_one_of_ours(error: Exception, ours: type[errors.StoreError]) -> None:
    translated = translate(error, "send", "queue 'q' of ns")
    assert type(translated) is ours
    assert "queue 'q' of ns" in str(translated)


class Response:
    """As much of an HTTP response as an error shows."""

    def __init__(self, status: int, retry_after: str = "") -> None:
        self.status_code = status
        self.reason = "because"
        self.headers = {"Retry-After": retry_after} if retry_after else {}

    def text(self) -> str:
        return ""


@pytest.mark.parametrize(
    ("status", "retry_after", "ours", "seconds"),
    [
        (401, "", errors.StoreForbiddenError, None),
        (403, "", errors.StoreForbiddenError, None),
        (429, "7", errors.StoreThrottledError, 7.0),
        (503, "", errors.StoreThrottledError, 10.0),
        (500, "", errors.StoreUnavailableError, None),
    ],
)
def test_answers_of_the_management_interface(
    status: int, retry_after: str, ours: type[errors.StoreError], seconds: float | None
) -> None:
    response: Any = Response(status, retry_after)
    translated = translate(HttpResponseError(response=response), "count", "namespace ns")
    assert type(translated) is ours
    assert getattr(translated, "retry_after", None) == seconds


@pytest.mark.parametrize(
    "text",
    [
        f"bad: {STRING}",
        f"token SharedAccessSignature sr=x&sig={KEY}%3d&se=1&skn=all is refused",
        f"header eyJhbGciOi.eyJhdWQiOi.{KEY}",
        f"sharedaccesskey = {KEY}",
    ],
)
def test_nothing_secret_is_said(text: str) -> None:
    assert KEY not in safe(ValueError(text))
    assert KEY not in str(translate(ValueError(text), "send", "queue"))


def test_a_link_that_is_gone_is_tried_anew_and_one_that_is_slow_is_not() -> None:
    assert link_is_gone(sdk.ServiceBusConnectionError())
    assert link_is_gone(sdk.ServiceBusError("Handler failed", error=ValueError("Link already closed.")))
    assert not link_is_gone(sdk.OperationTimeoutError())
    assert not link_is_gone(TimeoutError())
    assert not link_is_gone(sdk.ServiceBusServerBusyError())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("job:0", "job:1"),
        ("job:9", "job:10"),
        ("job:dead", "job:dead:1"),
        ("job:dead:1", "job:dead:2"),
        ("job:v17", "job:v17:1"),
        ("m-1", "m-1:1"),
        ("a:b\n:3", "a:b\n:4"),
    ],
)
def test_the_message_after_a_message(before: str, after: str) -> None:
    assert next_wake(before) == after


@given(st.text(min_size=1))
def test_no_message_follows_itself(message_id: str) -> None:
    chain = [message_id]
    for _ in range(5):
        chain.append(next_wake(chain[-1]))
    assert len(set(chain)) == 6


def test_a_connection_string_is_read_and_not_shown() -> None:
    namespace = Namespace.parse(STRING)
    assert (namespace.host, namespace.emulated, namespace.credential) == ("ns.servicebus.windows.net", False, None)
    assert KEY not in repr(namespace)
    emulated = Namespace.parse(
        f"Endpoint=sb://localhost:5672;SharedAccessKeyName=a;SharedAccessKey={KEY};UseDevelopmentEmulator=true"
    )
    assert (emulated.host, emulated.emulated) == ("localhost:5672", True)
    assert emulated.administration() is None


@pytest.mark.parametrize(
    "connection",
    [
        "",
        "not a namespace",
        "embedded",
        "https://",
        f"SharedAccessKeyName=all;SharedAccessKey={KEY}",
        "Endpoint=sb://ns.servicebus.windows.net/",
        f"Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKey={KEY}",
        f"{STRING};EntityPath=q",
    ],
)
def test_what_is_no_namespace_is_refused_without_being_repeated(connection: str) -> None:
    with pytest.raises(errors.StoreError) as caught:
        Namespace.parse(connection)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["ns.servicebus.windows.net", "sb://ns.servicebus.windows.net/", " ns.local "])
async def test_a_host_name_goes_with_an_identity(name: str) -> None:
    namespace = Namespace.parse(name, reach=Reach(administration=""))
    assert namespace.host.startswith("ns.")
    assert namespace.credential is not None
    assert namespace.administration() is None
    await namespace.credential.close()


AMQP = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(AMQP)
def test_amqp_values_survive_the_wire(value: object) -> None:
    raw = encode(value)
    assert decode(raw) == (value, len(raw))


def test_amqp_types_survive_the_wire() -> None:
    for value in (
        Ubyte(7),
        Uint(0),
        Uint(7),
        Uint(70_000),
        Ulong(0),
        Ulong(2**40),
        Long(-1),
        Timestamp(5),
        Symbol("s"),
    ):
        found, _ = decode(encode(value))
        assert (found, type(found)) == (value, type(value))
    array, _ = decode(encode(Array(Timestamp.code, [1, 2])))
    assert (list(array), type(array[0])) == ([1, 2], Timestamp)
    token = uuid.uuid4()
    assert decode(encode({"lock-tokens": Array(0xB3, [Symbol("a" * 300)])}))[0] == {"lock-tokens": ["a" * 300]}
    assert decode(encode([token]))[0] == [token]
