"""What a front end of the service would refuse when it starts: told before anything is started."""

from __future__ import annotations

from pathlib import Path

from rolehost.cli.role_checks import FRONT_END, FRONT_END_ENDPOINT
from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.authentication.unguarded import is_unguarded, unguarded
from rolehost.frontend.loopback import is_loopback
from rolehost.frontend.settings import FrontendSettings
from rolehost.service_model import ServiceModel


def refuse_unguarded(model: ServiceModel, data: Path, host: str) -> None:
    """Refuse a front end that anybody could use.

    Args:
        model: with the environment's settings on top.
        data: the data directory, made or not.
        host: where the service is to listen.

    Raises:
        RoleEnvironmentError: others than this machine could reach the front end, and nothing says who may.
    """
    if is_loopback(host):
        return
    for role in model.roles.values():
        if role.entry_point != FRONT_END or FRONT_END_ENDPOINT not in role.endpoints:
            continue
        settings = FrontendSettings.read(RoleEnvironment.for_testing(settings=role.settings)).authentication
        if is_unguarded(settings, data):
            raise RoleEnvironmentError(unguarded(host))
