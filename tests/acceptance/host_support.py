"""A small service in a temporary directory, run by real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rolehost.environment import Role
from rolehost.host.assignment import Assignment, Topology
from rolehost.host.ports.addresses import run_topology
from rolehost.service_model import ServiceModel, load

_Value = TypeVar("_Value")

ROOT = Path(__file__).resolve().parents[2]

# Every role of these tests leaves a line in the trace for what happens to it.
PRELUDE = """
import asyncio, json, os, socket, subprocess, sys, threading, time
from pathlib import Path
from rolehost.entrypoint import RoleEntryPoint, ServedRole

def note(word):
    with open(os.environ["TRACE"], "a") as trace:
        trace.write(f"{word}\\n")
"""

UP = """
import asyncio, os, sys
from pathlib import Path
from rolehost.host.fabric.fabric import up
from rolehost.host.stopping import deaf_afterwards
from rolehost.service_model import load
from rolehost.telemetry.logs import configure_logging
configure_logging()
port = None if sys.argv[2] == "-" else int(sys.argv[2])
sys.exit(asyncio.run(deaf_afterwards(up(load(None, os.environ), data=Path(sys.argv[1]), port=port))))
"""


def until(answer: Callable[[], _Value], what: str, seconds: float = 15.0) -> _Value:
    """Ask again and again until the answer is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := answer()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process runs, zombies excluded."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zombies_of(pid: int) -> list[int]:
    return [child for child in children(pid) if not is_alive(child)]


def marked(prefix: str) -> list[int]:
    """Every live process on this machine whose marker begins so."""
    needle = b"\0ROLEHOST_CHILD=" + prefix.encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = b"\0" + (path / "environ").read_bytes()
        except OSError:
            continue
        if needle in environment and is_alive(int(path.name)):
            found.append(int(path.name))
    return found


def let_others_in(directory: Path) -> None:
    """Let an unprivileged user reach a directory of ours below the temporary folder, where tests have theirs."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for each in (directory, *directory.parents):
        if each.resolve() == temporary:
            return
        each.chmod(0o755)


def signal_again_and_again(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """What an impatient person does; what comes within half a second counts as one signal."""

    def ended() -> bool:
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.3)
        return process.poll() is not None

    until(ended, "the end", seconds=8)


class FabricEnd:
    """The fabric's end of a link to one bootstrapper: gives orders, keeps what it hears."""

    def __init__(self, end: socket.socket) -> None:
        self.facts: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.outputs: list[dict[str, Any]] = []
        self._end = end
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        self._end.sendall(json.dumps(message).encode() + b"\n")

    def assign(self, assignment: Assignment) -> None:
        self.send({"assign": assignment.to_json()})

    def stop(self, seconds: float | None) -> None:
        """What `rolehost stop` asks for."""
        self.send({"stop": {"seconds": seconds}})

    def until(self, **facts: object) -> dict[str, Any]:
        """Until the newest facts hold these."""
        wanted = facts.items()
        return until(lambda: self.facts if wanted <= self.facts.items() else {}, f"{facts} in {self.facts}")

    def statuses(self) -> list[str]:
        """The platform's words so far, each once in a row."""
        words = [facts["status"] for facts in self.history]
        return [word for index, word in enumerate(words) if index == 0 or words[index - 1] != word]

    def hang_up(self) -> None:
        self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._end.close()

    def _listen(self) -> None:
        with self._end.makefile("rb") as lines:
            for line in lines:
                ((kind, value),) = json.loads(line).items()
                if kind == "status":
                    self.history.append(value)
                    self.facts = value
                else:
                    {"event": self.events, "output": self.outputs}[kind].append(value)


class TinyService:
    """A service of the test's own roles. Ends all that it started."""

    def __init__(self, directory: Path, roles: str, definition: str = "", **times: float | str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.trace = directory / "trace"
        self.trace.touch()
        (directory / "roles.py").write_text(PRELUDE + textwrap.dedent(roles))
        values = {"drain_seconds": 5, "on_stop_seconds": 5, "recycle_seconds": 0.02, **times}
        lines = ["[service]", 'name = "tiny"', *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        lines.append(definition or '[roles.Worker]\nentry_point = "roles:Worker"')
        (directory / "service.toml").write_text("\n".join(lines))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")},
            "PYTHONPATH": str(ROOT),
            "TRACE": str(self.trace),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.probe_port = 0
        self.stdout_to: int | None = None
        self.fabrics: list[FabricEnd] = []
        self._topology: Topology | None = None

    @property
    def fabric(self) -> FabricEnd:
        """The link to the bootstrapper that was started last."""
        return self.fabrics[-1]

    def start_instance(self, instance: str = "Worker_IN_0") -> subprocess.Popen[bytes]:
        """One bootstrapper, and a link to it as the fabric has."""
        self.probe_port = free_port()
        ours, theirs = socket.socketpair()
        with theirs:
            argv = ["-P", "-m", "rolehost.host.bootstrapper", "--instance", instance, "--data", str(self.data)]
            argv += ["--link", str(theirs.fileno()), "--probe-port", str(self.probe_port)]
            process = self._start(argv, theirs.fileno())
        self.fabrics.append(FabricEnd(ours))
        self.fabric.assign(self.assignment(1, instance))
        return process

    def assignment(self, generation: int, instance: str = "Worker_IN_0", **changes: Any) -> Assignment:
        """What the definition file says now, as a generation.

        Args:
            changes: of the assignment, as `simultaneous`.
        """
        path = self.directory / "service.toml"
        if generation > 1:  # a generation's file never changes
            path = Path(shutil.copy(path, self.directory / f"generation-{generation}.toml"))
        model = load(path, self.environ, directory=self.directory)
        found = Assignment(
            generation=generation, model=path, directory=self.directory, topology=self.topology(model, instance)
        )
        return replace(found, **changes)

    def topology(self, model: ServiceModel, instance: str) -> Topology:
        """Where this instance is, alone in the service."""
        role, _, number = instance.rpartition("_IN_")
        if self._topology is None:
            self._topology = run_topology(model, role, int(number), "127.0.0.1")
        return {name: self._topology.get(name, Role(name)) for name in model.roles}

    def change(self, old: str, new: str) -> None:
        """Put a text in the place of another in the definition."""
        path = self.directory / "service.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def start_run(self, *options: str, role: str = "Worker") -> subprocess.Popen[bytes]:
        """One instance by `rolehost run`, as in a container."""
        self.probe_port = free_port()
        argv = ["-P", "-m", "rolehost", "run", role, "--data", str(self.data), "--probe-port", str(self.probe_port)]
        return self._start([*argv, *options])

    def start_up(self, port: int | str = 0) -> subprocess.Popen[bytes]:
        """The whole service."""
        return self._start(["-P", "-c", UP, str(self.data), str(port)])

    def _start(self, argv: list[str], *pass_fds: int) -> subprocess.Popen[bytes]:
        with (self.directory / "stdout").open("ab") as out, (self.directory / "stderr").open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=self.directory,
                env=self.environ,
                stdout=out if self.stdout_to is None else self.stdout_to,
                stderr=err,
                pass_fds=pass_fds,
            )
        self.processes.append(self.process)
        return self.process

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text()

    @property
    def deployment_id(self) -> str:
        return (self.data / "deployment-id").read_text()

    def words(self) -> list[str]:
        """The trace so far."""
        return self.trace.read_text().split()

    def until_words(self, *words: str) -> None:
        """Until the trace holds these words in this order, others in between."""

        def held() -> bool:
            rest = iter(self.words())
            return all(word in rest for word in words)

        until(held, f"{words} in the trace\n{self.stderr}")

    def probe(self, path: str = "/readyz", port: int | None = None) -> tuple[int, dict[str, Any]]:
        """What a probe answers; code 0: nobody does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.probe_port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    def until_ready(self) -> None:
        until(lambda: self.probe()[0] == 200, f"ready\n{self.stderr}")

    def role_pid(self, marker: str = "Worker_IN_0/role") -> int:
        """The role process, once there is exactly one."""

        def only() -> int:
            found = [pid for pid in marked(f"{self.deployment_id}/{marker}") if b"role_process" in _argv(pid)]
            return found[0] if len(found) == 1 else 0

        return until(only, f"a process marked {marker}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal the process that was started last: its exit code, and the seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(30), time.monotonic() - began

    def clean_up(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for fabric in self.fabrics:
            fabric.close()
        if (self.data / "deployment-id").exists():
            for pid in marked(f"{self.deployment_id}/"):
                os.kill(pid, signal.SIGKILL)
            for left in Path(tempfile.gettempdir()).glob(f"rolehost-{self.deployment_id[:8]}-*"):
                shutil.rmtree(
                    left, ignore_errors=True
                )  # what a killed bootstrapper can't remove, and its next start would


Make: TypeAlias = "Callable[..., TinyService]"


def services(directory: Path) -> Iterator[Make]:
    """What a fixture named `make` yields: makes services, and ends them with the test."""
    made: list[TinyService] = []

    def make(roles: str, definition: str = "", **times: float | str) -> TinyService:
        made.append(TinyService(directory, roles, definition, **times))
        return made[-1]

    yield make
    for service in made:
        service.clean_up()


def _argv(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])
