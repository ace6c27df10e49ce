"""A child process that is owned from its start until nothing of its tree is left."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from rolehost.errors import ProgramNotFoundError
from rolehost.processes import procfs, tree
from rolehost.processes.cgroups import Cgroups
from rolehost.processes.containment import Containment
from rolehost.processes.exits import Exit, ExitWatch
from rolehost.processes.identity import ChildIdentity, chain, ended_by, exec_failure, require_program
from rolehost.processes.output import Drain, Output
from rolehost.processes.redirects import Redirects

_DRAIN_SECONDS = 1.0
_NO_PROGRAM = frozenset({errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.ENOEXEC, errno.ELOOP})
_DISPOSITIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Process(Protocol):
    """What a child needs of the process it owns: a Popen is one."""

    pid: int
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None
    returncode: int | None


class Child:
    """A program in a session of its own, with an empty stdin unless it is given one. Made by `Child.spawn`.

    Who spawns one calls `wait` or `stop` in the end; `stop` is safe in a `finally` block, also while being cancelled.
    Children are spawned on the main thread: the kernel ends them with the *thread* that started them.
    """

    def __init__(
        self,
        process: Process,
        marker: str,
        capture: int,
        *,
        chained: bool,
        identity: ChildIdentity | None = None,
        watch: ExitWatch | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.pid = process.pid
        self.stdout = Output(capture, on_output and partial(on_output, "stdout"))
        self.stderr = Output(capture, on_output and partial(on_output, "stderr"))
        self._process = process
        self._chained = chained
        self._identity = identity
        seen = procfs.process(process.pid)
        self._root = tree.Root(process.pid, marker, seen.started if seen else 0)
        tree.live[self.pid] = self._root
        self._watch = watch or ExitWatch(self.pid)
        pipes = ((process.stdout, self.stdout), (process.stderr, self.stderr))
        self._drains = [Drain(pipe, output) for pipe, output in pipes if pipe is not None]
        self._exit: Exit | None = None
        self._lost = ""
        self._deadline = (
            0.0  # the loop's time until when what the main process leaves behind may live: none, unless stopped
        )
        self._stopped = False
        self._containment: Containment | None = None
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        marker: str,
        identity: ChildIdentity | None = None,
        capture: int | None = 4 * 1024 * 1024,
        pass_fds: Sequence[int] = (),
        die_with_us: bool = True,
        on_output: Callable[[str, bytes], None] | None = None,
        prefix: Sequence[str] = (),
        redirects: Redirects | None = None,
    ) -> Child:
        """Start a program.

        Args:
            argv: the program, by path or found on the PATH of `env`, and its arguments; never a shell's line.
            env: its whole environment; only the marker is added.
            cwd: its working directory.
            marker: what finds its descendants wherever they went; unique among children that live at once.
            identity: who it runs as; by default as we do.
            capture: bytes kept of each of stdout and stderr; None: it writes to ours.
            pass_fds: descriptors that it inherits under their numbers.
            die_with_us: the kernel kills it once we are gone (not what it started: `end_strays` finds that).
            on_output: called with `stdout` or `stderr` and each piece that it writes there, where that is captured; it
                must neither wait nor raise.
            prefix: a command that changes itself, then becomes the rest of its argv, as `prlimit`; it runs as we do,
                so that who the program runs as needn't reach what starts it.
            redirects: files in the place of stdin and stdout; None: stdin is empty, stdout as `capture` says.

        Raises:
            ProgramNotFoundError: there is no such program, or it can't be executed.
            OSError: the machine has no process or descriptor left, or a file can't be had for a redirect.
        """
        require_program(argv[0], env, cwd)
        line = [*prefix, *chain(argv, identity, die_with_us=die_with_us)]
        stream = None if capture is None else subprocess.PIPE
        # No await from here to the end: a cancelled caller has either no child or one that it can stop.
        with (redirects or Redirects()).opened(identity) as (stdin, stdout):
            process = _popen(
                line,
                argv[0],
                stdin=stdin,
                stdout=stream if stdout is None else stdout,
                stderr=stream,
                cwd=cwd,
                env={**env, tree.MARKER: marker},
                pass_fds=pass_fds,
            )
        chained = len(line) > len(prefix) + len(argv)
        return cls._own(process, marker, capture or 0, on_output, chained=chained, identity=identity)

    @classmethod
    def _own(
        cls,
        process: subprocess.Popen[bytes],
        marker: str,
        capture: int,
        on_output: Callable[[str, bytes], None] | None,
        *,
        chained: bool,
        identity: ChildIdentity | None,
    ) -> Child:
        try:
            return cls(process, marker, capture, chained=chained, identity=identity, on_output=on_output)
        except BaseException:
            tree.live.pop(process.pid, None)
            process.kill()
            process.wait()
            raise

    def contain(self, groups: Cgroups, most: int | None = None) -> None:
        """Have its tree in a control group of its own, once, and right after the start.

        Args:
            groups: makes the group.
            most: processes and threads that the tree may have: the child stands still until that is so. None: as many
                as any program may need; the child is left alone while it is young.
        """
        if groups.usable and self._exit is None and self._containment is None:
            self._containment = Containment(self._root, groups, most)

    async def wait(self) -> Exit:
        """Wait until the main process has ended, nothing of its tree is left and its output is read.

        Raises:
            ChildProcessError: the warm server that had forked it ended first: nobody knows how it ended.
        """
        ended = await self._over()
        if self._lost:
            raise ChildProcessError(self._lost)
        return ended

    async def _over(self) -> Exit:
        while self._exit is None:
            if self._life.done():  # cancelled with all other tasks, as the loop is being closed
                if not self._life.cancelled():
                    self._life.result()
                self._life = asyncio.create_task(self._live())
            await asyncio.wait([self._life])
        return self._exit

    def usage(self) -> tree.Usage:
        """What its tree takes at the moment; a look at the whole machine, for a thread."""
        return tree.usage(self._root)

    async def stop(self, grace: float = 10.0) -> Exit:
        """End the whole tree: TERM, then KILL for what is left after the grace. May be repeated, also with less grace.

        Args:
            grace: seconds that the tree gets to end by itself. Cancelling a stop cuts the grace short.
        """
        if self._exit is not None:
            return self._exit
        end = asyncio.get_running_loop().time() + grace
        self._deadline = min(self._deadline, end) if self._stopped else end
        self._stopped = True
        try:
            if grace > 0:
                tree.signal_tree(self._root, signal.SIGTERM)
                tree.signal_tree(self._root, signal.SIGCONT)  # a stopped process can't hear it otherwise
                async with asyncio.timeout(grace):
                    return await self._over()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.kill()
            raise
        self.kill()
        return await self._over()

    def terminate(self, grace: float) -> None:
        """Send TERM to the whole tree, and don't wait; `wait` tells when it is gone.

        Args:
            grace: seconds that what the main process leaves behind may go on; the main process itself has no limit.
        """
        self._deadline = asyncio.get_running_loop().time() + grace
        self._stopped = True
        if self._exit is None:
            tree.signal_tree(self._root, signal.SIGTERM)
            tree.signal_tree(self._root, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the whole tree at once; `wait` tells when it is gone."""
        self._deadline = 0.0
        self._stopped = True
        if self._exit is None:
            tree.signal_tree(self._root, signal.SIGKILL)

    async def _live(self) -> None:
        await self._watch.ended.wait()
        self._root.ended = True
        if self._containment is not None:
            await self._containment.over()
        await tree.end_tree(self._root, until=lambda: self._deadline, thorough=self._stopped)
        await asyncio.gather(*(drain.finish(_DRAIN_SECONDS) for drain in self._drains))
        # Only now: until it is reaped, neither its pid nor its session's id can be anyone else's.
        try:
            code, number = await self._watch.status()
        except ChildProcessError as problem:
            code = number = None
            self._lost = str(problem)
        if number is None:
            code, number = ended_by(code, self._identity)
        self._process.returncode = code if code is not None else -(number or 0)
        del tree.live[self.pid]
        if self._containment is not None:
            self._containment.close()
        error = None
        if self._chained:
            error = exec_failure(code, printed=self.stdout.total, stderr=self.stderr.text(1000))
        self._exit = Exit(code, number, error)


def _popen(line: Sequence[str], program: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process in a session of its own; vfork and exec, 0.6 ms: asyncio's own takes twice as long."""
    try:
        with _clean_signals():
            return subprocess.Popen(line, bufsize=0, start_new_session=True, **options)
    except OSError as problem:
        if problem.errno not in _NO_PROGRAM:
            raise
        raise ProgramNotFoundError(f"{program} can't start: {problem.strerror}.") from problem


@contextmanager
def _clean_signals() -> Iterator[None]:
    """Start a child with default dispositions and an empty mask, whatever we inherited or blocked ourselves."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change them
        return
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel throws exit codes away
    ignored = [each for each in _DISPOSITIONS if signal.getsignal(each) is signal.SIG_IGN]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for each in ignored:
        signal.signal(each, _ignore)  # a handler becomes the default at exec; ignoring would be inherited
    if mask:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each in ignored:
            signal.signal(each, signal.SIG_IGN)


def _ignore(*_: object) -> None:
    pass
