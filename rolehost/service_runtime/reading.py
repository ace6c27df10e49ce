"""What is read of a role environment, all of it from one snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from rolehost.errors import RoleEnvironmentError
from rolehost.service_runtime.settings import find_setting
from rolehost.service_runtime.topology import Certificate, LocalResource, Role, RoleInstance, Snapshot


class EnvironmentReader:
    """The members of `RoleEnvironment` that only read.

    Args:
        snapshot: what is known; None: not in a host.
    """

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    @property
    def is_available(self) -> bool:
        """Whether this process runs in a host."""
        return self._snapshot is not None

    @property
    def snapshot(self) -> Snapshot:
        """All that is known at this moment, for reading several values that belong together."""
        snapshot = self._snapshot
        if snapshot is None:
            raise RoleEnvironmentError(
                "there is no role environment here: this process was not started by a rolehost host "
                "(RoleEnvironment.for_testing makes one for tests)"
            )
        return snapshot

    @property
    def is_emulated(self) -> bool:
        """Whether the whole service runs on one machine, under `rolehost up`."""
        return self.snapshot.is_emulated

    @property
    def deployment_id(self) -> str:
        """An opaque name of this deployment; it stays the same when instances recycle."""
        return self.snapshot.deployment_id

    @property
    def current_role_instance(self) -> RoleInstance:
        """The instance that this process is."""
        return self.snapshot.current_role_instance

    @property
    def roles(self) -> Mapping[str, Role]:
        """The service's roles by name, read-only."""
        return self.snapshot.roles

    @property
    def certificates(self) -> Mapping[str, Certificate]:
        """The role's certificates by name, read-only."""
        return self.snapshot.certificates

    def get_configuration_setting_value(self, name: str) -> str:
        """The value of a configuration setting.

        Raises:
            RoleEnvironmentError: there is no such setting.
        """
        settings = self.snapshot.settings
        value = settings.get(name)
        if value is None:
            value = {key.casefold(): text for key, text in settings.items()}.get(name.casefold())
        if value is None:
            raise RoleEnvironmentError(f'the configuration setting "{name}" does not exist')
        return value

    def get_setting(self, name: str, *, throw: bool = False) -> str | None:
        """A configuration setting; else a variable of the process; else None (CloudConfigurationManager.GetSetting).

        Each source that is asked leaves a line on `trace_source`. In a variable's name a dot may be two underscores.

        Args:
            name: of the setting.
            throw: raise where the role environment has no such setting, whatever the variables say.

        Raises:
            RoleEnvironmentError: there is no such setting, and `throw` is set.
        """
        return find_setting(name, self.get_configuration_setting_value, throw=throw)

    def get_local_resource(self, name: str) -> LocalResource:
        """A local resource.

        Raises:
            RoleEnvironmentError: there is no such resource.
        """
        resource = self.snapshot.local_resources.get(name)
        if resource is None:
            raise RoleEnvironmentError(f'the local storage resource "{name}" does not exist')
        return resource
