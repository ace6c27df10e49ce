"""How the sender of a hook's message proves itself: each secret is compared in constant time, and none is ever told."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import RoleEnvironmentError
from rolehost.service_model.hooks import HookDeclaration, ProofKind

if TYPE_CHECKING:
    from starlette.datastructures import Headers

SHORTEST = 16
"""Characters of a secret: a shorter one could be found by trying."""
STANDARD = "whsec_"
_MOST_SIGNATURES = 16
_WRITABLE_BY_OTHERS = 0o022
_LARGEST_FILE = 64 * 1024


class NotProvedError(Exception):
    """The sender is not known; why is for our log alone."""


async def secrets_of(hook: HookDeclaration, settings: Mapping[str, str]) -> list[bytes]:
    """The secrets that are good now; a file is read anew each time, so that they can be changed while the service runs.

    Raises:
        RoleEnvironmentError: there are none, or they can't be read.
    """
    if hook.secret_setting:
        text, origin = settings.get(hook.secret_setting, ""), f"the setting {hook.secret_setting}"
    else:
        text, origin = await asyncio.to_thread(_read, Path(hook.secret_file)), hook.secret_file
    lines = [line.strip() for line in text.splitlines()]
    found = [_secret(line, hook.proof, origin) for line in lines if line and not line.startswith("#")]
    if not found:
        raise RoleEnvironmentError(f"{origin} holds no secret")
    return found


def proves_by_header(hook: HookDeclaration) -> bool:
    """Whether the proof can be judged before anything of the body is read."""
    return hook.proof in {ProofKind.HEADER, ProofKind.BASIC}


def check_proof(hook: HookDeclaration, secrets: Sequence[bytes], headers: Headers, body: bytes) -> None:
    """Refuse a message whose sender is not known.

    Args:
        hook: says how he proves himself.
        secrets: those that are good.
        headers: of the request.
        body: as it came; of no interest where a header alone is the proof.

    Raises:
        NotProvedError: he doesn't.
    """
    _CHECKS[hook.proof](hook, secrets, headers, body)


def _header(hook: HookDeclaration, secrets: Sequence[bytes], headers: Headers, _body: bytes) -> None:
    given = headers.getlist(hook.header)
    if len(given) != 1 or not _is_one_of(given[0].strip().encode("latin-1", "replace"), secrets):
        raise NotProvedError("its header does not hold the secret")


def _basic(_hook: HookDeclaration, secrets: Sequence[bytes], headers: Headers, _body: bytes) -> None:
    given = headers.getlist("authorization")
    scheme, _, told = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    try:
        plain = base64.b64decode(told.strip(), validate=True)
    except (binascii.Error, ValueError):
        plain = b""
    if scheme.casefold() != "basic" or not _is_one_of(plain, secrets):
        raise NotProvedError("user and password are not those of the hook")


def _github(_hook: HookDeclaration, secrets: Sequence[bytes], headers: Headers, body: bytes) -> None:
    given = headers.getlist("x-hub-signature-256")
    made = [f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}".encode() for secret in secrets]
    if len(given) != 1 or not _is_one_of(given[0].strip().lower().encode("latin-1", "replace"), made):
        raise NotProvedError("its signature is not one of the hook's")


def _standard(hook: HookDeclaration, secrets: Sequence[bytes], headers: Headers, body: bytes) -> None:
    """Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp` and the body are signed together."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    if any(len(headers.getlist(name)) != 1 for name in names):
        raise NotProvedError("it carries no signature of Standard Webhooks")
    told, moment, signatures = (headers[name] for name in names)
    if not (moment.isascii() and moment.isdigit() and len(moment) <= len("1795248312000")):
        raise NotProvedError("its time is no number")
    signed = b".".join((told.encode("latin-1", "replace"), moment.encode(), body))
    made = [base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()) for secret in secrets]
    given = [each.partition(",") for each in signatures.split(" ")[:_MOST_SIGNATURES]]
    good = [_is_one_of(text.encode("latin-1", "replace"), made) for version, _, text in given if version == "v1"]
    if not any(good):
        raise NotProvedError("its signature is not one of the hook's")
    if abs(clock.now().timestamp() - int(moment)) > hook.tolerance_seconds:
        raise NotProvedError("it was signed too long ago, or its sender's clock is wrong")


_CHECKS: Mapping[ProofKind, Callable[[HookDeclaration, Sequence[bytes], Headers, bytes], None]] = {
    ProofKind.STANDARD_WEBHOOKS: _standard,
    ProofKind.GITHUB: _github,
    ProofKind.HEADER: _header,
    ProofKind.BASIC: _basic,
}


def _is_one_of(given: bytes, good: Sequence[bytes]) -> bool:
    """Whether it is one of them: all are compared, each in a time that tells nothing."""
    return any([hmac.compare_digest(given, each) for each in good])  # noqa: C419 - a generator would stop at the first


def _read(path: Path) -> str:
    try:
        found = path.stat()
        if found.st_mode & _WRITABLE_BY_OTHERS:
            raise RoleEnvironmentError(f"{path} can be written by others than its owner: chmod 600")
        if found.st_size > _LARGEST_FILE:
            raise RoleEnvironmentError(f"{path} is too large for a file of secrets")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RoleEnvironmentError(f"{path} can't be read: {error}") from error


def _secret(line: str, proof: ProofKind, origin: str) -> bytes:
    if proof is not ProofKind.STANDARD_WEBHOOKS:
        if len(line) < SHORTEST:
            raise RoleEnvironmentError(f"{origin} holds a secret of fewer than {SHORTEST} characters")
        return line.encode()
    try:
        key = base64.b64decode(line.removeprefix(STANDARD), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SHORTEST:
        raise RoleEnvironmentError(f"{origin} holds what is no secret of Standard Webhooks: {STANDARD} and Base64")
    return key
