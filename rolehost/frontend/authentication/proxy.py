"""Identity headers of a proxy that authenticates in front of us: believed from listed addresses, else ignored."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers

from rolehost.frontend.authentication.identity import NOBODY, Identity
from rolehost.frontend.authentication.settings import AZURE, AuthenticationSettings, role_of

if TYPE_CHECKING:
    from starlette.types import Scope

PRINCIPAL = "x-ms-client-principal"
LONGEST = 16 * 1024


class TrustedProxy:
    """Reads who a client is from the headers of a proxy.

    Args:
        settings: the proxy's addresses, and which headers it sends.
    """

    def __init__(self, settings: AuthenticationSettings) -> None:
        self._settings = settings
        self._headers = () if settings.proxy_identity == AZURE else tuple(settings.proxy_identity.lower().split(", "))

    def identity(self, scope: Scope) -> Identity | None:
        """Who the proxy says that the client is; None where it says nothing, or is none of ours."""
        if not self._is_listed(str((scope.get("client") or ("",))[0])):
            return None
        headers = Headers(scope=scope)
        found = self._plain(headers) if self._headers else _principal(headers)
        if found is None:
            return None
        name, roles = found
        return Identity(name=name, role=role_of(roles, self._settings.role_names) or NOBODY.role, how="proxy")

    def _is_listed(self, address: str) -> bool:
        try:
            peer = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._settings.proxies)

    def _plain(self, headers: Headers) -> tuple[str, list[str]] | None:
        name, roles = (_only(headers, header) for header in self._headers)
        return (name[:200], [word.strip() for word in (roles or "").split(",") if word.strip()]) if name else None


def _only(headers: Headers, name: str) -> str | None:
    """A header's value; one that is there twice may be half of it from elsewhere."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 and len(values[0]) <= LONGEST else None


def _principal(headers: Headers) -> tuple[str, list[str]] | None:
    """The name and the roles of Azure's X-MS-CLIENT-PRINCIPAL, as App Service and Container Apps send it."""
    text = _only(headers, PRINCIPAL)
    if not text:
        return None
    try:
        told: dict[str, Any] = json.loads(b64decode(text, validate=True))
        claims = [(str(claim["typ"]), str(claim["val"])) for claim in told["claims"]]
        name_type, role_type = str(told.get("name_typ")), str(told.get("role_typ"))
    except (binascii.Error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    names = [value for kind, value in claims if kind == name_type] or [value for kind, value in claims if kind == "sub"]
    roles = [value for kind, value in claims if kind in {role_type, "roles"}]
    return (names[0] if names else "unnamed")[:200], roles
