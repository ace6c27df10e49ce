"""`service.toml`, the native definition: read into the model, every problem noted."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rolehost.service_model.model import InputEndpoint, LocalStorage, RoleModel, ServiceModel, frozen
from rolehost.service_model.problems import Keys, Problems, suggest

_Part = TypeVar("_Part")

# Roles, resources and endpoints become directories, variables and identifiers.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,254}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENTRY_POINT = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?")
# What no document or environment can carry.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_RESERVED_VARIABLES = frozenset(
    {
        "rdroleid",
        "roledeploymentid",
        "roleinstanceid",
        "rolename",
        "roleroot",
        "temp",
        "tmp",
        "tmpdir",
        "waruntimeendpoint",
    }
)
_PROTOCOLS = ("http", "tcp")
_MOST_ROLES = 25
_MOST_INSTANCES = 1000
_LAST_PORT = 65535

_TIMES = ("drain_seconds", "on_stop_seconds", "recycle_seconds", "heartbeat_seconds")
_SERVICE_KEYS = ("name", *_TIMES)
_ROLE_KEYS = ("entry_point", "instances", "settings", "local_resources", "endpoints", "environment")


def read_native(text: str, file: str, source: Path | None, directory: Path) -> tuple[ServiceModel | None, Problems]:
    """The model that `text` defines, and all that is wrong with it.

    Args:
        text: the content of a `service.toml`.
        file: how messages call it.
        source: its path, where it is a file.
        directory: where the roles' own modules are found.
    """
    problems = Problems(file, text)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        last = len(text.splitlines())  # "at end of document"
        problems.add_at("N01", int(line[1]) if line else last, f"this is no TOML: {error}")
        return None, problems
    model = _Reader(problems).service(document, source, directory)
    return (None if problems.found else model), problems


def check_value(problems: Problems, keys: Keys, value: str) -> None:
    """Note characters that no environment and no document can carry."""
    if _UNPRINTABLE.search(value):
        problems.add("N02", keys, f'the value of "{keys[-1]}" holds characters that can\'t be passed to a role')


class _Reader:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._ports: dict[int, Keys] = {}

    def service(self, document: dict[str, Any], source: Path | None, directory: Path) -> ServiceModel:
        self._known((), document, ("service", "roles"))
        service = self._table(("service",), document.get("service", {}))
        self._known(("service",), service, _SERVICE_KEYS)
        name = self._text(("service", "name"), service.get("name"), required=True)
        times = {
            key: self._seconds(("service", key), service[key])
            for key in _SERVICE_KEYS
            if key != "name" and key in service
        }
        roles = self._table(("roles",), document.get("roles", {}))
        if not 1 <= len(roles) <= _MOST_ROLES:
            self._problems.add("M04", ("roles",), f"a service has 1 to {_MOST_ROLES} roles, this one has {len(roles)}")
        self._unlike(("roles",), roles)
        read = {role: self._role(role, table) for role, table in roles.items()}
        return ServiceModel(name=name, roles=frozen(read), source=source, directory=directory, **times)

    def _role(self, name: str, value: object) -> RoleModel:
        keys: Keys = ("roles", name)
        self._name(keys, _NAME, "letters, digits, - and _, a letter first")
        table = self._table(keys, value)
        self._known(keys, table, _ROLE_KEYS)
        entry_point = self._text((*keys, "entry_point"), table.get("entry_point"), required=True)
        if entry_point and not _ENTRY_POINT.fullmatch(entry_point):
            self._problems.add("M20", (*keys, "entry_point"), f'"{entry_point}" is no "module:Class"')
        return RoleModel(
            name=name,
            entry_point=entry_point,
            instances=self._whole((*keys, "instances"), table.get("instances", 1), "M24", 1, _MOST_INSTANCES),
            settings=self._strings((*keys, "settings"), table, _SETTING),
            local_resources=self._parts((*keys, "local_resources"), table, self._storage),
            endpoints=self._parts((*keys, "endpoints"), table, self._endpoint),
            environment=self._variables((*keys, "environment"), table),
        )

    def _storage(self, keys: Keys, table: dict[str, Any]) -> LocalStorage:
        self._known(keys, table, ("size_in_mb", "clean_on_role_recycle"))
        if keys[-1].casefold() == "roletemp":
            self._problems.add("N03", keys, 'the local resource "RoleTemp" is the role\'s own: choose another name')
        clean = table.get("clean_on_role_recycle", True)
        if not isinstance(clean, bool):
            self._problems.add("N04", (*keys, "clean_on_role_recycle"), "clean_on_role_recycle is true or false")
        size = self._whole((*keys, "size_in_mb"), table.get("size_in_mb", 100), "M09", 1, 2**31)
        return LocalStorage(name=keys[-1], size_in_mb=size, clean_on_role_recycle=bool(clean))

    def _endpoint(self, keys: Keys, table: dict[str, Any]) -> InputEndpoint:
        self._known(keys, table, ("protocol", "port"))
        protocol = table.get("protocol", "tcp")
        if protocol not in _PROTOCOLS:
            choice = " or ".join(_PROTOCOLS)
            self._problems.add("M21", (*keys, "protocol"), f'a protocol is {choice}, not "{protocol}"')
        if "port" not in table:
            self._problems.add("M10", keys, f'the endpoint "{keys[-1]}" needs a port')
        port = self._whole((*keys, "port"), table.get("port", 1), "M10", 1, _LAST_PORT)
        if other := self._ports.get(port):
            self._problems.add(
                "M11", (*keys, "port"), f'port {port} is already that of "{other[1]}", endpoint "{other[-1]}"'
            )
        elif "port" in table:
            self._ports[port] = keys
        return InputEndpoint(name=keys[-1], protocol=str(protocol), port=port)

    def _parts(
        self, keys: Keys, role: dict[str, Any], read: Callable[[Keys, dict[str, Any]], _Part]
    ) -> Mapping[str, _Part]:
        table = self._table(keys, role.get(keys[-1], {}))
        self._unlike(keys, table)
        for name in table:
            self._name((*keys, name), _NAME, "letters, digits, - and _, a letter first")
        return frozen({name: read((*keys, name), self._table((*keys, name), part)) for name, part in table.items()})

    def _variables(self, keys: Keys, role: dict[str, Any]) -> Mapping[str, str]:
        values = self._strings(keys, role, _VARIABLE)
        for name in values:
            if name.casefold() in _RESERVED_VARIABLES or name.casefold().startswith("rolehost_"):
                self._problems.add("N03", (*keys, name), f'the host sets the variable "{name}" itself')
        return values

    def _strings(self, keys: Keys, role: dict[str, Any], form: re.Pattern[str]) -> Mapping[str, str]:
        table = _flat(self._table(keys, role.get(keys[-1], {})))
        self._unlike(keys, table)
        allowed = "letters, digits and _" if form is _VARIABLE else "letters, digits, . - and _"
        values = {}
        for name, value in table.items():
            self._name((*keys, name), form, allowed)
            if isinstance(value, str | int | float):
                values[name] = str(value).lower() if isinstance(value, bool) else str(value)
                check_value(self._problems, (*keys, name), values[name])
            else:
                self._problems.add("N04", (*keys, name), f'the value of "{name}" is text, a number, true or false')
        return frozen(values)

    def _unlike(self, keys: Keys, table: dict[str, Any]) -> None:
        seen: dict[str, str] = {}
        for name in table:
            if other := seen.get(name.casefold()):
                self._problems.add("M08", (*keys, name), f'"{name}" and "{other}" differ in case only')
            seen[name.casefold()] = name

    def _known(self, keys: Keys, table: dict[str, Any], known: tuple[str, ...]) -> None:
        where = ".".join(keys)
        for key in sorted(table.keys() - set(known)):
            place = f"in [{where}]" if where else "at the top"
            self._problems.add("M28", (*keys, key), f'unknown key "{key}" {place}{suggest(key, known)}')

    def _name(self, keys: Keys, form: re.Pattern[str], allowed: str) -> None:
        if not form.fullmatch(keys[-1]):
            self._problems.add("N05", keys, f'"{keys[-1]}" is no name in {".".join(keys[:-1])}: allowed are {allowed}')

    def _table(self, keys: Keys, value: object) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self._problems.add("N04", keys, f'"{".".join(keys)}" is a table: write it as [{".".join(keys)}]')
        return {}

    def _text(self, keys: Keys, value: object, *, required: bool = False) -> str:
        if isinstance(value, str) and (value or not required):
            check_value(self._problems, keys, value)
            return value
        self._problems.add("N06", keys, f'{".".join(keys[:-1])} needs "{keys[-1]}", a text')
        return ""

    def _seconds(self, keys: Keys, value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        self._problems.add("N04", keys, f"{keys[-1]} is a number of seconds above 0, not {value!r}")
        return 1.0

    def _whole(self, keys: Keys, value: object, code: str, least: int, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._problems.add(code, keys, f"{keys[-1]} is a whole number from {least} to {most}, not {value!r}")
        return least


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    # TOML reads an unquoted `Worker.Slots = 2` as a table: here it is a name with a dot.
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
