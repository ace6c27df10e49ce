"""The settings that roles which ship read: their names, and what they say to a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError
from rolehost.service_model.problems import suggest

if TYPE_CHECKING:
    from rolehost.entrypoint import RoleEntryPoint
    from rolehost.service_model import RoleModel

SHIPPED = ("worker.", "frontend.", "sources.", "telemetry.", "webhooks.", "transcode.")
"""How the names begin, in small letters."""

_VARIABLE = "ROLEHOST_SETTING_"


class _Asked(RoleEnvironment):
    """Has no settings, and remembers which it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    @property
    def is_available(self) -> bool:
        return True

    def get_configuration_setting_value(self, name: str) -> str:
        self.names.append(name)
        raise RoleEnvironmentError(f"{name} is not set")


@dataclass(frozen=True, slots=True)
class Readers:
    """How a role reads its settings.

    Args:
        read: raise a RoleEnvironmentError for a value that doesn't fit.
    """

    read: tuple[Callable[[RoleEnvironment], object], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that is read."""
        asked = _Asked()
        for read in self.read:
            read(asked)
        return tuple(asked.names)

    def problems(self, settings: Mapping[str, str]) -> list[str]:
        """Why these values, one by one, don't fit."""
        told = []
        for name, value in settings.items():
            for read in self.read:
                try:
                    read(RoleEnvironment.for_testing(settings={name: value}))
                except RoleEnvironmentError as error:
                    told.append(str(error))
        return told


def readers_of(found: type[RoleEntryPoint]) -> Readers:
    """The readers of a role's class: they are in modules that its own module has imported."""
    read: list[Callable[[RoleEnvironment], object]] = []
    for base in found.__mro__:
        match (base.__module__, base.__qualname__):
            case ("rolehost.workers.queue_worker", "QueueWorker"):
                from rolehost.workers.settings import WorkerSettings  # noqa: PLC0415 - only where a role reads them

                read.append(lambda environment: WorkerSettings.of(environment, {}))
            case ("rolehost.frontend.role", "ThumbnailFrontend"):
                from rolehost.frontend.settings import FrontendSettings  # noqa: PLC0415 - the same

                read.append(FrontendSettings.read)
            case ("rolehost.workers.transcode", "TranscodeWorker"):
                from rolehost.workers.transcoding.settings import TranscodeSettings  # noqa: PLC0415 - the same

                read.append(TranscodeSettings.read)
            case ("rolehost.entrypoint", "ServedRole"):
                from rolehost.telemetry.metrics_port import MetricsSettings  # noqa: PLC0415 - the same

                read.append(MetricsSettings.read)
    return Readers(tuple(read))


def check_settings(
    role: RoleModel, found: type[RoleEntryPoint], environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The settings of a role that it doesn't know, or can't take; those of the environment are told apart.

    Args:
        role: with the environment's settings on top.
        found: its class.
        environ: the variables.
    """
    readers = readers_of(found)
    known = {name.casefold() for name in readers.names}
    prefixes = {f"{name.partition('.')[0].casefold()}." for name in readers.names}
    given = {name.casefold() for name, _ in setting_variables(environ).values()}
    for name, value in role.settings.items():
        overlaid = name.casefold() in given
        if overlaid and name not in role.masked:
            continue  # the environment's alone
        if name.casefold() not in known and name.casefold().startswith(tuple(prefixes)):
            yield name, f'there is no setting "{name}"{suggest(name, readers.names)}'
        for told in [] if overlaid else readers.problems({name: value}):
            yield name, told


def setting_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The variables that are settings: name and value by variable."""
    return {
        variable: (variable[len(_VARIABLE) :].replace("__", "."), value)
        for variable, value in environ.items()
        if variable.upper().startswith(_VARIABLE)
    }
