"""Roles that aren't rolehost's: from an installed package, and from a package and a script beside the service."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import ROOT, Service

pytestmark = pytest.mark.acceptance

INSTALLED = '''
from pathlib import Path

from rolehost import JobSpec, QueueWorker, Scratch


class Reversing(QueueWorker):
    """Installed by pip, as a team's own package."""

    kind = "reverse"

    def on_start(self) -> bool:
        self.mark = self.role_environment.get_configuration_setting_value("Shop.Mark")
        return True

    async def process(self, job: JobSpec, scratch: Scratch) -> Path:
        result = scratch.folder / "reversed.txt"
        result.write_text(self.mark + scratch.source.read_text()[::-1])
        return result
'''
BESIDE = """
from collections.abc import Sequence

from rolehost import ConsoleApp, ConsoleAppWorker, JobSpec


class Repeating(ConsoleAppWorker):
    kind = "repeat"
    app = ConsoleApp(("{python}", "{approot}/tools/repeat.py", "{source}", "{target}"))

    def command(self, job: JobSpec) -> Sequence[str]:
        return [*self.app.argv, str(job.parameters["times"])]
"""
SCRIPT = """
import sys
source, target, times = sys.argv[1:]
open(target, "w").write(open(source).read() * int(times))
"""
DEFINITION = """
[service]
name = "shop"
[roles.Reverser]
entry_point = "shop_roles.workers:Reversing"
[roles.Reverser.settings]
"Shop.Mark" = ">"
[roles.Repeater]
entry_point = "local_roles.repeating:Repeating"
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service whose roles are in two places."""
    folder, packages = tmp_path / "service", tmp_path / "packages"
    install(wheel(tmp_path), packages)
    for name, text in {
        "service.toml": DEFINITION,
        "local_roles/__init__.py": "",
        "local_roles/repeating.py": BESIDE,
        "tools/repeat.py": SCRIPT,
        "letter.txt": "ab\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    service = Service(folder, {"PYTHONPATH": f"{packages}:{ROOT}"})
    yield service
    service.close()


def wheel(folder: Path) -> Path:
    """A package of somebody's, as pip takes it."""
    path, facts = folder / "shop_roles-1.0-py3-none-any.whl", "shop_roles-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("shop_roles/__init__.py", "")
        archive.writestr("shop_roles/workers.py", INSTALLED)
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: shop_roles\nVersion: 1.0\n")
        archive.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{facts}/RECORD", "")
    return path


def install(archive: Path, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", target, archive], check=True)


def test_jobs_are_done_by_both(service: Service) -> None:
    checked = service.bare("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    service.start(front_end=False)
    for kind, options, expected in (("reverse", [], ">\nba"), ("repeat", ["--parameter", "times=3"], "ab\n" * 3)):
        answer = service.command("submit", "--kind", kind, *options, "letter.txt", "--output", kind)
        assert answer.returncode == 0, answer.stderr + service.log()
        (result,) = (service.directory / kind).iterdir()
        assert result.read_text() == expected


def test_what_is_missing_is_named_by_the_check(service: Service) -> None:
    (service.directory / "tools" / "repeat.py").unlink()
    service.environ["PYTHONPATH"] = str(ROOT)
    told = service.bare("check").stdout
    assert 'there is no module "shop_roles"' in told
    assert "there is no script" in told
    assert "repeat.py" in told
