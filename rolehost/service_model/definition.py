"""`ServiceDefinition.csdef`, read into the tables of a `service.toml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rolehost.service_model.definition_parts import (
    read_contents,
    read_endpoints,
    read_entry_point,
    read_probes,
    read_startup,
    read_variables,
)
from rolehost.service_model.markup import Element
from rolehost.service_model.placed import PlacedProblems, Source, convert
from rolehost.service_model.problems import Keys


@dataclass(slots=True)
class DefinedRole:
    """A role as the definition says it.

    Args:
        table: its part of a `service.toml`, so far.
        settings: what it declares, by name; the configuration has the values.
        certificates: the same.
        plug_ins: names of the plug-ins that it imports.
        element: where it stands.
    """

    table: dict[str, Any]
    settings: dict[str, Element]
    certificates: dict[str, Element]
    plug_ins: tuple[str, ...]
    element: Element


@dataclass(slots=True)
class Definition:
    """What the file says.

    Args:
        service: the service's table.
        roles: by name.
        left_out: names of roles that can't be roles here.
    """

    name: str
    service: dict[str, Any]
    roles: dict[str, DefinedRole] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()


def read_definition(root: Element, problems: PlacedProblems, file: str) -> Definition:
    """What the definition says; the rules of the schema are checked later, on the whole.

    Args:
        root: the file's root element, of the right name.
        problems: gets what is wrong.
        file: how messages call it.
    """
    source = Source(problems, file)
    problems.put(("roles",), file, root)
    name = source.needed(root, "name")
    facts = {
        "topologyChangeDiscovery": "topology_change_discovery",
        "upgradeDomainCount": "upgrade_domain_count",
    }
    service: dict[str, Any] = {"name": name, **source.table(("service",), root, facts)}
    convert(service, numbers=("upgrade_domain_count",))
    if probes := read_probes(root, source):
        service["probes"] = probes
    left_out = frozenset(each.attributes.get("name", "") for each in root.all("VirtualMachineRole"))
    definition = Definition(name=name, service=service, left_out=left_out)
    for element in root.children:
        if element.name in {"WorkerRole", "WebRole"} and element.namespace == root.namespace:
            role = source.needed(element, "name")
            if role in definition.roles:
                source.note("M03", element, f'the role "{role}" is declared twice', "name")
            elif role:
                definition.roles[role] = _role(role, element, source)
    return definition


def _role(name: str, element: Element, source: Source) -> DefinedRole:
    keys: Keys = ("roles", name)
    source.problems.put(keys, source.file, element)
    table: dict[str, Any] = {"kind": "web" if element.name == "WebRole" else "worker"}
    _runtime(keys, element, table, source)
    storages = source.named([*element.all("LocalResources"), element], "LocalStorage", "local resource")
    for storage, each in storages.items():
        attributes = {"sizeInMB": "size_in_mb", "cleanOnRoleRecycle": "clean_on_role_recycle"}
        part = source.table((*keys, "local_resources", storage), each, attributes)
        convert(part, numbers=("size_in_mb",), switches=("clean_on_role_recycle",))
        table.setdefault("local_resources", {})[storage] = part
    read_endpoints(keys, element, table, source)
    if tasks := read_startup(keys, element, source):
        table["startup"] = tasks
    if contents := read_contents((*keys, "contents"), element, source):
        table["contents"] = contents
    imports = [each for parent in element.all("Imports") for each in parent.all("Import")]
    return DefinedRole(
        table=table,
        settings=source.named(element.all("ConfigurationSettings"), "Setting", "setting"),
        certificates=source.named(element.all("Certificates"), "Certificate", "certificate"),
        plug_ins=tuple(each.attributes.get("moduleName", "") for each in imports),
        element=element,
    )


def _runtime(keys: Keys, role: Element, table: dict[str, Any], source: Source) -> None:
    runtimes = role.all("Runtime")
    for more in runtimes[1:]:
        source.note("N07", more, "a role has at most one <Runtime>")
    for runtime in runtimes[:1]:
        if (context := runtime.attributes.get("executionContext")) is not None:
            table["execution_context"] = context
            source.problems.put((*keys, "execution_context"), source.file, runtime, "executionContext")
        if variables := read_variables((*keys, "environment"), runtime, source):
            table["environment"] = variables
        entries = runtime.all("EntryPoint")
        for more in entries[1:]:
            source.note("M20", more, f'the role "{keys[1]}" has more than one <EntryPoint>')
        for entry in entries[:1]:
            read_entry_point(keys, entry, table, source)
