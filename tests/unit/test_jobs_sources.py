"""The settings of sources: what is allowed unless it is said, what may never be, and names out of URLs."""

from __future__ import annotations

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.errors import InvalidParameterError, RoleEnvironmentError, UrlNotAllowedError
from rolehost.jobs.job import Source
from rolehost.jobs.sources import SourceSettings, guessed_type, name_of_url, own_hosts
from rolehost.workers.settings import WorkerSettings

ACCOUNT = "DefaultEndpointsProtocol=https;AccountName=photos;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"


def read(environ: dict[str, str] | None = None, /, **settings: str) -> SourceSettings:
    named = {f"Sources.{name}": value for name, value in settings.items()}
    return SourceSettings.read(RoleEnvironment.for_testing(settings=named), environ or {})


def test_nothing_is_fetched_or_lent_by_default() -> None:
    settings = read()
    assert settings == SourceSettings()
    assert not settings.urls
    with pytest.raises(UrlNotAllowedError, match=r"Sources.AllowedHosts"):
        settings.check_url("https://example.org/")
    with pytest.raises(InvalidParameterError, match=r"Sources.Blobs"):
        settings.check_blob("assets/a")


def test_what_is_not_said_is_the_safe_one() -> None:
    rules = read(AllowedHosts="A.example.org, *.b.example").rules()
    assert (rules.hosts, rules.networks) == (("a.example.org", "*.b.example"), ())
    assert (rules.schemes, rules.ports) == (frozenset({"https"}), frozenset({443}))
    assert (rules.most_bytes, rules.deadline) == (64 * 2**20, 60.0)
    assert read(AllowedHosts="*").rules().hosts == ()
    assert read(AllowedHosts="*").check_url("https://example.org/a") == "https://example.org/a"
    assert read(AllowedSchemes="https, http").ports == {80, 443}
    assert read(MostBytes="1000", DeadlineSeconds="5").rules().most_bytes == 1000


@pytest.mark.parametrize("storage", [ACCOUNT, "https://photos.blob.core.windows.net"])
def test_the_services_own_stores_are_never_asked_by_a_url(storage: str) -> None:
    environ = {"ROLEHOST_STORAGE": storage, "ROLEHOST_QUEUE": "sb://queues.servicebus.windows.net/"}
    settings = read(environ, AllowedHosts="*")
    for host in ("photos.blob.core.windows.net", "queues.servicebus.windows.net"):
        with pytest.raises(UrlNotAllowedError):
            settings.check_url(f"https://{host}/rolehost/inputs/x/source")
    assert settings.check_url("https://other.blob.core.windows.net/x")
    named = read(environ, AllowedHosts="photos.blob.core.windows.net")
    assert named.check_url("https://photos.blob.core.windows.net/public/x"), "who names it, means it"
    assert own_hosts({"ROLEHOST_STORAGE": "embedded"}) == []
    assert "c2VjcmV0" not in repr(settings)


def test_an_account_is_known_by_all_its_services() -> None:
    hosts = own_hosts({"ROLEHOST_STORAGE": ACCOUNT})
    assert {"photos.table.core.windows.net", "photos-secondary.blob.core.windows.net"} <= set(hosts)


@pytest.mark.parametrize(
    "folders",
    ["inputs", "inputs/", "results/x", "logs", "runs/", "batches", "INPUTS", "/", "", "..", "a/../inputs", "a//b", "*"],
)
def test_a_folder_of_our_own_is_never_lent(folders: str) -> None:
    if not folders:
        assert read(Blobs=folders).blobs == ()
        return
    with pytest.raises(RoleEnvironmentError, match=r"Sources.Blobs"):
        read(Blobs=folders)


def test_a_folder_is_meant_whole() -> None:
    settings = read(Blobs="assets, shared/pictures/")
    assert settings.blobs == ("assets/", "shared/pictures/")
    for name in ("assets/a", "assets/b/c.png", "shared/pictures/x"):
        assert settings.check_blob(name) == name
    for name in ("assets", "assetsx/a", "shared/x", "assets/../inputs/a", "assets/.a", "inputs/a", "x" * 300):
        with pytest.raises(InvalidParameterError):
            settings.check_blob(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AllowedNetworks", "10.0.0.1/8"),
        ("AllowedPorts", "0"),
        ("AllowedSchemes", "ftp"),
        ("MostBytes", "-1"),
        ("MostBytes", "much"),
        ("DeadlineSeconds", "0"),
        ("DeadlineSeconds", "86400"),
    ],
)
def test_a_setting_that_can_not_be_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=f"Sources.{name}"):
        read(**{name: value})
    with pytest.raises(RoleEnvironmentError, match=f"Sources.{name}"):
        WorkerSettings.of(RoleEnvironment.for_testing(settings={f"Sources.{name}": value}), {})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/b/photo.jpg?c=d#e", "photo.jpg"),
        ("https://a.example/b/photo%20one.jpg", "photo one.jpg"),
        ("https://a.example/b/", "b"),
        ("https://a.example/", "a.example"),
        ("https://a.example", "a.example"),
        ("https://a.example/%FF", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_source_is_called_after_the_end_of_its_url(url: str, name: str) -> None:
    assert name_of_url(url) == name


def test_an_ending_promises_a_type_and_no_more() -> None:
    assert (guessed_type("a.JPG"), guessed_type("a.jpeg"), guessed_type("a.tiff")) == ("image/jpeg",) * 2 + (
        "image/tiff",
    )
    assert (guessed_type("a.exe"), guessed_type("png"), guessed_type("")) == ("", "", "")


def test_what_is_shown_of_a_url_is_no_secret() -> None:
    source = Source(name="a", size=0, type="", blob="", url="https://user:word@a.example:8443/b/c?sig=d#e")
    assert source.shown_url == "https://a.example:8443/b/c"
    assert (source.lent, source.kept) == (False, False)
    assert Source(name="a", size=1, type="t", blob="inputs/x/source").kept
    assert Source(name="a", size=1, type="t", blob="assets/x").lent
