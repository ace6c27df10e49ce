"""The image, built from the Dockerfile as it is and run, without a container service and without a registry.

The base image is made by mmdebstrap from Debian's packages in place of the one that the Dockerfile names, which differs
in its Python's place only. The locked wheels are fetched beforehand and handed in, with a pip configuration that knows
no index: so the build shows that the image takes nothing but what is locked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/base:test"
IMAGE = "localhost/rolehost:test"
PROGRAMS = ("buildah", "mmdebstrap", "podman", "runc")
SECONDS = 400.0
PACKAGES = "python3-minimal,python3-venv,util-linux,ca-certificates"


class Images:
    """A store of images in a directory of its own.

    Args:
        directory: short, since sockets are made below it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environ = {**os.environ, "CONTAINERS_CONF": str(ROOT / "tests/fixtures/image/containers.conf")}

    def run(self, program: str, *arguments: str, seconds: float = SECONDS) -> str:
        """Run podman or buildah on this store; its stdout.

        Raises:
            AssertionError: it failed.
        """
        place = ("--root", str(self._directory / "root"), "--runroot", str(self._directory / "run"))
        return _run((program, "--storage-driver", "vfs", *place, *arguments), self._environ, seconds)

    def build(self) -> None:
        """The base and the image of this checkout."""
        tar = self._directory / "base.tar"
        _run(
            ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar)), self._environ
        )
        self.run("podman", "import", str(tar), BASE)
        tar.unlink()
        self.run("buildah", "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--format", "docker",
                 "--build-arg", f"BASE={BASE}", *self._wheels(), "--tag", IMAGE, str(ROOT))  # fmt: skip

    def _wheels(self) -> Sequence[str]:
        """The locked wheels, and a pip configuration that knows no index, as mounts of the build."""
        wheels = self._directory / "wheels"
        for lock in ("build", "run"):
            _run((sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:",
                  "--dest", str(wheels), "--requirement", str(ROOT / f"requirements/{lock}.txt")),
                 self._environ)  # fmt: skip
        configuration = self._directory / "pip.conf"
        configuration.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        return ("--volume", f"{wheels}:/wheels:ro", "--volume", f"{configuration}:/etc/pip.conf:ro")

    def start(self, name: str, *command: str, environ: Sequence[str] = (), volumes: Sequence[str] = ()) -> None:
        """A container as `compose.yaml` has it: a read-only root, no capabilities, no new privileges."""
        given = [word for each in environ for word in ("--env", each)]
        given += [word for each in volumes for word in ("--volume", each)]
        self.run("podman", "run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp",  # noqa: S108 - inside it
                 "--cap-drop", "all", "--security-opt", "no-new-privileges", "--network", "host", *given, IMAGE,
                 *command)  # fmt: skip

    def log(self, name: str) -> str:
        """What a container wrote."""
        return self.run("podman", "logs", name)


def _run(argv: Sequence[str], environ: dict[str, str], seconds: float = SECONDS) -> str:
    ended = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=seconds, check=False)
    assert ended.returncode == 0, f"{' '.join(argv)}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout + ended.stderr if "logs" in argv else ended.stdout


@contextlib.contextmanager
def images() -> Iterator[Images]:
    """A store of images; its containers and all that it holds are removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="rhi-"))
    store = Images(directory)
    try:
        yield store
    finally:
        with contextlib.suppress(AssertionError):
            store.run("podman", "rm", "--all", "--force", "--time", "5")
        shutil.rmtree(directory, ignore_errors=True)
