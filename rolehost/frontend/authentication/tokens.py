"""Bearer tokens (JWT, RFC 7519): signed by a known issuer, meant for us, valid now.

What a token says about how to check it is never believed: the algorithms are pinned to the kind of the key that we
have, a `kid` only chooses among the keys that the issuer publishes, and `jku`, `x5u` and `jwk` are not looked at.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms

from rolehost import clock
from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication import settings as names
from rolehost.frontend.authentication.identity import NOBODY, Identity, KeysUnavailableError, RefusedTokenError
from rolehost.frontend.authentication.settings import (
    PUBLIC_KEY_ALGORITHMS,
    SECRET_ALGORITHMS,
    AuthenticationSettings,
    role_of,
)
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Mapping

FETCH_SECONDS = 5.0
LARGEST_SET = 256 * 1024
FRESH_SECONDS = 3600.0
"""So long published keys are used without looking again; those of an issuer that does not answer are kept longer."""
LEAST_BETWEEN = 30.0
"""Seconds between two looks, whatever tokens name."""
LEAST_SECRET = 32
LONGEST_TOKEN = 16 * 1024
_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading another's JSON may end in."""


class Tokens:
    """Judges tokens.

    Args:
        settings: whose tokens, and what they are checked with.

    Raises:
        RoleEnvironmentError: the settings don't go together, or the key can't be read.
    """

    def __init__(self, settings: AuthenticationSettings) -> None:
        if not settings.audience:
            raise RoleEnvironmentError(f"{names.JWT_ISSUER} needs {names.JWT_AUDIENCE}: whom the tokens are meant for")
        if bool(settings.jwks_url) == bool(settings.key_file):
            raise RoleEnvironmentError(
                f"{names.JWT_ISSUER} needs one of {names.JWT_JWKS_URL} and {names.JWT_KEY_FILE}, to check signatures"
            )
        self._settings = settings
        self._published = PublishedKeys(settings.jwks_url) if settings.jwks_url else None
        self._key: Any = None
        possible = PUBLIC_KEY_ALGORITHMS
        if settings.key_file:
            self._key, possible = _key_of_file(Path(settings.key_file))
        self._algorithms = sorted(settings.algorithms or possible)
        if wrong := set(self._algorithms) - possible:
            raise RoleEnvironmentError(
                f"{names.JWT_ALGORITHMS} names {', '.join(sorted(wrong))}, which the key is not for; "
                f"it is for {', '.join(sorted(possible))}"
            )

    async def identity(self, token: str) -> Identity:
        """Whose token it is.

        Raises:
            RefusedTokenError: it is not accepted.
            KeysUnavailableError: that can't be known now.
        """
        if len(token) > LONGEST_TOKEN:
            raise RefusedTokenError("it is too long")
        try:
            key = self._key if self._published is None else await self._published.key(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, *_NONSENSE) as error:
            raise RefusedTokenError(f"{type(error).__name__}: {error}") from error
        role = role_of(_words(_claim(claims, self._settings.roles_claim)), self._settings.role_names)
        name = _claim(claims, self._settings.name_claim) or claims.get("sub") or ""
        return Identity(name=str(name)[:200], role=role or NOBODY.role, how="token")


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the way into objects: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _words(claim: Any) -> list[str]:
    """A claim's words: a list, or one text with spaces between them, as `scp` has it."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _key_of_file(path: Path) -> tuple[Any, frozenset[str]]:
    """A key, and the algorithms that it is for: a public key never serves as a secret, whatever a token asks."""
    try:
        content = path.read_bytes().strip()
        if b"PRIVATE KEY" in content:
            raise RoleEnvironmentError(f"{path} holds a private key: the issuer's public key is all that we need")
        if not content.startswith(b"-----BEGIN"):
            if len(content) < LEAST_SECRET:
                raise RoleEnvironmentError(f"the secret in {path} has fewer than {LEAST_SECRET} bytes")
            return content, SECRET_ALGORITHMS
        key = load_pem_public_key(content)
    except (OSError, ValueError) as error:
        raise RoleEnvironmentError(f"{names.JWT_KEY_FILE} can't be used: {error}") from error
    fitting = frozenset(name for name in PUBLIC_KEY_ALGORITHMS if _fits(name, key))
    if not fitting:
        raise RoleEnvironmentError(f"{path} holds a key of no known kind")
    return key, fitting


def _fits(algorithm: str, key: Any) -> bool:
    try:
        known = get_default_algorithms()[algorithm]
        known.check_crypto_key_type(key)
        known.prepare_key(key)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return False
    return True


class PublishedKeys:
    """The keys at an issuer's address: kept for an hour, and looked at again for a `kid` that is not among them.

    Args:
        url: the address; https, or the loopback's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._looked_at: float | None = None
        self._looking = asyncio.Lock()

    async def key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        """The key that a token names.

        Raises:
            RefusedTokenError: the issuer publishes no such key.
            KeysUnavailableError: the issuer's keys were never had.
        """
        kid = str(header.get("kid", ""))
        if self._chosen(kid) is None or not self._fresh():
            async with self._looking:
                if (self._chosen(kid) is None or not self._fresh()) and self._may_look():
                    await self._look()
        if self._read_at is None:
            raise KeysUnavailableError
        if (key := self._chosen(kid)) is None:
            raise RefusedTokenError("its issuer publishes no key with its kid")
        return key

    def _chosen(self, kid: str) -> jwt.PyJWK | None:
        if kid:
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _fresh(self) -> bool:
        return self._read_at is not None and clock.monotonic() - self._read_at < FRESH_SECONDS

    def _may_look(self) -> bool:
        return self._looked_at is None or clock.monotonic() - self._looked_at >= LEAST_BETWEEN

    async def _look(self) -> None:
        self._looked_at = clock.monotonic()
        try:
            self._keys = _signing_keys(await _fetched(self._url))
            self._read_at = clock.monotonic()
        except (aiohttp.ClientError, OSError, TimeoutError, *_NONSENSE) as error:
            emit("auth.keys_unavailable", url=self._url, reason=str(error) or type(error).__name__)


async def _fetched(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status != 200:  # noqa: PLR2004 - what an answer with keys has
            raise ValueError(f"it answered {answer.status}")
        content = b""
        async for piece in answer.content.iter_chunked(16 * 1024):
            content += piece
            if len(content) > LARGEST_SET:
                raise ValueError("it sends more than a set of keys has")
        return content


def _signing_keys(content: bytes) -> dict[str, jwt.PyJWK]:
    """The public keys for signatures in a set; a secret has no business in one."""
    found: dict[str, jwt.PyJWK] = {}
    for number, facts in enumerate(json.loads(content)["keys"]):
        if facts.get("use", "sig") != "sig" or facts.get("kty") not in {"RSA", "EC", "OKP"}:
            continue
        try:
            found[str(facts.get("kid") or f"unnamed {number}")] = jwt.PyJWK(facts)
        except jwt.PyJWTError:
            continue  # of a kind that nobody here knows
    return found
