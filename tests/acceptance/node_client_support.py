"""Microsoft's published Node client of the service runtime, fetched as it is, and a guest program that uses it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from host_support import until

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "node_client"
PACKAGE = "azure@0.6.10"
# Of the published archive: what else a registry might send under this name is not run.
ARCHIVE_SHA256 = "2bd29a0893b0ede3dd7f7c801796fe9267818c96b617f9e9c7090839ac93e854"
_NPM_SECONDS = 180.0


def node_client() -> Path:
    """The unpacked client with what it needs, from the user's cache; fetched the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rolehost-tests"
    wanted = ARCHIVE_SHA256 + (FIXTURE / "package-lock.json").read_text()
    client = cache / f"node-client-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    if not client.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _fetch(Path(scratch))
            try:
                (Path(scratch) / "client").rename(client)
            except OSError:  # another run was faster
                assert client.exists()
    return client


def _fetch(scratch: Path) -> None:
    _npm(scratch, "pack", PACKAGE)
    (archive,) = scratch.glob("*.tgz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == ARCHIVE_SHA256
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="data")
    client = (scratch / "package").rename(scratch / "client")
    # Its own list of dependencies can't be resolved any more: the lock names those that the service runtime needs.
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FIXTURE / name, client / name)
    _npm(client, "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def _npm(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["npm", *arguments], cwd=directory, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}\n{done.stderr}"


def lay_out(directory: Path) -> Path:
    """Copy the guest program and the client into a directory; the answer is the program."""
    shutil.copytree(node_client(), directory / "client")
    return Path(shutil.copy(FIXTURE / "guest.js", directory))


class Guest:
    """The guest program, as a test sees it.

    Args:
        trace: its local resource.
        address: its endpoint.
        port: the endpoint's port.
    """

    def __init__(self, trace: Path, address: str, port: int) -> None:
        self._trace = trace / "trace"
        self._url = f"http://{address}:{port}"

    def events(self, event: str = "") -> list[dict[str, Any]]:
        """What its host told it so far, over all its lives; an event's name chooses."""
        if not self._trace.exists():
            return []
        complete = [line for line in self._trace.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [found for line in complete if (found := json.loads(line))["event"] == (event or found["event"])]

    def until(self, event: str, times: int = 1) -> dict[str, Any]:
        """The latest of these events, once there were so many."""
        until(lambda: len(self.events(event)) >= times, f"{event}, {times} times, in {self.events()}")
        return self.events(event)[times - 1]

    def facts(self) -> dict[str, Any]:
        """What it sees of its environment."""
        return self._ask("GET", "/")

    def tell(self, order: str, argument: int = 0) -> dict[str, Any]:
        """Have it do something; the answer is what it sees then."""
        return self._ask("POST", f"/{order}/{argument}")

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, method=method)  # noqa: S310 - our own http address
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the same
            return dict(json.load(response))
