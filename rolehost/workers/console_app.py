"""Step 4: a console application, run as it is.

An argv list is made from a template, never a shell's line. The application gets generated absolute paths, an
environment from an allow-list, an empty stdin (or the asset) and a session of its own; it never sees a secret.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import End
from rolehost.processes import Cgroups, Child, ChildIdentity, Exit, Redirects, WarmStarts
from rolehost.workers.exit_policy import ExitRule
from rolehost.workers.halt import Halt
from rolehost.workers.progress import ProgressSpec
from rolehost.workers.watchdog import Limits, Verdict, Watchdog

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
GRACE_MOVES = 0.2
"""How often the grace of an application that is being ended is asked for again."""

# What the original gives to every process of a role, and what of the machine's own a program can't do without.
_ROLE_VARIABLES = ("RoleRoot", "RoleName", "RoleInstanceID", "RdRoleId", "RoleDeploymentID")
_SYSTEM_VARIABLES = ("PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "TRACEPARENT")


@dataclass(frozen=True, slots=True)
class ConsoleApp:
    """A console application and how it is called.

    Args:
        argv: the template: `{python}`, `{approot}`, `{source}`, `{target}`, `{scratch}` and the job's parameters by
            name are replaced inside each argument; an argument never becomes two.
        timeout: seconds; None: the worker's setting.
        bad_input_exit_codes: exit codes that say that the input is at fault, so that no retry helps.
        exit_rules: what other exits mean; the first that fits decides, before the codes above.
        verify: the template of a command that looks at the result, `{result}`: anything but exit code 0 is bad output.
        limits: what it may take.
        stall: seconds without any sign of life, after which it is stopped; None: the worker's setting.
        environment: further variables for it, beside the allow-list.
        warm_imports: of a Python script, called as `{python} SCRIPT ...`: the modules that it needs. They are imported
            once, and each run is a fork that has them: a process of its own, which starts in a fraction of the time.
            Modules beside the script may be named; none whose import starts a thread, or prints, or reads what differs
            from run to run. None: each run starts an interpreter, and so does one with a stream of its own (below).
        progress: how what it prints, or its result's size, tells how far it has come; None: it doesn't.
        reads_stdin: the asset is its standard input, which is empty otherwise; it needs no `{source}`.
        writes_stdout: its standard output is the result, byte for byte, and no output that anybody is shown or that
            progress is read from; it needs no `{target}`.
    """

    argv: Sequence[str]
    timeout: float | None = None
    bad_input_exit_codes: Collection[int] = frozenset()
    exit_rules: Sequence[ExitRule] = ()
    verify: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    stall: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    warm_imports: Sequence[str] | None = None
    progress: ProgressSpec | None = None
    reads_stdin: bool = False
    writes_stdout: bool = False

    def redirects(self, source: Path, target: Path) -> Redirects | None:
        """The streams that are files in a run; None where neither is.

        Args:
            source: the job's asset.
            target: where the result is expected.
        """
        if not (self.reads_stdin or self.writes_stdout):
            return None
        return Redirects(source if self.reads_stdin else None, target if self.writes_stdout else None)

    @property
    def name(self) -> str:
        """What a person calls it: the program's name, or the script's or module's where Python runs it."""
        program, *arguments = self.argv
        if program != "{python}":
            return Path(program).name or program
        rest = iter(arguments)
        for argument in rest:
            if argument == "-c":
                break
            if argument in {"-W", "-X"}:
                next(rest, None)
            elif argument == "-m":
                return next(rest, "python")
            elif not argument.startswith("-"):
                return Path(argument).name or argument
        return "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a run ended."""

    exit: Exit
    stopped: Verdict | None
    stdout: str
    stderr: str


def fill(template: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """An argv from a template.

    Raises:
        InvalidParameterError: a placeholder names nothing.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InvalidParameterError(f"the argv template names {{{match[1]}}}, which the job does not have")
        return str(values[match[1]])

    return [_PLACEHOLDER.sub(value, argument) for argument in template]


def standard_values(environ: Mapping[str, str]) -> dict[str, str]:
    """`{python}` and `{approot}`: the application's folder is found from RoleRoot, never from a constant."""
    root = environ.get("RoleRoot") or str(Path(__file__).parent.parent)
    return {"python": sys.executable, "approot": os.path.join(root, "approot")}  # noqa: PTH118 - RoleRoot is text


def allowed_environment(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """What a console application may know: the role's facts, its declared variables, a few of the system's."""
    declared = json.loads(environ.get("ROLEHOST_ROLE_VARIABLES") or "[]")
    names = (*_SYSTEM_VARIABLES, *_ROLE_VARIABLES, *declared)
    allowed = {name: environ[name] for name in names if name in environ}
    return allowed | {name: str(scratch) for name in ("HOME", "TMPDIR", "TEMP", "TMP")}


async def run_console_app(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    marker: str,
    identity: ChildIdentity | None,
    timeout: float,  # noqa: ASYNC109 - the tree is ended, not only the waiting
    grace: Callable[[], float],
    output: int,
    stall: float = math.inf,
    limits: Limits | None = None,
    result: Path | None = None,
    warm: WarmStarts | None = None,
    halt: Halt | None = None,
    groups: Cgroups | None = None,
    on_output: Callable[[str, bytes], None] | None = None,
    redirects: Redirects | None = None,
) -> Run:
    """Run a program to its end, or to ours.

    Args:
        argv: the program and its arguments.
        env: its environment, all of it.
        cwd: its working directory.
        marker: finds what it leaves behind.
        identity: who it runs as.
        timeout: seconds until the whole tree is asked to end.
        grace: tells the seconds from TERM to KILL; asked again meanwhile, for they may become fewer.
        output: bytes kept of each stream.
        stall: seconds without any sign of life until it is asked to end.
        limits: what it may take.
        result: the file whose growth is a sign of life.
        warm: starts it without an interpreter's start, where it can.
        halt: kills it when the job has to stop at once.
        groups: makes a control group for it, where the machine lets us.
        on_output: called with `stdout` or `stderr` and each piece of it; it must neither wait nor raise.
        redirects: files in the place of its stdin and stdout; it starts cold then.

    Raises:
        ProgramNotFoundError: there is no such program.
        OSError: it could not be started, or nobody knows how it ended; not its own fault.
    """
    limits = limits or Limits()
    start = warm.spawn if warm and not redirects else partial(Child.spawn, redirects=redirects)
    spawn = partial(start, env=env, cwd=cwd, marker=marker, identity=identity)
    child = await spawn(argv, capture=output, prefix=limits.prefix, on_output=on_output)
    try:
        if groups is not None:
            child.contain(groups, limits.processes)
        watchdog = Watchdog(child, result, memory=limits.memory, stall=stall, processes=limits.processes)
        with (halt or Halt()).ends(child.kill):
            stopped = await _watched(child, watchdog, timeout)
        if stopped is not None and stopped.end in {End.OOM, End.KILLED}:
            child.kill()  # a grace would be used to take more
        ended = await (child.wait() if stopped is None else _stop(child, grace))
    except BaseException:
        await asyncio.shield(_stop(child, grace))
        raise
    return Run(exit=ended, stopped=stopped, stdout=child.stdout.text(), stderr=child.stderr.text())


async def _watched(child: Child, watchdog: Watchdog, timeout: float) -> Verdict | None:  # noqa: ASYNC109 - as above
    """Wait for the end; why it has to be stopped, if it has to."""
    waiting, watching = asyncio.create_task(child.wait()), asyncio.create_task(watchdog.bite())
    try:
        await asyncio.wait({waiting, watching}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return None
        return watching.result() if watching.done() else Verdict(End.TIMEOUT, "it ran longer than its timeout")
    finally:
        for task in (waiting, watching):
            task.cancel()
        await asyncio.gather(waiting, watching, return_exceptions=True)


async def _stop(child: Child, grace: Callable[[], float]) -> Exit:
    """End the tree; a grace that has become shorter meanwhile counts."""
    began = clock.monotonic()
    stopping = asyncio.create_task(child.stop(grace()))
    while not stopping.done():
        await asyncio.wait([stopping], timeout=GRACE_MOVES)
        if not stopping.done() and grace() < GRACE_MOVES < clock.monotonic() - began:
            child.kill()
    return stopping.result()
