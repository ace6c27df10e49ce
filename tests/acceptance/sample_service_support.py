"""The sample service: the files of an old Cloud Service, with programs of the tests' own, run by `rolehost up`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host_support import ROOT, marked, until

from support.status import status_of

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
CSDEF = "ServiceDefinition.csdef"
CSCFG = "ServiceConfiguration.Cloud.cscfg"
BACKEND, FRONTEND = "ThumbnailBackend", "ThumbnailFrontend"
# Twenty processes start on a machine that has other things to do, too.
_READY_SECONDS = 60.0


class SampleService:
    """A copy of the service in a directory of its own, and what a person does with it on the command line.

    Args:
        directory: an empty directory that any user may enter, as guest programs aren't run as root.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "service"
        self.data = directory / "data"
        shutil.copytree(FIXTURES / "sample_service", self.directory)
        for name in (CSDEF, CSCFG):
            shutil.copy(FIXTURES / "cloud_service" / name, self.directory)
            (self.directory / name).chmod(0o644)
        if os.getuid() != 0:
            text = (self.directory / CSDEF).read_text()
            (self.directory / CSDEF).write_text(
                text.replace('executionContext="elevated"', 'executionContext="limited"')
            )
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")}
        self.environ |= {"PYTHONPATH": str(ROOT), "ROLEHOST_RECYCLE_SECONDS": "0.05"}
        self._started: list[subprocess.Popen[bytes]] = []

    def up(self) -> str:
        """Start the service; the answer is the address that it says it listens on, once everything is ready."""
        definition = str(self.directory / CSDEF)
        process = self._start("out", "up", "--definition", definition, "--data", str(self.data), "--port", "0")
        told = re.compile(r"rolehost listening on (http://\S+)\n")
        until(lambda: told.search(self.told("out")) or process.poll() is not None, f"the address\n{self.told('err')}")
        found = told.search(self.told("out"))
        assert found, self.told("err")
        self.until_ready()
        return found[1]

    def rolehost(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end; the answer is what it says."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "rolehost", *arguments, "--data", str(self.data)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}\n{self.told('err')[-4000:]}"
        return done.stdout + done.stderr

    def update(self, *changes: tuple[str, str], count: int = 1) -> None:
        """Have the service take another configuration than it was started with, and wait for the walk's end.

        Args:
            changes: texts, and what stands in their places.
            count: how often each of the texts is there.
        """
        file = self.directory / "changed.cscfg"
        text = (self.directory / CSCFG).read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == count, f"{old!r} stands {text.count(old)} times in {CSCFG}"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        self.rolehost("update", str(file))

    def redefine(self, *changes: tuple[str, str]) -> None:
        """Have the service take another definition, with the configuration that it has.

        Args:
            changes: texts, and what stands in their places.
        """
        file = self.directory / "changed.csdef"
        text = (self.directory / CSDEF).read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {CSDEF}"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")
        self.rolehost("update", str(file))

    def status(self) -> dict[str, Any]:
        """What the service says of itself; empty while none answers."""
        return status_of(self.data)

    def instances(self, role: str = "") -> dict[str, dict[str, Any]]:
        """The instances of a role, or all of them, by id."""
        return {each["instance"]: each for each in self.status().get("instances", []) if role in {"", each["role"]}}

    def until_ready(self, **counts: int) -> None:
        """Until so many instances of each role are there, and all of them are ready."""
        wanted = {BACKEND: 4, FRONTEND: 2, **counts}

        def ready() -> bool:
            found = self.instances().values()
            states = {role: [each["state"] for each in found if each["role"] == role] for role in wanted}
            return states == {role: ["Ready"] * count for role, count in wanted.items()}

        until(ready, f"{wanted} ready\n{self.told('err')[-4000:]}", _READY_SECONDS)

    @contextmanager
    def watched(self) -> Iterator[list[dict[str, Any]]]:
        """What `rolehost status --json --watch` says meanwhile; complete at the end of the block."""
        seen: list[dict[str, Any]] = []
        out = f"watch{len(self._started)}"
        process = self._start(out, "status", "--json", "--watch", "--data", str(self.data))
        until(lambda: "\n" in self.told(out), f"the first line of the watch\n{self.told('err')[-4000:]}")
        yield seen
        process.send_signal(signal.SIGINT)
        process.wait(10)
        seen += [json.loads(line) for line in self.told(out).splitlines(keepends=True) if line.endswith("\n")]

    def trace(self, instance: str) -> list[dict[str, Any]]:
        """What a worker left in its local resource, over all its lives."""
        (path,) = self.data.glob(f"resources/{instance}/**/ToolCache/trace")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def words(self, instance: str) -> list[str]:
        """The events of a worker's trace."""
        return [each["event"] for each in self.trace(instance)]

    def processes(self) -> list[int]:
        """All the live processes of the service, `up` excluded."""
        return marked(f"{(self.data / 'deployment-id').read_text()}/")

    def left(self) -> list[Path]:
        """The directories of sockets that the service has in the system's temporary directory."""
        deployment = (self.data / "deployment-id").read_text()
        return list(Path(tempfile.gettempdir()).glob(f"rolehost-{deployment[:8]}-*"))

    def stop(self) -> int:
        """Stop in order; the exit code."""
        process = self._started[0]
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def told(self, file: str) -> str:
        """What `up` or the watch has written so far."""
        return (self.directory.parent / file).read_text()

    def _start(self, out: str, *arguments: str) -> subprocess.Popen[bytes]:
        outer = self.directory.parent
        with (outer / out).open("ab") as stdout, (outer / "err").open("ab") as stderr:
            argv = [sys.executable, "-P", "-m", "rolehost", *arguments]
            self._started.append(
                subprocess.Popen(argv, cwd=self.directory, env=self.environ, stdout=stdout, stderr=stderr)
            )
        return self._started[-1]

    def clean_up(self) -> None:
        """End all that was started."""
        for process in self._started:
            process.kill()
            process.wait()
        if (self.data / "deployment-id").exists():
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)


@contextmanager
def sample_service() -> Iterator[SampleService]:
    """The service in a directory that guest programs can enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="sample-"))
    directory.chmod(0o755)
    service = SampleService(directory)
    try:
        yield service
    finally:
        service.clean_up()
        shutil.rmtree(directory, ignore_errors=True)


def get(url: str) -> Any:
    """The JSON there."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own http address
        return json.load(answer)


def seen_down(watched: Sequence[Mapping[str, Any]]) -> set[int]:
    """The upgrade domains that had an instance that wasn't ready."""
    return {i["update_domain"] for line in watched for i in line["instances"] if i["state"] != "Ready"}


def down_together(watched: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """The moments at which more than one upgrade domain had an instance that wasn't ready."""
    found = []
    for status in watched:
        down = seen_down([status])
        found += [(status["at"], sorted(down))] if len(down) > 1 else []
    return found


def absences(trace: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """The times from each stop of a worker to its next start, by its own trace."""
    stops = [each["at"] for each in trace if each["event"] == "stopping"]
    starts = [each["at"] for each in trace if each["event"] == "run"]
    return [(at, next((start for start in starts if start > at), time.time())) for at in stops]
