"""What the two XML files may hold: what is read, what is known but means nothing here, and what is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rolehost.service_model.markup import Element
from rolehost.service_model.problems import suggest

DEFINITION = "http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceDefinition"
CONFIGURATION = "http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceConfiguration"

# Code, line, sentence.
Warn = Callable[[str, int, str], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """What an element may hold.

    Args:
        attributes: read.
        children: read.
        ignored: attributes and children that mean nothing here, with the reason; nothing below is looked at.
    """

    attributes: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    ignored: Mapping[str, str] = field(default_factory=dict)


def _known(attributes: str = "", children: str = "", **ignored: str) -> _Known:
    return _Known(frozenset(attributes.split()), frozenset(children.split()), ignored)


_NETWORK = "who may connect to whom is decided by the network that the containers run in"
_MACHINE = "the container decides what an instance runs on"
_IMAGE = "what an instance holds is what its container image holds"
_PLUG_IN = "there are no plug-ins here; their settings are ordinary settings of the role"

_ROLE = _known(
    "name",
    "ConfigurationSettings LocalResources LocalStorage Endpoints InputEndpoints Certificates Runtime Startup Imports "
    "Contents",
    vmsize=_MACHINE,
    enableNativeCodeExecution="every program may be started",
    Sites="there is no IIS: the role's own process serves its endpoints",
)
_DEFINITION: dict[str, _Known] = {
    "ServiceDefinition": _known(
        "name topologyChangeDiscovery upgradeDomainCount schemaVersion",
        "WorkerRole WebRole LoadBalancerProbes",
        NetworkTrafficRules=_NETWORK,
        VirtualMachineRole="a whole virtual machine can't be a role here",
    ),
    "LoadBalancerProbes": _known(children="LoadBalancerProbe"),
    "LoadBalancerProbe": _known("name protocol path port intervalInSeconds timeoutInSeconds"),
    "WorkerRole": _ROLE,
    "WebRole": _ROLE,
    "ConfigurationSettings": _known(children="Setting"),
    "Setting": _known("name"),
    "LocalResources": _known(children="LocalStorage"),
    "LocalStorage": _known("name sizeInMB cleanOnRoleRecycle"),
    "Endpoints": _known(children="InputEndpoint InternalEndpoint InstanceInputEndpoint"),
    "InputEndpoints": _known(children="InputEndpoint"),  # of the first versions
    "InputEndpoint": _known(
        "name protocol port localPort certificate ignoreRoleInstanceStatus loadBalancerProbe",
        enableDirectServerReturn=_NETWORK,
    ),
    "InternalEndpoint": _known("name protocol port", "FixedPort FixedPortRange"),
    "FixedPort": _known("port"),
    "FixedPortRange": _known("min max"),
    "InstanceInputEndpoint": _known("name protocol localPort", "AllocatePublicPortFrom"),
    "AllocatePublicPortFrom": _known(children="FixedPortRange"),
    "Certificates": _known(children="Certificate"),
    "Certificate": _known("name storeLocation storeName permissionLevel"),
    "Contents": _known(children="Content"),
    "Content": _known("destination", "SourceDirectory"),
    "SourceDirectory": _known("path"),
    "Imports": _known(children="Import"),
    "Import": _known("moduleName"),
    "Runtime": _known("executionContext", "Environment EntryPoint"),
    "Environment": _known(children="Variable"),
    "Variable": _known("name value", "RoleInstanceValue"),
    "RoleInstanceValue": _known("xpath"),
    "EntryPoint": _known(children="NetFxEntryPoint ProgramEntryPoint"),
    "NetFxEntryPoint": _known("assemblyName targetFrameworkVersion"),
    "ProgramEntryPoint": _known("commandLine setReadyOnProcessStart"),
    "Startup": _known(children="Task", priority="tasks run in the order of the file"),
    "Task": _known("commandLine executionContext taskType", "Environment"),
}
_CONFIGURATION: dict[str, _Known] = {
    "ServiceConfiguration": _known(
        "serviceName osFamily osVersion schemaVersion",
        "Role NetworkConfiguration",
    ),
    "Role": _known(
        "name",
        "Instances ConfigurationSettings Certificates",
        vmName="host names are the orchestrator's",
        OsImage=_IMAGE,
    ),
    "Instances": _known("count"),
    "ConfigurationSettings": _known(children="Setting"),
    "Setting": _known("name value"),
    "Certificates": _known(children="Certificate"),
    "Certificate": _known("name thumbprint thumbprintAlgorithm"),
    "NetworkConfiguration": _known(
        children="AccessControls EndpointAcls",
        Dns=_NETWORK,
        VirtualNetworkSite=_NETWORK,
        AddressAssignments=_NETWORK,
        LoadBalancers=_NETWORK,
    ),
    "AccessControls": _known(children="AccessControl"),
    "AccessControl": _known("name", "Rule"),
    "Rule": _known("order action remoteSubnet description"),
    "EndpointAcls": _known(children="EndpointAcl"),
    "EndpointAcl": _known("role endpoint accessControl endPoint"),
}
_SCHEMAS = {DEFINITION: _DEFINITION, CONFIGURATION: _CONFIGURATION}
# Said once, where they stand: what is in them is checked all the same.
_MEANINGLESS = {"NetworkConfiguration": _NETWORK, "osFamily": _MACHINE, "osVersion": _MACHINE}


def warn_of_ignored(root: Element, warn: Warn) -> None:
    """Name everything that is not read.

    Args:
        root: of either file.
        warn: gets `M28` for what is unknown, `N08` for what is known, but without a meaning here.
    """
    _walk(root, _SCHEMAS[root.namespace], root.namespace, warn)
    for role in root.all("WorkerRole") + root.all("WebRole"):
        for plug_in in (each for imports in role.all("Imports") for each in imports.all("Import")):
            warn(
                "N08", plug_in.line, f'the plug-in "{plug_in.attributes.get("moduleName", "")}" is ignored: {_PLUG_IN}'
            )


def _walk(element: Element, schema: Mapping[str, _Known], namespace: str, warn: Warn) -> None:
    known = schema[element.name]
    for attribute, value in element.attributes.items():
        line = element.line_of(attribute)
        if reason := known.ignored.get(attribute, _MEANINGLESS.get(attribute)):
            warn("N08", line, f'{attribute}="{value}" is ignored: {reason}')
        elif attribute not in known.attributes:
            hint = suggest(attribute, known.attributes)
            warn("M28", line, f"unknown attribute {attribute} of <{element.name}>: it is ignored{hint}")
    for child in element.children:
        if reason := known.ignored.get(child.name, _MEANINGLESS.get(child.name)):
            warn("N08", child.line, f"<{child.name}> is ignored: {reason}")
        if child.namespace == namespace and child.name in known.children:
            _walk(child, schema, namespace, warn)
        elif child.name not in known.ignored:
            told = f"unknown element <{child.name}> in <{element.name}>: it is ignored"
            if child.namespace == namespace:
                hint = suggest(child.name, known.children)
            else:
                hint = f"; its namespace is {child.namespace or 'none'}"
            warn("M28", child.line, f"{told}{hint}")
