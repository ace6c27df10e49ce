"""`ServiceConfiguration.cscfg`: instance counts, the settings' values, thumbprints."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from rolehost.service_model.markup import Element
from rolehost.service_model.placed import Source

# Element and attribute name the endpoint; some versions of the schema write the second form.
_ENDPOINT = ("endpoint", "endPoint")


@dataclass(slots=True)
class ConfiguredRole:
    """A role as the configuration says it; each element has a name.

    Args:
        count: how many instances; a text.
        instances: where that stands.
    """

    element: Element
    count: str | None
    instances: Element | None
    settings: dict[str, Element]
    certificates: dict[str, Element]


@dataclass(slots=True)
class Configuration:
    """What the file says.

    Args:
        service: the service's name.
        rules: endpoints that access rules are attached to.
        root: the root element.
    """

    service: str
    root: Element
    roles: dict[str, ConfiguredRole] = field(default_factory=dict)
    rules: list[Element] = field(default_factory=list)


def read_configuration(root: Element, source: Source) -> Configuration:
    """What the configuration says.

    Args:
        root: the file's root element, of the right name.
        source: the file.
    """
    configuration = Configuration(service=source.needed(root, "serviceName"), root=root)
    for name, element in source.named([root], "Role", "role").items():
        configuration.roles[name] = _role(name, element, source)
    networks = root.all("NetworkConfiguration")
    for more in networks[1:]:
        source.note("N07", more, "a service has at most one <NetworkConfiguration>")
    for network in networks[:1]:
        _network(network, configuration, source)
    return configuration


def _role(name: str, element: Element, source: Source) -> ConfiguredRole:
    instances = element.first("Instances")
    for more in element.all("Instances")[1:]:
        source.note("N07", more, "a role has at most one <Instances>")
    if instances is None:
        source.note("N07", element, f'the role "{name}" needs <Instances count="...">')
    settings = source.named(element.all("ConfigurationSettings"), "Setting", "setting")
    for setting in settings.values():
        if "value" not in setting.attributes:
            source.note("M06", setting, f'the setting "{setting.attributes["name"]}" has no value')
    certificates = source.named(element.all("Certificates"), "Certificate", "certificate")
    for certificate in certificates.values():
        if "thumbprint" not in certificate.attributes:
            source.note("M25", certificate, f'the certificate "{certificate.attributes["name"]}" has no thumbprint')
        algorithm = certificate.attributes.get("thumbprintAlgorithm", "sha1")
        if algorithm.lower() != "sha1":
            told = f'a thumbprint\'s algorithm is sha1, not "{algorithm}"'
            source.note("M21", certificate, told, "thumbprintAlgorithm")
    count = source.needed(instances, "count") if instances else None
    return ConfiguredRole(element, count or None, instances, settings, certificates)


def _network(network: Element, configuration: Configuration, source: Source) -> None:
    controls = source.named(network.all("AccessControls"), "AccessControl", "access control")
    for control in controls.values():
        for rule in control.all("Rule"):
            _rule(rule, source)
    for rule in (each for parent in network.all("EndpointAcls") for each in parent.all("EndpointAcl")):
        name = source.needed(rule, "accessControl")
        if name and name not in controls:
            source.note("M27", rule, f'there is no access control "{name}"', "accessControl")
        source.needed(rule, "role")
        configuration.rules.append(rule)


def _rule(rule: Element, source: Source) -> None:
    action = source.needed(rule, "action")
    if action not in {"", "permit", "deny"}:
        source.note("M21", rule, f'a rule\'s action is permit or deny, not "{action}"', "action")
    subnet = rule.attributes.get("remoteSubnet")
    try:
        ipaddress.ip_network(subnet or "0.0.0.0/0", strict=False)
    except ValueError:
        source.note("N07", rule, f'"{subnet}" is no subnet', "remoteSubnet", warning=True)


def endpoint_of(rule: Element) -> str:
    """The name of the endpoint that an access rule is attached to."""
    return next((rule.attributes[name] for name in _ENDPOINT if name in rule.attributes), "")
