"""Sessions of the sign-in page: a signed cookie that names the key it was exchanged for, and never holds it.

Nothing is kept on our side but the secret that signs. A session ends when its time is over, when its key is removed, or
when the secret is replaced: that ends all of them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.identity import Identity
from rolehost.frontend.authentication.keys import PRIVATE, file_state
from rolehost.frontend.hosts import name_of
from rolehost.frontend.loopback import is_loopback
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

    from rolehost.frontend.authentication.keys import ApiKey, KeyRing

SECRET_FILE = "session-secret"  # noqa: S105 - the name of a file
LEAST_SECRET = 32
SALT = "rolehost.session"


class Sessions:
    """Makes and reads the cookies.

    Args:
        ring: the keys that are accepted now.
        hours: how long a session lasts.
        path: the file with the secret; None: a secret that lasts as long as this process.
        made: make the file where there is none; else that is an error.

    Raises:
        RoleEnvironmentError: there is no secret where one was named, or it is too short.
    """

    def __init__(self, ring: KeyRing, *, hours: float, path: Path | None, made: bool) -> None:
        self._ring = ring
        self._path = path
        self._made = made
        self.seconds = round(hours * 3600)
        self._seen = file_state(path)
        self._serializer = self._read()
        self._trouble = ""

    def start(self, response: Response, key: ApiKey, scope: Scope) -> None:
        """Sign a browser in."""
        name, secure = _cookie(Headers(scope=scope).get("host", ""))
        value = self._signer().dumps([key.name, key.fingerprint])
        response.set_cookie(name, value, max_age=self.seconds, path="/", secure=secure, httponly=True, samesite="lax")

    def end(self, response: Response, scope: Scope) -> None:
        """Sign a browser out."""
        name, secure = _cookie(Headers(scope=scope).get("host", ""))
        response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")

    def identity(self, scope: Scope) -> Identity | None:
        """Who a request's cookie was made for, as far as that is still good."""
        headers = Headers(scope=scope)
        name, _ = _cookie(headers.get("host", ""))
        values = [cookie_parser(line).get(name) for line in headers.getlist("cookie")]
        for value in filter(None, values):
            with suppress(BadSignature, ValueError, TypeError):
                told: Any = self._signer().loads(value, max_age=self.seconds)
                key = self._ring.named(*map(str, told))
                return Identity(name=key.name, role=key.role, how="session") if key else None
        return None

    def _signer(self) -> URLSafeTimedSerializer:
        """The one with the secret of now: another file is another secret; without one no cookie is good."""
        if file_state(self._path) != self._seen or self._trouble:
            try:
                self._serializer = self._read()
                self._trouble = ""
            except RoleEnvironmentError as error:
                if self._trouble != (trouble := str(error)):
                    emit("sessions.secret_unreadable", reason=trouble)
                self._trouble = trouble
                self._serializer = _serializer(secrets.token_bytes(LEAST_SECRET))
            self._seen = file_state(self._path)
        return self._serializer

    def _read(self) -> URLSafeTimedSerializer:
        if self._path is None:
            return _serializer(secrets.token_bytes(LEAST_SECRET))
        try:
            if self._made:
                _make(self._path)
            secret = self._path.read_bytes().strip()
        except OSError as error:
            raise RoleEnvironmentError(f"the secret that signs sessions can't be had: {error}") from error
        if len(secret) < LEAST_SECRET:
            raise RoleEnvironmentError(f"the secret in {self._path} has fewer than {LEAST_SECRET} bytes")
        self._seen = file_state(self._path)
        return _serializer(secret)


def _serializer(secret: bytes) -> URLSafeTimedSerializer:
    how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeTimedSerializer(secret, salt=SALT, signer_kwargs=how)


def _make(path: Path) -> None:
    """A fresh secret where there is none; of several processes the first one's counts."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def is_at_home(host: str) -> bool:
    """Whether a request was sent to a name of the loopback: nobody listens in between."""
    return is_loopback(name_of(host))


def _cookie(host: str) -> tuple[str, bool]:
    """The cookie's name, and whether it travels over TLS only.

    Cookies do not tell ports apart: on a developer's machine each service has a name of its own. Elsewhere the prefix
    makes browsers refuse a cookie of this name that another host of the domain, or a page without TLS, has set.
    """
    if is_at_home(host):
        return f"rolehost-{host.rpartition(':')[2] if host[-1:].isdigit() else 80}", False
    return "__Host-rolehost", True
