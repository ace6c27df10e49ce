"""Where the front end starts at all, identity headers of a proxy, and the command that makes keys."""

from __future__ import annotations

import json
import os
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.authenticator import authenticator
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.keys import FILE, hashed, make_key, read_keys
from support.authentication import ANY_HOST, add_key, bearer, guard_of, settings_of
from support.commands import invoke
from support.front_end import front_end

ANYWHERE = "0.0.0.0:8080"
FAR = (ANYWHERE, "[::]:80", "10.1.2.3:80", "photos.example:443")
NEAR = ("127.0.0.1:8080", "127.8.0.3:1", "[::1]:80", "localhost:8080")


@pytest.mark.parametrize("address", FAR)
@pytest.mark.parametrize("other", NEAR[:1])
def test_beyond_the_loopback_it_does_not_start_without_authentication(tmp_path: Path, address: str, other: str) -> None:
    for addresses in ((address, other), (other, address), (address,)):
        with pytest.raises(RoleEnvironmentError) as raised:
            authenticator(settings_of({}), tmp_path, addresses=addresses)
        told = str(raised.value)
        assert address in told
        for word in ("rolehost key new", "Frontend.ApiKeys", "Frontend.KeysFile", "Frontend.JwtIssuer"):
            assert word in told


@pytest.mark.parametrize("address", NEAR)
def test_on_the_loopback_it_needs_none(tmp_path: Path, address: str) -> None:
    assert authenticator(settings_of({}), tmp_path, addresses=(address,)) is None
    assert authenticator(settings_of({}), None, addresses=(address,)) is None


def test_a_key_closes_the_loopback_too(tmp_path: Path) -> None:
    add_key(tmp_path, "one", Permission.READ)
    assert authenticator(settings_of({}), tmp_path, addresses=NEAR) is not None


def test_a_named_file_has_to_hold_a_key(tmp_path: Path) -> None:
    for content in (None, "# later\n"):
        if content:
            (tmp_path / "mounted").write_text(content)
            (tmp_path / "mounted").chmod(0o600)
        with pytest.raises(RoleEnvironmentError, match="holds no key"):
            authenticator(settings_of({"KeysFile": str(tmp_path / "mounted")}), None, addresses=NEAR)


def test_no_proxy_is_trusted_behind_the_host_s_own_load_balancer(tmp_path: Path) -> None:
    """To us every client then has the load balancer's address: whoever is trusted, all are."""
    given = settings_of({"TrustedProxies": "127.0.0.1"})
    with pytest.raises(RoleEnvironmentError, match="rolehost run"):
        authenticator(given, tmp_path, addresses=NEAR, relayed=True)
    assert authenticator(given, tmp_path, addresses=NEAR) is not None


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "proxy", "10.0.0.1/8"])
def test_proxies_are_addresses(text: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=r"Frontend\.TrustedProxies"):
        settings_of({"TrustedProxies": text})


def principal(*claims: tuple[str, str], **more: str) -> dict[str, str]:
    told = {"auth_typ": "aad", "claims": [{"typ": kind, "val": value} for kind, value in claims], **more}
    return {"X-MS-CLIENT-PRINCIPAL": b64encode(json.dumps(told).encode()).decode()}


NAME = ("preferred_username", "ada@example.org")
TYPES = {"name_typ": "preferred_username", "role_typ": "roles"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (principal(NAME, ("roles", "read"), **TYPES), 200),
        (principal(NAME, ("groups", "read"), name_typ="x", role_typ="groups"), 200),
        (principal(NAME, **TYPES), 403),
        ({"X-MS-CLIENT-PRINCIPAL": "%%%"}, 401),
        ({"X-MS-CLIENT-PRINCIPAL": b64encode(b'{"claims": 7}').decode()}, 401),
        ({"X-MS-CLIENT-PRINCIPAL": b64encode(b"[" * 5000).decode()}, 401),
        ({"X-MS-CLIENT-PRINCIPAL-NAME": "ada", "X-Forwarded-User": "ada"}, 401),
        ({}, 401),
    ],
)
async def test_a_listed_proxy_is_believed(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    guard = guard_of(None, TrustedProxies="127.0.0.0/8, 10.0.0.4")
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard) as site:
        assert (await site.client.get("/api/v1/jobs", headers=headers)).status_code == status


async def test_a_token_for_the_proxy_is_the_proxy_s_business(tmp_path: Path) -> None:
    """Azure's passes on what it was sent, too."""
    key = add_key(tmp_path / "data", "ci", Permission.OPERATE)
    guard = guard_of(tmp_path / "data", TrustedProxies="127.0.0.1")
    told = principal(NAME, ("roles", "read"), **TYPES)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard) as site:
        for headers, status in (
            (told | bearer("eyJ.a.token"), 403),
            (bearer("eyJ.a.token"), 401),
            (told | bearer(key), 415),
            (told | bearer(make_key()), 401),
        ):
            assert (await site.client.post("/api/v1/jobs", headers=headers)).status_code == status


async def test_others_are_not_believed(tmp_path: Path) -> None:
    guard = guard_of(None, TrustedProxies="10.0.0.4")
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard) as site:
        headers = principal(NAME, ("roles", "operate"), **TYPES)
        assert (await site.client.get("/api/v1/jobs", headers=headers)).status_code == 401


async def test_a_header_that_is_there_twice_is_not_believed(tmp_path: Path) -> None:
    guard = guard_of(None, TrustedProxies="127.0.0.1")
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard) as site:
        headers = [*principal(NAME, ("roles", "read"), **TYPES).items()] * 2
        assert (await site.client.get("/api/v1/jobs", headers=headers)).status_code == 401


async def test_plain_headers_of_a_proxy(tmp_path: Path) -> None:
    given = {"ProxyIdentity": "X-Forwarded-User, X-Forwarded-Groups", "RoleNames": "read=*, submit=staff"}
    guard = guard_of(None, TrustedProxies="127.0.0.1", **given)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard) as site:

        async def post(**headers: str) -> int:
            answer = await site.client.post("/api/v1/jobs", headers={f"X-Forwarded-{k}": v for k, v in headers.items()})
            return answer.status_code

        assert await post(User="ada", Groups="guests, staff") == 415, "let through, to a form that is none"
        assert await post(User="ada", Groups="guests") == 403
        assert await post(Groups="staff") == 401


def test_the_command_makes_lists_and_removes_keys(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = invoke("key", "new", "alice", "--role", "operate", "--data", data)
    key = made.stdout.strip()
    assert (made.exit_code, key.startswith("rolehost_")) == (0, True)
    path = data / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key not in path.read_text()
    assert [(each.name, each.role, each.sha256) for each in read_keys(path)] == [("alice", "operate", hashed(key))]
    assert invoke("key", "new", "bob", "--data", data).exit_code == 0
    listed: Any = json.loads(invoke("key", "list", "--data", data, "--json").stdout)
    assert [(each["name"], each["role"]) for each in listed["keys"]] == [("alice", "operate"), ("bob", "submit")]
    assert "alice  operate" in invoke("key", "list", "--data", data).stdout
    again = invoke("key", "new", "bob", "--data", data)
    assert (again.exit_code, again.stdout, "already" in again.stderr) == (1, "", True)
    assert invoke("key", "remove", "alice", "--data", data).exit_code == 0
    assert invoke("key", "remove", "alice", "--data", data).exit_code == 1
    assert [each.name for each in read_keys(path)] == ["bob"]
    nobody = invoke("key", "sign-out", "--data", data)
    assert (nobody.exit_code, "no session secret" in nobody.stderr) == (1, True)
    assert sorted(each.name for each in data.iterdir() if each.name.startswith(".")) == []


def test_a_first_start_makes_one_key_only(tmp_path: Path) -> None:
    asked = ("key", "new", "first", "--role", "operate", "--unless-any", "--data", tmp_path / "data")
    assert invoke(*asked).stdout.startswith("rolehost_")
    again = invoke(*asked)
    assert (again.exit_code, again.stdout) == (0, "")


def test_a_key_for_a_setting_is_stored_nowhere(tmp_path: Path) -> None:
    told = invoke("key", "new", "ci", "--print-only", "--data", tmp_path / "data").stdout.split()
    assert told[1] == f"ci:submit:{hashed(told[0])}"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "ä", "x" * 65, "a\nb"])
def test_names_that_would_break_the_file_are_refused(tmp_path: Path, name: str) -> None:
    assert invoke("key", "new", "--data", tmp_path / "data", "--", name).exit_code != 0
    assert not (tmp_path / "data" / FILE).exists()


def test_a_file_that_can_not_be_read_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("half an ent")
    told = invoke("key", "new", "one", "--data", tmp_path)
    assert (told.exit_code, told.stdout) == (1, "")
    assert (tmp_path / FILE).read_text() == "half an ent"


def test_the_file_belongs_to_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    """Root may make a key for a service that runs as another user."""
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path, owner, -1)
    assert invoke("key", "new", "one", "--data", tmp_path).exit_code == 0
    assert {(tmp_path / name).stat().st_uid for name in (FILE, f"{FILE}.lock")} == {owner}


def test_up_refuses_before_it_starts_anything(tmp_path: Path) -> None:
    told = invoke("up", "--host", "192.0.2.1", "--data", tmp_path / "data")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "the front end would answer anybody who reaches 192.0.2.1" in told.stderr
    assert not (tmp_path / "data").exists()
