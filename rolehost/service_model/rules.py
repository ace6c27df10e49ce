"""Rules between the parts of a definition: what refers to what, how many there may be, what may start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rolehost.service_model.commands import first_word
from rolehost.service_model.model import ANY_PORTS, PortRange, RoleModel, ServiceModel
from rolehost.service_model.problems import Keys, Problems, suggest
from rolehost.service_model.worker_rules import check_kinds
from rolehost.service_model.xpaths import InstanceValue, parse_instance_value

MOST_INSTANCES = 1000
_MOST_INTERNAL = 5
_MOST_ENDPOINTS = 25
_ABSOLUTE = re.compile(r"[\"']?([/\\]|[A-Za-z]:)")
_ROLE_ROOT = re.compile(r"(%roleroot%|\$\{?roleroot\}?)[/\\]+approot", re.IGNORECASE)
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def check_rules(model: ServiceModel, problems: Problems) -> None:
    """Note what the parts of a service, each right by itself, don't keep together.

    Args:
        model: as read; the values that were wrong are stand-ins.
        problems: gets what is wrong.
    """
    check = _Rules(model, problems)
    for role in model.roles.values():
        check.endpoints(role)
        check.commands(role)
        check.instance_values(role)
    check.number_of_endpoints()
    check.public_ports()
    check_kinds({role.name: role.worker for role in model.roles.values() if role.worker}, problems)


def too_few_ports(role: RoleModel, instances: int) -> Iterator[tuple[str, str]]:
    """The instance input endpoints that have no public port for each instance, and what is told of them.

    Args:
        role: with its endpoints.
        instances: how many instances of it there are to be.
    """
    for each in role.instance_input_endpoints.values():
        if len(each.public_ports) < instances:
            yield each.name, f"{len(each.public_ports)} public ports are too few for {instances} instances"


def scaling_refusals(role: RoleModel, count: object) -> list[tuple[str, str]]:
    """Why a role can't have so many instances: codes and sentences.

    Args:
        role: as it is.
        count: how many there are to be.
    """
    if not isinstance(count, int) or not 1 <= count <= MOST_INSTANCES:
        return [("M24", f"a number of instances is from 1 to {MOST_INSTANCES}, not {count!r}")]
    return [("M30", f'the endpoint "{name}": {told}') for name, told in too_few_ports(role, count)]


class _Rules:
    def __init__(self, model: ServiceModel, problems: Problems) -> None:
        self._model = model
        self._add = problems.add
        self._word = problems.word

    def number_of_endpoints(self) -> None:
        total = sum(len([*_endpoints(role)]) for role in self._model.roles.values())
        if total > _MOST_ENDPOINTS:
            self._add("M15", ("service",), f"a service has at most {_MOST_ENDPOINTS} endpoints, this one has {total}")

    def public_ports(self) -> None:
        """Each transport has its own ports; two input endpoints with the same one are noted where they are read."""
        taken: list[tuple[bool, PortRange, str]] = [
            (each.protocol == "udp", PortRange(each.port, each.port), f'"{role.name}", endpoint "{each.name}"')
            for role in self._model.roles.values()
            for each in role.endpoints.values()
        ]
        for role in self._model.roles.values():
            for each in role.instance_input_endpoints.values():
                udp, ports = each.protocol == "udp", each.public_ports
                if ports == ANY_PORTS:
                    continue  # noted already
                for other_udp, other, where in taken:
                    if udp == other_udp and ports.first <= other.last and other.first <= ports.last:
                        keys = ("roles", role.name, "instance_input_endpoints", each.name, "public_ports")
                        told = f"ports {ports.first} to {ports.last} hold {_span(other)}, already that of {where}"
                        self._add("M11", keys, told)
                taken.append((udp, ports, f'"{role.name}", endpoint "{each.name}"'))

    def endpoints(self, role: RoleModel) -> None:
        keys: Keys = ("roles", role.name)
        if (count := len(role.internal_endpoints)) > _MOST_INTERNAL:
            told = f'a role has at most {_MOST_INTERNAL} internal endpoints, "{role.name}" has {count}'
            self._add("M15", (*keys, "internal_endpoints"), told)
        seen: dict[str, str] = {}
        for where, name in _endpoints(role):
            if seen.setdefault(name.casefold(), where) != where:
                self._add("M08", (*keys, where, name), f'the role has another endpoint "{name}"')
        self._references(role)
        for name, told in too_few_ports(role, role.instances):
            self._add("M30", (*keys, "instance_input_endpoints", name, "public_ports"), told)

    def _references(self, role: RoleModel) -> None:
        for each in role.endpoints.values():
            keys = ("roles", role.name, "endpoints", each.name)
            if each.protocol == "https" and not each.certificate:
                self._add("M12", keys, f'the https endpoint "{each.name}" needs a certificate')
            if each.certificate and each.certificate not in role.certificates:
                hint = suggest(each.certificate, role.certificates)
                told = f'the role declares no certificate "{each.certificate}"{hint}'
                self._add("M13", (*keys, "certificate"), told)
            if each.probe and each.probe not in self._model.probes:
                hint = suggest(each.probe, self._model.probes)
                self._add("M14", (*keys, "probe"), f'the service declares no probe "{each.probe}"{hint}')

    def commands(self, role: RoleModel) -> None:
        commands: list[tuple[Keys, str]] = [
            (("roles", role.name, "startup", str(index), "command"), task.command_line)
            for index, task in enumerate(role.startup_tasks)
        ]
        if role.program:
            commands.append((("roles", role.name, "program"), role.program))
        for keys, command in commands:
            if command and not first_word(command):
                self._add("M22", keys, "a command line names a program")
            elif _ABSOLUTE.match(command) or _ROLE_ROOT.search(command):
                told = f"a command line begins with a path below approot: {command}"
                self._add("M22", keys, told)
            elif keys[2] == "startup" and (script := self._marked_script(role, command)):
                told = f"the script {script} begins with a byte-order mark, so that it can't start: save it without one"
                self._add("M23", keys, told)

    def _marked_script(self, role: RoleModel, command: str) -> Path | None:
        name = first_word(command).replace("\\", "/")
        for parent in ("", "approot", role.name):
            script = self._model.directory / parent / name
            try:
                if script.is_file():
                    with script.open("rb") as file:
                        return script if file.read(3).startswith(_MARKS) else None
            except (OSError, ValueError):  # can't be read, or is no path
                return None
        return None

    def instance_values(self, role: RoleModel) -> None:
        keys: Keys = ("roles", role.name)
        variables = [((*keys, "environment", name), path) for name, path in role.instance_values.items()]
        for index, task in enumerate(role.startup_tasks):
            inside = (*keys, "startup", str(index), "environment")
            variables += [((*inside, name), path) for name, path in task.instance_values.items()]
        for where, path in variables:
            if not path:
                continue  # noted already
            value = parse_instance_value(path)
            if value is None:
                self._add("M18", where, f"this is none of the twelve XPaths of a role instance's values: {path}")
            elif told := _undeclared(role, value):
                self._add("M18", where, f"the XPath names {told}: {path}")


def _undeclared(role: RoleModel, value: InstanceValue) -> str:
    declared, what = {
        "ConfigurationSetting": ([*role.settings], "setting"),
        "LocalResource": ([*role.local_resources], "local resource"),
        "Endpoint": ([name for _, name in _endpoints(role)], "endpoint"),
    }.get(value.element, ([value.name], ""))
    if value.name in declared:
        return ""
    return f'the {what} "{value.name}", which the role doesn\'t declare{suggest(value.name, declared)}'


def _span(ports: PortRange) -> str:
    return f"{ports.first}" if len(ports) == 1 else f"some of {ports.first} to {ports.last}"


def _endpoints(role: RoleModel) -> Iterator[tuple[str, str]]:
    for where in ("endpoints", "internal_endpoints", "instance_input_endpoints"):
        for name in getattr(role, where):
            yield where, name
