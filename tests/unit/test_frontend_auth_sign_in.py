"""The sign-in page and its sessions, over real HTTP with a client that keeps cookies as browsers do."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import Response

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.keys import make_key
from rolehost.frontend.authentication.sessions import SECRET_FILE
from rolehost.frontend.authentication.sign_in import safe_next
from support.authentication import ANY_HOST, add_key, bearer, guard_of, remove_key
from support.commands import invoke
from support.descriptors import no_descriptor_free
from support.front_end import FrontEnd, front_end, picture

HTML = {"Accept": "text/html"}
SAME = {"Sec-Fetch-Site": "same-origin"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def signed_in(site: FrontEnd, key: str, wanted: str = "", **headers: str) -> httpx2.Response:
    return await site.client.post("/sign-in", data={"key": key, "next": wanted}, headers=SAME | headers)


async def looks(site: FrontEnd) -> int:
    return (await site.client.get("/jobs", headers=HTML)).status_code


async def test_a_browser_is_led_to_sign_in_and_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        led = await site.client.get("/jobs?state=failed", headers=HTML)
        assert (led.status_code, led.headers["Location"]) == (303, "/sign-in?next=%2Fjobs%3Fstate%3Dfailed")
        page = await site.client.get(led.headers["Location"])
        assert 'name="next" value="/jobs?state=failed"' in page.text
        assert "Jobs" not in page.text, "who is not signed in is shown no way to anywhere"
        told = await signed_in(site, f" {key}\n", "/jobs?state=failed")
        assert (told.status_code, told.headers["Location"]) == (303, "/jobs?state=failed")
        cookie = told.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert key not in cookie
        assert "ada" in (await site.client.get("/jobs", headers=HTML)).text
        assert (await site.client.get("/api/v1/jobs")).status_code == 200
        out = await site.client.post("/sign-out", headers=SAME)
        assert (out.status_code, out.headers["Clear-Site-Data"]) == (303, '"cache"')
        assert await looks(site) == 303


async def test_a_wrong_key_is_told_and_a_flood_is_429(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        first = await signed_in(site, make_key(), "/poison")
        assert (first.status_code, 'value="/poison"' in first.text) == (401, True)
        assert "This key is not known here" in first.text
        assert "Set-Cookie" not in first.headers
        last = [await signed_in(site, make_key()) for _ in range(25)][-1]
        assert (last.status_code, int(last.headers["Retry-After"]) > 0) == (429, True)
        assert "too many wrong keys" in last.text
        assert (await signed_in(site, key)).status_code == 303


async def test_a_removed_key_ends_its_sessions_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    add_key(data, "other", Permission.READ)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        await signed_in(site, key)
        assert await looks(site) == 200
        remove_key(data, "ada")
        assert await looks(site) == 303
        add_key(data, "ada", Permission.OPERATE)
        assert await looks(site) == 303, "another key of the same name is another key"


async def test_a_role_that_changes_changes_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.OPERATE)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        await signed_in(site, key)
        path = data / "keys"
        path.write_text(path.read_text().replace(":operate:", ":read:"))
        assert (await site.client.post(f"/jobs/{UNKNOWN}/cancel", headers=SAME)).status_code == 403


async def test_another_secret_signs_everybody_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        secret = data / SECRET_FILE
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        before = secret.read_text()
        await signed_in(site, key)
        assert await looks(site) == 200
        assert invoke("key", "sign-out", "--data", data).exit_code == 0
        assert await looks(site) == 303
        assert secret.read_text() != before
        await signed_in(site, key)
        assert await looks(site) == 200


async def test_sessions_outlive_the_process_and_end_with_their_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        await signed_in(site, key)
        value = site.client.cookies[f"rolehost-{site.port}"]
    for guard, status in ((guard_of(data), 200), (ended(guard_of(data)), 303)):
        async with front_end(data, ANY_HOST, guard=guard) as site:
            site.client.cookies.set(f"rolehost-{site.port}", value)
            assert await looks(site) == status


def ended(guard: Any) -> Any:
    """Its sessions last no time at all."""
    guard.sessions.seconds = -1
    return guard


@pytest.mark.parametrize("value", ["", "x", "W10.aaaa.bbbb", "é", "a" * 5000])
async def test_cookies_that_nobody_signed_are_nothing(tmp_path: Path, value: str) -> None:
    add_key(tmp_path / "data", "ada", Permission.SUBMIT)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        headers = [("Cookie", f"rolehost-{site.port}={value}".encode()), ("Accept", "text/html")]
        assert (await site.client.get("/jobs", headers=headers)).status_code == 303  # type: ignore[arg-type] # bytes


async def test_what_a_cookie_sends_comes_from_our_own_pages(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    files = {"file": ("a.png", picture(), "image/png")}
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        await signed_in(site, key)
        for headers, status in (
            ({}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": site.url}, 202),
            (SAME, 202),
        ):
            told = await site.client.post("/api/v1/jobs", files=files, headers=headers)
            assert told.status_code == status, headers
        site.client.cookies.clear()
        assert (await site.client.post("/api/v1/jobs", files=files, headers=bearer(key))).status_code == 202
        forged = await site.client.post("/sign-in", data={"key": key}, headers={"Sec-Fetch-Site": "cross-site"})
        assert (forged.status_code, "Set-Cookie" in forged.headers) == (403, False)


async def test_beyond_the_loopback_the_cookie_needs_tls(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        behind_tls = {"Host": "photos.example", "Origin": "https://photos.example"}
        cookie = (await signed_in(site, key, **behind_tls)).headers["Set-Cookie"]
        assert cookie.startswith("__Host-rolehost=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        value = cookie.partition(";")[0]
        good = await site.client.get("/jobs", headers={"Host": "photos.example", "Cookie": value})
        assert good.status_code == 200
        clear = await signed_in(site, key, Host="photos.example", Origin="http://photos.example")
        assert (clear.status_code, "Set-Cookie" in clear.headers) == (400, False)
        assert "came over plain HTTP" in clear.text


@pytest.mark.parametrize(
    ("wanted", "led"),
    [
        ("/jobs?state=failed&cursor=a%2Fb", "/jobs?state=failed&cursor=a%2Fb"),
        ("/", "/"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/jobs\r\nSet-Cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("/" + "a" * 3000, "/"),
        ("/sign-in?next=/sign-in", "/"),
        ("/jöbs", "/"),
    ],
)
def test_nobody_is_led_elsewhere(wanted: str, led: str) -> None:
    assert safe_next(wanted) == led


async def test_forms_that_are_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    add_key(data, "ada", Permission.SUBMIT)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for content, headers, status in (
            (b"key=" + b"x" * 10_000, form, 413),
            (b"{}", {"Content-Type": "application/json"}, 415),
            (b"\xff\xfe=%ff&" * 20, form, 400),
            (b"", form, 401),
        ):
            told = await site.client.post("/sign-in", content=content, headers=SAME | headers)
            assert told.status_code == status, content[:20]


async def test_without_authentication_nobody_has_to_sign_in(tmp_path: Path) -> None:
    async with front_end(tmp_path / "data") as site:
        for method, path in (("GET", "/sign-in"), ("POST", "/sign-in"), ("POST", "/sign-out")):
            assert (await site.client.request(method, path)).status_code == 404
        assert (await site.client.get("/jobs", headers=HTML)).status_code == 200
        assert "Sign out" not in (await site.client.get("/jobs")).text


def test_a_secret_of_ones_own_has_to_be_long_enough(tmp_path: Path) -> None:
    add_key(tmp_path, "ada", Permission.SUBMIT)
    for content, told in ((None, "can't be had"), ("short", "fewer than 32 bytes")):
        if content:
            (tmp_path / "mounted").write_text(content)
        with pytest.raises(RoleEnvironmentError, match=told):
            guard_of(tmp_path, SessionSecretFile=str(tmp_path / "mounted"))
    assert not (tmp_path / SECRET_FILE).exists()


def test_a_secret_that_could_not_be_read_for_a_moment_counts_again(tmp_path: Path) -> None:
    key = add_key(tmp_path, "ada", Permission.SUBMIT)
    guard, response = guard_of(tmp_path), Response()
    entry = guard.ring.find(key)
    assert entry is not None
    host = (b"host", b"localhost")
    guard.sessions.start(response, entry, {"headers": [host]})
    cookie = (b"cookie", response.headers["set-cookie"].partition(";")[0].encode())
    os.utime(tmp_path / SECRET_FILE, (1, 1))
    with no_descriptor_free():
        assert guard.sessions.identity({"headers": [host, cookie]}) is None
    assert guard.sessions.identity({"headers": [host, cookie]}) is not None
