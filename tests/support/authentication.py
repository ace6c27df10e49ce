"""Front ends that know their clients: keys, settings, and a client for each role."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rolehost.environment import RoleEnvironment
from rolehost.frontend.authentication.authenticator import Authenticator, authenticator
from rolehost.frontend.authentication.identity import ROLES, Permission
from rolehost.frontend.authentication.keys import FILE, ApiKey, changing_keys, hashed, make_key
from rolehost.frontend.authentication.settings import AuthenticationSettings
from rolehost.frontend.settings import FrontendSettings

ANY_HOST = FrontendSettings(allowed_hosts="*")


def settings_of(given: Mapping[str, str]) -> AuthenticationSettings:
    """Settings as a role environment gives them; names without `Frontend.`."""
    named = {f"Frontend.{name}": value for name, value in given.items()}
    return AuthenticationSettings.read(RoleEnvironment.for_testing(settings=named))


def guard_of(data: Path | None, **given: str) -> Authenticator:
    """The guard of a front end that others can reach."""
    found = authenticator(settings_of(given), data, addresses=("192.0.2.1:80",))
    assert found is not None
    return found


def add_key(data: Path, name: str, role: Permission) -> str:
    """A key in the data directory's file."""
    data.mkdir(exist_ok=True)
    key = make_key()
    with changing_keys(data / FILE) as known:
        known[name] = ApiKey(name, role, hashed(key))
    return key


def remove_key(data: Path, name: str) -> None:
    """Take a key away."""
    with changing_keys(data / FILE) as known:
        del known[name]


def key_of_each_role(data: Path) -> dict[Permission, str]:
    """Keys named after their roles."""
    return {role: add_key(data, str(role), role) for role in ROLES}


def bearer(told: str) -> dict[str, str]:
    """The header that carries a key or a token."""
    return {"Authorization": f"Bearer {told}"}
