"""Texts of settings that say where requests may go: names, networks, schemes, ports, numbers."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, TypeAlias

from rolehost.errors import RoleEnvironmentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment

Network: TypeAlias = IPv4Network | IPv6Network
USUAL_PORTS: Mapping[str, int] = {"https": 443, "http": 80}
_LARGEST_PORT = 65535


def setting(environment: RoleEnvironment, name: str) -> str:
    """A setting without spaces around it; empty where it is not set."""
    try:
        return environment.get_configuration_setting_value(name).strip()
    except RoleEnvironmentError:
        return ""


def words(text: str) -> list[str]:
    """What stands between commas and spaces."""
    return text.replace(",", " ").split()


def names(text: str) -> tuple[str, ...]:
    """Names of hosts, in lower case."""
    return tuple(word.lower() for word in words(text))


def networks(name: str, text: str) -> tuple[Network, ...]:
    """Networks, or single addresses.

    Raises:
        RoleEnvironmentError: one is none.
    """
    try:
        return tuple(ip_network(word) for word in words(text))
    except ValueError as error:
        raise RoleEnvironmentError(f"the setting {name} names addresses or networks: {error}") from error


def schemes(name: str, text: str) -> frozenset[str]:
    """`https` where nothing is said.

    Raises:
        RoleEnvironmentError: one is neither https nor http.
    """
    found = frozenset(words(text.lower())) or frozenset({"https"})
    if unknown := sorted(found - USUAL_PORTS.keys()):
        raise RoleEnvironmentError(f"the setting {name} names https, http or both, not {unknown[0]!r}")
    return found


def ports(name: str, text: str, usual: frozenset[str]) -> frozenset[int]:
    """Ports; those of the schemes where nothing is said.

    Raises:
        RoleEnvironmentError: one is none.
    """
    found = words(text)
    if wrong := [word for word in found if not (word.isdecimal() and 0 < int(word) <= _LARGEST_PORT)]:
        raise RoleEnvironmentError(f"the setting {name} names ports, not {wrong[0]!r}")
    return frozenset(int(word) for word in found) or frozenset(USUAL_PORTS[scheme] for scheme in usual)


def number(name: str, text: str, *, most: float) -> float:
    """A number over 0.

    Raises:
        RoleEnvironmentError: it is none, or over the most.
    """
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= most:
        raise RoleEnvironmentError(f"the setting {name} must be a number over 0, and {most:g} at most, not {text!r}")
    return found
