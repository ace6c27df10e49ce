"""How a role's process ended, in words."""

from __future__ import annotations

import signal

from rolehost.host.exit_codes import HOST_GONE, NOT_LOADED, START_REFUSED
from rolehost.host.instance.status import Crash, Stage
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


def lost_host(end: Exit | None, said: str = "") -> Crash:
    """The end of a bootstrapper that nobody had asked for: its role ended with it.

    Args:
        end: how it ended; None: it could not be started.
        said: why, then.
    """
    if end is None:
        return Crash(reason=f"The instance's host can't be started: {said.removesuffix('.')}.", stage=Stage.HOST)
    if end.signal is not None:
        how = f"was ended by signal {end.signal} ({_signal_name(end.signal)})"
    else:
        how = "has ended" if end.code is None else f"ended with exit code {end.code}"
    reason = f"The instance's host {how}, and with it the role."
    return Crash(reason=reason, stage=Stage.HOST, exit_code=end.code, signal=end.signal)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
