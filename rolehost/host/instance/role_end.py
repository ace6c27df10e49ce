"""How a role's process ended, in words."""

from __future__ import annotations

import signal

from rolehost.host.exit_codes import HOST_GONE, NOT_LOADED, START_REFUSED
from rolehost.processes import Exit

_MEANINGS = {
    START_REFUSED: "OnStart returned False",
    HOST_GONE: "the role process lost its connection to the host",
    NOT_LOADED: "the role can't be loaded",
}


def explained(end: Exit, said: str = "", *, is_guest: bool, starting: bool = True) -> str:
    """A sentence for people.

    Args:
        end: how it ended.
        said: the reason that it gave itself, or the last thing that it said.
        is_guest: its exit codes are its own, and mean nothing to us.
        starting: it ended before it was ready; afterwards code of the role's own may use our exit codes.
    """
    what = "The program" if is_guest else "The role process"
    if end.exec_error:
        return f"{what} never started: {end.exec_error}."
    if end.signal is not None:
        return f"{what} was ended by signal {end.signal} ({_signal_name(end.signal)})."
    if end.code is None:
        return f"{what} has ended, nobody knows how."
    ours = "" if is_guest or not starting else _MEANINGS.get(end.code, "")
    meaning = ours if end.code == START_REFUSED and ours else said.rstrip(".") or ours
    return f"{what} ended with exit code {end.code}{f': {meaning}' if meaning else ''}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
