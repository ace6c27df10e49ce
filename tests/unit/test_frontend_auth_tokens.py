"""Bearer tokens: signed by real keys, checked over real HTTP, with the issuer's keys from a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication import tokens
from rolehost.frontend.authentication.identity import Identity, KeysUnavailableError, Permission, RefusedTokenError
from rolehost.frontend.authentication.tokens import Tokens
from support.authentication import ANY_HOST, bearer, guard_of, settings_of
from support.front_end import front_end

ISSUER, AUDIENCE = "https://login.example/tenant", "api://rolehost"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SECRET = b"a secret of at least thirty-two bytes"


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 600, "nbf": now - 5, "roles": ["submit"]}
    return {name: value for name, value in (usual | changed).items() if value is not None}


def signed(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid} if kid else {})


def by_hand(header: dict[str, Any], secret: bytes | None = None, **changed: Any) -> str:
    """A token as no library would make it."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims(**changed))]
    body = b".".join(parts)
    mark = hmac.digest(secret, body, hashlib.sha256) if secret else b""
    return (body + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()


def judge(tmp_path: Path, content: bytes, **given: str) -> Tokens:
    path = tmp_path / "issuer-key"
    path.write_bytes(content)
    return Tokens(settings_of({"JwtIssuer": ISSUER, "JwtAudience": AUDIENCE, "JwtKeyFile": str(path)} | given))


@dataclass
class Issuer:
    """Publishes keys, as often as it is asked."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    answer: Callable[[str], bytes] | None = None

    def publish(self, *kids: str, key: rsa.RSAPrivateKey = RSA_KEY, **facts: Any) -> None:
        public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
        self.keys = [public | {"kid": kid, "use": "sig"} | facts for kid in kids]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = json.dumps({"keys": self.keys})
        usual = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        writer.write(self.answer(body) if self.answer else usual)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    try:
        yield found
    finally:
        server.close()
        await server.wait_closed()


def published(found: Issuer, **given: str) -> Tokens:
    return Tokens(settings_of({"JwtIssuer": ISSUER, "JwtAudience": AUDIENCE, "JwtJwksUrl": found.url} | given))


@pytest.mark.parametrize(
    ("key", "algorithm", "content"),
    [
        (RSA_KEY, "RS256", pem(RSA_KEY)),
        (RSA_KEY, "PS512", pem(RSA_KEY)),
        (EC_KEY, "ES256", pem(EC_KEY)),
        (SECRET, "HS256", SECRET + b"\n"),
    ],
)
async def test_good_tokens_are_accepted(tmp_path: Path, key: Any, algorithm: str, content: bytes) -> None:
    found = await judge(tmp_path, content).identity(signed(key, algorithm))
    assert found == Identity(name="ada", role=Permission.SUBMIT, how="token")


BAD = {
    "expired": lambda: signed(exp=int(time.time()) - 61),
    "without exp": lambda: signed(exp=None),
    "not yet": lambda: signed(nbf=int(time.time()) + 90),
    "other audience": lambda: signed(aud="api://other"),
    "without audience": lambda: signed(aud=None),
    "other issuer": lambda: signed(iss="https://evil.example"),
    "without issuer": lambda: signed(iss=None),
    "other key": lambda: signed(OTHER_KEY),
    "none": lambda: by_hand({"alg": "none"}),
    "None": lambda: by_hand({"alg": "None", "typ": "JWT"}),
    "public key as a secret": lambda: by_hand({"alg": "HS256"}, pem(RSA_KEY)),
    "public key as a secret, stripped": lambda: by_hand({"alg": "HS256"}, pem(RSA_KEY).strip()),
    "another algorithm": lambda: signed(EC_KEY, "ES256"),
    "its own key": lambda: by_hand(
        {"alg": "HS256", "jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode()}}, SECRET
    ),
    "no token": lambda: "a.b.c",
    "nothing in it": lambda: "..",
    "nested": lambda: base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.",
    "not ASCII": lambda: "é.é.é",
    "too long": lambda: signed(filler="x" * 20_000),
    "altered": lambda: signed()[:-6] + "AAAAAA",
}


@pytest.mark.parametrize("made", BAD.values(), ids=BAD.keys())
async def test_bad_tokens_are_refused(tmp_path: Path, made: Callable[[], str]) -> None:
    with pytest.raises(RefusedTokenError):
        await judge(tmp_path, pem(RSA_KEY)).identity(made())


async def test_the_clocks_may_differ_a_little(tmp_path: Path) -> None:
    now = int(time.time())
    assert (await judge(tmp_path, pem(RSA_KEY)).identity(signed(exp=now - 30, nbf=now + 30))).name == "ada"
    with pytest.raises(RefusedTokenError):
        await judge(tmp_path, pem(RSA_KEY), JwtLeewaySeconds="0").identity(signed(exp=now - 30))


@pytest.mark.parametrize(
    ("given", "changed", "role"),
    [
        ({}, {"roles": ["read", "operate", "other"]}, Permission.OPERATE),
        ({}, {"roles": []}, Permission.OPEN),
        ({}, {"roles": {"submit": True}}, Permission.OPEN),
        ({"JwtRolesClaim": "scp"}, {"scp": "read submit openid"}, Permission.SUBMIT),
        ({"JwtRolesClaim": "realm_access.roles"}, {"realm_access": {"roles": ["operate"]}}, Permission.OPERATE),
        ({"JwtRolesClaim": "https://x.example/roles"}, {"https://x.example/roles": ["read"]}, Permission.READ),
        ({"RoleNames": "operate=Admins, submit=Staff"}, {"roles": ["Staff"]}, Permission.SUBMIT),
        ({"RoleNames": "operate=Admins"}, {"roles": ["operate"]}, Permission.OPEN),
        ({"RoleNames": "read=*, operate=Admins"}, {"roles": None}, Permission.READ),
        ({"JwtNameClaim": "preferred_username"}, {"preferred_username": "ada"}, Permission.SUBMIT),
    ],
)
async def test_roles_come_from_a_claim(
    tmp_path: Path, given: dict[str, str], changed: dict[str, Any], role: Permission
) -> None:
    found = await judge(tmp_path, pem(RSA_KEY), **given).identity(signed(**changed))
    assert (found.name, found.role) == ("ada", role)


async def test_keys_are_looked_up_once_and_again_for_a_new_one_at_a_limited_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    async with issuer() as found:
        found.publish("first")
        judging = published(found)
        monkeypatch.setattr("rolehost.frontend.authentication.tokens.clock.monotonic", lambda: now)
        await asyncio.gather(*(judging.identity(signed(kid="first")) for _ in range(20)))
        assert found.asked == 1
        for number in range(50):
            with pytest.raises(RefusedTokenError):
                await judging.identity(signed(kid=f"../../{number}"))
        assert found.asked == 1, "whatever tokens name, the issuer is not asked for each"
        found.publish("second", key=OTHER_KEY)
        now += tokens.LEAST_BETWEEN
        assert (await judging.identity(signed(OTHER_KEY, kid="second"))).name == "ada"
        with pytest.raises(RefusedTokenError):
            await judging.identity(signed(kid="first"))
        assert found.asked == 2
        found.answer = lambda _: b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        now += tokens.FRESH_SECONDS
        assert (await judging.identity(signed(OTHER_KEY, kid="second"))).name == "ada", "old keys are better than none"
        assert found.asked == 3


async def test_a_token_without_kid_fits_an_issuer_with_one_key() -> None:
    async with issuer() as found:
        found.publish("only")
        assert (await published(found).identity(signed())).name == "ada"
        found.publish("one", "two")
        with pytest.raises(RefusedTokenError):
            await published(found).identity(signed())


@pytest.mark.parametrize("facts", [{"use": "enc"}, {"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "n": "!"}])
async def test_keys_for_other_uses_sign_nothing(facts: dict[str, Any]) -> None:
    async with issuer() as found:
        found.publish("first", **facts)
        with pytest.raises(RefusedTokenError):
            await published(found).identity(signed(kid="first"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 400_000,
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"[" * 9000,
        lambda _: b"",
    ],
    ids=["endless", "list", "no JSON", "nested", "nothing"],
)
async def test_an_issuer_that_answers_nonsense_is_no_reason_to_refuse_or_accept(answer: Callable[[str], bytes]) -> None:
    async with issuer() as found:
        found.answer = answer
        with pytest.raises(KeysUnavailableError):
            await published(found).identity(signed(kid="first"))


async def test_an_issuer_leads_nowhere_else() -> None:
    """Whoever can answer once in its place, could else name where the keys are from then on."""
    async with issuer() as found, issuer() as other:
        other.publish("first")
        found.answer = lambda _: f"HTTP/1.1 302 Found\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with pytest.raises(KeysUnavailableError):
            await published(found).identity(signed(kid="first"))
        assert (found.asked, other.asked) == (1, 0)


async def test_a_silent_issuer_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "FETCH_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        judging = published(Issuer(url=f"http://127.0.0.1:{silent.getsockname()[1]}/"))
        with pytest.raises(KeysUnavailableError):
            await judging.identity(signed(kid="first"))


async def test_tokens_over_http(tmp_path: Path) -> None:
    async with issuer() as found:
        found.publish("first")
        given = {"JwtIssuer": ISSUER, "JwtAudience": AUDIENCE, "JwtJwksUrl": found.url}
        async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(None, **given)) as site:
            answers = [
                (await site.client.get("/api/v1/jobs", headers=bearer(told))).status_code
                for told in (signed(kid="first"), signed(OTHER_KEY, kid="first"), by_hand({"alg": "none"}))
            ]
            assert answers == [200, 401, 401]
            nothing = await site.client.get("/api/v1/jobs", headers=bearer(signed(kid="first", roles=["other"])))
            assert nothing.status_code == 403
            assert "ada, as you are known here, has no role here" in nothing.json()["detail"]
            page = await site.client.get("/jobs", headers={"Accept": "text/html"})
            assert page.status_code == 401, "without keys there is nothing that a sign-in page could take"
            assert (await site.client.get("/sign-in")).status_code == 404


async def test_an_issuer_out_of_reach_is_503(tmp_path: Path) -> None:
    given = {"JwtIssuer": ISSUER, "JwtAudience": AUDIENCE, "JwtJwksUrl": "http://127.0.0.1:1/keys"}
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(None, **given)) as site:
        told = await site.client.get("/api/v1/jobs", headers=bearer(signed(kid="first")))
        assert (told.status_code, told.json()["type"]) == (503, "urn:rolehost:problem:issuer-unavailable")
        assert told.headers["Retry-After"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"JwtAudience": ""}, "needs Frontend.JwtAudience"),
        ({"JwtKeyFile": ""}, "needs one of"),
        ({"JwtJwksUrl": "https://login.example/keys"}, "needs one of"),
        ({"JwtAlgorithms": "HS256"}, "which the key is not for"),
        ({"JwtAlgorithms": "ES256"}, "which the key is not for"),
        ({"JwtAlgorithms": "none"}, "names 'none'"),
        ({"JwtJwksUrl": "http://login.example/keys"}, "https://"),
        ({"JwtJwksUrl": "file:///etc/passwd"}, "https://"),
        ({"JwtLeewaySeconds": "nan"}, "must be a number"),
        ({"JwtLeewaySeconds": "86400"}, "must be a number"),
        ({"RoleNames": "root=Admins"}, "ROLE=NAME"),
    ],
)
def test_settings_that_can_not_be_held_are_told(tmp_path: Path, given: dict[str, str], told: str) -> None:
    with pytest.raises(RoleEnvironmentError, match=told):
        judge(tmp_path, pem(RSA_KEY), **given)


def test_files_that_hold_no_key_are_told(tmp_path: Path) -> None:
    private = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, told in (
        (b"short", "fewer than 32 bytes"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can't be used"),
        (private, "holds a private key"),
    ):
        with pytest.raises(RoleEnvironmentError, match=told):
            judge(tmp_path, content)
