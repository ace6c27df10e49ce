"""RoleEntryPoint: what a role's own code derives from, and how the host finds it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from rolehost import environment
from rolehost.environment import ConfigurationSettingChange, RoleEnvironment, RoleEnvironmentChanging
from rolehost.errors import EntryPointError


class RoleEntryPoint:
    """The life of a role instance: `on_start`, then `run`, and `on_stop` at the end (Microsoft's RoleEntryPoint).

    Each may be a plain function, which is called in a thread of its own, or a coroutine function, which runs on a loop
    beside the infrastructure's; neither ever runs on the loop of the infrastructure. None is mandatory.
    """

    _role_environment: RoleEnvironment | None = None

    @property
    def role_environment(self) -> RoleEnvironment:
        """The process's role environment; a test may assign one of its own."""
        return environment.role_environment if self._role_environment is None else self._role_environment

    @role_environment.setter
    def role_environment(self, role_environment: RoleEnvironment) -> None:
        self._role_environment = role_environment

    def on_start(self) -> bool | Awaitable[bool]:
        """Prepare; the instance is busy until this returns. False ends the process, and the instance is recycled."""
        return True

    def run(self) -> Awaitable[None] | None:
        """The role's work; the instance is recycled when it returns. By default it waits for ever."""
        threading.Event().wait()
        return None

    def on_stop(self) -> Awaitable[None] | None:
        """Clean up, within the deadline; `run` goes on meanwhile."""
        return None


class ServedRole(RoleEntryPoint):
    """A role that runs on the loop of the infrastructure: what ships with rolehost, not what users write.

    `stop_deadline` is the moment on `clock.monotonic()` when the host kills the process; None until it is told to stop.
    It is set before `stopping`, and may come nearer afterwards.
    """

    stop_deadline: float | None = None

    settings_read_at_start: ClassVar[tuple[str, ...]] = ("worker.", "frontend.", "telemetry.")
    """How the names begin, in small letters, of the settings that are read once, when the role starts."""

    def restart_for_settings(self, changing: RoleEnvironmentChanging) -> None:
        """Cancel a change of such a setting, so that the instance starts again with it; the host subscribes this.

        The original's template of a worker role did so for every setting.
        """
        names = (
            each.configuration_setting_name for each in changing.changes if isinstance(each, ConfigurationSettingChange)
        )
        if any(name.casefold().startswith(self.settings_read_at_start) for name in names):
            changing.cancel = True

    async def serve(self, stopping: asyncio.Event) -> None:
        """Work in place of `run`; drain and return once `stopping` is set.

        Args:
            stopping: set after the `stopping` event's handlers were called, before `on_stop`.
        """
        raise NotImplementedError


def load_entry_point(entry_point: str, search_path: Path | None) -> type[RoleEntryPoint]:
    """Find a role's class.

    Args:
        entry_point: `module:Class`; with a module alone, the first RoleEntryPoint that is defined in it.
        search_path: a directory where modules are looked for first.

    Raises:
        EntryPointError: there is no such module or class, importing it failed, or the class is no RoleEntryPoint.
    """
    module_name, _, class_name = entry_point.partition(":")
    if search_path is not None and str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
    module = _import(module_name, entry_point, search_path)
    if not class_name:
        return _first_defined(module, entry_point)
    found = getattr(module, class_name, None)
    if found is None:
        raise EntryPointError(f'"{entry_point}": the module {module_name} ({module.__file__}) has no "{class_name}"')
    if not (isinstance(found, type) and issubclass(found, RoleEntryPoint)):
        raise EntryPointError(f'"{entry_point}": {class_name} does not derive from rolehost.RoleEntryPoint')
    return found


def _import(module_name: str, entry_point: str, search_path: Path | None) -> ModuleType:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            places = f" (looked in {search_path} and in the installed packages)" if search_path else ""
            raise EntryPointError(f'"{entry_point}": there is no module "{error.name}"{places}') from None
        raise EntryPointError(f'"{entry_point}": importing {module_name} failed: {error}') from error
    except Exception as error:
        raise EntryPointError(f'"{entry_point}": importing {module_name} failed: {error!r}') from error


def _first_defined(module: ModuleType, entry_point: str) -> type[RoleEntryPoint]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, RoleEntryPoint) and value.__module__ == module.__name__:
            return value
    raise EntryPointError(f'"{entry_point}": the module {module.__name__} defines no class derived from RoleEntryPoint')
