"""Who may be told of a job's end, and the secrets that sign what they are told."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rolehost.errors import AddressRefusedError, InvalidParameterError, RoleEnvironmentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment
    from rolehost.outbound import Rules

SECRETS = "Webhooks.Secrets"
SECRET_FILE = "Webhooks.SecretFile"  # noqa: S105 - the name of a setting
HOSTS = "Webhooks.AllowedHosts"
REFUSED_HOSTS = "Webhooks.RefusedHosts"
NETWORKS = "Webhooks.AllowedNetworks"
PORTS = "Webhooks.AllowedPorts"
SCHEMES = "Webhooks.AllowedSchemes"
DEADLINE = "Webhooks.DeadlineSeconds"
GIVE_UP = "Webhooks.GiveUpDays"
FIELD = "webhook"
"""The name of the URL in forms and options."""

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
_USUAL_PORTS: Mapping[str, int] = {"https": 443, "http": 80}
_WRITABLE_BY_OTHERS = 0o022
_LARGEST_PORT = 65535
_Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """The settings of webhooks.

    Args:
        secrets: what signs (`Webhooks.Secrets`: `whsec_...`, several by commas or spaces); each makes a signature.
        secret_file: a file of them, one a line, in place of that setting (`Webhooks.SecretFile`); it is read at each
            delivery, so that secrets can be changed while the service runs.
        hosts: names that alone may be told (`Webhooks.AllowedHosts`; `*.example.org` for all below one); none: all.
        refused_hosts: names that never are (`Webhooks.RefusedHosts`).
        networks: that may be told although they are not public (`Webhooks.AllowedNetworks`).
        schemes: `https`, unless `Webhooks.AllowedSchemes` says `https, http`.
        ports: the schemes' own, unless `Webhooks.AllowedPorts` names others.
        deadline: seconds for one delivery (`Webhooks.DeadlineSeconds`).
        give_up: so long after the job's end nobody tries again (`Webhooks.GiveUpDays`).
    """

    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    secret_file: str = ""
    hosts: tuple[str, ...] = ()
    refused_hosts: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()
    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] = frozenset({443})
    deadline: float = 10.0
    give_up: timedelta = timedelta(days=3)

    @classmethod
    def read(cls, environment: RoleEnvironment) -> WebhookSettings:
        """The settings of a role environment; what is not set has its default.

        Raises:
            RoleEnvironmentError: a value can't be what it is meant to be.
        """

        def text(name: str) -> str:
            try:
                return environment.get_configuration_setting_value(name).strip()
            except RoleEnvironmentError:
                return ""

        schemes = _schemes(text(SCHEMES))
        return cls(
            secrets=_secrets(text(SECRETS), f"the setting {SECRETS}"),
            secret_file=text(SECRET_FILE),
            hosts=tuple(each.lower() for each in _words(text(HOSTS))),
            refused_hosts=tuple(each.lower() for each in _words(text(REFUSED_HOSTS))),
            networks=_each(NETWORKS, text(NETWORKS), ip_network, "addresses or networks"),
            schemes=schemes,
            ports=_ports(text(PORTS)) or frozenset(_USUAL_PORTS[scheme] for scheme in schemes),
            deadline=_number(DEADLINE, text(DEADLINE) or "10", most=60),
            give_up=timedelta(days=_number(GIVE_UP, text(GIVE_UP) or "3", most=365)),
        )

    @property
    def configured(self) -> bool:
        """Whether a secret was set: without one nothing is sent, so nothing is promised."""
        return bool(self.secrets or self.secret_file)

    def keys(self) -> tuple[bytes, ...]:
        """The secrets as they are now; reads a file.

        Raises:
            RoleEnvironmentError: there are none, or they can't be read.
        """
        found = self.secrets or (_from_file(Path(self.secret_file)) if self.secret_file else ())
        if not found:
            raise RoleEnvironmentError(f"there is no secret to sign webhooks with: set {SECRET_FILE}")
        return found

    def rules(self) -> Rules:
        """Where deliveries may go."""
        from rolehost.outbound import Rules  # noqa: PLC0415 - an HTTP client: only where there are webhooks

        return Rules(
            hosts=self.hosts,
            refused_hosts=self.refused_hosts,
            networks=self.networks,
            ports=self.ports,
            schemes=self.schemes,
            deadline=self.deadline,
        )

    def check(self, url: str) -> str:
        """The URL of a webhook, as far as its text tells whether it can be one.

        Raises:
            InvalidParameterError: it leads where no delivery goes, or nothing could be signed.
        """
        if not self.configured:
            raise InvalidParameterError(
                f"webhooks are not set up here: without a secret ({SECRET_FILE}) nobody could trust them", FIELD
            )
        from rolehost.outbound import checked_url  # noqa: PLC0415 - the same

        try:
            checked_url(url, self.rules())
        except AddressRefusedError as error:
            raise InvalidParameterError(f"the webhook can't be used: {error}", FIELD) from error
        return url


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _each(name: str, text: str, made: Callable[[str], _Network], what: str) -> tuple[_Network, ...]:
    try:
        return tuple(made(word) for word in _words(text))
    except ValueError as error:
        raise RoleEnvironmentError(f"the setting {name} names {what}: {error}") from error


def _schemes(text: str) -> frozenset[str]:
    words = frozenset(_words(text.lower())) or frozenset({"https"})
    if unknown := sorted(words - _USUAL_PORTS.keys()):
        raise RoleEnvironmentError(f"the setting {SCHEMES} names https, http or both, not {unknown[0]!r}")
    return words


def _ports(text: str) -> frozenset[int]:
    words = _words(text)
    if wrong := [word for word in words if not (word.isdecimal() and 0 < int(word) <= _LARGEST_PORT)]:
        raise RoleEnvironmentError(f"the setting {PORTS} names ports, not {wrong[0]!r}")
    return frozenset(int(word) for word in words)


def _number(name: str, text: str, *, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise RoleEnvironmentError(f"the setting {name} must be a number over 0, and {most:g} at most, not {text!r}")
    return number


def _secrets(text: str, origin: str) -> tuple[bytes, ...]:
    """Secrets in the form of Standard Webhooks: `whsec_`, then 24 to 64 bytes in Base64; none of it is ever told."""
    found = []
    for number, word in enumerate(_words(text), 1):
        try:
            key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not word.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
            form = f"{_PREFIX} and {_SHORTEST} to {_LONGEST} random bytes in Base64"
            raise RoleEnvironmentError(f"{origin}: secret {number} is none; a secret is {form}")
        found.append(key)
    return tuple(found)


def _from_file(path: Path) -> tuple[bytes, ...]:
    try:
        if path.stat().st_mode & _WRITABLE_BY_OTHERS:
            raise RoleEnvironmentError(f"{path} ({SECRET_FILE}) can be written by others than its owner: chmod 600")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RoleEnvironmentError(f"{path} ({SECRET_FILE}) can't be read: {error}") from error
    lines = [line.partition("#")[0] for line in text.splitlines()]
    return _secrets(" ".join(lines), f"{path} ({SECRET_FILE})")
