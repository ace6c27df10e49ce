"""`rolehost check` on definitions that are valid, and can't run all the same."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.commands import environ, invoke

ROLES = """
import os
from pathlib import Path
from rolehost import ConsoleApp, ConsoleAppWorker, QueueWorker, RoleEntryPoint
print("what a module prints")

class Plain(RoleEntryPoint):
    pass
class Good(ConsoleAppWorker):
    kind = "good"
    app = ConsoleApp(["{python}", "{approot}/legacy_bin/thumbnail", "{source}", "{target}"])
class Bare(ConsoleAppWorker):
    pass
class Missing(ConsoleAppWorker):
    kind = "No Kind"
    app = ConsoleApp(["no-such-program", "{source}"])
    bad_input_exit_codes = {65}
class OneText(ConsoleAppWorker):
    kind = "text"
    app = ConsoleApp("cp {source} {target}")
class NoText(ConsoleAppWorker):
    kind = "no-text"
    app = ConsoleApp([Path("/bin/cp"), "{source}", "{target}"])
class NoApp(ConsoleAppWorker):
    kind = "no-app"
    app = ["cp", "{source}", "{target}"]
class Relative(ConsoleAppWorker):
    kind = "relative"
    app = ConsoleApp(["bin/tool", "{source}"])
class Asked(ConsoleAppWorker):
    kind = "asked"
    app = ConsoleApp(["{tool}", "{source}"])
class NoScript(ConsoleAppWorker):
    kind = "no-script"
    app = ConsoleApp(["{python}", "{approot}/legacy_bin/none", "{source}"])
class Lazy(QueueWorker):
    kind = "lazy"
class Short(QueueWorker):
    kind = "short"
    def process(self, job):
        return "x"
class Waits(Good):
    kind = "waits"
    async def command(self, job):
        return self.app.argv
    @staticmethod
    def result_name(job):
        return "x"
    async def progress(self, *both):
        return None
    def parse_progress(self, line, more=None):
        return None
class Works(QueueWorker):
    kind = "works"
    def process(self, job, scratch):
        return scratch.source
"""


def check(folder: Path, definition: str, **variables: str) -> tuple[int, list[str]]:
    """The exit code, and the lines on stdout."""
    (folder / "roles.py").write_text(ROLES)
    (folder / "service.toml").write_text('[service]\nname = "s"\n' + textwrap.dedent(definition))
    command = [sys.executable, "-m", "rolehost", "check"]
    told = subprocess.run(command, cwd=folder, env=environ(**variables), check=False, capture_output=True, text=True)
    assert "Traceback" not in told.stderr
    return told.returncode, told.stdout.splitlines()


def roles(*entry_points: str) -> str:
    """Roles of these entry points, each by the name of its class; the first is on line 3, each takes two lines."""
    return "\n".join(f'[roles.{each.rpartition(":")[2]}]\nentry_point = "{each}"' for each in entry_points)


def test_roles_that_can_run_are_valid(tmp_path: Path) -> None:
    code, lines = check(tmp_path, roles("roles:Plain", "roles:Good", "roles:Works"))
    assert code == 0
    assert lines[0].endswith("is valid: service s, 3 roles")
    assert "what a module prints" not in "\n".join(lines)


def test_every_entry_point_that_is_none_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    (tmp_path / "broken.py").write_text("1 / 0")
    code, lines = check(tmp_path, roles("no.such:Thing", "os:path", "roles:Godo", "leaves:Role", "broken:Worker"))
    assert code == 1
    for line, part in zip(
        lines,
        (
            'toml:4: N11: Thing: "no.such:Thing": there is no module "no"',
            'toml:6: N11: path: "os:path": path does not derive from rolehost.RoleEntryPoint',
            'toml:8: N11: Godo: "roles:Godo": the module roles',
            'toml:10: N11: Role: "leaves:Role": its module ends the process',
            'toml:12: N11: Worker: "broken:Worker": importing broken failed: ZeroDivisionError',
        ),
        strict=True,
    ):
        assert part in line


def test_what_a_worker_s_class_lacks_is_told(tmp_path: Path) -> None:
    names = ("Bare", "Missing", "OneText", "NoText", "NoApp", "Relative", "Asked", "NoScript", "Lazy", "Short", "Waits")
    code, lines = check(tmp_path, roles(*(f"roles:{name}" for name in names)))
    assert code == 1
    told = "\n".join(lines)
    for part in (
        "N13: Bare: Bare names no `kind` of job",
        "N13: Bare: Bare names no `app`",
        "N13: Missing: Missing.kind: a kind of job is named by 1 to 46 lower-case letters",
        "N13: Missing: Missing.app: no-such-program is not found on the PATH",
        "Missing.bad_input_exit_codes has no effect: it belongs to the app, ConsoleApp(..., bad_input_exit_codes=...)",
        "OneText.app: argv is a list of texts, the program and its arguments, not 'cp {source} {target}'",
        "NoText.app: argv is a list of texts",
        "NoApp.app is no ConsoleApp: ['cp',",
        "Relative.app: the program bin/tool is a relative path",
        "Asked.app: the program is the same for every job: it can't be named by {tool}",
        "NoScript.app: there is no script /",
        "Lazy has no process()",
        "Short.process() takes other arguments than it is called with: job, scratch",
        "Waits.command() is a coroutine function: it has to be a plain one",
    ):
        assert part in told
    assert len(lines) == 14


SETTINGS = """[roles.Back]
entry_point = "roles:Good"
[roles.Back.settings]
"Worker.Sloots" = 2
"Worker.Slots" = 0
"Worker.WarmStart" = "maybe"
"worker.leaseseconds" = 30
"Mine.Slots" = "many"
[roles.Front]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.Front.endpoints.Http]
protocol = "http"
port = 8080
[roles.Front.settings]
"Frontend.UploadCapBytes" = "x"
"Frontend.Upload" = 1
"""


def test_settings_of_the_roles_that_ship_are_checked_by_name_and_by_value(tmp_path: Path) -> None:
    code, lines = check(tmp_path, SETTINGS)
    assert code == 1
    assert lines == [
        'service.toml:6: N12: Back: there is no setting "Worker.Sloots"; did you mean "Worker.Slots"?',
        "service.toml:7: N12: Back: the setting Worker.Slots must be at least 1, not 0",
        "service.toml:8: N12: Back: the setting Worker.WarmStart must be true or false, not 'maybe'",
        "service.toml:17: N12: Front: the setting Frontend.UploadCapBytes must be a positive number, not 'x'",
        'service.toml:18: N12: Front: there is no setting "Frontend.Upload"; did you mean "Frontend.UploadCapBytes"?',
    ]


def test_settings_of_the_environment_are_checked_by_name_and_by_value(tmp_path: Path) -> None:
    definition = roles("roles:Good", "roles:Works") + '\n[roles.Good.settings]\n"Films.Folder" = "a"\n'
    code, lines = check(
        tmp_path,
        definition,
        ROLEHOST_SETTING_Worker__Slots="two",
        ROLEHOST_SETTING_Worker__Sloots="4",
        ROLEHOST_SETTING_WORKER__LEASESECONDS="30",
        ROLEHOST_SETTING_Films__Folder="b",
        ROLEHOST_SETTING_Films__Foldre="b",
    )
    assert code == 1
    expected = {
        "Films__Foldre: warning": 'declares the setting "Films.Foldre"; did you mean "Films.Folder"?',
        "Worker__Sloots": 'has a setting "Worker.Sloots"; did you mean "Worker.Slots"?',
    }
    assert sorted(lines) == [
        *(f"ROLEHOST_SETTING_{name}: N12: no role of the service {told}" for name, told in expected.items()),
        "ROLEHOST_SETTING_Worker__Slots: N12: the setting Worker.Slots must be a number, not 'two'",
    ]


FRONT = """
from rolehost.frontend.role import ThumbnailFrontend
class Front(ThumbnailFrontend):
    pass
"""


@pytest.mark.parametrize("entry_point", ["rolehost.frontend.role:ThumbnailFrontend", "front:Front"])
def test_a_front_end_without_an_endpoint_is_told(tmp_path: Path, entry_point: str) -> None:
    (tmp_path / "front.py").write_text(FRONT)
    definition = f'[roles.F]\nentry_point = "{entry_point}"\n[roles.F.endpoints.Htpt]\nprotocol = "http"\nport = 8080\n'
    assert check(tmp_path, definition) == (
        1,
        ['service.toml:4: N14: F: the role serves HTTP, but declares no endpoint "Http"; did you mean "Htpt"?'],
    )


def test_up_refuses_a_front_end_without_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("service.toml").write_text(
        '[service]\nname = "s"\n[roles.F]\nentry_point = "rolehost.frontend.role:ThumbnailFrontend"\n'
    )
    told = invoke("up", "--data", tmp_path / "data")
    assert told.exit_code == 1
    assert told.stderr == 'rolehost: the role "F" serves HTTP, but declares no endpoint "Http"\n'


def test_a_port_for_no_endpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("service.toml").write_text(f'[service]\nname = "s"\n{roles("roles:Plain")}\n')
    told = invoke("up", "--data", tmp_path / "data", "--port", "0")
    assert told.exit_code == 1
    assert told.stderr == "rolehost: --port 0 has no effect: no role of the service declares an http endpoint\n"
    command = [sys.executable, "-m", "rolehost", "run", "Plain", "--port", "0"]
    ran = subprocess.run(command, cwd=tmp_path, env=environ(), check=False, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert '--port 0 has no effect: the role "Plain" declares no endpoint' in ran.stderr
