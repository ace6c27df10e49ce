"""`service.toml`, the native definition: read into the model, every problem noted."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from rolehost.service_model.hook_reading import HookReader
from rolehost.service_model.model import (
    STORES,
    TIMES,
    RecycleBackoff,
    RoleKind,
    RoleModel,
    ServiceModel,
    TopologyChangeDiscovery,
    frozen,
)
from rolehost.service_model.native_parts import Parts
from rolehost.service_model.problems import Keys, Problems, TooManyProblemsError
from rolehost.service_model.rules import MOST_INSTANCES, check_rules
from rolehost.service_model.values import NAME, SETTING
from rolehost.service_model.worker import CONFIGURED, WorkerDeclaration
from rolehost.service_model.worker_reading import WorkerReader

_ENTRY_POINT = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?")
_SECRET = re.compile(r"(AccountKey|SharedAccess\w*|[?&]sig)\s*=", re.IGNORECASE)
_MOST_ROLES = 25
_MOST_DOMAINS = 20

_FACTS = (
    *("recycle_backoff", "topology_change_discovery", "upgrade_domain_count"),
    *("os_family", "os_version", "probes"),
)
_SERVICE_KEYS = ("name", *TIMES, *_FACTS, *STORES)
_ROLE_KEYS = (
    *("kind", "entry_point", "program", "execution_context", "instances"),
    *("settings", "local_resources", "environment", "startup"),
    *("endpoints", "internal_endpoints", "instance_input_endpoints", "certificates", "contents"),
    "worker",
)


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
        model = read_document(tomllib.loads(text), problems, source, directory)
    except TooManyProblemsError:
        return None, problems
    except ValueError as error:  # also for a number of thousands of digits
        line = re.search(r"at line (\d+)", str(error))
        last = len(text.splitlines())  # "at end of document"
        hint = ": the name of a definition in XML ends in .csdef" if text.lstrip().startswith("<") else ""
        problems.add_at("N01", int(line[1]) if line else last, f"this is no TOML: {error}{hint}")
        return None, problems
    except RecursionError:
        problems.add_at("N01", 0, "this is nested too deeply")
        return None, problems
    return model, problems


def read_document(
    document: dict[str, Any], problems: Problems, source: Path | None, directory: Path, *, mapped: bool = True
) -> ServiceModel | None:
    """The model of a document, or None where something is wrong with it.

    Args:
        document: the tables of a `service.toml`, whichever file they came from.
        problems: gets what is wrong.
        source: the definition's path, where it is a file.
        directory: where the roles' own modules are found.
        mapped: every role has to say what runs in it.
    """
    model = _Reader(problems, mapped=mapped).service(document, source, directory)
    check_rules(model, problems)
    return None if problems.errors else model


class _Reader(Parts):
    def __init__(self, problems: Problems, *, mapped: bool) -> None:
        super().__init__(problems)
        self._mapped = mapped

    def service(self, document: dict[str, Any], source: Path | None, directory: Path) -> ServiceModel:
        self._known((), document, ("service", "roles", "hooks"))
        service = self._table(("service",), document.get("service", {}))
        self._known(("service",), service, _SERVICE_KEYS)
        name = self._text(("service", "name"), service.get("name"), required=True)
        roles = self._table(("roles",), document.get("roles", {}))
        if not 1 <= len(roles) <= _MOST_ROLES:
            self._problems.add("M04", ("roles",), f"a service has 1 to {_MOST_ROLES} roles, this one has {len(roles)}")
        self._unlike(("roles",), roles)
        read = {role: self._role(role, table) for role, table in roles.items()}
        facts = self._facts(service)
        facts["hooks"] = HookReader(self._problems).read_all(document.get("hooks", {}))
        return ServiceModel(name=name, roles=frozen(read), source=source, directory=directory, **facts)

    def _facts(self, service: dict[str, Any]) -> dict[str, Any]:
        facts: dict[str, Any] = {key: self._seconds(("service", key), service[key]) for key in TIMES if key in service}
        facts["probes"] = self._parts(("service", "probes"), service, self._probe)
        if (how := service.get("recycle_backoff")) is not None:
            chosen = self._choice(("service", "recycle_backoff"), how, [*RecycleBackoff], "recycle back-off")
            facts["recycle_backoff"] = RecycleBackoff(chosen)
        if (how := service.get("topology_change_discovery")) is not None:
            chosen = self._choice(
                ("service", "topology_change_discovery"), how, [*TopologyChangeDiscovery], "topology change discovery"
            )
            facts["topology_change_discovery"] = TopologyChangeDiscovery(chosen)
        if (count := service.get("upgrade_domain_count")) is not None:
            keys = ("service", "upgrade_domain_count")
            facts["upgrade_domain_count"] = self._whole(keys, count, "M16", 1, _MOST_DOMAINS)
        for key in ("os_family", "os_version"):
            facts[key] = self._text(("service", key), service.get(key, ""))
        return facts | {key: self._store(key, service[key]) for key in STORES if key in service}

    def _store(self, key: str, value: object) -> str:
        """Where jobs or messages are. A definition is shown to everybody who works on it, and is no place for a key."""
        keys = ("service", key)
        text = self._text(keys, value, required=True)
        if _SECRET.search(text):
            told = f"{key} holds a secret: put it into the variable {STORES[key]}, or use an identity"
            self._problems.add("N21", keys, told)
        return text

    def _role(self, name: str, value: object) -> RoleModel:
        keys: Keys = ("roles", name)
        self._name(keys, NAME)
        table = self._table(keys, value)
        self._known(keys, table, _ROLE_KEYS)
        worker = self._worker((*keys, "worker"), table)
        entry_point, program = self._what_runs(keys, table, worker)
        environment, instance_values = self._variables((*keys, "environment"), table)
        kind = self._choice((*keys, "kind"), table.get("kind", "worker"), [*RoleKind], "a role's kind")
        return RoleModel(
            name=name,
            kind=RoleKind(kind),
            entry_point=entry_point,
            program=program,
            execution_context=self._context(keys, table),
            instances=self._whole((*keys, "instances"), table.get("instances", 1), "M24", 1, MOST_INSTANCES),
            settings=self._strings((*keys, "settings"), table, SETTING),
            local_resources=self._local_resources((*keys, "local_resources"), table),
            endpoints=self._parts((*keys, "endpoints"), table, self._endpoint),
            internal_endpoints=self._parts((*keys, "internal_endpoints"), table, self._internal_endpoint),
            instance_input_endpoints=self._parts(
                (*keys, "instance_input_endpoints"), table, self._instance_input_endpoint
            ),
            certificates=self._parts((*keys, "certificates"), table, self._certificate),
            contents=self._contents((*keys, "contents"), table),
            startup_tasks=self._tasks((*keys, "startup"), table),
            environment=environment,
            instance_values=instance_values,
            worker=worker,
        )

    def _worker(self, keys: Keys, table: dict[str, Any]) -> WorkerDeclaration | None:
        if keys[-1] not in table:
            return None
        return WorkerReader(self._problems).read(keys, table[keys[-1]])

    def _what_runs(self, keys: Keys, table: dict[str, Any], worker: WorkerDeclaration | None) -> tuple[str, str]:
        if worker is not None and isinstance(table["worker"], dict) and "program" in table["worker"]:
            for key in ("entry_point", "program"):
                if key in table:
                    told = f"the worker's program makes the role: it has no {key.replace('_', ' ')} besides"
                    self._problems.add("M20", (*keys, key), told)
            return CONFIGURED, ""
        if "program" in table:
            if worker is not None:
                told = (
                    "a guest program takes its jobs itself: a worker's table goes with an entry point or has a program"
                )
                self._problems.add("M20", (*keys, "worker"), told)
            if "entry_point" in table:
                self._problems.add("M20", (*keys, "program"), "a role has an entry point or a program, not both")
            return "", self._text((*keys, "program"), table["program"], required=True)
        if not self._mapped and "entry_point" not in table:
            return "", ""
        if worker is not None and "entry_point" not in table:
            told = f"{'.'.join(keys)} needs a program in its worker's table, or an entry point"
            self._problems.add("N06", (*keys, "worker"), told)
            return CONFIGURED, ""
        entry_point = self._text((*keys, "entry_point"), table.get("entry_point"), required=True)
        if entry_point and not _ENTRY_POINT.fullmatch(entry_point):
            self._problems.add("M20", (*keys, "entry_point"), f'"{entry_point}" is no "module:Class"')
        return entry_point, ""
