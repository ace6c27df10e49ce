"""Any model, written as a service.toml and read again, is the same model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rolehost.service_model import (
    BUILT_IN,
    DIAGNOSTIC_STORE,
    Certificate,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    LocalStorage,
    PortRange,
    RecycleBackoff,
    RoleKind,
    RoleModel,
    ServiceModel,
    StartupTask,
    TaskType,
    TopologyChangeDiscovery,
    examine,
    load,
    write_model,
)
from rolehost.service_model.worker import CONFIGURED
from support.cloud_service import CSCFG, CSDEF, Copy
from support.declarations import python_workers, workers

_Part = TypeVar("_Part")

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('"\\\n\r\t\x7f\x85\u2028#=[]{}'))
VALUES = TEXTS.filter(lambda text: not set(text) & {"\ufffe", "\uffff"})
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,8}[A-Za-z0-9_]", fullmatch=True)
ROLE_NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
SETTINGS = st.from_regex(r"[!-~]([ -~]{0,10}[!-~])?", fullmatch=True)
VARIABLES = st.from_regex(r"[A-Za-z_.(){}\"']{1,10}", fullmatch=True).filter(lambda name: name.lower() != "rolename")
COMMANDS = st.from_regex(r"[a-z.]{1,5}( [ -~]{1,10})?", fullmatch=True)
XPATHS = st.sampled_from(["/RoleEnvironment/Deployment/@id", "/RoleEnvironment/CurrentInstance/@updateDomain"])
SECONDS = st.floats(0, 2**31 - 1, exclude_min=True)
PORTS = st.integers(1, 65535)
RANGES = st.builds(lambda first, more: PortRange(first, min(65535, first + more)), PORTS, st.integers(0, 2000))
PUBLIC_PORTS = st.integers(1, 9999)
CONTEXTS = st.sampled_from(ExecutionContext)


def folded(name: str) -> str:
    return name.casefold()


def mappings(names: st.SearchStrategy[str], values: st.SearchStrategy[_Part]) -> st.SearchStrategy[Mapping[str, _Part]]:
    return st.lists(st.tuples(names, values), max_size=3, unique_by=lambda pair: folded(pair[0])).map(dict)


def parts(
    values: st.SearchStrategy[_Part], names: st.SearchStrategy[str] = NAMES
) -> st.SearchStrategy[Mapping[str, _Part]]:
    """Parts by their names, which they know themselves."""
    named = mappings(names, values)
    return named.map(lambda them: {name: replace(each, name=name) for name, each in them.items()})  # type: ignore[type-var]


@st.composite
def variables(draw: st.DrawFn) -> tuple[Mapping[str, str], Mapping[str, str]]:
    drawn = draw(mappings(VARIABLES, VALUES | XPATHS))
    taken = {name for name in drawn if draw(st.booleans())}
    paths = {name: draw(XPATHS) for name in taken}
    return {name: value for name, value in drawn.items() if name not in taken}, paths


@st.composite
def tasks(draw: st.DrawFn) -> StartupTask:
    environment, instance_values = draw(variables())
    return StartupTask(
        command_line=draw(COMMANDS),
        execution_context=draw(CONTEXTS),
        task_type=draw(st.sampled_from(TaskType)),
        environment=environment,
        instance_values=instance_values,
    )


@st.composite
def roles(draw: st.DrawFn, name: str, ports: list[int], probes: list[str]) -> RoleModel:
    environment, instance_values = draw(variables())
    certificates = draw(
        parts(
            st.builds(
                Certificate,
                name=st.just(""),
                thumbprint=st.from_regex(r"[0-9A-F]{40}", fullmatch=True),
                store_location=st.sampled_from(["LocalMachine", "CurrentUser"]),
                store_name=NAMES,
                permission_level=st.sampled_from(["limitedOrElevated", "elevated"]),
            )
        )
    )
    names = draw(st.lists(NAMES, min_size=3, max_size=3, unique_by=folded))
    runs = draw(st.sampled_from(["program", "class", "worker"]))
    declared = workers(f"kind-{len(ports)}") if runs == "worker" else python_workers(f"kind-{len(ports)}") | st.none()
    first = 10_000 * (1 + len(ports))
    endpoint = InputEndpoint(
        name=names[0],
        protocol="https" if certificates else draw(st.sampled_from(["http", "tcp", "udp"])),
        port=ports.pop(),
        local_port=draw(st.sampled_from([None, 0]) | PORTS),
        certificate=next(iter(certificates), ""),
        ignore_role_instance_status=draw(st.booleans()),
        probe=draw(st.sampled_from(["", *probes])),
    )
    internal = InternalEndpoint(
        name=names[1], protocol=draw(st.sampled_from(["http", "tcp", "udp", "any"])), ports=draw(st.none() | RANGES)
    )
    instance_input = InstanceInputEndpoint(
        name=names[2],
        protocol=draw(st.sampled_from(["tcp", "udp"])),
        local_port=draw(PORTS),
        public_ports=PortRange(first, first + draw(st.integers(0, 2000))),
    )
    stored = draw(
        parts(
            st.builds(
                LocalStorage, name=st.just(""), size_in_mb=st.integers(1, 9), clean_on_role_recycle=st.booleans()
            ),
            NAMES.filter(lambda each: folded(each) not in {"roletemp", "diagnosticstore"}) | st.just("DiagnosticStore"),
        )
    )
    return RoleModel(
        name=name,
        kind=draw(st.sampled_from(RoleKind)),
        entry_point={"program": "", "class": "package.module:Class", "worker": CONFIGURED}[runs],
        program=draw(COMMANDS) if runs == "program" else "",
        worker=None if runs == "program" else draw(declared),
        execution_context=draw(CONTEXTS),
        instances=draw(st.integers(1, len(instance_input.public_ports)).map(lambda count: min(count, 1000))),
        settings=draw(mappings(SETTINGS, VALUES)),
        environment=environment,
        instance_values=instance_values,
        local_resources={DIAGNOSTIC_STORE.name: DIAGNOSTIC_STORE} | dict(stored),
        endpoints={endpoint.name: endpoint} if draw(st.booleans()) else {},
        internal_endpoints={internal.name: internal} if draw(st.booleans()) else {},
        instance_input_endpoints={instance_input.name: instance_input},
        certificates=certificates,
        contents=draw(
            mappings(st.from_regex(r"[a-z]{1,4}(/[a-z ]{1,3}[a-z])?", fullmatch=True) | st.just("."), NAMES.map(Path))
        ),
        startup_tasks=tuple(draw(st.lists(tasks(), max_size=3))),
    )


@st.composite
def services(draw: st.DrawFn) -> ServiceModel:
    probes = draw(
        parts(
            st.builds(
                LoadBalancerProbe,
                name=st.just(""),
                protocol=st.just("http"),
                path=NAMES.map(lambda path: f"/{path}"),
                port=st.none() | PORTS,
                interval_seconds=st.integers(5, 99),
                timeout_seconds=st.integers(11, 99),
            )
            | st.builds(LoadBalancerProbe, name=st.just(""), protocol=st.just("tcp"))
        )
    )
    names = draw(st.lists(ROLE_NAMES, min_size=1, max_size=3, unique_by=folded))
    ports = draw(st.lists(PUBLIC_PORTS, min_size=3, max_size=3, unique=True))
    return ServiceModel(
        name=draw(VALUES.filter(bool)),
        roles={name: draw(roles(name, ports, list(probes))) for name in names},
        drain_seconds=draw(SECONDS),
        on_stop_seconds=draw(SECONDS),
        recycle_seconds=draw(SECONDS),
        heartbeat_seconds=draw(SECONDS),
        start_seconds=draw(SECONDS),
        changing_seconds=draw(SECONDS),
        status_check_seconds=draw(SECONDS),
        recycle_backoff=draw(st.sampled_from(RecycleBackoff)),
        topology_change_discovery=draw(st.sampled_from(TopologyChangeDiscovery)),
        upgrade_domain_count=draw(st.integers(1, 20)),
        os_family=draw(VALUES),
        os_version=draw(VALUES),
        storage=draw(VALUES),
        queue=draw(VALUES),
        probes=probes,
    )


def placed(model: ServiceModel, like: ServiceModel) -> ServiceModel:
    """Wherever it was read."""
    return replace(model, source=like.source, configuration=like.configuration, directory=like.directory)


@given(model=services())
@settings(
    deadline=None,
    max_examples=80,
    phases=(Phase.explicit, Phase.generate),  # to shrink so large an example takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_model_is_read_as_it_was_written(tmp_path: Path, model: ServiceModel) -> None:
    path = tmp_path / "written.toml"
    text = write_model(model)
    path.write_bytes(text.encode())
    examined = examine(path, {})
    assert examined.errors == (), text
    assert examined.model is not None
    assert placed(examined.model, model) == model
    assert write_model(examined.model) == text


@pytest.mark.parametrize(
    ("pair", "csdef", "cscfg"),
    [("cloud_service", CSDEF, CSCFG), ("cloud_service_pairs/python_roles", CSDEF, "ServiceConfiguration.cscfg")],
)
def test_a_pair_is_written_whole(tmp_path: Path, pair: str, csdef: str, cscfg: str) -> None:
    service = Copy(tmp_path, pair)
    model = load(service.directory / csdef, {"ROLEHOST_CONFIGURATION": cscfg})
    path = tmp_path / "elsewhere.toml"
    path.write_text(write_model(model, ["What runs."]))
    again = load(path, {}, directory=service.directory)
    assert again.directory == service.directory
    assert replace(again, source=model.source, configuration=model.configuration) == model
    assert path.read_text().startswith("# What runs.\n")


def test_the_built_in_service_is_written_whole(tmp_path: Path) -> None:
    model = load(None, {}, built_in=True)
    path = tmp_path / "written.toml"
    path.write_text(write_model(model))
    assert placed(load(path, {}), model) == model
    assert "DiagnosticStore" not in path.read_text()
    assert "DiagnosticStore" not in BUILT_IN


def test_what_the_environment_says_is_not_written(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    environ = {
        "ROLEHOST_SETTING_Jobs__QueueName": "of-the-environment",
        "ROLEHOST_SETTING_Secret": "s3cret",
        "ROLEHOST_CONFIGURATION": CSCFG,
    }
    model = load(service.directory / CSDEF, environ)
    assert model.roles["ThumbnailBackend"].settings["Secret"] == environ["ROLEHOST_SETTING_Secret"]
    path = tmp_path / "written.toml"
    path.write_text(write_model(model))
    assert "s3cret" not in path.read_text()
    assert "of-the-environment" not in path.read_text()
    again = load(path, environ, directory=service.directory)
    assert replace(again, source=model.source, configuration=model.configuration) == model
    assert load(path, {}).roles["ThumbnailBackend"].settings["Jobs.QueueName"] == "thumbnail-jobs"


def test_scripts_and_modules_are_looked_for_where_the_directory_is(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    script = service.directory / "startup/log_agent.sh"
    model = load(service.directory / CSDEF, {})
    path = tmp_path / "written.toml"
    path.write_text(write_model(model))
    script.write_bytes(b"\xef\xbb\xbf" + script.read_bytes())
    assert examine(path, {}).errors == ()
    (problem,) = examine(path, {}, directory=service.directory).errors
    assert problem.code == "M23"
