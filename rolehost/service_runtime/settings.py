"""`get_setting`: a setting from wherever it may be (the original's CloudConfigurationManager), and the trace source."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from rolehost.errors import RoleEnvironmentError

TRACE_SOURCE = logging.getLogger("rolehost.runtime")
"""What the runtime says of its own doing (the original's RoleEnvironment.TraceSource); its level can be set."""

if TRACE_SOURCE.level == logging.NOTSET:
    TRACE_SOURCE.setLevel(logging.INFO)


def find_setting(name: str, runtime: Callable[[str], str], *, throw: bool) -> str | None:
    """Ask the runtime, then the variables of the process, which stand in for the application settings.

    Args:
        name: of the setting.
        runtime: answers for the runtime, or raises RoleEnvironmentError.
        throw: raise where the runtime has no such setting.

    Raises:
        RoleEnvironmentError: the runtime has no such setting, and `throw` is set.
    """
    if not name:
        raise ValueError("a setting has a name")
    for source, ask in (("ServiceRuntime", runtime), ("ConfigurationManager", _variable)):
        value, why = _answer(ask, name)
        TRACE_SOURCE.info('Getting "%s" from %s: %s.', name, source, "FAIL" if value is None else "PASS")
        if value is not None:
            return value
        if throw:
            raise RoleEnvironmentError(f'the setting "{name}" is not in the role environment') from why
    return None


def _answer(ask: Callable[[str], str], name: str) -> tuple[str | None, RoleEnvironmentError | None]:
    try:
        return ask(name), None
    except RoleEnvironmentError as error:
        return None, error


def _variable(name: str) -> str:
    for variable in (name, name.replace(".", "__")):  # a dot is no part of a variable's name
        if variable in os.environ:
            return os.environ[variable]
    raise RoleEnvironmentError(f"there is no variable {name}")
