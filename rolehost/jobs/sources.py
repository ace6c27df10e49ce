"""Where a job's source may come from beside an upload: URLs that may be fetched, blobs that may be lent.

Both are off until a setting names them: who submits a job makes this service ask, and with this service's rights.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rolehost.errors import (
    AddressRefusedError,
    InvalidParameterError,
    LimitExceededError,
    RoleEnvironmentError,
    UrlNotAllowedError,
)
from rolehost.jobs.setting_texts import Network, names, networks, number, ports, schemes, setting, words
from rolehost.jobs.sniffing import EXTENSIONS
from rolehost.stores.names import blob_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment
    from rolehost.outbound import Rules

HOSTS = "Sources.AllowedHosts"
REFUSED_HOSTS = "Sources.RefusedHosts"
NETWORKS = "Sources.AllowedNetworks"
PORTS = "Sources.AllowedPorts"
SCHEMES = "Sources.AllowedSchemes"
MOST_BYTES = "Sources.MostBytes"
DEADLINE = "Sources.DeadlineSeconds"
BLOBS = "Sources.Blobs"
URL_FIELD = "source_url"
"""The name of the URL in forms."""

ANY = "*"
OURS = frozenset({"batches", "inputs", "logs", "results", "runs"})
"""Folders of blobs that are this service's own: nothing in them is ever lent to a job."""
_LONGEST_BLOB = 240
_MEBIBYTE = 1024 * 1024
_PREFIX = re.compile(r"(?!\.)[A-Za-z0-9._-]+(/(?!\.)[A-Za-z0-9._-]+)*/?", re.ASCII)
_ACCOUNT = re.compile(r"(?:^|;)\s*AccountName=([a-z0-9]{3,24})", re.ASCII | re.IGNORECASE)
_HOST = re.compile(r"(?:https?|sb)://([a-z0-9.-]+)", re.ASCII | re.IGNORECASE)
_SERVICES = ("blob", "queue", "table", "file", "dfs", "web")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """The settings of sources; front ends check by them, workers fetch by them.

    Args:
        hosts: names that alone may be asked (`Sources.AllowedHosts`; `*.example.org` for all below one, `*` for every
            public one); none: no job's source is a URL.
        refused_hosts: names that never are (`Sources.RefusedHosts`, and the service's own storage account).
        networks: that may be asked although they are not public (`Sources.AllowedNetworks`).
        schemes: `https`, unless `Sources.AllowedSchemes` says `https, http`.
        ports: the schemes' own, unless `Sources.AllowedPorts` names others.
        most_bytes: of what is fetched (`Sources.MostBytes`).
        deadline: seconds for a whole fetch (`Sources.DeadlineSeconds`).
        blobs: folders of blobs that may be a source (`Sources.Blobs`); none: no blob is.
    """

    hosts: tuple[str, ...] = ()
    refused_hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    schemes: frozenset[str] = frozenset({"https"})
    ports: frozenset[int] = frozenset({443})
    most_bytes: int = 64 * _MEBIBYTE
    deadline: float = 60.0
    blobs: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: RoleEnvironment, environ: Mapping[str, str] | None = None) -> SourceSettings:
        """The settings of a role environment; what is not set has its default.

        Args:
            environment: the role's.
            environ: says where the stores are; None: this process's.

        Raises:
            RoleEnvironmentError: a value can't be what it is meant to be.
        """

        def text(name: str) -> str:
            return setting(environment, name)

        hosts, allowed = names(text(HOSTS)), schemes(SCHEMES, text(SCHEMES))
        own = set(own_hosts(os.environ if environ is None else environ)) - set(hosts)
        return cls(
            hosts=hosts,
            refused_hosts=(*names(text(REFUSED_HOSTS)), *sorted(own)),
            networks=networks(NETWORKS, text(NETWORKS)),
            schemes=allowed,
            ports=ports(PORTS, text(PORTS), allowed),
            most_bytes=int(number(MOST_BYTES, text(MOST_BYTES) or str(64 * _MEBIBYTE), most=2**40)),
            deadline=number(DEADLINE, text(DEADLINE) or "60", most=3600),
            blobs=_folders(text(BLOBS)),
        )

    @property
    def urls(self) -> bool:
        """Whether a source may be a URL at all."""
        return bool(self.hosts)

    def rules(self) -> Rules:
        """Where fetches may go."""
        from rolehost.outbound import Rules  # noqa: PLC0415 - an HTTP client: only where there are sources to fetch

        return Rules(
            hosts=() if ANY in self.hosts else self.hosts,
            refused_hosts=self.refused_hosts,
            networks=self.networks,
            ports=self.ports,
            schemes=self.schemes,
            most_bytes=self.most_bytes,
            deadline=self.deadline,
        )

    def check_url(self, url: str, field: str = URL_FIELD) -> str:
        """A URL that a worker may fetch, as far as its text tells; its host's addresses are judged at each fetch.

        Raises:
            UrlNotAllowedError: it leads where no fetch goes, or none goes anywhere here.
        """
        if not self.urls:
            raise UrlNotAllowedError(f"URLs are no sources here: the setting {HOSTS} allows none", field)
        from rolehost.outbound import checked_url  # noqa: PLC0415 - the same

        try:
            checked_url(url, self.rules())
        except AddressRefusedError as error:
            raise UrlNotAllowedError(f"this URL can't be a source: {error}", field) from error
        return url

    def check_blob(self, name: str, field: str = "blob") -> str:
        """The name of a blob that may be lent to a job; nothing is looked up.

        Raises:
            InvalidParameterError: it is none, or stands in no folder that is allowed.
        """
        try:
            blob_name(name, _LONGEST_BLOB)
        except (InvalidParameterError, LimitExceededError) as error:
            raise InvalidParameterError(str(error), field) from None
        if not any(name.startswith(folder) for folder in self.blobs):
            raise InvalidParameterError(f"this blob can't be a source: the setting {BLOBS} does not allow it", field)
        return name


def own_hosts(environ: Mapping[str, str]) -> list[str]:
    """Hosts of the stores: a job's source is asked of them by its blob's name, never by a URL."""
    found: list[str] = []
    for variable in ("ROLEHOST_STORAGE", "ROLEHOST_QUEUE"):
        text = environ.get(variable, "")
        found += [host.lower() for host in _HOST.findall(text)]
        found += [
            f"{account.lower()}{mirror}.{service}.core.windows.net"
            for account in _ACCOUNT.findall(text)
            for mirror in ("", "-secondary")
            for service in _SERVICES
        ]
    return found


def name_of_url(url: str) -> str:
    """A name for what is at a URL: the last segment of its path, or its host."""
    parts = urlsplit(url)
    return unquote(PurePosixPath(parts.path).name, errors="replace") or (parts.hostname or "")


def guessed_type(name: str) -> str:
    """The media type that a name's ending promises, for what has to be known before the content is; empty if none."""
    by_ending = {f".{ending}": media_type for media_type, ending in EXTENSIONS.items()}
    by_ending |= {".jpeg": "image/jpeg", ".tiff": "image/tiff"}
    return by_ending.get(PurePosixPath(name).suffix.lower(), "")


def _folders(text: str) -> tuple[str, ...]:
    """Folders, each with its slash; none of them ours, for else anybody could have other people's results worked on."""
    found = []
    for word in words(text):
        if not _PREFIX.fullmatch(word) or word.partition("/")[0].lower() in OURS:
            raise RoleEnvironmentError(
                f"the setting {BLOBS} names folders of blobs, as in assets/, and none of the service's own "
                f"({', '.join(sorted(OURS))}), not {word!r}"
            )
        found.append(word.rstrip("/") + "/")
    return tuple(found)
