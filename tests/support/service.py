"""The whole service as a user starts it, in processes of its own: `rolehost up` on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0

_Value = TypeVar("_Value")


def until(answer: Callable[[], _Value], what: str, seconds: float = SECONDS) -> _Value:
    """Ask again and again until the answer is true; fail after so many seconds."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not (value := answer()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(pause)
        pause = min(1.3 * pause, 0.15)  # who asks all the time slows down what is waited for
    return value


class Service:
    """`rolehost up` and the `rolehost` commands beside it.

    Args:
        directory: where it is started; a `service.toml` there is its definition. The data directory is `data` in it.
        environ: variables over the test's own.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")}
        self.environ = {**inherited, "PYTHONPATH": str(ROOT), **(environ or {})}
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def define(self, text: str) -> None:
        """Write the service.toml."""
        (self.directory / "service.toml").write_text(text)

    def start(self, *, front_end: bool = True, port: int = 0) -> None:
        """Start `up`, and wait until it says where it listens (with a front end)."""
        argv = [sys.executable, "-m", "rolehost", "up", "--data", str(self.data), "--port", str(port)]
        if not front_end:
            argv = argv[:-2]
        self.close()
        with (self.directory / "up.log").open("a") as log:
            self.process = subprocess.Popen(
                argv, cwd=self.directory, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        if front_end:
            self.url = self._listening(self.process).split()[-1]

    def _listening(self, process: subprocess.Popen[str]) -> str:
        """The line that says where the service listens; roles may have written lines of their own before it."""
        assert process.stdout is not None
        patience = threading.Timer(SECONDS, process.kill)
        patience.start()
        try:
            lines: list[str] = []
            for line in iter(process.stdout.readline, ""):
                if line.startswith("rolehost listening on http://127.0.0.1:"):
                    return line
                lines.append(line)
        finally:
            patience.cancel()
        raise AssertionError(f"{lines}\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = SECONDS) -> int:
        """Send a signal, and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(40)
                except subprocess.TimeoutExpired:
                    self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    def command(self, *arguments: str | Path, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run `rolehost ... --data` on the same data directory."""
        return self.bare(*arguments, "--data", self.data, seconds=seconds)

    def bare(self, *arguments: str | Path, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run `rolehost ...` in the service's directory."""
        argv = [sys.executable, "-m", "rolehost", *map(str, arguments)]
        return subprocess.run(
            argv, cwd=self.directory, env=self.environ, capture_output=True, text=True, timeout=seconds, check=False
        )

    def jobs(self, *options: str) -> list[dict[str, Any]]:
        """All jobs, as `rolehost jobs --json` lists them."""
        answer = self.command("jobs", "--json", "--limit", "500", *options)
        assert answer.returncode == 0, answer.stderr
        jobs: list[dict[str, Any]] = json.loads(answer.stdout)["jobs"]
        return jobs

    def job(self, job_id: str) -> dict[str, Any]:
        """A job by the API."""
        job: dict[str, Any] = json.loads(self.get(f"/api/v1/jobs/{job_id}"))
        return job

    def get(self, path: str) -> bytes:
        """What the front end answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as answer:  # noqa: S310 - a loopback address
            body: bytes = answer.read()
            return body

    def log(self) -> str:
        """What the service wrote to stderr."""
        return (self.directory / "up.log").read_text()

    def scratch(self) -> list[str]:
        """What lies in the scratch directories of all instances."""
        return [str(path) for path in self.data.glob("resources/*/Scratch/*")]

    def pids(self, word: str) -> list[int]:
        """Live processes under `up` whose command line has a word."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if word in command_line(pid)]


@contextlib.contextmanager
def running(directory: Path, **environ: str) -> Iterator[Service]:
    """The built-in service, from the block's beginning to its end."""
    service = Service(directory, environ)
    try:
        service.start()
        yield service
    finally:
        service.close()


def descendants(pid: int) -> list[int]:
    """Every live process below one."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(path.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def command_line(pid: int) -> str:
    """A process's command line, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def marked(data: Path) -> list[int]:
    """Every live process on this machine that carries the marker of a service's children."""
    with contextlib.suppress(OSError):
        deployment = (data / "deployment-id").read_text().strip().encode()
        return [pid for pid in _everyone() if b"\0ROLEHOST_CHILD=" + deployment in _environ(pid)]
    return []


def _everyone() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _environ(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
