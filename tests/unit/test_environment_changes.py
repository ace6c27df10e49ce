"""What counts as a change, how it is told, and how a role's own tests raise one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from types import MappingProxyType
from typing import Any

import pytest

from rolehost.environment import (
    Certificate,
    CertificateChange,
    ConfigurationSettingChange,
    Role,
    RoleEnvironment,
    RoleEnvironmentChange,
    RoleEnvironmentChanged,
    RoleEnvironmentChanging,
    RoleInstance,
    RoleInstanceEndpoint,
    RoleInstanceStatus,
    RoleInstanceStatusCheck,
    SimultaneousChanged,
    SimultaneousChanging,
    SimultaneousTopologyChange,
    Snapshot,
    TopologyChange,
)
from rolehost.errors import RoleEnvironmentError


def orders(
    address: tuple[str, int] = ("127.0.0.2", 20000),
    protocol: str = "tcp",
    public: tuple[str, int] | None = None,
    name: str = "Orders",
) -> RoleInstanceEndpoint:
    return RoleInstanceEndpoint(name, address, protocol, public)


def instance(number: int = 0, domains: tuple[int, int] = (0, 0), *endpoints: RoleInstanceEndpoint) -> RoleInstance:
    by_name = {endpoint.name: endpoint for endpoint in endpoints or (orders(),)}
    return RoleInstance(f"Other_IN_{number}", *domains, MappingProxyType(by_name))


def roles(*instances: RoleInstance) -> dict[str, Role]:
    return {"Role": Role("Role", (RoleInstance("Role_IN_0"),)), "Other": Role("Other", instances)}


def snapshot(**others: Any) -> Snapshot:
    base = RoleEnvironment.for_testing(settings={"a": "1", "b": "2"}).snapshot
    return replace(base, **{"roles": roles(instance()), **others})


def told(
    new: Snapshot, old: Snapshot | None = None, *, simultaneous: bool = False
) -> tuple[RoleEnvironmentChange, ...]:
    change = RoleEnvironment(old or snapshot()).compare(new, simultaneous=simultaneous)
    return (*change.changes, *change.simultaneous)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"a": "1", "b": "2"}, ""),
        ({"b": "2", "a": "1"}, ""),
        ({"a": "9", "b": "2"}, "a"),
        ({"a": "1"}, "b"),
        ({"a": "1", "b": "2", "c": ""}, "c"),
        ({"A": "1", "b": "3"}, "abA"),
    ],
)
def test_a_setting_that_is_new_gone_or_other_is_one_change(settings: dict[str, str], names: str) -> None:
    assert told(snapshot(settings=settings)) == tuple(map(ConfigurationSettingChange, names))


@pytest.mark.parametrize(
    "changed",
    [
        roles(),
        roles(instance(), instance(1)),
        roles(instance(1)),
        roles(instance(0, (1, 0))),
        roles(instance(0, (0, 1))),
        roles(instance(0, (0, 0), orders(), orders(name="More"))),
        roles(instance(0, (0, 0), orders(name="More"))),
        roles(instance(0, (0, 0), orders(protocol="http"))),
        roles(instance(0, (0, 0), orders(("127.0.0.3", 20000)))),
        roles(instance(0, (0, 0), orders(("127.0.0.2", 20001)))),
        {"Role": roles()["Role"]},
    ],
)
def test_every_difference_of_a_role_s_instances_is_one_topology_change(changed: dict[str, Role]) -> None:
    assert told(snapshot(roles=changed)) == (TopologyChange("Other"),)
    assert told(snapshot(), snapshot(roles=changed)) == (TopologyChange("Other"),)


def test_a_new_role_is_a_topology_change_of_its_own_and_what_is_equal_is_none() -> None:
    assert told(snapshot(roles={**roles(instance()), "New": Role("New")})) == (TopologyChange("New"),)
    assert told(snapshot(roles=roles(instance(0, (0, 0), orders(public=("203.0.113.9", 80)))))) == ()
    assert told(snapshot(roles=dict(reversed(roles(instance()).items())))) == ()


def test_a_role_whose_instances_are_not_seen_yields_no_topology_change() -> None:
    unseen = snapshot(roles=roles())
    assert told(snapshot(roles=roles()), unseen) == ()


def test_a_certificate_is_told_by_its_new_thumbprint_or_the_one_that_went() -> None:
    old = snapshot(certificates={"Tls": Certificate("Tls", "A" * 40, "/x"), "Old": Certificate("Old", "B" * 40)})
    same = {"Tls": Certificate("Tls", "A" * 40, "/y"), "Old": Certificate("Old", "B" * 40)}
    assert told(snapshot(certificates=same), old) == ()
    swapped = {"Tls": Certificate("Tls", "C" * 40), "New": Certificate("New", "D" * 40)}
    changes = told(snapshot(certificates=swapped), old)
    assert set(changes) == {CertificateChange(letter * 40) for letter in "BCD"}


def test_settings_come_first_and_a_simultaneous_change_tells_the_topology_apart() -> None:
    new = snapshot(settings={"a": "9", "b": "2"}, roles=roles(), certificates={"T": Certificate("T", "F" * 40)})
    setting, certificate = ConfigurationSettingChange("a"), CertificateChange("F" * 40)
    assert told(new) == (setting, TopologyChange("Other"), certificate)
    change = RoleEnvironment(snapshot()).compare(new, simultaneous=True)
    assert change.changes == (setting, certificate)
    assert change.simultaneous == (SimultaneousTopologyChange("Other"),)


@pytest.mark.parametrize(
    "make", [ConfigurationSettingChange, TopologyChange, SimultaneousTopologyChange, CertificateChange]
)
def test_changes_are_values(make: Callable[[str], RoleEnvironmentChange]) -> None:
    assert {make("x"), make("x")} == {make("x")}
    assert make("x") != make("y")
    assert isinstance(make("x"), RoleEnvironmentChange)
    others = {ConfigurationSettingChange, TopologyChange, SimultaneousTopologyChange, CertificateChange} - {make}
    assert all(make("x") != other("x") for other in others)
    with pytest.raises(FrozenInstanceError):
        make("x").role_name = "y"  # type: ignore[attr-defined]


class Watched:
    """An environment of a role's own tests, and what its handlers were told."""

    def __init__(self) -> None:
        self.recycled = 0
        self.told: list[tuple[str, object, str | None]] = []
        self.cancel = False
        self.environment = RoleEnvironment.for_testing(settings={"a": "old"}, on_recycle=self._recycle)
        self.environment.changing += self.changing
        self.environment.changed += self.changed
        self.environment.simultaneous_changing += self.changed
        self.environment.simultaneous_changed += self.changed

    def _recycle(self) -> None:
        self.recycled += 1

    def changing(self, e: RoleEnvironmentChanging) -> None:
        self.told.append(("RoleEnvironmentChanging", e.changes, self.environment.get_setting("a")))
        e.cancel = e.cancel or self.cancel

    def changed(self, e: RoleEnvironmentChanged | SimultaneousChanging | SimultaneousChanged) -> None:
        self.told.append((type(e).__name__, e.changes, self.environment.get_setting("a")))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_test_raises_a_change_in_a_line(watched: Watched) -> None:
    assert watched.environment.testing_change(settings={"a": "new"})
    changes = (ConfigurationSettingChange("a"),)
    assert watched.told == [("RoleEnvironmentChanging", changes, "old"), ("RoleEnvironmentChanged", changes, "new")]
    assert watched.environment.testing_change(settings={"a": None})
    assert watched.told[-1] == ("RoleEnvironmentChanged", changes, None)
    assert watched.environment.testing_change(settings={})
    assert len(watched.told) == 4
    assert watched.recycled == 0


def test_a_change_that_a_handler_cancels_is_not_told_as_done(watched: Watched) -> None:
    watched.cancel = True
    assert not watched.environment.testing_change(settings={"a": "new"})
    assert [name for name, *_ in watched.told] == ["RoleEnvironmentChanging"]
    assert watched.environment.get_configuration_setting_value("a") == "old"
    assert watched.recycled == 1


def test_a_simultaneous_change_cannot_be_cancelled(watched: Watched) -> None:
    watched.cancel = True
    assert watched.environment.testing_change(roles={"Other": Role("Other")}, simultaneous=True)
    assert [name for name, *_ in watched.told] == ["SimultaneousChanging", "SimultaneousChanged"]
    with pytest.raises(AttributeError):
        SimultaneousChanging(()).cancel = True  # type: ignore[attr-defined]


def test_a_test_changes_instances_and_certificates(watched: Watched) -> None:
    assert watched.environment.testing_change(roles=roles(instance(0), instance(1)), certificates={"Tls": "A" * 40})
    assert [each.id for each in watched.environment.roles["Other"].instances] == ["Other_IN_0", "Other_IN_1"]
    assert watched.environment.certificates["Tls"].thumbprint == "A" * 40
    assert TopologyChange("Other") in watched.told[0][1]  # type: ignore[operator]


def test_a_test_raises_a_status_check(watched: Watched) -> None:
    seen: list[RoleInstanceStatus] = []

    def check(e: RoleInstanceStatusCheck) -> None:
        seen.append(e.status)
        if watched.cancel:
            e.set_busy()

    watched.environment.status_check += check
    assert watched.environment.testing_status_check() is RoleInstanceStatus.READY
    watched.cancel = True
    assert watched.environment.testing_status_check() is RoleInstanceStatus.BUSY
    assert seen == [RoleInstanceStatus.READY, RoleInstanceStatus.READY]


def test_only_an_environment_of_a_test_takes_a_test_s_change() -> None:
    with pytest.raises(RoleEnvironmentError, match="no host is connected"):
        RoleEnvironment(snapshot()).testing_change(settings={})
    with pytest.raises(RoleEnvironmentError, match="no role environment here"):
        RoleEnvironment().testing_status_check()
