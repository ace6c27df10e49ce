"""The environment variables of what runs in an instance: the role's process, a guest program, startup tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rolehost.environment import Snapshot
from rolehost.errors import RoleEnvironmentError
from rolehost.host.instance import approot
from rolehost.host.instance.plan_facts import PlanFacts
from rolehost.jobs.declared import told_kinds
from rolehost.jobs.kinds import KINDS
from rolehost.processes import MARKER
from rolehost.service_model import StartupTask
from rolehost.service_model.hooks import HOOKS
from rolehost.service_model.worker import DECLARATION
from rolehost.service_model.xpaths import InstanceValue, parse_instance_value

_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
_DECLARED = "ROLEHOST_ROLE_VARIABLES"
_ENDPOINT = "WaRuntimeEndpoint"
_OURS = frozenset({MARKER, _DECLARED, _ENDPOINT, KINDS, DECLARATION, HOOKS})


def of_role(plan: PlanFacts, snapshot: Snapshot, runtime_endpoint: str, probe: str) -> dict[str, str]:
    """The environment of the role's process: none of its startup tasks' variables are in it.

    Args:
        plan: the instance.
        snapshot: what its role environment holds.
        runtime_endpoint: where its channel is.
        probe: `host:port` of the bootstrapper's probes.
    """
    declared = _values(snapshot, plan.role.environment, plan.role.instance_values)
    return _base(plan, declared) | {
        _ENDPOINT: runtime_endpoint,
        "ROLEHOST_DATA": str(plan.data.root),
        "ROLEHOST_PROBE": probe,
        _DECLARED: json.dumps(list(declared)),
        "ROLEHOST_DRAIN_SECONDS": f"{plan.model.drain_seconds:g}",
        KINDS: told_kinds(plan.model),
        **_declaration(plan),
        **_hooks(plan),
    }


def of_task(plan: PlanFacts, snapshot: Snapshot, task: StartupTask) -> dict[str, str]:
    """The environment of a startup task: its own variables, and none of the Runtime's or of other tasks'."""
    return _base(plan, _values(snapshot, task.environment, task.instance_values))


def resolve(xpath: str, snapshot: Snapshot) -> str:
    """What an XPath finds in the role environment's document.

    Raises:
        RoleEnvironmentError: it is none of the twelve, or it names what isn't there.
    """
    wanted = parse_instance_value(xpath)
    if wanted is None:
        raise RoleEnvironmentError(f"{xpath} is none of the XPaths that a variable's value can be taken from")
    found = _found(wanted, snapshot)
    if found is None:
        raise RoleEnvironmentError(f"{xpath} names nothing that the role environment of this instance holds")
    return found


def _found(wanted: InstanceValue, snapshot: Snapshot) -> str | None:
    current = snapshot.current_role_instance
    facts: dict[str, dict[str, str]] = {
        "Deployment": {"id": snapshot.deployment_id, "emulated": str(snapshot.is_emulated).lower()},
        "CurrentInstance": {
            "id": current.id,
            "roleName": current.role.name,
            "updateDomain": str(current.update_domain),
            "faultDomain": str(current.fault_domain),
        },
    }
    if wanted.element == "ConfigurationSetting" and wanted.name in snapshot.settings:
        facts[wanted.element] = {"value": snapshot.settings[wanted.name]}
    elif wanted.element == "LocalResource" and (resource := snapshot.local_resources.get(wanted.name)):
        size = str(resource.maximum_size_in_megabytes)
        facts[wanted.element] = {"path": resource.root_path, "sizeInMB": size}
    elif wanted.element == "Endpoint" and (endpoint := current.instance_endpoints.get(wanted.name)):
        address, port = endpoint.ip_endpoint
        facts[wanted.element] = {"protocol": endpoint.protocol, "address": address, "port": str(port)}
    return facts.get(wanted.element, {}).get(wanted.attribute)


def _values(snapshot: Snapshot, plain: Mapping[str, str], xpaths: Mapping[str, str]) -> dict[str, str]:
    return {**plain, **{name: resolve(xpath, snapshot) for name, xpath in xpaths.items()}}


def _declaration(plan: PlanFacts) -> dict[str, str]:
    return {DECLARATION: json.dumps(plan.role.worker.to_table())} if plan.role.worker else {}


def _hooks(plan: PlanFacts) -> dict[str, str]:
    hooks = plan.model.hooks.items()
    told = {name: hook.found_from(plan.model.directory).to_table() for name, hook in hooks}
    return {HOOKS: json.dumps(told)} if told else {}


def _base(plan: PlanFacts, declared: Mapping[str, str]) -> dict[str, str]:
    temp = str(plan.data.temp(plan.instance_id))
    inherited = {name: value for name, value in plan.environ.items() if name not in _OURS}
    return {
        **inherited,
        **dict.fromkeys(_TEMPORARY, temp),  # a role may declare others, as those of a larger local resource
        **declared,
        "RoleRoot": str(approot.role_root(plan)),
        "RoleName": plan.role.name,
        "RoleInstanceID": plan.instance_id,
        "RdRoleId": plan.instance_id,
        "RoleDeploymentID": plan.deployment_id,
    }
