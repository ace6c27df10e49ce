"""A managed identity instead of a key: over TLS, from a metadata server on the loopback address."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from rolehost.errors import StoreForbiddenError
from rolehost.stores.service_bus import Reach, ServiceBusQueues
from support.service_bus import QueueOptions, StandIn
from support.service_bus.identity import AUDIENCE, MetadataServer
from support.service_bus.under_test import certificate
from support.stores import receive

NAMESPACE = "images.servicebus.windows.net"
QUEUE = "thumbnails"


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "managedidentitycredential")
        yield server


@pytest.fixture
def bus(metadata: MetadataServer) -> Iterator[StandIn]:
    with StandIn({QUEUE: QueueOptions()}, certificate=certificate(), accepts=metadata.accepts) as stand_in:
        yield stand_in


def reach(bus: StandIn) -> Reach:
    authorities = str(certificate().certificate)
    return Reach(
        endpoint=f"localhost:{bus.port}", authorities=authorities, administration=bus.administer(certificate())
    )


async def test_a_managed_identity_needs_no_key_and_its_token_is_said_nowhere(
    bus: StandIn, metadata: MetadataServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    queues = await ServiceBusQueues.open(NAMESPACE, reach=reach(bus))
    try:
        queue = queues.queue(QUEUE)
        await queue.put("x", message_id="job:0")
        (message,) = await receive(queue)
        assert (await queue.counts()).hidden == 1
        await queue.complete(message)
    finally:
        await queues.close()
    assert {asked.rstrip("/") for asked in metadata.asked} == {AUDIENCE.rstrip("/")}
    assert bus.counts(QUEUE)["active"] == 0
    said = [caplog.text, repr(queues), *os.environ.values()]
    assert not any(token in text for token in metadata.given for text in said)


@pytest.mark.parametrize("refused", ["token", "role"])
async def test_an_identity_without_rights_is_forbidden(bus: StandIn, refused: str) -> None:
    if refused == "role":
        bus.forbid()
    bus.broker.tokens.broken = refused == "token"
    queues = await ServiceBusQueues.open(NAMESPACE, reach=reach(bus))
    try:
        with pytest.raises(StoreForbiddenError, match=NAMESPACE):
            await queues.queue(QUEUE).put("x", message_id="job:0")
    finally:
        await queues.close()


async def test_no_identity_to_be_had_is_forbidden_too(bus: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "environmentcredential")
    queues = await ServiceBusQueues.open(NAMESPACE, reach=reach(bus))
    try:
        with pytest.raises(StoreForbiddenError, match=NAMESPACE):
            await queues.queue(QUEUE).put("x", message_id="job:0")
    finally:
        await queues.close()


async def test_a_namespace_that_shows_an_unknown_certificate_is_not_spoken_to(bus: StandIn) -> None:
    trusting = reach(bus)
    queues = await ServiceBusQueues.open(NAMESPACE, reach=Reach(endpoint=trusting.endpoint, administration=""))
    try:
        with pytest.raises(Exception, match=r"(?i)certificate"):
            await queues.queue(QUEUE).put("x", message_id="job:0")
    finally:
        await queues.close()
    assert bus.broker.attached == []
