"""The parts of a role in `ServiceDefinition.csdef`: endpoints, startup tasks, variables, what runs."""

from __future__ import annotations

import re
from typing import Any

from rolehost.service_model.markup import Element
from rolehost.service_model.placed import Source, convert, number
from rolehost.service_model.problems import Keys
from rolehost.service_model.values import is_reserved

# An assembly of .NET has no colon in its name: what has one was written for Python.
_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_PROTOCOL = {"protocol": "protocol"}


def read_probes(root: Element, source: Source) -> dict[str, Any]:
    """The service's load balancer probes, by name."""
    names = {
        **_PROTOCOL,
        "path": "path",
        "port": "port",
        "intervalInSeconds": "interval_seconds",
        "timeoutInSeconds": "timeout_seconds",
    }
    probes = {}
    for name, element in source.named(root.all("LoadBalancerProbes"), "LoadBalancerProbe", "probe").items():
        source.needed(element, "protocol")
        table = source.table(("service", "probes", name), element, names)
        convert(table, numbers=("port", "interval_seconds", "timeout_seconds"))
        path = element.attributes.get("path", "")
        if path and not path.startswith("/"):
            table["path"] = f"/{path}"  # the original's own examples write "Probe.aspx"
        probes[name] = table
    return probes


def read_endpoints(keys: Keys, role: Element, table: dict[str, Any], source: Source) -> None:
    """Put the role's endpoints of all three kinds into its table."""
    readers = (
        ("endpoints", "InputEndpoint", _input),
        ("internal_endpoints", "InternalEndpoint", _internal),
        ("instance_input_endpoints", "InstanceInputEndpoint", _instance_input),
    )
    parents = role.all("Endpoints") + role.all("InputEndpoints")
    for where, kind, read in readers:
        for name, element in source.named(parents, kind, "endpoint").items():
            source.needed(element, "protocol")
            table.setdefault(where, {})[name] = read((*keys, where, name), element, source)


def _input(keys: Keys, element: Element, source: Source) -> dict[str, object]:
    names = {
        **_PROTOCOL,
        "port": "port",
        "localPort": "local_port",
        "certificate": "certificate",
        "ignoreRoleInstanceStatus": "ignore_role_instance_status",
        "loadBalancerProbe": "probe",
    }
    table = source.table(keys, element, names)
    convert(table, numbers=("port", "local_port"), switches=("ignore_role_instance_status",))
    return table


def _internal(keys: Keys, element: Element, source: Source) -> dict[str, object]:
    table = source.table(keys, element, {**_PROTOCOL, "port": "port"})
    if table.get("port") in {"*", "0"}:
        del table["port"]  # which means what its absence means
    convert(table, numbers=("port",))
    if fixed := element.first("FixedPort"):
        source.problems.put((*keys, "port"), source.file, fixed, "port")
        table["port"] = number(source.needed(fixed, "port"))
    if fixed := element.first("FixedPortRange"):
        table["ports"] = _range((*keys, "ports"), fixed, source)
    return table


def _instance_input(keys: Keys, element: Element, source: Source) -> dict[str, object]:
    table = source.table(keys, element, {**_PROTOCOL, "localPort": "local_port"})
    convert(table, numbers=("local_port",))
    allocated = element.first("AllocatePublicPortFrom")
    if allocated and (fixed := allocated.first("FixedPortRange")):
        table["public_ports"] = _range((*keys, "public_ports"), fixed, source)
    return table


def _range(keys: Keys, element: Element, source: Source) -> list[object]:
    source.problems.put(keys, source.file, element)
    ends = []
    for index, attribute in enumerate(("min", "max")):
        source.problems.put((*keys, str(index)), source.file, element, attribute)
        ends.append(number(source.needed(element, attribute)))
    return ends


def read_startup(keys: Keys, role: Element, source: Source) -> list[dict[str, Any]]:
    """The role's startup tasks, in their order."""
    startups = role.all("Startup")
    for more in startups[1:]:
        source.note("N07", more, "a role has at most one <Startup>")
    tasks = []
    for index, element in enumerate(startups[0].all("Task") if startups else ()):
        where = (*keys, "startup", str(index))
        source.needed(element, "commandLine")
        names = {"commandLine": "command", "executionContext": "execution_context", "taskType": "type"}
        table: dict[str, Any] = source.table(where, element, names)
        table["command"] = table.get("command") or "-"  # its absence is noted
        if variables := read_variables((*where, "environment"), element, source):
            table["environment"] = variables
        tasks.append(table)
    return tasks


def read_contents(keys: Keys, role: Element, source: Source) -> dict[str, str]:
    """What is put below approot: the directory that it comes from, by destination."""
    contents: dict[str, str] = {}
    for element in (each for parent in role.all("Contents") for each in parent.all("Content")):
        destination = source.needed(element, "destination")
        directory = element.first("SourceDirectory")
        if directory is None:
            source.note("N07", element, f'the contents "{destination}" have no <SourceDirectory>')
            continue
        path = source.needed(directory, "path")
        if destination in contents:
            source.note("M08", element, f'the contents "{destination}" are declared twice', "destination")
        elif destination and path:
            source.problems.put((*keys, destination), source.file, element)
            contents[destination] = path
    return contents


def read_variables(keys: Keys, parent: Element, source: Source) -> dict[str, Any]:
    """The variables of a task or of a runtime: texts, or tables with an XPath."""
    variables: dict[str, Any] = {}
    for name, element in source.named(parent.all("Environment"), "Variable", "variable").items():
        source.problems.put((*keys, name), source.file, element)
        if is_reserved(name):
            source.note("N08", element, f'the variable "{name}" is ignored: the host sets it itself', warning=True)
            continue
        value, path = element.attributes.get("value"), element.first("RoleInstanceValue")
        if (value is None) == (path is None):
            told = "both a value and" if value is not None else "neither a value nor"
            source.note("M17", element, f'the variable "{name}" has {told} a <RoleInstanceValue>')
        elif path is not None:
            source.problems.put((*keys, name), source.file, path, "xpath")
            variables[name] = {"xpath": source.needed(path, "xpath")}
        else:
            variables[name] = value
    return variables


def read_entry_point(keys: Keys, element: Element, table: dict[str, Any], source: Source) -> None:
    """Put what runs in the role into its table."""
    classes, programs = element.all("NetFxEntryPoint"), element.all("ProgramEntryPoint")
    if len(classes) + len(programs) != 1:
        told = "more than one way to start" if classes or programs else "no way to start"
        needed = "either a <NetFxEntryPoint> or a <ProgramEntryPoint>"
        source.note("M20", element, f'the role "{keys[1]}" has {told}: <EntryPoint> holds {needed}')
    for each in classes:
        source.needed(each, "targetFrameworkVersion")
        name = source.needed(each, "assemblyName")
        if _PYTHON.fullmatch(name):
            source.problems.put((*keys, "entry_point"), source.file, each, "assemblyName")
            table["entry_point"] = name
    for each in programs:
        ready = source.needed(each, "setReadyOnProcessStart")
        if ready and ready.lower() != "true":
            told = f'setReadyOnProcessStart is "true", not "{ready}": a program is ready once it runs'
            source.note("M19", each, told, "setReadyOnProcessStart")
        command = source.needed(each, "commandLine")
        source.problems.put((*keys, "program"), source.file, each, "commandLine")
        if "entry_point" not in table and command:
            table["program"] = command
