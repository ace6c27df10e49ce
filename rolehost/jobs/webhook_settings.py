"""Who may be told of a job's end, and the secrets that sign what they are told."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.errors import AddressRefusedError, InvalidParameterError, RoleEnvironmentError
from rolehost.jobs.setting_texts import Network, names, networks, number, ports, schemes, setting, words

if TYPE_CHECKING:
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
_WRITABLE_BY_OTHERS = 0o022


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
    networks: tuple[Network, ...] = ()
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
            return setting(environment, name)

        allowed = schemes(SCHEMES, text(SCHEMES))
        return cls(
            secrets=_secrets(text(SECRETS), f"the setting {SECRETS}"),
            secret_file=text(SECRET_FILE),
            hosts=names(text(HOSTS)),
            refused_hosts=names(text(REFUSED_HOSTS)),
            networks=networks(NETWORKS, text(NETWORKS)),
            schemes=allowed,
            ports=ports(PORTS, text(PORTS), allowed),
            deadline=number(DEADLINE, text(DEADLINE) or "10", most=60),
            give_up=timedelta(days=number(GIVE_UP, text(GIVE_UP) or "3", most=365)),
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


def _secrets(text: str, origin: str) -> tuple[bytes, ...]:
    """Secrets in the form of Standard Webhooks: `whsec_`, then 24 to 64 bytes in Base64; none of it is ever told."""
    found = []
    for position, word in enumerate(words(text), 1):
        try:
            key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not word.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
            form = f"{_PREFIX} and {_SHORTEST} to {_LONGEST} random bytes in Base64"
            raise RoleEnvironmentError(f"{origin}: secret {position} is none; a secret is {form}")
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
