"""Plans of role instances, with a service's directory and a data directory that every user can enter."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rolehost.environment import Role, RoleInstance, RoleInstanceEndpoint
from rolehost.host.instance import approot
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.paths import DataDirectory
from rolehost.service_model import RoleModel, ServiceModel

# Markers begin with it: two runs of the tests on one machine must not take each other's processes for their own.
DEPLOYMENT = secrets.token_hex(8)


@contextmanager
def open_place() -> Iterator[Path]:
    """A directory that every user can enter: those of pytest are its own user's."""
    place = Path(tempfile.mkdtemp(prefix="rolehost-test-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def make_plan(place: Path, *roles: RoleModel, number: int = 0, **more: Any) -> InstancePlan:
    """An instance of the first role.

    Args:
        place: gets the service's directory `service` and the data directory `data`.
        roles: the service's.
        number: the instance's.
        more: further arguments of `InstancePlan`; `model`'s are a mapping under that name.
    """
    service = place / "service"
    service.mkdir(exist_ok=True)
    facts: Mapping[str, Any] = more.pop("model", {})
    model = ServiceModel(
        **{
            "name": "s",
            "roles": {each.name: each for each in roles},
            "source": service / "service.toml",
            "directory": service,
            **facts,
        }
    )
    values = {"data": DataDirectory.at(place / "data"), "deployment_id": DEPLOYMENT, "emulated": True, **more}
    return InstancePlan(model=model, role=roles[0], number=number, **values)


def prepared(plan: InstancePlan) -> Path:
    """Make the instance's directories; the answer is its approot."""
    plan.data.prepare(plan.instance_id, plan.storages.values())
    return approot.build(plan)


def a_topology(**roles: list[Mapping[str, int]]) -> Mapping[str, Role]:
    """Every role's instances: for each its endpoints' ports, on an address of its own."""
    made = {}
    for count, (name, instances) in enumerate(roles.items(), 1):
        each = [_instance(name, count, number, ports) for number, ports in enumerate(instances)]
        made[name] = Role(name, tuple(each))
    return MappingProxyType(made)


def _instance(role: str, count: int, number: int, ports: Mapping[str, int]) -> RoleInstance:
    address = f"127.0.{count}.{number + 1}"
    endpoints = {name: RoleInstanceEndpoint(name, (address, port), "tcp") for name, port in ports.items()}
    return RoleInstance(f"{role}_IN_{number}", number % 2, number % 5, MappingProxyType(endpoints))


def script(path: Path, text: str, *, mode: int = 0o755, interpreter: str = "#!/bin/sh") -> Path:
    """Write a script that can be started."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{interpreter}\n{text}\n" if interpreter else text, encoding="utf-8")
    path.chmod(mode)
    return path
