"""`--webhook URL`, checked by the settings of the roles that will deliver."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from rolehost.environment import RoleEnvironment
from rolehost.errors import InvalidParameterError, RoleEnvironmentError
from rolehost.jobs.webhook_settings import WebhookSettings
from rolehost.service_model import examine


def checked_webhook(url: str, environ: Mapping[str, str]) -> str:
    """A URL that a role of the definition in the working directory, or of the built-in service, will tell.

    Args:
        url: as it was given.
        environ: the variables that go over the definition.

    Raises:
        BadParameter: it can't be used, or no role has a secret to sign with.
    """
    model = examine(None, environ).model
    try:
        found = [
            WebhookSettings.read(RoleEnvironment.for_testing(settings=role.settings))
            for role in (model.roles.values() if model else ())
        ]
        chosen = next((settings for settings in found if settings.configured), WebhookSettings())
        return chosen.check(url)
    except (InvalidParameterError, RoleEnvironmentError) as error:
        raise typer.BadParameter(str(error), param_hint="--webhook") from None
