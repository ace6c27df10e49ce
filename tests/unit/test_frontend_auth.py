"""Who may do what: API keys over real HTTP, every route with its permission, and what is refused before it is read."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.app import routes
from rolehost.frontend.attempts import Attempts
from rolehost.frontend.authentication.identity import Identity, Permission, acting
from rolehost.frontend.authentication.keys import FILE, KeyRing, hashed, is_key, make_key, parse_keys
from rolehost.frontend.authentication.permissions import declared, every_route, needs
from rolehost.frontend.settings import FrontendSettings
from rolehost.telemetry import subscribe
from support.authentication import ANY_HOST, add_key, bearer, guard_of, key_of_each_role, remove_key
from support.descriptors import no_descriptor_free
from support.front_end import FrontEnd, Seed, front_end, picture, seed_all, until

HOOK = "/api/v1/hooks/{name}"  # whoever calls it proves to be the one that the hook names
OPEN = {"/healthz", "/readyz", "/sign-in", "/sign-out", "/static", HOOK}
READ, SUBMIT, OPERATE = Permission.READ, Permission.SUBMIT, Permission.OPERATE
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def all_routes() -> list[tuple[str, str, Permission | None]]:
    """Method, path and permission of whatever is answered."""
    found = []
    for route in every_route(routes(FrontendSettings()).router.routes):
        endpoint: Any = getattr(route, "endpoint", None) or getattr(route, "app", None)
        methods = sorted(set(route.methods or ()) - {"HEAD"}) if isinstance(route, Route) else ["GET"]
        found += [(method, getattr(route, "path", "?"), declared(endpoint)) for method in methods]
    return found


def test_every_route_declares_its_permission() -> None:
    found = all_routes()
    assert len(found) > 20, "the routes were not found"
    assert [f"{method} {path}" for method, path, permission in found if permission is None] == []
    assert {path for _, path, permission in found if permission is Permission.OPEN} == OPEN
    changing = [(method, path, permission) for method, path, permission in found if method != "GET"]
    weak = [(m, p) for m, p, permission in changing if permission not in {SUBMIT, OPERATE} and p not in OPEN]
    assert weak == [], "whoever may only look must not be able to change anything"
    assert {path for _, path, permission in changing if permission is SUBMIT} == {
        *("/jobs", "/api/v1/jobs"),
        *("/api/v1/batches", "/api/v1/batches/{batch_id}/jobs", "/api/v1/batches/{batch_id}/seal"),
    }


async def test_every_route_is_closed_to_who_says_nothing_or_too_little(tmp_path: Path) -> None:
    keys = key_of_each_role(tmp_path / "data")
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        for method, path, permission in all_routes():
            address = re.sub(r"\{[^}]*\}", UNKNOWN, path)
            if permission is Permission.OPEN or permission is None:
                continue
            told = await site.client.request(method, address)
            assert (told.status_code, told.headers["WWW-Authenticate"]) == (401, 'Bearer realm="rolehost"'), path
            for role, key in keys.items():
                told = await site.client.request(method, address, headers=bearer(key))
                assert (told.status_code == 403) is not role.holds(permission), (method, path, role, told.text)
                assert told.status_code not in {401, 500}, (method, path, role)


async def test_what_needs_no_key(tmp_path: Path) -> None:
    keys = key_of_each_role(tmp_path / "data")
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        for path in ("/healthz", "/readyz", "/static/style.css", "/sign-in"):
            assert (await site.client.get(path)).status_code == 200
        assert (await site.client.get("/healthz", headers=bearer("wrong"))).status_code == 200
        for headers, nothing, method in (({}, 401, 401), (bearer(keys[READ]), 404, 405)):
            assert (await site.client.get("/nothing", headers=headers)).status_code == nothing
            assert (await site.client.put("/api/v1/jobs", headers=headers)).status_code == method
        assert (await site.client.head("/api/v1/jobs", headers=bearer(keys[READ]))).status_code == 200


async def test_an_endpoint_holds_its_permission_itself_too() -> None:
    """Should the look-up of routes ever miss one, the request is still refused."""

    @needs(OPERATE)
    async def act() -> str:
        return "done"

    for role in (Permission.OPEN, READ, SUBMIT):
        with acting(Identity(name="", role=role, how="key")), pytest.raises(HTTPException) as raised:
            await act()
        assert raised.value.status_code == 403
    with acting(Identity(name="", role=OPERATE, how="key")):
        assert await act() == "done"


async def test_each_role_does_what_it_may(tmp_path: Path) -> None:
    keys = key_of_each_role(tmp_path / "data")
    files = {"file": ("a.png", picture(), "image/png")}
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        refused = await site.client.post("/api/v1/jobs", files=files, headers=bearer(keys[READ]))
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json() == {
            "type": "urn:rolehost:problem:not-permitted",
            "title": "Forbidden",
            "status": 403,
            "detail": "This needs the role submit; read, as you are known here, has the role read.",
            "instance": "/api/v1/jobs",
        }
        made = await site.client.post("/api/v1/jobs", files=files, headers=bearer(keys[SUBMIT]))
        assert made.status_code == 202
        cancel = f"{made.headers['Location']}/cancel"
        assert (await site.client.post(cancel, headers=bearer(keys[SUBMIT]))).status_code == 403
        assert (await site.client.get(made.headers["Location"], headers=bearer(keys[READ]))).json()["state"] == "queued"
        assert (await site.client.post(cancel, headers=bearer(keys[OPERATE]))).json()["state"] == "cancelled"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Basic cm9sZWhvc3Q6eA=="},
        {"Authorization": f"Bearer {make_key()}"},
        {"Authorization": "Bearer a.b.c"},
        {"X-Forwarded-User": "root", "X-MS-CLIENT-PRINCIPAL": "e30="},
    ],
    ids=["empty", "basic", "unknown", "token", "forged"],
)
async def test_wrong_credentials_are_401(tmp_path: Path, headers: dict[str, str]) -> None:
    key = add_key(tmp_path / "data", "one", OPERATE)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        told = await site.client.get("/api/v1/jobs", headers=headers)
        assert told.status_code == 401
        assert told.headers["WWW-Authenticate"].startswith("Bearer ")
        assert told.json()["type"] == "urn:rolehost:problem:not-authenticated"
        twice = [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]
        assert (await site.client.get("/api/v1/jobs", headers=twice)).status_code == 401
        assert (await site.client.get(f"/api/v1/jobs?key={key}&access_token={key}")).status_code == 401
        assert (await site.client.get("/api/v1/jobs", headers={"authorization": f"bearer {key}"})).status_code == 200


async def test_an_upload_without_a_key_is_not_read(tmp_path: Path) -> None:
    """The client would send for ever: what it could get rid of before the answer came says how much was read."""
    add_key(tmp_path / "data", "one", OPERATE)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(
            b"POST /api/v1/jobs HTTP/1.1\r\nHost: photos.example\r\nContent-Length: 60000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture()
        )
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in head.lower()
        assert site.spooled() == []


async def test_a_flood_of_wrong_keys_is_429_and_holds_up_no_good_one(tmp_path: Path) -> None:
    key = add_key(tmp_path / "data", "one", READ)
    events: list[str] = []
    unsubscribe = subscribe(lambda event, _: events.append(event))
    try:
        async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
            answers = [await site.client.get("/api/v1/jobs", headers=bearer(make_key())) for _ in range(60)]
            good = await site.client.get("/api/v1/jobs", headers=bearer(key))
    finally:
        unsubscribe()
    statuses = [answer.status_code for answer in answers]
    assert statuses[:20] == [401] * 20
    assert statuses[-1] == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert good.status_code == 200
    assert events.count("auth.refused") == statuses.count(401) < 60, "a flood of requests is no flood of log lines"


def test_failures_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("rolehost.clock.monotonic", lambda: now)
    attempts = Attempts(allowed=2, seconds_each=10, most=50)
    assert [attempts.failed("192.0.2.1") for _ in range(3)] == [0, 0, 10]
    assert attempts.failed("192.0.2.2") == 0
    now += 10
    assert (attempts.failed("192.0.2.1"), attempts.failed("192.0.2.1") > 0) == (0, True)
    assert [attempts.failed(f"2001:db8::{number}") > 0 for number in range(3)] == [False, False, True], "one /64"
    for number in range(500):
        attempts.failed(f"10.0.{number // 250}.{number % 250}")
    assert len(attempts._used) == 50


async def test_keys_of_the_file_count_at_once_in_both_directions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = add_key(data, "first", READ)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        second = add_key(data, "second", READ)
        assert await status(site, second) == 200
        remove_key(data, "first")
        assert await status(site, first) == 401
        (data / FILE).write_text("what is this\n")
        assert await status(site, second) == 401, "a file that can't be read lets nobody in"
        (data / FILE).unlink()
        assert await status(site, second) == 401


def test_a_file_that_could_not_be_read_for_a_moment_counts_again(tmp_path: Path) -> None:
    """A process without a free descriptor reads nothing; nobody has to touch the file afterwards."""
    ring = KeyRing((), tmp_path / FILE)
    told: list[str] = []
    forget = subscribe(lambda event, _: told.append(event))
    key = add_key(tmp_path, "first", READ)
    with no_descriptor_free():
        assert [ring.find(key), ring.find(key)] == [None, None]
    assert ring.find(key) is not None
    forget()
    assert told == ["keys.unreadable", "keys.read"]


async def status(site: FrontEnd, key: str) -> int:
    return (await site.client.get("/api/v1/jobs", headers=bearer(key))).status_code


async def test_keys_of_a_setting(tmp_path: Path) -> None:
    key, other = make_key(), make_key()
    given = f"ci:submit:{hashed(key)}, ops:operate:{hashed(other)}"
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(None, ApiKeys=given)) as site:
        assert [await status(site, each) for each in (key, other, make_key())] == [200, 200, 401]


def test_a_key_that_a_person_made_up_is_none() -> None:
    """Whoever puts the hash of a weak word into the setting must not have opened the door to guessing."""
    ring = KeyRing(parse_keys(f"weak:operate:{hashed('password')}", "the setting"), None)
    assert ring.find("password") is None
    assert is_key(make_key())
    assert len({make_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("alice", "entry 1 of here is not NAME:ROLE:SHA256"),
        (f"a:read:{'0' * 64} b:root:{'0' * 64}", "entry 2 of here"),
        (f"a:read:{'0' * 63}", "entry 1"),
        (f"a:read:{'0' * 64}\na:read:{'1' * 64}", 'two keys with the name "a"'),
        ("rolehost_secret", "entry 1 of here is not"),
    ],
)
def test_what_is_no_entry_is_told_and_never_shown(text: str, told: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=told) as raised:
        parse_keys(text, "here")
    assert "secret" not in str(raised.value)


def test_comments_and_empty_lines_are_for_people() -> None:
    entry = f"a:read:{'0' * 64}"
    assert [key.name for key in parse_keys(f"# whose keys\n\n{entry} # old\n", "here")] == ["a"]


def test_a_file_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    add_key(tmp_path, "one", READ)
    (tmp_path / FILE).chmod(0o666)
    with pytest.raises(RoleEnvironmentError, match="chmod 600"):
        KeyRing((), tmp_path / FILE)


async def test_pages_show_no_button_that_a_role_may_not_press(tmp_path: Path) -> None:
    data = tmp_path / "data"
    keys = key_of_each_role(data)
    async with front_end(data, ANY_HOST, guard=guard_of(data)) as site:
        jobs = await seed_all(site.stores, tmp_path)
        running = (await Seed(site.stores, tmp_path).queued("wait.png")).id
        poisoned = jobs["poisoned"].id
        for role, key in keys.items():
            pages = {}
            for path in ("/", "/jobs", f"/jobs/{poisoned}", f"/jobs/{running}", "/poison", "/instances", "/api"):
                told = await site.client.get(path, headers=bearer(key), follow_redirects=True)
                assert told.status_code == 200, (path, role)
                pages[path] = told.text
            everything = "".join(pages.values())
            assert ("/replay" in everything.replace(pages["/api"], "")) is (role is OPERATE)
            assert ("/purge" in everything) is (role is OPERATE)
            assert (f'action="/jobs/{running}/cancel"' in everything) is (role is OPERATE)
            assert ("Make thumbnails" in pages["/"]) is (role is not READ)
            assert ("Submit pictures" in pages["/jobs"]) is (role is not READ)


async def test_the_document_of_the_api_says_how_clients_are_known(tmp_path: Path) -> None:
    key = add_key(tmp_path / "data", "one", READ)
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
        told = (await site.client.get("/api/v1/openapi.json", headers=bearer(key))).json()
    assert told["security"] == [{"bearer": []}]
    assert told["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    async with front_end(tmp_path / "other") as site:
        assert "security" not in (await site.client.get("/api/v1/openapi.json")).json()


async def test_what_is_done_is_told_with_who_did_it(tmp_path: Path) -> None:
    key = add_key(tmp_path / "data", "olga", OPERATE)
    told: list[dict[str, Any]] = []
    unsubscribe = subscribe(lambda event, facts: told.append(facts) if event == "auth.acting" else None)
    try:
        async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as site:
            await site.client.get("/api/v1/jobs", headers=bearer(key))
            await site.client.post(f"/api/v1/jobs/{UNKNOWN}/cancel", headers=bearer(key))
            await until(lambda: told)
    finally:
        unsubscribe()
    path = f"/api/v1/jobs/{UNKNOWN}/cancel"
    assert told == [{"who": "olga", "role": "operate", "how": "key", "method": "POST", "path": path}]
    assert key not in str(told)
