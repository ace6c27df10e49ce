"""The parts of a role in `service.toml`: endpoints, certificates, startup tasks, variables, storage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rolehost.service_model.model import (
    ANY_PORTS,
    DIAGNOSTIC_STORE,
    Certificate,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    LocalStorage,
    PortRange,
    StartupTask,
    TaskType,
    frozen,
)
from rolehost.service_model.problems import Keys, Problems
from rolehost.service_model.values import MOST_SECONDS, VARIABLE, Values, check_value, is_reserved

_INPUT_PROTOCOLS = ("http", "https", "udp", "tcp")
_INTERNAL_PROTOCOLS = ("http", "udp", "any", "tcp")
_INSTANCE_INPUT_PROTOCOLS = ("udp", "tcp")
_LAST_PORT = ANY_PORTS.last
_THUMBPRINT_DIGITS = 40

# A drive, a root, or a step out of the directory.
_OUTSIDE = re.compile(r"[A-Za-z]:|/|(?:.*/)?\.\.(?:/|$)")

Variables = tuple[Mapping[str, str], Mapping[str, str]]


class Parts(Values):
    """Reads what a role consists of."""

    def __init__(self, problems: Problems) -> None:
        super().__init__(problems)
        self._ports: dict[int, Keys] = {}

    def _local_resources(self, keys: Keys, role: dict[str, Any]) -> Mapping[str, LocalStorage]:
        declared = self._parts(keys, role, self._storage)
        for name in declared:
            if name != DIAGNOSTIC_STORE.name and name.casefold() == DIAGNOSTIC_STORE.name.casefold():
                told = f'every role has the local resource "{DIAGNOSTIC_STORE.name}", from which "{name}" differs'
                self._problems.add("M08", (*keys, name), f"{told} in case only")
        return frozen({**declared, DIAGNOSTIC_STORE.name: declared.get(DIAGNOSTIC_STORE.name, DIAGNOSTIC_STORE)})

    def _contents(self, keys: Keys, role: dict[str, Any]) -> Mapping[str, Path]:
        contents: dict[str, Path] = {}
        for name, value in self._table(keys, role.get(keys[-1], {})).items():
            place = (*keys, name)
            destination, source = name.replace("\\", "/"), self._text(place, value, required=True).replace("\\", "/")
            if not destination or _OUTSIDE.match(destination):
                self._problems.add("M22", place, f'"{name}" is no directory below approot')
            normal = str(PurePosixPath(destination))
            if normal in contents:
                self._problems.add("M08", place, f'the contents "{name}" have another source, too')
            contents[normal] = Path(source)
        return frozen(contents)

    def _storage(self, keys: Keys, table: dict[str, Any]) -> LocalStorage:
        self._known(keys, table, ("size_in_mb", "clean_on_role_recycle"))
        if keys[-1].casefold() == "roletemp":
            self._problems.add("N03", keys, 'the local resource "RoleTemp" is the role\'s own: choose another name')
        clean = self._switch((*keys, "clean_on_role_recycle"), table, default=True)
        size = self._whole((*keys, "size_in_mb"), table.get("size_in_mb", 100), "M09", 1, 2**31)
        return LocalStorage(name=keys[-1], size_in_mb=size, clean_on_role_recycle=clean)

    def _endpoint(self, keys: Keys, table: dict[str, Any]) -> InputEndpoint:
        known = ("protocol", "port", "local_port", "certificate", "ignore_role_instance_status", "probe")
        self._known(keys, table, known)
        protocol = self._protocol(keys, table, _INPUT_PROTOCOLS)
        if "port" not in table:
            self._problems.add("M10", keys, f'the endpoint "{keys[-1]}" needs a port')
        port = self._port((*keys, "port"), table.get("port", 1))
        if other := self._ports.get(port):
            self._problems.add(
                "M11", (*keys, "port"), f'port {port} is already that of "{other[1]}", endpoint "{other[-1]}"'
            )
        elif "port" in table:
            self._ports[port] = keys
        return InputEndpoint(
            name=keys[-1],
            protocol=protocol,
            port=port,
            local_port=self._local_port((*keys, "local_port"), table),
            certificate=self._text((*keys, "certificate"), table.get("certificate", "")),
            ignore_role_instance_status=self._switch((*keys, "ignore_role_instance_status"), table, default=False),
            probe=self._text((*keys, "probe"), table.get("probe", "")),
        )

    def _internal_endpoint(self, keys: Keys, table: dict[str, Any]) -> InternalEndpoint:
        self._known(keys, table, ("protocol", "port", "ports"))
        ports = None
        if "port" in table and "ports" in table:
            self._problems.add("M10", (*keys, "ports"), f'the endpoint "{keys[-1]}" has a port or a range, not both')
        if "ports" in table:
            ports = self._range((*keys, "ports"), table["ports"])
        elif "port" in table:
            port = self._port((*keys, "port"), table["port"])
            ports = PortRange(port, port)
        protocol = self._protocol(keys, table, _INTERNAL_PROTOCOLS)
        return InternalEndpoint(name=keys[-1], protocol=protocol, ports=ports)

    def _instance_input_endpoint(self, keys: Keys, table: dict[str, Any]) -> InstanceInputEndpoint:
        self._known(keys, table, ("protocol", "local_port", "public_ports"))
        for needed in ("local_port", "public_ports"):
            if needed not in table:
                word = self._problems.word((*keys, needed))
                self._problems.add("M10", keys, f'the endpoint "{keys[-1]}" needs {word}')
        return InstanceInputEndpoint(
            name=keys[-1],
            protocol=self._protocol(keys, table, _INSTANCE_INPUT_PROTOCOLS),
            local_port=self._port((*keys, "local_port"), table.get("local_port", 1)),
            public_ports=self._range(
                (*keys, "public_ports"), table.get("public_ports", [ANY_PORTS.first, ANY_PORTS.last])
            ),
        )

    def _protocol(self, keys: Keys, table: dict[str, Any], protocols: tuple[str, ...]) -> str:
        return self._choice((*keys, "protocol"), table.get("protocol", "tcp"), protocols, "a protocol")

    def _port(self, keys: Keys, value: object) -> int:
        return self._whole(keys, value, "M10", 1, _LAST_PORT)

    def _local_port(self, keys: Keys, table: dict[str, Any]) -> int | None:
        value = table.get(keys[-1])
        if value == "*":
            return 0
        return None if value is None else self._port(keys, value)

    def _range(self, keys: Keys, value: object) -> PortRange:
        if not (isinstance(value, list) and len(value) == len(("first", "last"))):
            self._problems.add("M10", keys, f"{self._problems.word(keys)} is a range of ports: [first, last]")
            return ANY_PORTS
        before = len(self._problems.found)
        first, last = (self._port((*keys, str(index)), port) for index, port in enumerate(value))
        if first > last:
            self._problems.add("M29", keys, f"the range of ports ends ({last}) before it begins ({first})")
        return PortRange(first, last) if len(self._problems.found) == before else ANY_PORTS

    def _certificate(self, keys: Keys, table: dict[str, Any]) -> Certificate:
        self._known(keys, table, ("thumbprint", "store_location", "store_name", "permission_level"))
        thumbprint = self._text((*keys, "thumbprint"), table.get("thumbprint"))
        if "thumbprint" in table and not _is_thumbprint(thumbprint):
            told = f"a thumbprint is {_THUMBPRINT_DIGITS} hexadecimal digits in upper case, without spaces"
            self._problems.add(
                "M25", (*keys, "thumbprint"), f'{told}; that of "{keys[-1]}" is not{_why_no_thumbprint(thumbprint)}'
            )
        location = table.get("store_location", "LocalMachine")
        level = table.get("permission_level", "limitedOrElevated")
        return Certificate(
            name=keys[-1],
            thumbprint=thumbprint,
            store_location=self._choice(
                (*keys, "store_location"), location, ("LocalMachine", "CurrentUser"), "a store's location"
            ),
            store_name=self._text((*keys, "store_name"), table.get("store_name", "My"), required=True),
            permission_level=self._choice(
                (*keys, "permission_level"), level, ("limitedOrElevated", "elevated"), "a permission level"
            ),
        )

    def _probe(self, keys: Keys, table: dict[str, Any]) -> LoadBalancerProbe:
        self._known(keys, table, ("protocol", "path", "port", "interval_seconds", "timeout_seconds"))
        protocol = self._choice(
            (*keys, "protocol"), table.get("protocol", "http"), ("http", "tcp"), "a probe's protocol"
        )
        path = self._text((*keys, "path"), table.get("path", ""))
        if protocol == "http" and not path.startswith("/"):
            self._problems.add("M14", keys, f'the http probe "{keys[-1]}" needs a path that begins with /')
        elif protocol == "tcp" and "path" in table:
            self._problems.add("M14", (*keys, "path"), f'the tcp probe "{keys[-1]}" can\'t have a path')
        times = {
            key: self._whole((*keys, key), table.get(key, default), "M14", least, MOST_SECONDS)
            for key, default, least in (("interval_seconds", 15, 5), ("timeout_seconds", 31, 11))
        }
        port = self._port((*keys, "port"), table["port"]) if "port" in table else None
        return LoadBalancerProbe(name=keys[-1], protocol=protocol, path=path, port=port, **times)

    def _tasks(self, keys: Keys, role: dict[str, Any]) -> tuple[StartupTask, ...]:
        tasks = role.get(keys[-1], [])
        if not isinstance(tasks, list):
            self._problems.add("N04", keys, f'"{".".join(keys)}" is a list: write each task as [[{".".join(keys)}]]')
            return ()
        numbered = [((*keys, str(index)), task) for index, task in enumerate(tasks)]
        return tuple(self._task(each, self._table(each, task)) for each, task in numbered)

    def _task(self, keys: Keys, table: dict[str, Any]) -> StartupTask:
        self._known(keys, table, ("command", "type", "execution_context", "environment"))
        environment, instance_values = self._variables((*keys, "environment"), table)
        kind = self._choice((*keys, "type"), table.get("type", "simple"), [*TaskType], "a task's type")
        return StartupTask(
            command_line=self._text((*keys, "command"), table.get("command"), required=True),
            execution_context=self._context(keys, table),
            task_type=TaskType(kind),
            environment=environment,
            instance_values=instance_values,
        )

    def _context(self, keys: Keys, table: dict[str, Any]) -> ExecutionContext:
        value = table.get("execution_context", "limited")
        chosen = self._choice((*keys, "execution_context"), value, [*ExecutionContext], "an execution context")
        return ExecutionContext(chosen)

    def _variables(self, keys: Keys, role: dict[str, Any]) -> Variables:
        table = self._table(keys, role.get(keys[-1], {}))
        nested = {name: value for name, value in table.items() if isinstance(value, dict)}
        plain = {name: value for name, value in table.items() if name not in nested}
        self._unlike(keys, table)
        values = self._texts(keys, plain, VARIABLE)
        paths = {name: self._instance_value((*keys, name), value) for name, value in nested.items()}
        for name in table:
            if is_reserved(name):
                self._problems.add("N03", (*keys, name), f'the host sets the variable "{name}" itself')
        return frozen(values), frozen(paths)

    def _instance_value(self, keys: Keys, table: dict[str, Any]) -> str:
        self._name(keys, VARIABLE)
        path = table.get("xpath")
        if set(table) != {"xpath"} or not isinstance(path, str):
            self._problems.add("M17", keys, f'the variable "{keys[-1]}" has either a value or an XPath')
            return ""
        check_value(self._problems, keys, path)
        return path


def _why_no_thumbprint(text: str) -> str:
    """What a person doesn't see: the original's certificate window puts such a character before what is copied."""
    hidden = next((letter for letter in text if not letter.isprintable()), "")
    return f": it holds an invisible character (U+{ord(hidden):04X})" if hidden else ""


def _is_thumbprint(text: str) -> bool:
    return len(text) == _THUMBPRINT_DIGITS and not set(text) - set("0123456789ABCDEF")
