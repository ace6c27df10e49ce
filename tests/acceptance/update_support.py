"""A service of the tests' own roles under `rolehost up`, its commands, and all that its instances went through."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from support.service import ROOT
from support.status import status_of

SECONDS = 30.0

_Value = TypeVar("_Value")


def until(answer: Callable[[], _Value], what: Callable[[], str], seconds: float = SECONDS) -> _Value:
    """Ask again and again until the answer is true; fail after so many seconds, with what is known then."""
    deadline = time.monotonic() + seconds
    while not (value := answer()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what()}"
        time.sleep(0.02)
    return value


def free_port() -> int:
    """A port that nobody has bound at the moment."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


# Each line of the trace: the instance, the process, a word.
PRELUDE = """
import os, signal, threading, time
from pathlib import Path
from rolehost import RoleEntryPoint

def note(word):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(f"{os.environ['RoleInstanceID']} {os.getpid()} {word}\\n")

class Worker(RoleEntryPoint):
    def on_start(self):
        self.heard = []
        env = self.role_environment
        env.changing += self.on_changing
        env.changed += lambda e: note(f"changed:{self.greeting}")
        env.stopping += lambda e: note("stopping")
        note(f"start:{self.greeting}")
        return True
    @property
    def greeting(self):
        return self.role_environment.get_configuration_setting_value("Greeting")
    def on_changing(self, e):
        note(f"changing:{self.greeting}")
        if os.environ.get("CANCEL"):
            e.cancel = True
    def on_stop(self):
        note("on_stop")
"""

DEFINITION = """
[service]
name = "tiny"
{service}
drain_seconds = 5
on_stop_seconds = 5
recycle_seconds = 0.02
upgrade_domain_count = {domains}

[roles.Worker]
entry_point = "roles:{role}"
instances = {instances}
[roles.Worker.settings]
Greeting = "{greeting}"
{more}
"""


@dataclass
class Watched:
    """The documents of `rolehost status --json --watch`, one after the other."""

    process: subprocess.Popen[str]
    documents: list[dict[str, Any]] = field(default_factory=list)
    _reader: threading.Thread | None = None

    def start(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.documents.append(json.loads(line))

    def until(self, wanted: Callable[[dict[str, Any]], object], what: str) -> None:
        """Until a document is as wanted."""
        until(lambda: any(wanted(each) for each in list(self.documents)), lambda: f"{what}\n{self.documents[-1:]}")

    def end(self) -> None:
        """Go on until the service has ended."""
        assert self.process.wait(SECONDS) == 0
        assert self._reader is not None
        self._reader.join(SECONDS)

    def down(self) -> list[set[int]]:
        """The update domains that were down in each document from the beginning of the update to its end."""
        walking = [index for index, document in enumerate(self.documents) if document["walk"]]
        return [
            {each["update_domain"] for each in document["instances"] if each["state"] != "Ready"}
            for document in self.documents[walking[0] : walking[-1] + 2]
        ]


class Updated:
    """`rolehost up` with a small service in a directory."""

    def __init__(self, directory: Path, roles: str = "", **environ: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.trace = directory / "trace"
        self.trace.touch()
        (directory / "roles.py").write_text(PRELUDE + textwrap.dedent(roles))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")}
        self.environ = {**inherited, "PYTHONPATH": str(ROOT), "TRACE": str(self.trace), **environ}
        self.processes: list[subprocess.Popen[str]] = []

    @property
    def file(self) -> Path:
        return self.directory / "service.toml"

    def define(
        self, greeting: str = "hello", *, instances: int = 1, path: Path | None = None, **more: str | int
    ) -> Path:
        """Write a definition."""
        values = {"domains": 5, "service": "", "more": "", "role": "Worker", **more}
        path = path or self.file
        path.write_text(DEFINITION.format(greeting=greeting, instances=instances, **values))
        return path

    def up(self, *options: str | Path) -> subprocess.Popen[str]:
        """Start the service."""
        with (self.directory / "up.log").open("a") as log:
            return self._start(["up", "--data", self.data, *options], stdout=log, stderr=log)

    def up_and_ready(self, *options: str | Path) -> subprocess.Popen[str]:
        """Start the service, and wait until all instances are ready."""
        process = self.up(*options)
        self.until_ready()
        return process

    def watch(self) -> Watched:
        """Watch the status from now on."""
        argv = ["status", "--json", "--watch", "--data", str(self.data)]
        with (self.directory / "watch.log").open("a") as log:
            watched = Watched(self._start(argv, stdout=subprocess.PIPE, stderr=log))
        watched.start()
        until(lambda: watched.documents, lambda: "the first status")
        return watched

    def start(self, *arguments: str, output: str = "commands.log") -> subprocess.Popen[str]:
        """Start a `rolehost` command on the service; what it writes goes into a file."""
        with (self.directory / output).open("a") as file:
            return self._start([*arguments, "--data", str(self.data)], stdout=file, stderr=file)

    def _start(self, arguments: Sequence[str | Path], **streams: Any) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "rolehost", *map(str, arguments)]
        process = subprocess.Popen(argv, cwd=self.directory, env=self.environ, text=True, **streams)
        self.processes.append(process)
        return process

    def command(self, *arguments: str | Path | int, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a `rolehost` command on the service."""
        argv = [sys.executable, "-m", "rolehost", *map(str, arguments), "--data", str(self.data)]
        return subprocess.run(
            argv,
            cwd=self.directory,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def done(self, *arguments: str | Path | int) -> str:
        """Run a command that succeeds; what it wrote."""
        answer = self.command(*arguments)
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}\n{self.log}"
        return answer.stdout

    def refused(self, *arguments: str | Path | int) -> str:
        """Run a command that is refused; why."""
        answer = self.command(*arguments)
        assert answer.returncode == 1, f"{answer.stdout}\n{answer.stderr}"
        return answer.stderr

    def status(self) -> dict[str, Any]:
        """What the service says of itself; empty while none answers."""
        return status_of(self.data)

    def facts(self, instance: str = "Worker_IN_0") -> dict[str, Any]:
        """An instance's facts."""
        return next(each for each in self.status()["instances"] if each["instance"] == instance)

    def until_ready(self, generation: int = 1) -> None:
        """Until every instance is, with the generation at least."""

        def ready() -> bool:
            instances = self.status().get("instances", [])
            return bool(instances) and all(
                each["state"] == "Ready" and each["generation"] >= generation for each in instances
            )

        until(ready, lambda: f"ready\n{self.log}")

    @property
    def log(self) -> str:
        return (self.directory / "up.log").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log about an event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def noted(self, instance: str = "Worker_IN_0") -> list[str]:
        """What an instance's processes left in the trace."""
        lines = [line.split(" ", 2) for line in self.trace.read_text().splitlines()]
        return [word for its, _, word in lines if its == instance]

    def order(self, word: str) -> list[str]:
        """Which instances left a word in the trace, in this order."""
        lines = [line.split(" ", 2) for line in self.trace.read_text().splitlines()]
        return [instance for instance, _, noted in lines if noted == word]

    def pids(self, instance: str = "Worker_IN_0") -> set[str]:
        """The processes that left something in the trace."""
        lines = [line.split(" ", 2) for line in self.trace.read_text().splitlines()]
        return {pid for its, pid, _ in lines if its == instance}

    def until_noted(self, word: str, instance: str = "Worker_IN_0") -> None:
        until(lambda: word in self.noted(instance), lambda: f"{word}\n{self.trace.read_text()}\n{self.log}")

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def running(directory: Path, roles: str = "", environ: Mapping[str, str] | None = None) -> Iterator[Updated]:
    """A service in a directory, ended with the block."""
    service = Updated(directory, roles, **(environ or {}))
    try:
        yield service
    finally:
        service.close()
