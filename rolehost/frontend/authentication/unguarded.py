"""A front end that would answer anybody: known before it starts, without the web framework."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.frontend.authentication import settings as names
from rolehost.frontend.authentication.keys import FILE, KeyRing

if TYPE_CHECKING:
    from rolehost.frontend.authentication.settings import AuthenticationSettings


def keys_file(settings: AuthenticationSettings, data: Path | None) -> Path | None:
    """The file with the keys that go by these settings, made or not; None without a data directory."""
    if settings.keys_file:
        return Path(settings.keys_file)
    return data / FILE if data else None


def is_unguarded(settings: AuthenticationSettings, data: Path | None) -> bool:
    """Whether nobody could be known by these settings, and the keys in the data directory.

    Raises:
        RoleEnvironmentError: the keys can't be read.
    """
    asked = [settings.keys, settings.keys_file, settings.issuer, settings.proxies]
    return not any(asked) and not KeyRing((), keys_file(settings, data))


def unguarded(address: str) -> str:
    """Why the front end does not start there."""
    return (
        f"the front end would answer anybody who reaches {address}: make a key by `rolehost key new NAME`, or set "
        f"{names.API_KEYS}, {names.KEYS_FILE}, {names.JWT_ISSUER} or {names.TRUSTED_PROXIES}; "
        "on a loopback address it needs none of them (docs/security.md)"
    )
