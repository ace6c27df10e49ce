"""What the settings of a transcoding role may say, with the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolehost.errors import RoleEnvironmentError

if TYPE_CHECKING:
    from rolehost.environment import RoleEnvironment

_MOST = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodeSettings:
    """The settings of the transcoding worker.

    Args:
        ffmpeg: the program, by its path or its name on the PATH (`Transcode.Ffmpeg`); empty: what is found.
        threads: of each decoder, each filter and each encoder (`Transcode.Threads`).
        memory: megabytes that a program may hold (`Transcode.MemoryMegabytes`).
        result: megabytes of the largest result (`Transcode.ResultMegabytes`).
    """

    ffmpeg: str = ""
    threads: int = 2
    memory: int = 2048
    result: int = 8192

    @classmethod
    def read(cls, role_environment: RoleEnvironment) -> TranscodeSettings:
        """Read the role's settings; what isn't set has its default.

        Raises:
            RoleEnvironmentError: a value is no whole number, or out of range.
        """
        default = cls()
        return cls(
            ffmpeg=_text(role_environment, "Transcode.Ffmpeg"),
            threads=_number(role_environment, "Transcode.Threads", default.threads),
            memory=_number(role_environment, "Transcode.MemoryMegabytes", default.memory),
            result=_number(role_environment, "Transcode.ResultMegabytes", default.result),
        )


def _text(role_environment: RoleEnvironment, name: str) -> str:
    try:
        return role_environment.get_configuration_setting_value(name)
    except RoleEnvironmentError:
        return ""


def _number(role_environment: RoleEnvironment, name: str, default: int) -> int:
    text = _text(role_environment, name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and 0 < int(text) < _MOST):
        raise RoleEnvironmentError(f"the setting {name} must be a whole number from 1, not {text!r}")
    return int(text)
