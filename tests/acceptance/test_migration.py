"""docs/migrating-from-cloud-services.md is true: its files are written, its commands run, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import rolehost.environment
from rolehost import RoleEntryPoint, RoleEnvironmentError
from rolehost.cli.application import app
from support.commands import environ, picture
from support.service import ROOT, until
from support.status import status_of

pytestmark = pytest.mark.acceptance

PAGE = (ROOT / "docs" / "migrating-from-cloud-services.md").read_text()
BLOCK = re.compile(r"^```(?P<language>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
CSCFG = "ServiceConfiguration.Cloud.cscfg"
ROLE = "ThumbnailBackend"
PROGRAMS = {"rolehost": [sys.executable, "-m", "rolehost"], "python": [sys.executable]}


class Reader:
    """Somebody who reads the page and does what it says, in an empty folder that has a photograph."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[str]] = []
        picture(folder / "photo.jpg", (400, 300))

    def do(self, line: str) -> str:
        """Run a command of the page; `up` goes on beside the others. What the command wrote to stdout."""
        program, *arguments = shlex.split(line)
        argv = [*PROGRAMS.get(program, [program]), *arguments]
        if arguments[:1] == ["up"]:
            self._up(argv, arguments)
            return ""
        done = subprocess.run(
            argv, cwd=self.folder, env=environ(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def write(self, file: str, text: str) -> None:
        """Make a file of the page."""
        path = self.folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def instances(self, data: str = ".rolehost") -> list[dict[str, Any]]:
        """What the service says of its instances."""
        return list(status_of(self.folder / data).get("instances", []))

    def ready(self, number: int, data: str = ".rolehost") -> bool:
        """Whether so many instances are there, and all of them are ready."""
        found = self.instances(data)
        return len(found) == number and all(each["state"] == "Ready" for each in found)

    def local(self, instance: str, resource: str) -> Path:
        """A local resource of an instance."""
        return self.folder / ".rolehost" / "resources" / instance / resource

    def ended(self) -> int:
        """The exit code of the `up` that was started last, once it has ended."""
        return self._running[-1].wait(60)

    def log(self) -> str:
        """What the services wrote."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("up*.log")))

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self._running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()

    def _up(self, argv: list[str], arguments: list[str]) -> None:
        data = arguments[arguments.index("--data") + 1] if "--data" in arguments else ".rolehost"
        with (self.folder / f"up{len(self._running)}.log").open("w") as log:
            self._running.append(
                subprocess.Popen(argv, cwd=self.folder, env=environ(), stdout=log, stderr=log, text=True)
            )
        until(lambda: self._running[-1].poll() is not None or self._all_ready(data), "every instance is ready")
        assert self._running[-1].poll() is None, self.log()

    def _all_ready(self, data: str) -> bool:
        found = self.instances(data)
        return bool(found) and all(each["state"] == "Ready" for each in found)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def steps() -> Iterator[tuple[str, str]]:
    """What the page says to do, in its order: a file's name and its text, or nothing and a command."""
    for block in BLOCK.finditer(PAGE):
        if block["file"]:
            yield block["file"], block["text"]
        else:
            assert block["language"] == "sh", "what isn't run shows what nobody has tried"
            yield from (("", line) for line in block["text"].splitlines())


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


class Seen:
    """What there is to see after each command of the page: a method for each, by its first words."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lives: list[str] = []

    def __call__(self, command: str, told: str) -> None:
        """Look at what came of a command."""
        words = re.findall(r"[a-z]+", command)
        name = next((each for each in ("_".join(words[:2]), words[0]) if hasattr(self, each)), "")
        assert name, f"nobody looks at what came of {command!r}"
        getattr(self, name)(command, told)

    def rolehost_check(self, command: str, told: str) -> None:
        assert " is valid: service ThumbnailCloudService, 1 role" in told
        assert ("N08" in told) == ("service.toml" not in command)

    def rolehost_up(self, command: str, _told: str) -> None:
        if "--data" not in command:
            caches = [self._reader.local(f"{ROLE}_IN_{number}", "ToolCache") for number in range(2)]
            assert all((cache / "prepared").read_text() for cache in caches), "the startup task has run"

    def rolehost_status(self, _command: str, told: str) -> None:
        assert re.search(rf"^{ROLE}_IN_0 +Ready.*\n{ROLE}_IN_1 +Ready", told, re.MULTILINE)
        self._lives = self._started()

    def python_order(self, command: str, _told: str) -> None:
        thumbnail = command.rsplit(maxsplit=1)[-1]
        assert size(self._reader.folder / thumbnail) == ((64, 48) if thumbnail == "smaller.png" else (100, 75))
        works = [self._reader.local(f"{ROLE}_IN_{number}", "ThumbnailWork") for number in range(2)]
        assert [file for work in works for file in work.iterdir()] == [], "what was temporary is gone"

    def python_m(self, _command: str, told: str) -> None:
        assert "1 passed" in told

    def rolehost_update(self, _command: str, told: str) -> None:
        assert "Thumbnail.Pixels" in told
        assert self._started() == self._lives, "nothing has started again"

    def rolehost_scale(self, command: str, _told: str) -> None:
        until(lambda: self._reader.ready(int(command.rsplit(maxsplit=1)[-1])), command)

    def rolehost_stop(self, _command: str, _told: str) -> None:
        assert self._reader.ended() == 0

    def rolehost_convert(self, _command: str, _told: str) -> None:
        assert 'entry_point = "thumbnail_backend:WorkerRole"' in (self._reader.folder / "service.toml").read_text()

    def rolehost_submit(self, _command: str, _told: str) -> None:
        assert size(self._reader.folder / "pictures" / "photo.jpg") == (100, 75)

    def rolehost_jobs(self, _command: str, told: str) -> None:
        assert "completed" in told

    def sed(self, _command: str, _told: str) -> None:
        assert 'value="64"' in (self._reader.folder / CSCFG).read_text()

    def chmod(self, command: str, _told: str) -> None:
        assert os.access(self._reader.folder / command.rsplit(maxsplit=1)[-1], os.X_OK)

    def _started(self) -> list[str]:
        return [each["started_at"] for each in self._reader.instances()]


def test_the_page_is_followed_from_top_to_bottom(reader: Reader) -> None:
    seen = Seen(reader)
    for file, text in steps():
        if file:
            reader.write(file, text)
        else:
            seen(text, reader.do(text))


@pytest.fixture
def old_service(reader: Reader) -> Reader:
    """The page's first half, running."""
    for file, text in steps():
        if file:
            reader.write(file, text)
        elif text.startswith("chmod"):
            reader.do(text)
        elif text == "rolehost up":
            reader.do(text)
            break
    (order,) = [text for file, text in steps() if file == "order.py"]
    reader.write("order.py", order)
    return reader


def test_a_change_that_the_role_cancels_starts_it_again(old_service: Reader) -> None:
    before = {each["instance"]: each["started_at"] for each in old_service.instances()}
    old_service.do(f"sed -i s/thumbnail-jobs/other-jobs/ {CSCFG}")
    old_service.do("sed -i s/thumbnail-jobs/other-jobs/ order.py")
    old_service.do(f"rolehost update {CSCFG}")
    after = {each["instance"]: each["started_at"] for each in old_service.instances()}
    assert before.keys() == after.keys()
    assert all(before[instance] != after[instance] for instance in before)
    old_service.do("python order.py photo.jpg thumbnail.png")
    assert size(old_service.folder / "thumbnail.png") == (100, 75)


def test_a_job_that_the_application_refuses_stays_in_the_queue(old_service: Reader) -> None:
    (old_service.folder / "photo.jpg").write_bytes(b"no picture")
    ordered = subprocess.Popen(
        [sys.executable, "order.py", "photo.jpg", "none.png"],
        cwd=old_service.folder,
        env=environ(),
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: "the legacy app exited with code 65" in old_service.log(), "the role tells of it")
        assert ordered.poll() is None
        works = [old_service.local(f"{ROLE}_IN_{n}", "ThumbnailWork") for n in range(2)]
        until(lambda: not [file for work in works for file in work.iterdir()], "its files are removed")
        assert {each["recycles"] for each in old_service.instances()} == {0}
    finally:
        ordered.kill()
        ordered.wait()


MEMBERS = PAGE.partition("## Members")[2].partition("## Files")[0]
# Everything that the original's namespace has, but for what the page names as not there.
ORIGINAL = [
    "RoleEntryPoint",
    "OnStart",
    "Run",
    "OnStop",
    "IsAvailable",
    "IsEmulated",
    "DeploymentId",
    "CurrentRoleInstance",
    "Roles",
    "TraceSource",
    "GetConfigurationSettingValue",
    "GetLocalResource",
    "RequestRecycle",
    "Changed",
    "Changing",
    "SimultaneousChanged",
    "SimultaneousChanging",
    "StatusCheck",
    "Stopping",
    "RoleEnvironmentChange",
    "RoleEnvironmentConfigurationSettingChange",
    "RoleEnvironmentTopologyChange",
    "RoleEnvironmentCertificateChange",
    "SimultaneousChange",
    "SimultaneousTopologyChange",
    "VirtualIPGroupChange",
    "VirtualIPGroup",
    "VirtualIPEndpoints",
    "VirtualIPGroups",
    "RoleEnvironmentChangingEventArgs",
    "RoleEnvironmentChangedEventArgs",
    "RoleEnvironmentStoppingEventArgs",
    "RoleInstanceStatusCheckEventArgs",
    "SimultaneousChangingEventArgs",
    "SimultaneousChangedEventArgs",
    "RoleEnvironmentException",
    "RoleInstance",
    "RoleInstanceEndpoint",
    "RoleInstanceStatus",
    "LocalResource",
    "Role",
    "RoleRuntimeBridge",
    "CloudConfigurationManager",
    "GetSetting",
    "setStatus",
    "clearStatus",
    "SetBusy",
    "Cancel",
    "Changes",
    "RootPath",
    "MaximumSizeInMegabytes",
    "FaultDomain",
    "UpdateDomain",
    "InstanceEndpoints",
    "IPEndpoint",
    "PublicIPEndpoint",
    "Protocol",
]


@pytest.mark.parametrize("name", ORIGINAL)
def test_every_member_of_the_original_is_in_the_table(name: str) -> None:
    assert re.search(rf"[`.]{name}[`.]", MEMBERS)


def test_every_member_that_the_table_promises_is_there() -> None:
    homes = {"RoleEntryPoint": RoleEntryPoint, "RoleEnvironmentError": RoleEnvironmentError}
    rows = [line.split("|")[2] for line in MEMBERS.splitlines() if line.startswith(("| `", "| cert"))]
    names = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert len(names) > 50
    for name in names:
        head, _, member = name.partition(".")
        home = homes.get(head) or getattr(rolehost.environment, head)
        assert not member or hasattr(home, member) or member in getattr(home, "__annotations__", {}), name


def test_every_command_and_option_that_the_tables_name_exists() -> None:
    commands = {command.name: command.callback for command in app.registered_commands}
    named = re.findall(r"`rolehost ([a-z]+)([^`]*)`", PAGE.partition("## Members")[2])
    assert {"up", "run", "update", "scale", "stop", "status", "check", "convert", "job"} <= {name for name, _ in named}
    for name, rest in named:
        assert name in commands
        for option in re.findall(r"--[a-z-]+", rest):
            helped = subprocess.run(
                [*PROGRAMS["rolehost"], name, "--help"], env=environ(), capture_output=True, text=True, check=True
            )
            assert option in helped.stdout, f"{name} {option}"


def test_every_variable_that_the_page_names_is_read() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "rolehost").rglob("*.py"))
    for name in re.findall(r"ROLEHOST_[A-Z]+", PAGE):
        assert name in sources, name
    assert os.environ.get("ROLEHOST_DATA") is None
