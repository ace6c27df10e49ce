"""An account without a secret: a managed identity's token over TLS, in a process that holds no key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest

from support.azurite import KEY, Azurite
from support.loopback_tls import certificate
from support.metadata_server import MetadataServer
from support.stores import process, unused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """An emulator that takes tokens only over TLS."""
    azurite = Azurite(certificate=certificate(tmp_path_factory.mktemp("tls"))).start()
    yield azurite
    azurite.stop()


@pytest.fixture
def identity() -> Iterator[MetadataServer]:
    with MetadataServer() as metadata:
        yield metadata


def environ(server: Azurite, identity: MetadataServer) -> Mapping[str, str]:
    assert server.certificate is not None
    # The client's own variable for authorities of one's own: no option of ours is needed for that.
    settings = {"ROLEHOST_STORAGE": server.endpoints(), "SSL_CERT_FILE": str(server.certificate[0])}
    return {"PATH": os.environ["PATH"], **settings, **identity.environ}


async def test_an_identity_is_all_that_is_needed(server: Azurite, identity: MetadataServer) -> None:
    settings = environ(server, identity)
    assert KEY not in "".join(settings.values())
    queue = unused("queue")
    async with process(settings, "put", queue, "by token") as other:
        output, _ = await other.communicate(b"\n")
    assert output == b"ready\nput\n"
    async with process(settings, "take", queue) as other:
        output, _ = await other.communicate()
    assert output == b"by token\n"
    assert set(identity.asked) == {"https://storage.azure.com"}
    async with process(settings, "submit", unused("table"), queue, "k") as other:
        assert other.stdout is not None
        assert (await other.stdout.readline()).startswith(b"k")


async def test_an_identity_that_is_not_there_is_a_refusal(server: Azurite, identity: MetadataServer) -> None:
    identity.refusing = True
    async with process(environ(server, identity), "take", unused("queue"), errors=True) as other:
        output, errors = await other.communicate()
    assert not output
    assert b"StoreForbiddenError" in errors
    assert b"no identity here gives a token" in errors
