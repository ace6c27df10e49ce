"""Names of the service: which a request may use, and which the pages print."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.hosts import allowed_hosts, name_of
from rolehost.frontend.settings import FrontendSettings
from support.front_end import front_end, picture

LOOPBACK = ("localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.8.9.10:99", "[::1]", "[::1]:8080")
OTHERS = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "",
    "a b",
)


@pytest.mark.parametrize("host", LOOPBACK)
async def test_names_of_the_loopback_are_answered(tmp_path: Path, host: str) -> None:
    async with front_end(tmp_path / "data") as site:
        assert (await site.client.get("/jobs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", OTHERS)
async def test_other_names_are_refused_while_it_listens_on_the_loopback(tmp_path: Path, host: str) -> None:
    async with front_end(tmp_path / "data") as site:
        for path in ("/", "/api/v1/jobs", "/static/style.css", "/healthz"):
            response = await site.client.get(path, headers={"Host": host})
            assert response.status_code == 421
            assert "Frontend.AllowedHosts" in response.text
        files = {"file": ("a.png", picture(), "image/png")}
        refused = await site.client.post("/api/v1/jobs", files=files, headers={"Host": host})
        assert (refused.status_code, refused.json()["type"]) == (421, "urn:rolehost:problem:unknown-host")
        assert (await site.client.get("/api/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    ("setting", "host", "status"),
    [
        ("photos.example, [fd00::7]", "photos.example", 200),
        ("photos.example, [fd00::7]", "PHOTOS.example:8443", 200),
        ("photos.example, [fd00::7]", "[fd00::7]:80", 200),
        ("photos.example, [fd00::7]", "localhost", 200),
        ("photos.example, [fd00::7]", "www.photos.example", 421),
        ("*", "evil.example", 200),
    ],
)
async def test_the_setting_allows_names(tmp_path: Path, setting: str, host: str, status: int) -> None:
    given = RoleEnvironment.for_testing(settings={"Frontend.AllowedHosts": setting})
    async with front_end(tmp_path / "data", FrontendSettings.read(given)) as site:
        assert (await site.client.get("/jobs", headers={"Host": host})).status_code == status


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("127.0.0.1", frozenset()),
        ("127.0.0.9", frozenset()),
        ("0.0.0.0", None),  # noqa: S104 - what a container listens on
        ("::1", frozenset()),
        ("::", None),
    ],
)
def test_the_default_depends_on_where_clients_connect(address: str, names: frozenset[str] | None) -> None:
    assert allowed_hosts(" ", address) == names
    assert allowed_hosts("a.example", address) == frozenset({"a.example"})


@pytest.mark.parametrize("setting", ["https://a.example", "a.example:80", "[::1]:80", "fd00::7", "a.example/x", "a b"])
def test_a_setting_that_names_no_host_is_told(setting: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=r"Frontend\.AllowedHosts"):
        allowed_hosts(f"b.example, {setting}", "127.0.0.1")


async def test_the_api_page_prints_the_address_that_it_was_asked_at(tmp_path: Path) -> None:
    async with front_end(tmp_path / "data", FrontendSettings(allowed_hosts="*")) as site:
        assert f"size=Medium {site.url}/api/v1/jobs" in (await site.client.get("/api")).text
        for host, printed in (
            ("photos.example", "http://photos.example/api"),
            ("[::1]:99", "http://[::1]:99/api"),
            ("a$(reboot)", "size=Medium /api"),
            ("a;b@c", "size=Medium /api"),
        ):
            text = (await site.client.get("/api", headers={"Host": host})).text
            assert printed in text
            assert host not in text or name_of(host)
