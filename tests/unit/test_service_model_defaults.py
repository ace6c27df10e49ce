from __future__ import annotations

from pathlib import Path

from rolehost.service_model import ExecutionContext, TaskType, TopologyChangeDiscovery, load
from rolehost.service_model.model import TIMES


def test_the_times_are_those_of_the_original_where_it_told_them(tmp_path: Path) -> None:
    definition = tmp_path / "service.toml"
    definition.write_text('[service]\nname = "s"\n[roles.Worker]\nprogram = "sh"\n')
    model = load(definition, {})
    assert {name: getattr(model, name) for name in TIMES} == {
        "drain_seconds": 25.0,
        "on_stop_seconds": 300.0,
        "recycle_seconds": 1.0,
        "heartbeat_seconds": 30.0,
        "start_seconds": 1800.0,
        "changing_seconds": 30.0,
        "status_check_seconds": 15.0,
    }


def test_a_definition_that_says_nothing_more_means_what_the_original_meant(tmp_path: Path) -> None:
    schema = "http://schemas.microsoft.com/ServiceHosting/2008/10/Service"
    definition = tmp_path / "ServiceDefinition.csdef"
    definition.write_text(f"""<ServiceDefinition name="S" xmlns="{schema}Definition">
        <LoadBalancerProbes><LoadBalancerProbe name="P" protocol="tcp"/></LoadBalancerProbes>
        <WorkerRole name="R">
            <Startup><Task commandLine="a.sh"/></Startup>
            <Runtime>
                <EntryPoint><ProgramEntryPoint commandLine="sh" setReadyOnProcessStart="true"/></EntryPoint>
            </Runtime>
            <LocalResources><LocalStorage name="L"/></LocalResources>
            <Endpoints><InputEndpoint name="E" protocol="tcp" port="9"/></Endpoints>
        </WorkerRole></ServiceDefinition>""")
    definition.with_name("ServiceConfiguration.cscfg").write_text(
        f'<ServiceConfiguration serviceName="S" xmlns="{schema}Configuration">'
        '<Role name="R"><Instances count="1"/></Role></ServiceConfiguration>'
    )
    model = load(definition, {})
    probe, role = model.probes["P"], model.roles["R"]
    assert (probe.interval_seconds, probe.timeout_seconds) == (15, 31)
    assert model.upgrade_domain_count == 5
    assert model.topology_change_discovery is TopologyChangeDiscovery.UPGRADE_DOMAIN_WALK
    storage, endpoint, (task,) = role.local_resources["L"], role.endpoints["E"], role.startup_tasks
    assert (storage.size_in_mb, storage.clean_on_role_recycle) == (100, True)
    assert (endpoint.local_port, endpoint.ignore_role_instance_status, endpoint.probe) == (None, False, "")
    assert (task.task_type, task.execution_context) == (TaskType.SIMPLE, ExecutionContext.LIMITED)
    assert role.execution_context is ExecutionContext.LIMITED
