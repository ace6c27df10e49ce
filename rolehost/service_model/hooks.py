"""Inbound hooks: what `[hooks.NAME]` of a `service.toml` declares, as frozen values.

A hook makes jobs of another system's messages: it says how the sender proves itself, where in the message's JSON the
source and the parameters are, and which messages count. Places are JSON Pointers (RFC 6901).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

HOOKS = "ROLEHOST_HOOKS"
"""The variable that gives a role's process the hooks, as JSON. No secret is in it: they are named, never told."""


class ProofKind(StrEnum):
    """How a sender shows that he is the one he says."""

    STANDARD_WEBHOOKS = "standard-webhooks"
    """Signature and time of Standard Webhooks 1.0."""
    GITHUB = "github"
    """`X-Hub-Signature-256`: an HMAC of the body."""
    HEADER = "header"
    """A secret in a header of its own."""
    BASIC = "basic"
    """User and password, as in HTTP's basic authentication."""


class Handshake(StrEnum):
    """How a sender asks whether it may send at all."""

    NONE = ""
    EVENT_GRID = "event-grid"
    CLOUD_EVENTS = "cloudevents"


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDeclaration:
    """One hook.

    Args:
        kind: of the jobs.
        proof: how the sender proves itself.
        secret_file: a file of secrets, one a line; each of them is good.
        secret_setting: in place of it: the setting of the front end that holds them.
        header: that carries the secret.
        handshake: what is answered before any message comes.
        source_url: where the URL of the source is.
        source_blob: in place of it: where the blob's name is.
        after: what stands before the name there, and is left out; what does not begin so is refused.
        key: where the sender's own id of the message is.
        key_header: in place of it: the header that carries it.
        time: where the message says when it was made; what is older than the tolerance is refused.
        tolerance_seconds: how far signed times may be off.
        most_bytes: of a message.
        when: places and the values, as texts, that one of must stand there; a message without them is passed over.
        parameters: of the job, always the same.
        parameters_from: the places of those that the message says.
    """

    kind: str
    proof: ProofKind
    secret_file: str = ""
    secret_setting: str = ""
    header: str = ""
    handshake: Handshake = Handshake.NONE
    source_url: str = ""
    source_blob: str = ""
    after: str = ""
    key: str = ""
    key_header: str = ""
    time: str = ""
    tolerance_seconds: int = 300
    most_bytes: int = 256 * 1024
    when: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    parameters: Mapping[str, str] = field(default_factory=_nothing)
    parameters_from: Mapping[str, str] = field(default_factory=_nothing)

    def found_from(self, directory: Path) -> HookDeclaration:
        """The same, with its file of secrets named so that it is found from anywhere.

        Args:
            directory: where the definition stands.
        """
        return replace(self, secret_file=str(directory.absolute() / self.secret_file)) if self.secret_file else self

    def to_table(self) -> dict[str, Any]:
        """The table of a `service.toml` that says the same; a role's process is given it as JSON."""
        told: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Mapping):
                value = {name: list(part) if isinstance(part, tuple) else part for name, part in value.items()}
            if value not in (each.default, {}):
                told[each.name] = str(value) if isinstance(value, StrEnum) else value
        return told

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> HookDeclaration:
        """The reverse of `to_table`."""
        when = {place: tuple(values) for place, values in table.get("when", {}).items()}
        told = dict(table) | {"proof": ProofKind(table["proof"]), "handshake": Handshake(table.get("handshake", ""))}
        return cls(**told | {"when": MappingProxyType(when)})
