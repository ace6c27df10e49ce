"""The warm server: an interpreter that has imported what a Python script needs, and forks a process for each job.

It is a program of its own, started by `warm_channel` as `python warm_server.py FD SCRIPT [MODULE ...]`, and imports
nothing of rolehost. It has one thread and answers one request after the other, over a SOCK_SEQPACKET socket; the fields
of a message are separated by NUL, which neither an argument nor a path can hold:

    (start)                                                -> ready
    run CWD COUNT ARGUMENT... VARIABLE=VALUE...  + 2 pipes -> pid N | stale | refused WHY
    reap N                                                 -> status N | refused WHY

A job ends as a zombie, which keeps its pid and its session's id from being used again, until `reap` asks for it. The
end of the socket ends the server, and the kernel then kills the jobs. The script sees what it sees at a cold start;
only its parent, and its command line in /proc, are the server's.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.machinery
import os
import signal
import site
import socket
import sys
import types
from collections.abc import Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_MESSAGE_BYTES = 262_144
_CANNOT_OPEN = 2  # what the interpreter itself exits with when it can't open the script

_libc = ctypes.CDLL(None, use_errno=True)


class Script:
    """The script's code, read again when its file has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - pathlib would be one import more
        self._seen: tuple[int, ...] = ()
        self._code: types.CodeType | None = None

    def code(self) -> types.CodeType | None:
        """The compiled script; None where the job has to find out itself what is wrong with it."""
        try:
            seen = _print_of(self.path)
            if seen != self._seen:
                self._code, self._seen = self.compile(), seen
        except (OSError, SyntaxError, ValueError):
            return None
        return self._code

    def compile(self) -> types.CodeType:
        """Read and compile it.

        Raises:
            OSError: it can't be read.
            SyntaxError: it is no Python.
        """
        with open(self.path, "rb") as file:  # noqa: PTH123 - the same
            return compile(file.read(), self.path, "exec", dont_inherit=True)


class Environment:
    """What the environment of a job is, in Python, for libraries in C, and in /proc.

    A fork keeps the memory that /proc/PID/environ shows, so that it would show the server's environment, and its
    marker: each job writes its own over it.
    """

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - the same
            fields = file.read().rpartition(b")")[2].split()
        self._start, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc(5)
        self._size = end - self._start
        if self._start <= 0 or self._size <= 0:
            raise OSError("/proc/self/stat does not tell where the environment is")
        entries = ctypes.string_at(self._start, self._size).split(b"\0")
        self._given = dict(os.fsdecode(entry).partition("=")[::2] for entry in entries if entry)
        self._made: dict[str, str] = {}
        self._taken: set[str] = set()

    def note_what_python_did(self) -> None:
        """Remember what the interpreter and the imported modules changed: they do the same at each cold start."""
        now = dict(os.environ)
        self._made = {name: value for name, value in now.items() if self._given.get(name) != value}
        self._taken = self._given.keys() - now.keys()

    def become(self, entries: Sequence[bytes]) -> None:
        """Make these entries, the marker last, the environment of this process."""
        given = dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)
        os.environ.clear()  # unsets them one by one: nothing points into the memory below after that
        os.environ.update({name: value for name, value in (given | self._made).items() if name not in self._taken})
        block = b"".join(entry + b"\0" for entry in entries)
        if len(block) > self._size:  # then the marker at least
            block = b"".join(entry + b"\0" for entry in (entries[-1], *entries[:-1]))[: self._size - 1]
        ctypes.memmove(self._start, block.ljust(self._size, b"\0"), self._size)


class Job:
    """One request to run the script."""

    def __init__(self, fields: Sequence[bytes], streams: Sequence[int]) -> None:
        count = int(fields[1])
        self.argv = [os.fsdecode(argument) for argument in fields[2 : 2 + count]]
        self.variables = fields[2 + count :]
        self.stdout, self.stderr = streams
        # Opened before the fork: a folder that can't be entered is told to who asked, not to the job.
        self.folder = os.open(fields[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close what is the job's."""
        for each in (self.folder, self.stdout, self.stderr):
            os.close(each)


class Server:
    """Answers requests, until one of them is to be a job in this very process: that of a fork."""

    def __init__(self, channel: socket.socket, script: Script) -> None:
        self.script = script
        self.environment = Environment()
        self._channel = channel
        self._pid = os.getpid()
        self._beside: dict[str, tuple[int, ...]] = {}

    def prepare(self, imports: Sequence[str]) -> None:
        """Import what the script will need, and find out whether a fork is as good as a new process then."""
        shadowing = {name.partition(".")[0] for name in _names(self.script.folder)} & sys.stdlib_module_names
        if shadowing:
            sys.exit(f"beside the script is a module named as one of Python's own: {', '.join(sorted(shadowing))}")
        if not sys.flags.safe_path:
            sys.path[0] = self.script.folder
        sys.argv[:] = [self.script.path]
        for name in imports:
            importlib.import_module(name)
        if len(_names("/proc/self/task")) > 1:
            sys.exit("importing the modules has started a thread: a fork would not have it")
        self.environment.note_what_python_did()
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        inside = os.path.join(self.script.folder, "")  # noqa: PTH118 - pathlib would be one import more
        self._beside = {file: _print_of(file) for file in files if file and file.startswith(inside)}
        self.script.code()
        # The memory of processes of one user is open to each of them: not that of the server, which outlives jobs.
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        gc.collect()
        gc.disable()
        gc.freeze()

    def serve(self) -> Job:
        """Answer; returns in each forked process, with its job."""
        self._channel.send(b"ready")
        while True:
            data, streams, _, _ = socket.recv_fds(self._channel, _MESSAGE_BYTES, 2)
            if not data:
                os._exit(0)
            verb, *fields = data.split(b"\0")
            try:
                if verb == b"reap":
                    answer = _reap(int(fields[0]))
                elif self._is_stale():
                    answer = b"stale"
                else:
                    job, streams = Job(fields, streams), []
                    self.script.code()
                    pid = os.fork()
                    if pid == 0:
                        return job
                    job.close()
                    answer = b"pid\0%d" % pid
            except (OSError, ValueError) as problem:
                answer = b"refused\0" + os.fsencode(str(problem))
            for each in streams:
                os.close(each)
            self._channel.send(answer)

    def become(self, job: Job) -> None:
        """Turn this forked process into what the script expects."""
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != self._pid:
            os._exit(1)  # the server is gone already
        os.setsid()
        self._channel.close()
        os.dup2(job.stdout, 1)
        os.dup2(job.stderr, 2)
        os.fchdir(job.folder)
        job.close()
        self.environment.become(job.variables)
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        sys.argv[:] = job.argv
        sys.orig_argv[:] = [sys.executable, *job.argv]
        site.USER_BASE = site.USER_SITE = None  # both come from HOME
        site.getusersitepackages()
        if "tempfile" in sys.modules:
            vars(sys.modules["tempfile"])["tempdir"] = None  # from TMPDIR
        gc.enable()

    def _is_stale(self) -> bool:
        try:
            return any(_print_of(file) != seen for file, seen in self._beside.items())
        except OSError:
            return True


def main_module(path: str) -> types.ModuleType:
    """What the interpreter makes of a script before it runs it."""
    module = types.ModuleType("__main__")
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    made = {"__annotations__": {}, "__builtins__": sys.modules["builtins"], "__file__": path, "__cached__": None}
    vars(module).update({name: value for name, value in made.items() if name in globals()})
    return module


def run(script: Script) -> None:
    """Run the script as `__main__`; how it ends is the interpreter's to handle, as ever."""
    module = sys.modules["__main__"] = main_module(script.path)
    code = None
    try:
        code = script.code() or script.compile()
        exec(code, vars(module))  # noqa: S102 - that is what the server is for
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told and raised again
        failure = error
    else:
        return
    if code is not None:
        trace = failure.__traceback__
        _leave_by(failure, trace and trace.tb_next)  # without our frame
    if isinstance(failure, OSError):
        print(f"{sys.executable}: can't open file {script.path!r}: {failure}", file=sys.stderr)  # noqa: T201 - as it does
        sys.exit(_CANNOT_OPEN)
    _leave_by(failure, None)


def _leave_by(error: BaseException, trace: types.TracebackType | None) -> NoReturn:
    """Tell the exception without our frames, then let the interpreter end by it: its exit code, or SIGINT."""
    error.__traceback__ = trace
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit:
        raise
    except BaseException as worse:  # noqa: BLE001 - a hook of the script's failed: both are told, as ever
        sys.stderr.write("Error in sys.excepthook:\n")
        worse.__traceback__ = worse.__traceback__ and worse.__traceback__.tb_next
        sys.__excepthook__(type(worse), worse, worse.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(type(error), error, trace)
    sys.excepthook = lambda *_: None
    raise error


def _print_of(path: str) -> tuple[int, ...]:
    """What changes when a file does."""
    seen = os.stat(path)  # noqa: PTH116 - pathlib would be one import more
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _names(folder: str) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208 - pathlib would be one import more


def _reap(pid: int) -> bytes:
    reaped, status = os.waitpid(pid, os.WNOHANG)
    return b"status\0%d" % status if reaped else b"refused\0it still runs"


def _main() -> None:
    number, path, *imports = sys.argv[1:]
    server = Server(socket.socket(fileno=int(number)), Script(path))
    server.prepare(imports)
    server.become(server.serve())
    run(server.script)


if __name__ == "__main__":
    _main()
