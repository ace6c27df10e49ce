"""Which account the settings name, and that no secret of theirs is ever shown."""

from __future__ import annotations

import traceback

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

from rolehost.errors import StoreError
from rolehost.stores.azure_storage import AzureStores
from rolehost.stores.azure_storage.account import Account

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
SAS = "sv=2024-11-04&sig=c2VjcmV0LXNlY3JldC1zZWNyZXQ%3D"


def endpoints(account: Account) -> tuple[str, str, str]:
    return account.blob, account.queue, account.table


def test_a_connection_string_as_the_portal_shows_it() -> None:
    account = Account.parse(
        f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={KEY};EndpointSuffix=core.windows.net"
    )
    assert account.name == "acme"
    assert endpoints(account) == (
        "https://acme.blob.core.windows.net",
        "https://acme.queue.core.windows.net",
        "https://acme.table.core.windows.net",
    )
    assert isinstance(account.credential(), AzureNamedKeyCredential)


def test_a_connection_string_of_another_cloud_and_one_without_a_suffix() -> None:
    china = Account.parse(f"AccountName=acme;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn;")
    assert china.table == "https://acme.table.core.chinacloudapi.cn"
    assert Account.parse(f" accountname = acme ; accountkey={KEY} ").blob == "https://acme.blob.core.windows.net"


def test_endpoints_win_over_the_name_and_lose_their_query() -> None:
    account = Account.parse(
        f"BlobEndpoint=https://b.example/?{SAS};QueueEndpoint=https://q.example/;TableEndpoint=https://t.example;"
        f"SharedAccessSignature=?{SAS}"
    )
    assert endpoints(account) == ("https://b.example", "https://q.example", "https://t.example")
    credential = account.credential()
    assert isinstance(credential, AzureSasCredential)
    assert credential.signature == SAS


def test_the_development_account() -> None:
    account = Account.parse("UseDevelopmentStorage=true")
    assert endpoints(account) == (
        "http://127.0.0.1:10000/devstoreaccount1",
        "http://127.0.0.1:10001/devstoreaccount1",
        "http://127.0.0.1:10002/devstoreaccount1",
    )
    elsewhere = Account.parse("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite")
    assert elsewhere.queue == "http://azurite:10001/devstoreaccount1"


@pytest.mark.parametrize("service", ["blob", "queue", "table", "dfs"])
def test_an_url_of_any_service_stands_for_the_account(service: str) -> None:
    account = Account.parse(f"https://acme.{service}.core.windows.net/")
    assert endpoints(account) == (
        "https://acme.blob.core.windows.net",
        "https://acme.queue.core.windows.net",
        "https://acme.table.core.windows.net",
    )
    assert (account.key, account.sas) == ("", "")


def test_an_url_of_an_account_in_a_dns_zone() -> None:
    assert Account.parse("https://acme.z13.blob.storage.azure.net").table == "https://acme.z13.table.storage.azure.net"


@pytest.mark.parametrize(
    "connection",
    [
        "",
        "embeded",
        "AccountKey=" + KEY,
        f"AccountName=acme;AccountKey={KEY[:-3]}",
        f"QueueEndpoint=https://q.example;AccountKey={KEY}",
        f"BlobEndpoint=https://b/;QueueEndpoint=https://q/;TableEndpoint=https://t/;AccountKey={KEY}",
        f"BlobEndpoint=b.example;QueueEndpoint=q.example;TableEndpoint=t.example;AccountName=a;AccountKey={KEY}",
        f"BlobEndpoint=ftp://b/;QueueEndpoint=ftp://q/;TableEndpoint=ftp://t/;AccountName=a;AccountKey={KEY}",
        f"https://acme.blob.core.windows.net/?{SAS}",
        f"https://user:{KEY}@acme.blob.core.windows.net",
        f"https://acme.blob.core.windows.net/{KEY}",
        "https://acme.core.windows.net",
        "https://[::1/",
        "ftp://acme.blob.core.windows.net",
        "http://acme.blob.core.windows.net",
        "BlobEndpoint=http://127.0.0.1:1/a;QueueEndpoint=http://127.0.0.1:2/a;TableEndpoint=http://127.0.0.1:3/a",
    ],
)
def test_what_names_no_account_is_refused_without_a_secret(connection: str) -> None:
    with pytest.raises(StoreError) as refused:
        Account.parse(connection)
    assert "secret" not in str(refused.value)
    assert KEY[:8] not in "".join(traceback.format_exception_only(refused.value))


async def test_no_repr_shows_the_key() -> None:
    for connection in (
        f"AccountName=acme;AccountKey={KEY}",
        f"AccountName=acme;SharedAccessSignature={SAS}",
    ):
        account = Account.parse(connection)
        stores = await AzureStores.open(connection)
        try:
            objects = (account, stores, stores.blobs, stores.table("jobs"), stores.queue("jobs"))
            shown = "".join(f"{each!r} {each}" for each in objects)
            assert KEY[:8] not in shown
            assert "sig=" not in shown
        finally:
            await stores.close()
