"""Inbound hooks: who is believed, what of a message becomes a job, and that it does so once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost import clock
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.hook_mapping import MISSING, resolved
from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.sources import SourceSettings
from rolehost.service_model.hooks import Handshake, HookDeclaration, ProofKind
from rolehost.telemetry import subscribe
from support.authentication import add_key, guard_of
from support.front_end import FrontEnd, front_end, picture
from support.jobs import recorded

KEY = b"a secret of the tests, 32 bytes."
STANDARD = f"whsec_{base64.b64encode(KEY).decode()}"
PLAIN = "a plain secret of the tests"
URL = "https://pictures.example.org/a/photo.png?sig=swordfish"
JSON = {"Content-Type": "application/json"}
EVENT = {
    "id": "831e1650-001e-001b-66ab-eeb76e069631",
    "topic": "/subscriptions/s/resourceGroups/r/providers/Microsoft.Storage/storageAccounts/photos",
    "subject": "/blobServices/default/containers/rolehost/blobs/assets/photo.png",
    "eventType": "Microsoft.Storage.BlobCreated",
    "eventTime": "2026-11-21T08:05:11.4829130Z",
    "data": {"api": "PutBlob", "contentType": "image/png", "contentLength": 524288, "blobType": "BlockBlob"},
    "dataVersion": "",
    "metadataVersion": "1",
}
AFTER = "/blobServices/default/containers/rolehost/blobs/"
IN_STANDARD, IN_PLAIN, IN_BASIC, IN_UNSET = "Hooks.Standard", "Hooks.Plain", "Hooks.Basic", "Hooks.Unset"
SETTINGS = {IN_STANDARD: STANDARD, IN_PLAIN: PLAIN, IN_BASIC: f"user:{PLAIN}"}
USUAL: dict[str, Any] = {"kind": "thumbnail", "source_url": "/url"}
HOOKS = {
    "standard": HookDeclaration(
        **USUAL,
        proof=ProofKind.STANDARD_WEBHOOKS,
        secret_setting=IN_STANDARD,
        parameters={"size": "Custom", "height": "48"},
        parameters_from={"width": "/box/0/width", "format": "/format"},
    ),
    "github": HookDeclaration(
        **USUAL, proof=ProofKind.GITHUB, secret_setting=IN_PLAIN, when={"/action": ("published", "edited")}
    ),
    "plain": HookDeclaration(
        **USUAL, proof=ProofKind.HEADER, header="X-Rolehost", secret_setting=IN_PLAIN, key_header="X-Id"
    ),
    "basic": HookDeclaration(**USUAL, proof=ProofKind.BASIC, secret_setting=IN_BASIC, time="/at", most_bytes=500),
    "blobs": HookDeclaration(
        kind="thumbnail",
        source_blob="/subject",
        after=AFTER,
        key="/id",
        proof=ProofKind.HEADER,
        header="X-Rolehost",
        secret_setting=IN_PLAIN,
        handshake=Handshake.EVENT_GRID,
        when={"/eventType": ("Microsoft.Storage.BlobCreated",)},
    ),
    "clouds": HookDeclaration(
        kind="thumbnail",
        source_blob="/subject",
        after=AFTER,
        key="/id",
        proof=ProofKind.HEADER,
        header="X-Rolehost",
        secret_setting=IN_PLAIN,
        handshake=Handshake.CLOUD_EVENTS,
    ),
    "unset": HookDeclaration(**USUAL, proof=ProofKind.HEADER, header="X-Rolehost", secret_setting=IN_UNSET),
}
FRONTEND = FrontendSettings(
    hooks=HOOKS, hook_secrets=SETTINGS, sources=SourceSettings(hosts=("pictures.example.org",), blobs=("assets/",))
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path, FRONTEND) as site:
        await site.stores.blobs.put("assets/photo.png", picture())
        yield site


def standard(body: bytes, *, id: str = "msg_1", age: float = 0.0, key: bytes = KEY) -> dict[str, str]:  # noqa: A002 - theirs
    """Headers as Standard Webhooks wants them."""
    moment = str(int((clock.now() - timedelta(seconds=age)).timestamp()))
    signed = b".".join((id.encode(), moment.encode(), body))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": moment, "webhook-signature": f"v1a,xx v1,{signature}"}


def github(body: bytes, secret: str = PLAIN) -> dict[str, str]:
    """Headers as GitHub sends them."""
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": os.urandom(8).hex()}


def basic(told: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(told.encode()).decode()}"}


async def sent(site: FrontEnd, name: str, body: object, headers: Mapping[str, str]) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await site.client.post(f"/api/v1/hooks/{name}", content=content, headers={**JSON, **headers})


async def jobs(site: FrontEnd) -> int:
    return len((await site.jobs.list()).jobs)


BODY = json.dumps({"url": URL, "box": [{"width": 64}], "format": None, "more": 1}).encode()


async def test_a_signed_message_becomes_a_job_once(site: FrontEnd) -> None:
    headers = standard(BODY)
    answer = await sent(site, "standard", BODY, headers)
    assert answer.status_code == 202, answer.text
    (told,) = answer.json()["jobs"]
    job = await site.jobs.read(told["id"])
    assert job is not None
    assert (job.spec.source.url, job.spec.kind) == (URL, "thumbnail")
    assert (job.spec.parameters["width"], job.spec.parameters["height"]) == (64, 48)
    assert (await site.client.get(told["href"])).json()["id"] == job.id
    again = await sent(site, "standard", BODY, standard(BODY, age=60))
    assert again.json() == answer.json()
    other = await sent(site, "standard", BODY, standard(BODY, id="msg_2"))
    assert other.json() != answer.json()
    assert await jobs(site) == 2


async def test_what_is_not_signed_so_is_not_believed(site: FrontEnd) -> None:
    good = standard(BODY)
    wrong = [
        {},
        {name: value for name, value in good.items() if name != "webhook-timestamp"},
        good | {"webhook-id": "msg_other"},
        good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        good | {"webhook-timestamp": "now"},
        good | {"webhook-signature": "v1,"},
        good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        good | {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        standard(BODY, key=b"another secret, of 32 bytes too."),
        standard(BODY, age=400),
        standard(BODY, age=-400),
        standard(BODY + b" "),
        {"Authorization": f"Bearer {PLAIN}"},
    ]
    for headers in wrong:
        answer = await sent(site, "standard", BODY, headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:rolehost:problem:not-proved"), headers
        assert "www-authenticate" in answer.headers
    assert await jobs(site) == 0


async def test_githubs_signature_is_of_the_body_and_the_body_is_the_id(site: FrontEnd) -> None:
    """What is not signed, the delivery's own id too, can be changed by whoever repeats a message."""
    body = json.dumps({"action": "published", "url": URL}).encode()
    first = await sent(site, "github", body, github(body))
    assert first.status_code == 202, first.text
    assert (await sent(site, "github", body, github(body))).json() == first.json()
    for headers in (github(body + b" "), github(body, "another plain secret"), {"X-Hub-Signature-256": "sha256="}):
        assert (await sent(site, "github", body, headers)).status_code == 401
    assert await jobs(site) == 1


async def test_what_the_hook_is_not_for_is_passed_over(site: FrontEnd) -> None:
    for body in (b'{"zen": "Keep it logically awesome."}', b'{"action": "deleted"}', b'{"action": ["published"]}'):
        answer = await sent(site, "github", body, github(body))
        assert (answer.status_code, answer.content) == (204, b"")
    edited = json.dumps({"action": "edited", "url": URL}).encode()
    assert (await sent(site, "github", edited, github(edited))).status_code == 202
    assert await jobs(site) == 1


async def test_a_secret_in_a_header_is_looked_at_before_the_body(site: FrontEnd) -> None:
    good = {"X-Rolehost": PLAIN, "X-Id": "7"}
    first = await sent(site, "plain", {"url": URL}, good)
    assert first.status_code == 202, first.text
    assert (await sent(site, "plain", {"url": URL}, good)).json() == first.json()
    assert (await sent(site, "plain", {"url": URL}, {"X-Rolehost": PLAIN})).json()["errors"][0]["field"] == "X-Id"
    for headers in ({}, {"X-Rolehost": PLAIN[:-1]}, {"X-Rolehost": ""}, {"X-Rolehost": PLAIN + "x"}):
        assert (await sent(site, "plain", b"no JSON, and nobody looks", headers)).status_code == 401
    assert (await sent(site, "plain", b"no JSON", good)).status_code == 400
    assert await jobs(site) == 1


async def test_basic_authentication_is_the_hooks_own(site: FrontEnd) -> None:
    now = clock.iso(clock.now())
    good = basic(f"user:{PLAIN}")
    assert (await sent(site, "basic", {"url": URL, "at": now}, good)).status_code == 202
    for told in (f"other:{PLAIN}", "user:", f"user:{PLAIN}x"):
        assert (await sent(site, "basic", {"url": URL, "at": now}, basic(told))).status_code == 401
    assert (await sent(site, "basic", {"url": URL, "at": now}, {"Authorization": "Basic %%%"})).status_code == 401
    for at in ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00", "then", 7):
        answer = await sent(site, "basic", {"url": URL, "at": at}, good)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/at"), at
    assert (await sent(site, "basic", {"url": URL, "at": now, "x": "y" * 500}, good)).status_code == 413


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"url": "https://127.0.0.1/x"}, 422, "/url"),
        ({"url": "https://elsewhere.example.org/x"}, 422, "/url"),
        ({"url": ["https://pictures.example.org/"]}, 422, "/url"),
        ({"url": None}, 422, "/url"),
        ({"url": ""}, 422, "/url"),
        ({"source": URL}, 422, "/url"),
        ("text", 422, ""),
        ([], 422, ""),
        ([[]], 422, ""),
        ([{"url": URL}] * 101, 422, ""),
        (b"{", 400, ""),
        (b'{"url": NaN}', 400, ""),
    ],
)
async def test_a_message_that_can_not_be_mapped_is_refused(
    site: FrontEnd, body: object, status: int, field: str
) -> None:
    answer = await sent(site, "plain", body, {"X-Rolehost": PLAIN, "X-Id": "7"})
    assert answer.status_code == status, answer.text
    assert [each["field"] for each in answer.json().get("errors", [])] == ([field] if field else [])
    assert "swordfish" not in answer.text
    assert await jobs(site) == 0


async def test_an_event_of_event_grid_becomes_a_job(site: FrontEnd) -> None:
    headers = {"X-Rolehost": PLAIN, "aeg-event-type": "Notification"}
    deleted = EVENT | {"id": "2", "eventType": "Microsoft.Storage.BlobDeleted"}
    answer = await sent(site, "blobs", [EVENT, deleted], headers)
    assert answer.status_code == 202, answer.text
    (told,) = answer.json()["jobs"]
    job = await site.jobs.read(told["id"])
    assert job is not None
    assert (job.spec.source.blob, job.spec.source.type) == ("assets/photo.png", "image/png")
    assert (await sent(site, "blobs", [EVENT], headers)).json() == answer.json(), "delivered again, it is the same job"
    elsewhere = EVENT | {"id": "3", "subject": AFTER.replace("rolehost", "intruder") + "assets/photo.png"}
    await site.stores.blobs.put("results/x/1-y/photo.png", picture())
    ours = EVENT | {"id": "4", "subject": f"{AFTER}results/x/1-y/photo.png"}
    for event in (elsewhere, ours):
        refused = await sent(site, "blobs", [event], headers)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "/subject")
    assert await jobs(site) == 1


async def test_a_message_is_refused_as_a_whole(site: FrontEnd) -> None:
    gone = {**EVENT, "id": "gone", "subject": f"{AFTER}assets/none.png"}
    answer = await sent(site, "blobs", [EVENT, gone], {"X-Rolehost": PLAIN})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/subject")
    assert await jobs(site) == 0


async def test_event_grids_handshake_is_answered_and_proves_nothing(site: FrontEnd) -> None:
    event = {
        "id": "2d1781af-3a4c-4d7c-bd0c-e34b19da4e66",
        "topic": EVENT["topic"],
        "subject": "",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://x.example/"},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": "2026-11-21T08:05:11.4829130Z",
    }
    headers = {"aeg-event-type": "SubscriptionValidation"}
    answer = await sent(site, "blobs", [event], headers)
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"})
    assert (await sent(site, "plain", [event], headers)).status_code == 401, "only where the hook says so"
    for wrong in (EVENT, event | {"data": {"validationCode": "<script>"}}, event | {"data": {}}):
        assert (await sent(site, "blobs", [wrong], headers)).status_code == 422
    assert (await sent(site, "blobs", [event], {})).status_code == 401, "without its header it is an event like others"
    assert await jobs(site) == 0


async def test_cloudevents_ask_first_and_name_their_origin_with_each_event(site: FrontEnd) -> None:
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}
    answer = await site.client.request("OPTIONS", "/api/v1/hooks/clouds", headers=asked)
    assert answer.status_code == 200
    assert (answer.headers["webhook-allowed-origin"], answer.headers["allow"]) == (
        "eventgrid.azure.net",
        "POST, OPTIONS",
    )
    for name, headers in (("plain", asked), ("clouds", {}), ("clouds", {"WebHook-Request-Origin": "a b"})):
        answer = await site.client.request("OPTIONS", f"/api/v1/hooks/{name}", headers=headers)
        assert "webhook-allowed-origin" not in answer.headers
    event = {
        "specversion": "1.0",
        "type": "Microsoft.Storage.BlobCreated",
        "source": EVENT["topic"],
        "id": EVENT["id"],
        "time": EVENT["eventTime"],
        "subject": EVENT["subject"],
        "data": EVENT["data"],
    }
    headers = {"X-Rolehost": PLAIN, "Origin": "eventgrid.azure.net"}
    answer = await sent(site, "clouds", event, headers | {"Content-Type": "application/cloudevents+json"})
    assert answer.status_code == 202, answer.text


async def test_hooks_that_are_not_there_or_have_no_secret(site: FrontEnd) -> None:
    assert (await sent(site, "none", b"{}", {})).json()["type"] == "urn:rolehost:problem:unknown-hook"
    assert (await sent(site, "unset", b"{}", {"X-Rolehost": ""})).status_code == 503
    assert (await site.client.get("/api/v1/hooks/plain")).status_code == 405
    text = await site.client.post("/api/v1/hooks/plain", content=b"a=b", headers={"Content-Type": "text/plain"})
    assert text.status_code == 415
    assert await jobs(site) == 0


async def test_secrets_in_a_file_change_while_the_service_runs(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"# of the sender\n{PLAIN}\n")
    file.chmod(0o600)
    hook = replace(HOOKS["plain"], secret_setting="", secret_file=str(file), key_header="")
    async with front_end(tmp_path / "data", replace(FRONTEND, hooks={"plain": hook})) as site:
        assert (await sent(site, "plain", {"url": URL}, {"X-Rolehost": PLAIN})).status_code == 202
        file.write_text(f"{PLAIN}\nanother secret of the tests\n")
        other = {"X-Rolehost": "another secret of the tests"}
        assert (await sent(site, "plain", {"url": URL}, other)).status_code == 202
        file.write_text("another secret of the tests\n")
        assert (await sent(site, "plain", {"url": URL}, {"X-Rolehost": PLAIN})).status_code == 401
        for text, mode in (("short\n", 0o600), ("", 0o600), (f"{PLAIN}\n", 0o622)):
            file.write_text(text)
            file.chmod(mode)
            assert (await sent(site, "plain", {"url": URL}, {"X-Rolehost": PLAIN})).status_code == 503


async def test_a_hook_needs_no_key_of_the_api_and_gives_none(tmp_path: Path) -> None:
    add_key(tmp_path, "operator", Permission.OPERATE)
    facts: list[tuple[str, dict[str, Any]]] = []
    async with front_end(tmp_path, FRONTEND, guard=guard_of(tmp_path)) as site:
        body = {"url": URL, "at": clock.iso(clock.now())}
        with recorded(facts):
            assert (await sent(site, "standard", BODY, standard(BODY))).status_code == 202
            assert (await sent(site, "basic", body, basic(f"user:{PLAIN}"))).status_code == 202
        assert "auth.refused" not in [name for name, _ in facts], "a hook's proof is no wrong key of the API"
        assert (await site.client.get("/api/v1/jobs")).status_code == 401
        assert (await site.client.post("/api/v1/jobs", headers=basic(f"user:{PLAIN}"))).status_code == 401


async def test_wrong_proofs_become_too_many_and_a_good_one_is_accepted_at_once(site: FrontEnd) -> None:
    codes = [(await sent(site, "standard", BODY, {})).status_code for _ in range(25)]
    assert codes[:20] == [401] * 20
    assert codes[-1] == 429
    assert (await sent(site, "standard", BODY, standard(BODY))).status_code == 202


async def test_no_secret_and_no_query_is_in_what_is_told(site: FrontEnd) -> None:
    facts: list[str] = []
    stop = subscribe(lambda event, told: facts.append(f"{event} {told}"))
    try:
        await sent(site, "plain", {"url": URL}, {"X-Rolehost": PLAIN, "X-Id": "7"})
        await sent(site, "plain", {"url": URL}, {"X-Rolehost": "a wrong secret of the tests"})
        await sent(site, "basic", {"url": URL}, basic("user:a wrong secret of the tests"))
    finally:
        stop()
    told = "\n".join(facts)
    assert "hook.received" in told
    assert "hook.refused" in told
    assert [word for word in (PLAIN, "wrong secret", "swordfish", STANDARD) if word in told] == []
    assert PLAIN not in repr(FRONTEND)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, "~1": 9, " ": 7, "k": None}),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 8),
        ("/~01", 9),
        ("/ ", 7),
        ("/k", None),
        ("/foo/00", MISSING),
        ("/foo/-", MISSING),
        ("/foo/2", MISSING),
        ("/foo/-1", MISSING),
        ("/foo/\u0661", MISSING),
        ("/foo/99999999999999999999", MISSING),
        ("/foo/0/0", MISSING),
        ("/bar", MISSING),
        ("/k/x", MISSING),
    ],
)
def test_a_place_is_found_as_rfc_6901_says(pointer: str, value: Any) -> None:
    document = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "m~n": 8, "~1": 9, " ": 7, "k": None}
    assert resolved(document, pointer) == value
