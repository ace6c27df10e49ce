"""What a person reads when a role's own code fails: its frames, and none of those that have called it."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import sysconfig
from pathlib import Path
from types import TracebackType

# Where a role's own code is called from: here, and what loads modules and runs coroutines for us.
_PLACES = (Path(__file__).parents[2], *(Path(str(each.__file__)).parent for each in (asyncio, importlib)))
_CALLERS = tuple(f"{place}{os.sep}" for place in _PLACES)
_FROZEN = "<frozen importlib"
_LIBRARIES = tuple(sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib"))


def report(error: BaseException, *, shipped: bool = False) -> None:
    """Call `sys.excepthook`, as the interpreter does for what nobody catches; with ROLEHOST_DEBUG nothing is left out.

    Args:
        error: what the role's code has raised.
        shipped: the role is one of ours: a library's frame is no beginning then, as we have called it.
    """
    if not os.environ.get("ROLEHOST_DEBUG"):
        _leave_out_callers(error, (*_CALLERS, _FROZEN, *(_LIBRARIES if shipped else ())))
    sys.excepthook(type(error), error, error.__traceback__)


def _leave_out_callers(error: BaseException, callers: tuple[str, ...]) -> None:
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        own = _from_its_own(each.__traceback__, callers)
        if own is not None or each.__cause__ is not None:  # else it is ours, and all of it counts
            each.__traceback__ = own
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def _from_its_own(trace: TracebackType | None, callers: tuple[str, ...]) -> TracebackType | None:
    """From the first frame on that is the role's; None where none is."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(callers):
        trace = trace.tb_next
    return trace
