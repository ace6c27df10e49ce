"""`rolehost check --connect`: every verb is tried, nothing stays behind, and the right that is missing has its name."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from azure.storage.queue import QueueServiceClient

from rolehost.stores.service_bus import Reach, proofs
from support import azurite
from support.azurite import Azurite
from support.commands import ROOT, invoke
from support.loopback_tls import certificate as loopback_certificate
from support.metadata_server import MetadataServer
from support.service_bus import QueueOptions, StandIn
from support.service_bus.under_test import certificate

QUEUE = "thumbnail-jobs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ROLEHOST_STORAGE", "ROLEHOST_QUEUE", "ROLEHOST_DATA"):
        monkeypatch.delenv(name, raising=False)


def checked(code: int) -> dict[str, Any]:
    told = invoke("check", "--connect", "--json", "--no-load")
    assert told.exit_code == code, told.output
    document: dict[str, Any] = json.loads(told.stdout)
    assert document["connected"] == (code == 0)
    return document


def failed(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The rights that are missing, by resource and verb."""
    return {(each["resource"], each["action"]): each["right"] for each in document["stores"] if each["problem"]}


def test_an_account_that_can_be_used_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = azurite.own_account(tmp_path)
    monkeypatch.setenv("ROLEHOST_STORAGE", connection)
    document = checked(0)
    verbs = {(each["resource"].split(" ")[0], each["action"]) for each in document["stores"]}
    assert {verb for kind, verb in verbs if kind == "a"} == {
        *("make", "list", "put", "count", "receive", "renew", "delete", "remove"),
    }
    assert {verb for kind, verb in verbs if kind == "table"} == {"insert", "update", "read", "delete"}
    assert {verb for kind, verb in verbs if kind == "blobs"} == {"write", "read", "list", "delete"}
    with QueueServiceClient.from_connection_string(connection, **azurite.CLIENT) as queues:
        assert [each.name for each in queues.list_queues()] == []
    with TableServiceClient.from_connection_string(connection) as tables:
        left = [row for each in tables.list_tables() for row in tables.get_table_client(each.name).list_entities()]
    assert [row for row in left if "rolehost-check" in row["RowKey"]] == []
    with BlobServiceClient.from_connection_string(connection, **azurite.CLIENT) as blobs:
        assert list(blobs.get_container_client("rolehost").list_blob_names()) == []
    assert invoke("check", "--connect", "--no-load").stdout.endswith("the stores can be used.\n")


def signed(directory: Path, letters: str) -> str:
    """A connection string with a signature that permits so much, on all three services."""
    account = dict(part.split("=", 1) for part in azurite.own_account(directory).split(";") if part)
    until = datetime.now(UTC) + timedelta(hours=1)
    sas = generate_account_sas(
        account["AccountName"],
        account["AccountKey"],
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions.from_string(letters),  # type: ignore[no-untyped-call]
        until,
        services="bqt",
    )
    ends = ";".join(f"{name}={value}" for name, value in account.items() if name.endswith("Endpoint"))
    return f"{ends};SharedAccessSignature={sas}"


@pytest.mark.parametrize(
    ("letters", "missing"),
    [
        ("rwdlacup", {}),
        (
            "rwlacup",
            # The emulator doesn't judge the parts of a table's transaction.
            {("a queue of its own", "remove"): "delete (d)", ("blobs", "delete"): "delete (d)"},
        ),
        ("rdlacuw", {("a queue of its own", "receive"): "process (p)"}),
        ("rwdacup", {("a queue of its own", "list"): "list (l)", ("blobs", "list"): "list (l)"}),
    ],
)
def test_a_signature_that_lacks_a_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letters: str, missing: dict[tuple[str, str], str]
) -> None:
    connection = signed(tmp_path, letters)
    monkeypatch.setenv("ROLEHOST_STORAGE", connection)
    document = checked(1 if missing else 0)
    found = failed(document)
    assert found.keys() == missing.keys()
    for where, right in missing.items():
        assert f"the SAS permission {right}" in found[where]
    assert connection.rpartition("sig=")[2] not in json.dumps(document)


def test_a_wrong_key_is_told_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = base64.b64encode(b"a key that opens nothing").decode()
    monkeypatch.setenv("ROLEHOST_STORAGE", azurite.own_account(tmp_path).replace(azurite.OWN_KEY, wrong))
    document = checked(1)
    assert {right.partition(":")[0] for right in failed(document).values()} == {"the account's key"}
    told = invoke("check", "--connect", "--no-load")
    assert told.exit_code == 1
    assert "the stores can't be used as they are" in told.stderr
    assert wrong not in json.dumps(document) + told.output


def test_a_setting_that_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_STORAGE", "AccountName=a;AccountKey=cut-off")
    assert "is it cut off?" in checked(1)["problems"][0]


def test_an_identity_without_rights_hears_the_role_that_it_lacks(tmp_path: Path) -> None:
    authority = loopback_certificate(tmp_path)
    server = Azurite(certificate=authority).start()
    try:
        with MetadataServer() as identity:
            identity.refusing = True
            environ = {"ROLEHOST_STORAGE": server.endpoints(), "SSL_CERT_FILE": str(authority[0]), **identity.environ}
            command = [sys.executable, "-m", "rolehost", "check", "--connect", "--json", "--no-load"]
            environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
            )
    finally:
        server.stop()
    assert done.returncode == 1, done.stderr
    assert set(failed(json.loads(done.stdout)).values()) == {
        f"the role Storage {each} Data Contributor of the identity, on the account"
        for each in ("Queue", "Table", "Blob")
    }


def test_the_data_directory_is_tried_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    assert [each["action"] for each in checked(0)["stores"]] == ["make"]
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    assert {"put", "receive", "insert", "write"} <= {each["action"] for each in checked(0)["stores"]}
    assert [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()] == []


def test_service_bus_without_management_is_tried_without_taking_anybodys_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StandIn({QUEUE: QueueOptions(max_delivery_count=1000), "transcode-jobs": QueueOptions()}) as bus:
        monkeypatch.setenv("ROLEHOST_QUEUE", bus.connection_string)
        document = checked(0)
        tried = {each["action"] for each in document["stores"] if each["resource"] == f'queue "{QUEUE}"'}
        assert tried == {"send", "receive"}
        assert any("One machine only" in each for each in document["warnings"])
        assert any("depths are unknown" in each for each in document["warnings"])
        assert sum(bus.counts(QUEUE).values()) == 0
        bus.broker.tokens.broken = True
        document = checked(1)
        assert set(failed(document).values()) == {
            "",
            "the claim Send of the connection string's policy",
            "the claim Listen of the connection string's policy",
        }
        assert bus.key not in json.dumps(document)


async def test_service_bus_whose_management_nobody_answers_is_tried_like_one_without() -> None:
    with StandIn({QUEUE: QueueOptions()}) as bus, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        reach = Reach(administration=f"127.0.0.1:{nobody.getsockname()[1]}")
        managing, *others = (await proofs.prove(bus.connection_string, [QUEUE], reach=reach)).proofs
        assert (managing.action, managing.optional) == ("manage", True)
        assert "depths are unknown" in managing.problem
        assert {each.action: each.problem for each in others} == {"send": "", "receive": ""}


def test_what_a_queue_of_service_bus_is_set_to_is_held_against_the_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    with StandIn({QUEUE: QueueOptions(max_delivery_count=10, lock_seconds=300)}) as bus:
        bus.administer(certificate())
        administration = bus.administration
        assert administration is not None
        reach = Reach(authorities=str(certificate().certificate), administration=administration.address)
        monkeypatch.setattr(proofs, "prove", partial(proofs.prove, reach=reach))
        monkeypatch.setenv("ROLEHOST_QUEUE", bus.connection_string)
        document = checked(0)
        assert {"put", "receive", "renew", "delete", "remove"} <= {each["action"] for each in document["stores"]}
        assert [name for name in bus.broker.queues if name.startswith("rolehost-check")] == []
        (deliveries,) = [each for each in document["warnings"] if "MaxDeliveryCount" in each]
        assert (
            "MaxDeliveryCount is 10, and a job's budgets may take 10 attempts (5 app + 2 resource + 3 lost)"
            in deliveries
        )
        assert any("a lock of 300 s is long" in each for each in document["warnings"])
        administration.may_manage = False
        (managing,) = [each for each in checked(0)["stores"] if each["action"] == "manage"]
        assert managing["right"] == "the claim Manage of the connection string's policy"
