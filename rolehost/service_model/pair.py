"""`ServiceDefinition.csdef` and `ServiceConfiguration.cscfg` as one definition: the old service's files, as they are.

A role of the old service names a class of .NET; here it is a class of Python. Which one is found in this order:

1. `entry_points.toml` in the folder of the csdef: a table `[entry_points]` with lines `Role = "module:Class"`;
2. `<NetFxEntryPoint assemblyName="module:Class" .../>` in the csdef itself;
3. a role that has neither is valid, with a warning, but nothing can be started for it.

A `<ProgramEntryPoint>` needs no mapping: its program is started as it is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolehost.service_model.configuration import Configuration, ConfiguredRole, endpoint_of, read_configuration
from rolehost.service_model.definition import DefinedRole, Definition, read_definition
from rolehost.service_model.markup import LARGEST_FILE, Element, MarkupError, parse
from rolehost.service_model.model import ServiceModel
from rolehost.service_model.native import read_document
from rolehost.service_model.placed import PlacedProblems, Source, number
from rolehost.service_model.problems import Problems, TooManyProblemsError, suggest
from rolehost.service_model.schema import CONFIGURATION, DEFINITION, warn_of_ignored

MAPPING_FILE = "entry_points.toml"
_PLUG_INS = "Microsoft.WindowsAzure.Plugins."
# As "?IsSimulationEnvironment?", in what was packed for the emulator.
_OF_THE_TOOLS = re.compile(r"\?\w+\?")
# Stands in for one whose absence is noted.
_NO_THUMBPRINT = "0" * 40


@dataclass(frozen=True, slots=True)
class Pair:
    """The two files, and how messages call them."""

    definition: Path
    configuration: Path
    definition_name: str
    configuration_name: str


@dataclass(frozen=True, slots=True)
class Read:
    """What a pair says.

    Args:
        model: None where there are errors.
        document: the tables of a `service.toml` that says the same.
        problems: in the order of the files.
    """

    model: ServiceModel | None
    document: dict[str, Any]
    problems: PlacedProblems


def read_pair(pair: Pair, entry_points: Mapping[str, str] | None = None, *, directory: Path | None = None) -> Read:
    """The service that a pair of files defines, and all that is wrong with them.

    Args:
        pair: the files.
        entry_points: `module:Class` by role, over those of the files.
        directory: where the roles' modules are; None: beside the definition.
    """
    problems = PlacedProblems(pair.definition_name)
    document: dict[str, Any] = {}
    model = None
    try:
        definition_root = _root(
            pair.definition, "ServiceDefinition", DEFINITION, Source(problems, pair.definition_name)
        )
        configured = Source(problems, pair.configuration_name)
        configuration_root = _root(pair.configuration, "ServiceConfiguration", CONFIGURATION, configured)
        definition = configuration = None
        if definition_root:
            definition = read_definition(definition_root, problems, pair.definition_name)
        if configuration_root:
            configuration = read_configuration(configuration_root, configured)
        if definition:
            document = (
                _Joined(definition, configuration, problems, pair).document() if configuration else _alone(definition)
            )
            _map_entry_points(document, pair, problems, entry_points or {})
            where = directory or pair.definition.parent
            model = read_document(document, problems, pair.definition, where, mapped=False)
    except TooManyProblemsError:
        model = None
    order = (pair.definition_name, pair.configuration_name)
    problems.found.sort(key=lambda each: (order.index(each.file) if each.file in order else len(order), each.line))
    if model is None or problems.errors:
        return Read(None, document, problems)
    return Read(replace(model, configuration=pair.configuration), document, problems)


def _root(path: Path, name: str, namespace: str, source: Source) -> Element | None:
    def warn(code: str, line: int, sentence: str) -> None:
        source.problems.note(code, source.file, line, sentence, warning=True)

    try:
        root = parse(_content(path))
    except MarkupError as error:
        source.problems.note("N01", source.file, error.line, error.sentence)
        return None
    except OSError as error:
        told = f"the file can't be read: {error.strerror or error}"
        if isinstance(error, FileNotFoundError):
            told = "there is no such file"
        source.problems.note("N00", source.file, 0, told)
        return None
    if (root.name, root.namespace) != (name, namespace):
        told = f"the root element is <{name}> in the namespace {namespace}, not <{root.name}>"
        source.note("M01", root, f"{told} in {root.namespace or 'none'}")
        return None
    warn_of_ignored(root, warn)
    return root


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise MarkupError("this is no file")
    with path.open("rb") as file:
        return file.read(LARGEST_FILE + 1)


def _alone(definition: Definition) -> dict[str, Any]:
    # The configuration can't be read: what is wrong with the definition is told all the same.
    for role in definition.roles.values():
        role.table["settings"] = dict.fromkeys(role.settings, "")
        role.table["certificates"] = {name: {"thumbprint": _NO_THUMBPRINT} for name in role.certificates}
    return {"service": definition.service, "roles": {name: role.table for name, role in definition.roles.items()}}


class _Joined:
    """The two files, held against each other."""

    def __init__(
        self, definition: Definition, configuration: Configuration, problems: PlacedProblems, pair: Pair
    ) -> None:
        self._definition = definition
        self._configuration = configuration
        self._problems = problems
        self._csdef = Source(problems, pair.definition_name)
        self._cscfg = Source(problems, pair.configuration_name)

    def document(self) -> dict[str, Any]:
        definition, configuration = self._definition, self._configuration
        service = dict(definition.service)
        if configuration.service and configuration.service != definition.name:
            told = f'serviceName is "{configuration.service}", but the definition\'s name is "{definition.name}"'
            self._cscfg.note("M02", configuration.root, told, "serviceName")
        names = {"osFamily": "os_family", "osVersion": "os_version"}
        attributes = configuration.root.attributes
        service |= {native: attributes[name] for name, native in names.items() if name in attributes}
        for name, configured in configuration.roles.items():
            if name not in definition.roles and name not in definition.left_out:
                told = f'the definition has no role "{name}"{suggest(name, definition.roles)}'
                self._cscfg.note("M07", configured.element, told, "name")
        roles = {}
        for name, defined in definition.roles.items():
            if other := configuration.roles.get(name):
                self._role(name, defined, other)
            else:
                self._csdef.note("M07", defined.element, f'the configuration has no role "{name}"', "name")
            roles[name] = defined.table
        self._rules()
        return {"service": service, "roles": roles}

    def _role(self, name: str, defined: DefinedRole, configured: ConfiguredRole) -> None:
        table = defined.table
        if configured.count is not None and configured.instances:
            table["instances"] = number(configured.count)
            self._problems.put(("roles", name, "instances"), self._cscfg.file, configured.instances, "count")
        if settings := self._settings(name, defined, configured):
            table["settings"] = settings
        if certificates := self._certificates(name, defined, configured):
            table["certificates"] = certificates

    def _settings(self, role: str, defined: DefinedRole, configured: ConfiguredRole) -> dict[str, str]:
        settings = {}
        for name, element in defined.settings.items():
            if name not in configured.settings:
                told = f'the setting "{name}" of the role "{role}" has no value in the configuration'
                self._csdef.note("M06", element, told, "name")
        for name, element in configured.settings.items():
            if _OF_THE_TOOLS.fullmatch(name):
                told = f'the setting "{name}" is ignored: the tools of the original wrote it for themselves'
                self._cscfg.note("N08", element, told, "name", warning=True)
                continue
            self._problems.put(("roles", role, "settings", name), self._cscfg.file, element)
            settings[name] = element.attributes.get("value", "")
            if name not in defined.settings and not _of_plug_in(name, defined):
                told = f'the role "{role}" declares no setting "{name}"{suggest(name, defined.settings)}'
                self._cscfg.note("M05", element, f"{told}{_plug_in_hint(name)}", "name")
        return settings

    def _certificates(self, role: str, defined: DefinedRole, configured: ConfiguredRole) -> dict[str, Any]:
        certificates: dict[str, Any] = {}
        for name, element in defined.certificates.items():
            keys = ("roles", role, "certificates", name)
            names = {
                "storeLocation": "store_location",
                "storeName": "store_name",
                "permissionLevel": "permission_level",
            }
            certificates[name] = self._csdef.table(keys, element, names)
            if name not in configured.certificates:
                told = f'the certificate "{name}" of the role "{role}" has no thumbprint in the configuration'
                self._csdef.note("M26", element, told, "name")
                certificates[name]["thumbprint"] = _NO_THUMBPRINT
        for name, element in configured.certificates.items():
            if name not in defined.certificates and _of_plug_in(name, defined):
                told = f'the certificate "{name}" is ignored: the plug-in that used it is'
                self._cscfg.note("N08", element, told, "name", warning=True)
            elif name not in defined.certificates:
                told = f'the role "{role}" declares no certificate "{name}"{suggest(name, defined.certificates)}'
                self._cscfg.note("M26", element, f"{told}{_plug_in_hint(name)}", "name")
            elif "thumbprint" in element.attributes:
                place = ("roles", role, "certificates", name, "thumbprint")
                self._problems.put(place, self._cscfg.file, element, "thumbprint")
                certificates[name]["thumbprint"] = element.attributes["thumbprint"]
            else:
                certificates[name]["thumbprint"] = _NO_THUMBPRINT  # its absence is noted
        return certificates

    def _rules(self) -> None:
        for rule in self._configuration.rules:
            role, endpoint = rule.attributes.get("role", ""), endpoint_of(rule)
            defined = self._definition.roles.get(role)
            if role and defined is None and role not in self._definition.left_out:
                self._cscfg.note("M27", rule, f'there is no role "{role}"', "role")
            elif defined is not None and endpoint not in defined.table.get("endpoints", {}):
                self._cscfg.note("M27", rule, f'the role "{role}" has no input endpoint "{endpoint}"', "endpoint")


def _of_plug_in(name: str, role: DefinedRole) -> bool:
    return any(name.startswith(f"{_PLUG_INS}{plug_in}.") for plug_in in role.plug_ins if plug_in)


def _plug_in_hint(name: str) -> str:
    if not name.startswith(_PLUG_INS):
        return ""
    return f': the plug-in "{name.removeprefix(_PLUG_INS).partition(".")[0]}" is not imported'


def _map_entry_points(document: dict[str, Any], pair: Pair, problems: PlacedProblems, given: Mapping[str, str]) -> None:
    roles = document["roles"]
    path = pair.definition.with_name(MAPPING_FILE)
    name = str(Path(pair.definition_name).with_name(MAPPING_FILE))
    mapped = _mapped(path, name, problems)
    for role, entry_point in {**mapped.entry_points, **given}.items():
        line = mapped.lines.line_of(("entry_points", role))
        if role not in roles:
            problems.note("M07", name, line, f'the definition has no role "{role}"{suggest(role, roles)}')
            continue
        problems.places["roles", role, "entry_point"] = (name, line)
        roles[role]["entry_point"] = entry_point
        roles[role].pop("program", None)
    for role, table in roles.items():
        if "entry_point" not in table and "program" not in table:
            told = f'nothing says which Python class the role "{role}" is: name it in {MAPPING_FILE} beside the csdef'
            problems.add("N09", ("roles", role), f'{told}, in [entry_points], {role} = "module:Class"', warning=True)


@dataclass(frozen=True, slots=True)
class _Mapped:
    """What the mapping file says, and where."""

    entry_points: dict[str, Any]
    lines: Problems


def _mapped(path: Path, name: str, problems: PlacedProblems) -> _Mapped:
    text = ""
    try:
        text = _content(path).decode("utf-8-sig")
        document = tomllib.loads(text)
    except FileNotFoundError:
        return _Mapped({}, Problems(name))
    except (OSError, ValueError, RecursionError, MarkupError) as error:
        problems.note("N01", name, 0, f"this is no TOML: {error}")
        return _Mapped({}, Problems(name))
    table = document.get("entry_points")
    if not isinstance(table, dict) or set(document) != {"entry_points"}:
        problems.note("N01", name, 0, 'the file has one table, [entry_points], with a line Role = "module:Class" each')
        return _Mapped({}, Problems(name))
    return _Mapped(table, Problems(name, text))
