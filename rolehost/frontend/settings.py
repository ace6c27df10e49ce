"""What can be set in the front end, with its defaults."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.settings import AuthenticationSettings
from rolehost.jobs.sources import SourceSettings
from rolehost.jobs.webhook_settings import WebhookSettings
from rolehost.service_model.hooks import HOOKS, HookDeclaration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment

MEBIBYTE = 1024 * 1024

_NAMES = {
    "upload_cap": "Frontend.UploadCapBytes",
    "form_cap": "Frontend.FormCapBytes",
    "form_files": "Frontend.FormFiles",
    "body_seconds": "Frontend.BodyDeadlineSeconds",
    "grace_seconds": "Frontend.BodyGraceSeconds",
    "header_seconds": "Frontend.HeaderDeadlineSeconds",
    "drain_seconds": "Frontend.DrainSeconds",
    "allowed_hosts": "Frontend.AllowedHosts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendSettings:
    """The front end's settings.

    Args:
        upload_cap: bytes of one request to the API, and of one file in the form.
        form_cap: bytes of one request of the form, which may carry many files.
        form_files: files in one request of the form.
        body_seconds: the longest that a request's body may take.
        grace_seconds: after them a body must have come at `slowest` on average.
        slowest: bytes a second.
        header_seconds: the longest that a request's head may take.
        drain_seconds: how long requests in flight may go on once the role stops.
        allowed_hosts: names that requests may use, comma separated, `*` for any; see `hosts.allowed_hosts`.
        authentication: how clients say who they are.
        webhooks: who may be told of a job's end.
        sources: which URLs and blobs may be a job's source.
        hooks: what other systems' messages become jobs by, by name.
        hook_secrets: the settings that hooks name for their secrets.
    """

    upload_cap: int = 64 * MEBIBYTE
    form_cap: int = 512 * MEBIBYTE
    form_files: int = 200
    body_seconds: float = 900.0
    grace_seconds: float = 30.0
    slowest: int = 4096
    header_seconds: float = 20.0
    drain_seconds: float = 5.0
    allowed_hosts: str = ""
    authentication: AuthenticationSettings = field(default_factory=AuthenticationSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    sources: SourceSettings = field(default_factory=SourceSettings)
    hooks: Mapping[str, HookDeclaration] = field(default_factory=dict)
    hook_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, environment: RoleEnvironment) -> FrontendSettings:
        """The settings of a role environment; what is not set has its default.

        Raises:
            RoleEnvironmentError: a value can't be what it is meant to be.
        """
        if not environment.is_available:
            return cls()
        given: dict[str, Any] = {}
        for each in fields(cls):
            if (name := _NAMES.get(each.name)) and (text := _value(environment, name)) is not None:
                is_text = isinstance(each.default, str)
                given[each.name] = text if is_text else _number(name, text, whole=isinstance(each.default, int))
        return cls(
            **given,
            authentication=AuthenticationSettings.read(environment),
            webhooks=WebhookSettings.read(environment),
            sources=SourceSettings.read(environment),
            **_hooks(environment),
        )


def _hooks(environment: RoleEnvironment) -> dict[str, Any]:
    declared = json.loads(os.environ.get(HOOKS) or "{}")
    hooks = {name: HookDeclaration.from_table(table) for name, table in declared.items()}
    named = {hook.secret_setting for hook in hooks.values() if hook.secret_setting}
    return {"hooks": hooks, "hook_secrets": {name: _value(environment, name) or "" for name in named}}


def _value(environment: RoleEnvironment, name: str) -> str | None:
    try:
        return environment.get_configuration_setting_value(name)
    except RoleEnvironmentError:
        return None


def _number(name: str, text: str, *, whole: bool) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise RoleEnvironmentError(f"the setting {name} must be a positive number, not {text!r}")
    return number
