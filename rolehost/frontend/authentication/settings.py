"""How clients say who they are: the settings of it, each checked by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.identity import ROLES, Permission
from rolehost.frontend.authentication.keys import ApiKey, parse_keys
from rolehost.frontend.loopback import is_loopback

if TYPE_CHECKING:
    from rolehost.environment import RoleEnvironment

Network = IPv4Network | IPv6Network

API_KEYS = "Frontend.ApiKeys"
KEYS_FILE = "Frontend.KeysFile"
SESSION_SECRET_FILE = "Frontend.SessionSecretFile"  # noqa: S105 - the name of a setting
SESSION_HOURS = "Frontend.SessionHours"
JWT_ISSUER = "Frontend.JwtIssuer"
JWT_AUDIENCE = "Frontend.JwtAudience"
JWT_JWKS_URL = "Frontend.JwtJwksUrl"
JWT_KEY_FILE = "Frontend.JwtKeyFile"
JWT_ALGORITHMS = "Frontend.JwtAlgorithms"
JWT_LEEWAY = "Frontend.JwtLeewaySeconds"
JWT_ROLES_CLAIM = "Frontend.JwtRolesClaim"
JWT_NAME_CLAIM = "Frontend.JwtNameClaim"
ROLE_NAMES = "Frontend.RoleNames"
TRUSTED_PROXIES = "Frontend.TrustedProxies"
PROXY_IDENTITY = "Frontend.ProxyIdentity"
AZURE = "azure"

PUBLIC_KEY_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
SECRET_ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
MOST_LEEWAY = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationSettings:
    """The settings of authentication.

    Args:
        keys: API keys, as `NAME:ROLE:SHA256`.
        keys_file: a file of them; empty: `keys` in the data directory.
        session_secret_file: what signs the cookies of the sign-in page; empty: made in the data directory.
        session_hours: how long a sign-in lasts.
        issuer: of tokens; empty: none are accepted.
        audience: of tokens.
        jwks_url: where the issuer publishes its keys.
        key_file: the issuer's public key as PEM, or a secret of 32 bytes or more, in place of that address.
        algorithms: that tokens may be signed with; none: all that fit the key.
        leeway: seconds by which the issuer's clock may differ.
        roles_claim: the claim with the roles; dots lead into objects.
        name_claim: the claim with the name.
        role_names: what tokens and proxies call our roles.
        proxies: addresses whose word is taken for who a client is.
        proxy_identity: `azure` for X-MS-CLIENT-PRINCIPAL, or the names of two headers, for the name and for the roles.
    """

    keys: tuple[ApiKey, ...] = ()
    keys_file: str = ""
    session_secret_file: str = ""
    session_hours: float = 12.0
    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    key_file: str = ""
    algorithms: frozenset[str] = frozenset()
    leeway: float = 60.0
    roles_claim: str = "roles"
    name_claim: str = "sub"
    role_names: Mapping[str, Permission] = field(default_factory=lambda: {str(role): role for role in ROLES})
    proxies: tuple[Network, ...] = ()
    proxy_identity: str = AZURE

    @classmethod
    def read(cls, environment: RoleEnvironment) -> AuthenticationSettings:
        """The settings of a role environment.

        Raises:
            RoleEnvironmentError: a value can't be what it is meant to be.
        """
        usual = cls()

        def text(name: str, default: str = "") -> str:
            try:
                return environment.get_configuration_setting_value(name).strip() or default
            except RoleEnvironmentError:
                return default

        return cls(
            keys=parse_keys(text(API_KEYS), f"the setting {API_KEYS}"),
            keys_file=text(KEYS_FILE),
            session_secret_file=text(SESSION_SECRET_FILE),
            session_hours=_number(SESSION_HOURS, text(SESSION_HOURS, "12"), least=0.01, most=24 * 31),
            issuer=text(JWT_ISSUER),
            audience=text(JWT_AUDIENCE),
            jwks_url=_jwks_url(text(JWT_JWKS_URL)),
            key_file=text(JWT_KEY_FILE),
            algorithms=_algorithms(text(JWT_ALGORITHMS)),
            leeway=_number(JWT_LEEWAY, text(JWT_LEEWAY, "60"), least=0, most=MOST_LEEWAY),
            roles_claim=text(JWT_ROLES_CLAIM, usual.roles_claim),
            name_claim=text(JWT_NAME_CLAIM, usual.name_claim),
            role_names=_role_names(text(ROLE_NAMES)) or usual.role_names,
            proxies=_networks(text(TRUSTED_PROXIES)),
            proxy_identity=_proxy_identity(text(PROXY_IDENTITY, usual.proxy_identity)),
        )


def role_of(names: list[str], known: Mapping[str, Permission]) -> Permission | None:
    """The highest of the roles that somebody has by the words of another system; `*` is what everybody has."""
    held = {known[name] for name in (*names, "*") if name in known}
    return max(held, key=list(Permission).index, default=None)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _number(name: str, text: str, *, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise RoleEnvironmentError(f"the setting {name} must be a number from {least:g} to {most:g}, not {text!r}")
    return number


def _jwks_url(text: str) -> str:
    """Keys that came in the clear could be anybody's."""
    try:
        url = urlsplit(text)
        good = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
        good = good and bool(url.hostname) and not url.username
    except ValueError:
        good = False
    if text and not good:
        raise RoleEnvironmentError(f"the setting {JWT_JWKS_URL} must be an https:// address, not {text!r}")
    return text


def _algorithms(text: str) -> frozenset[str]:
    known = PUBLIC_KEY_ALGORITHMS | SECRET_ALGORITHMS
    if unknown := [word for word in _words(text) if word not in known]:
        raise RoleEnvironmentError(f"the setting {JWT_ALGORITHMS} names {unknown[0]!r}; known are {_listed(known)}")
    return frozenset(_words(text))


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _role_names(text: str) -> dict[str, Permission]:
    names: dict[str, Permission] = {}
    for word in _words(text):
        role, divider, name = (part.strip() for part in word.partition("="))
        if not divider or not name or role not in {*ROLES}:
            raise RoleEnvironmentError(
                f"the setting {ROLE_NAMES} is ROLE=NAME, comma separated, a role being {', '.join(ROLES)}; not {word!r}"
            )
        names[name] = max(Permission(role), names.get(name, Permission.READ), key=list(Permission).index)
    return names


def _networks(text: str) -> tuple[Network, ...]:
    found = []
    for word in _words(text):
        try:
            network = ip_network(word)
        except ValueError as error:
            raise RoleEnvironmentError(f"the setting {TRUSTED_PROXIES} names addresses or networks: {error}") from error
        if network.prefixlen == 0:
            raise RoleEnvironmentError(f"the setting {TRUSTED_PROXIES} can't be {word}: that is everybody")
        found.append(network)
    return tuple(found)


def _proxy_identity(text: str) -> str:
    words = _words(text)
    if text.casefold() == AZURE:
        return AZURE
    if len(words) != 2 or not all(_HEADER.fullmatch(word) for word in words):  # noqa: PLR2004 - two headers
        raise RoleEnvironmentError(
            f'the setting {PROXY_IDENTITY} is "{AZURE}", or two headers for name and roles as '
            f'"X-Forwarded-User, X-Forwarded-Groups", not {text!r}'
        )
    return ", ".join(words)
