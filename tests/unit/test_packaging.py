"""The wheel carries what the service needs, once; the locks name packages by version and hash, and no place."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
APPROOT = "rolehost/approot/legacy_bin"
BUILT_FROM = ("legacy_bin", "rolehost", "requirements", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def build(source: Path, target: str) -> Path:
    """Build with the locked hatchling of this environment; returns the archive."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (archive,) = (source / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, links as links: nothing is written beside the sources."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True)
        else:
            shutil.copy2(source, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    archive = build(checkout, "wheel")
    return archive.rename(checkout / archive.name)


@pytest.fixture(scope="module")
def sdist(checkout: Path, wheel: Path) -> Path:
    assert wheel.exists()  # one build at a time in the folder
    return build(checkout, "sdist")


def content(wheel: Path) -> dict[str, int]:
    """The names in a wheel with their file modes."""
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        assert len(names) == len(set(names)), "a file is in the wheel twice"
        return {entry.filename: entry.external_attr >> 16 for entry in entries}


def sources(folder: str) -> set[str]:
    """The files below a folder of the checkout, without what Python and editors leave there."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_console_applications_are_content_of_the_role(wheel: Path) -> None:
    files = content(wheel)
    carried = {name for name in files if name.startswith("rolehost/approot/")}
    assert carried == {name.replace("legacy_bin", APPROOT, 1) for name in sources("legacy_bin")}
    for program in ("thumbnail", "transcode"):
        assert files[f"{APPROOT}/{program}"] & stat.S_IXUSR, f"{program} can't be started"


def test_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    files = content(wheel)
    package = {name for name in sources("rolehost") if not name.startswith("rolehost/approot/")}
    assert {"rolehost/py.typed", "rolehost/__init__.py"} <= package <= files.keys()
    assert {name.split("/")[0] for name in files if ".dist-info/" not in name} == {"rolehost"}
    for folder in ("templates", "static"):
        assert any(name.startswith(f"rolehost/frontend/{folder}/") for name in files)


def test_wheel_from_the_source_package_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert (unpacked / "legacy_bin" / "thumbnail").stat().st_mode & stat.S_IXUSR
    assert not (unpacked / "rolehost" / "approot").exists()
    assert content(build(unpacked, "wheel")) == content(wheel)


def test_source_tree_and_wheel_have_the_applications_in_the_same_place() -> None:
    """In a checkout it is a link, so that an editable install finds them where an installed wheel has them."""
    link = ROOT / APPROOT
    assert link.is_symlink()
    assert link.readlink() == Path("../../legacy_bin")


def test_there_are_locks() -> None:
    assert [lock.name for lock in LOCKS] == ["bench.txt", "build.txt", "run.txt", "test.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_names_no_place(lock: Path) -> None:
    """A machine takes packages from where its own pip is told to: an address in a lock would decide for all."""
    text = lock.read_text(encoding="ascii")
    assert re.findall(r"[a-z+]+:/|file:|^\s*-(?!-hash=sha256:).*| @ ", text, flags=re.MULTILINE) == []


def pins(lock: Path) -> dict[str, str]:
    """Name and version of each requirement, after a look at its hashes."""
    found = {}
    for entry in lock.read_text(encoding="ascii").replace("\\\n", " ").splitlines():
        requirement = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; [^\\]*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)", entry)
        assert requirement, f"not a pinned requirement with hashes: {entry[:80]}"
        found[requirement[1]] = requirement[2]
    return found


def test_locks_agree() -> None:
    """What is tested is what runs: the smaller locks are parts of the one that the tests are installed from."""
    run, test, builds = (pins(ROOT / "requirements" / f"{name}.txt") for name in ("run", "test", "build"))
    assert run.items() < test.items()
    assert builds.items() < test.items()
    assert "hatchling" in builds
    assert "pytest" not in run


def test_locks_cover_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    for name, asked in {
        "run": project["project"]["dependencies"],
        "build": [*groups["build"], *project["build-system"]["requires"]],
        "test": [*groups["test"], *groups["check"], *groups["build"]],
    }.items():
        locked = pins(ROOT / "requirements" / f"{name}.txt")
        assert {re.split(r"[^a-z0-9-]", line, maxsplit=1)[0] for line in asked} <= locked.keys()
