"""What `rolehost check` says of hooks: kinds that nobody works on, secrets that are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rolehost.errors import RoleEnvironmentError
from rolehost.jobs.declared import all_told, kinds_of

if TYPE_CHECKING:
    from rolehost.service_model import ServiceModel
    from rolehost.service_model.hooks import HookDeclaration
    from rolehost.service_model.problems import Keys


def check_hooks(model: ServiceModel) -> Iterator[tuple[Keys, str]]:
    """What is wrong, and where it stands."""
    kinds = {kind.name: kind for kind in kinds_of(model)}
    for name, hook in model.hooks.items():
        keys: Keys = ("hooks", name)
        if hook.kind not in kinds and all_told(model):
            yield (*keys, "kind"), f'no role of the service works on jobs of the kind "{hook.kind}"'
        declared = kinds[hook.kind].parameters if hook.kind in kinds else None
        known = {each.name for each in declared or ()}
        for parameter in (*hook.parameters, *hook.parameters_from) if declared is not None else ():
            if parameter not in known:
                yield keys, f'jobs of the kind "{hook.kind}" have no parameter "{parameter}"'
        if told := _of_secrets(hook, model):
            yield (*keys, "secret_setting" if hook.secret_setting else "secret_file"), told


def _of_secrets(hook: HookDeclaration, model: ServiceModel) -> str:
    """Why its senders would not be known."""
    from rolehost.frontend.hook_proofs import secrets_of  # noqa: PLC0415 - with it comes the front end

    settings = {name: value for role in model.roles.values() for name, value in role.settings.items()}
    try:
        asyncio.run(secrets_of(hook.found_from(model.directory), settings))
    except RoleEnvironmentError as error:
        return str(error)
    return ""
