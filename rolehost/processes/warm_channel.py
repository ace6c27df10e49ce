"""One warm server, seen from the process that started it: requests, answers, and the end of either side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from rolehost.processes import procfs, tree
from rolehost.processes.child import Child
from rolehost.processes.exits import ExitWatch
from rolehost.processes.identity import ChildIdentity

_PROGRAM = Path(__file__).with_name("warm_server.py")
_ANSWER_SECONDS = 20.0
_ANSWER_BYTES = 4096
_ROOM = "ROLEHOST_WARM_ROOM"
_ROOM_BYTES = 2048  # for what a job's environment has and the server's has not: paths of a scratch directory
_STDERR_BYTES = 64 * 1024


class WarmProcess:
    """A process that the server forked, with what `Child` needs of a Popen."""

    def __init__(self, pid: int, streams: Sequence[IO[bytes]]) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None
        self.stderr: IO[bytes] | None
        self.stdout, self.stderr = streams
        self.returncode: int | None = None


class WarmWatch(ExitWatch):
    """Notices the end of a process that is the server's child; the server knows its status."""

    def __init__(self, pid: int, server: WarmServer) -> None:
        super().__init__(pid, ours=False)
        self._server = server
        self._answer: asyncio.Future[list[bytes]] | None = None

    async def status(self) -> tuple[int | None, int | None]:
        """Have the server reap the process.

        Raises:
            ChildProcessError: the server has ended: how the process ended is not known, and mostly it was killed then.
        """
        self._answer = self._answer or self._server.ask(b"reap\0%d" % self._pid)
        await asyncio.wait([self._answer])
        self._server.job_is_over(self._pid)
        try:
            answer = self._answer.result()
        except ChildProcessError:
            await self._server.child.stop(0)
            with contextlib.suppress(ChildProcessError):
                # It has come to us now, if we are a subreaper.
                os.waitpid(self._pid, os.WNOHANG)  # noqa: ASYNC222 - this doesn't wait
            raise
        if answer[0] != b"status":
            raise ChildProcessError(os.fsdecode(answer[-1]))
        code = os.waitstatus_to_exitcode(int(answer[1]))
        return (code, None) if code >= 0 else (None, -code)


class WarmServer:
    """A warm server process. Made by `WarmServer.start`.

    Attributes:
        over: set once it takes no more jobs; `why` says why in a sentence, and `planned` whether we wanted it so.
        served: jobs that were started.
    """

    def __init__(self, child: Child, channel: socket.socket) -> None:
        self.over = asyncio.Event()
        self.why = ""
        self.planned = False
        self.served = 0
        self.child = child
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[list[bytes]]] = deque()
        self._jobs: dict[int, Child] = {}
        self._starting = 0
        self._ended = False
        # It lives with all jobs, but what is left behind is never its own: it starts nothing that we don't know.
        tree.live[child.pid].is_helper = True
        channel.settimeout(0)
        self._loop.add_reader(channel, self._read)

    @classmethod
    async def start(
        cls,
        script: str,
        imports: Sequence[str],
        *,
        env: Mapping[str, str],
        marker: str,
        identity: ChildIdentity | None,
    ) -> WarmServer:
        """Start a server, and wait until it has imported what it shall.

        Raises:
            OSError: it could not start, or it ended; the message says why.
            ProgramNotFoundError: there is no such interpreter.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo, theirs:
            undo.callback(ours.close)
            child = await Child.spawn(
                [sys.executable, str(_PROGRAM), str(theirs.fileno()), script, *imports],
                env={**env, "HOME": "/nonexistent", _ROOM: "." * _ROOM_BYTES},
                cwd=Path("/"),
                marker=marker,
                identity=identity,
                capture=_STDERR_BYTES,
                pass_fds=[theirs.fileno()],
            )
            undo.pop_all()
        server = cls(child, ours)
        try:
            os.close(os.pidfd_open(child.pid))  # a job's end can be noticed in no other way
            await server._expect()
        except OSError as problem:
            await child.stop(0)
            said = child.stderr.text(2000).strip().rpartition("\n")[2]
            raise ChildProcessError(said or str(problem)) from problem
        except BaseException:
            await server.close()
            raise
        return server

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        marker: str,
        capture: int,
        on_output: Callable[[str, bytes], None] | None = None,
    ) -> Child | None:
        """Run the script in a fork; None if the server can't, and a cold start should.

        Args:
            argv: the script and its arguments.
            env: its whole environment; only the marker is added.
            cwd: its working directory.
            marker: finds its descendants.
            capture: bytes kept of each stream.
            on_output: called with `stdout` or `stderr` and each piece of it; it must neither wait nor raise.

        Raises:
            ChildProcessError: the server ended while it started the job: nobody knows how far it came.
        """
        variables = [*env.items(), (tree.MARKER, marker)]
        fields = [b"run", bytes(cwd), b"%d" % len(argv), *map(os.fsencode, argv)]
        fields += [os.fsencode(f"{name}={value}") for name, value in variables]
        pipes = _Pipes()
        try:
            answer = self.ask(b"\0".join(fields), pipes.writers)
        except OSError:
            pipes.close()
            return None
        if answer.done():  # it was never sent: the server has ended
            pipes.close()
            return None
        self._starting += 1

        def own(process: WarmProcess) -> Child:
            watch = WarmWatch(process.pid, self)
            return Child(process, marker, capture, chained=False, watch=watch, on_output=on_output)

        def begin() -> Child | None:
            self._starting -= 1
            with contextlib.closing(pipes):  # what the child has not taken
                return self._begin(answer.result(), pipes, own)

        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            answer.add_done_callback(lambda _: _abandon(begin))
            raise
        return begin()

    def ask(self, message: bytes, fds: Sequence[int] = ()) -> asyncio.Future[list[bytes]]:
        """Send a request; the future gets its answer's fields, or ChildProcessError if the server has ended.

        Raises:
            OSError: the message is too long, or no descriptor is left.
        """
        if not self._ended:
            try:
                socket.send_fds(self._channel, [message], fds)
            except (BlockingIOError, BrokenPipeError, ConnectionError) as problem:
                self._end(f"it takes no requests: {problem}")
        return self._expect()

    def job_is_over(self, pid: int) -> None:
        """A job was reaped, or lost."""
        self._jobs.pop(pid, None)
        self._end_if_idle()

    def retire(self, why: str) -> None:
        """Take no more jobs, and end once those that run are over."""
        if not self.over.is_set():
            self.why, self.planned = why, True
            self.over.set()
        self._end_if_idle()

    async def close(self) -> None:
        """End it now; jobs that still run are killed."""
        self._end("it was closed")
        await self.child.stop(0)

    def _expect(self) -> asyncio.Future[list[bytes]]:
        answer: asyncio.Future[list[bytes]] = self._loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait any more
        if self._ended:
            answer.set_exception(ChildProcessError(f"The warm server has ended: {self.why}."))
            return answer
        self._waiting.append(answer)
        silence = self._loop.call_later(_ANSWER_SECONDS, self._end, "it does not answer")
        answer.add_done_callback(lambda _: silence.cancel())
        return answer

    def _read(self) -> None:
        try:
            data = self._channel.recv(_ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not self._waiting:
            self._end("it said what nobody asked" if data else "its process has ended")
            return
        self._waiting.popleft().set_result(data.split(b"\0"))

    def _begin(self, fields: list[bytes], pipes: _Pipes, own: Callable[[WarmProcess], Child]) -> Child | None:
        """The child that an answer names."""
        if fields[0] != b"pid":
            if fields[0] == b"stale":
                self.retire("a module beside the script has changed")
            return None
        pid = int(fields[1])
        seen = procfs.process(pid)
        if seen is None or seen.parent != self.child.pid:
            # Never signal what only it names. If it died just now its children are not its own any more.
            self._end("it named a process that is not its child")
            raise ChildProcessError("The warm server ended while it started a job.")
        try:
            child = own(WarmProcess(pid, pipes.take()))
        except BaseException:
            tree.live.pop(pid, None)
            procfs.send(seen, signal.SIGKILL)
            self.ask(b"reap\0%d" % pid)
            raise
        self.served += 1
        self._jobs[pid] = child
        return child

    def _end_if_idle(self) -> None:
        if self.planned and not self._jobs and not self._starting:
            self._end(self.why)

    def _end(self, why: str) -> None:
        """It is gone, or has to go; and its jobs with it."""
        if self._ended:
            return
        self._ended = True
        self.why = self.why or why
        self._loop.remove_reader(self._channel)
        self._channel.close()
        self.child.kill()
        for job in self._jobs.values():
            job.kill()
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(ChildProcessError(f"The warm server has ended: {why}."))
        self._waiting.clear()
        self.over.set()


class _Pipes:
    """Stdout and stderr of a job that is being started."""

    def __init__(self) -> None:
        self._readers: list[int] = []
        self.writers: list[int] = []
        try:
            for _ in range(2):
                reader, writer = os.pipe()
                self._readers.append(reader)
                self.writers.append(writer)
        except OSError:
            self.close()
            raise

    def take(self) -> list[IO[bytes]]:
        """The reading ends, to someone who closes them."""
        taken, self._readers = self._readers, []
        return [open(fd, "rb", buffering=0) for fd in taken]  # noqa: PTH123 - descriptors, and their taker closes them

    def close(self) -> None:
        """Close what nobody took, and the writing ends: they are the job's by now, else its end is never seen."""
        while self.writers:
            os.close(self.writers.pop())
        while self._readers:
            os.close(self._readers.pop())


def _abandon(begin: Callable[[], Child | None]) -> None:
    """Whoever asked for a child does not want it any more, and here it comes."""
    with contextlib.suppress(OSError):
        if child := begin():
            child.kill()
