"""Microsoft's JavaScript client of Service Bus, fetched as its lock names it, and what it sees of a namespace."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "service_bus_js"
_NPM_SECONDS = 180.0
_SCENARIO_SECONDS = 120.0


def node_client() -> Path:
    """The folder with the client's modules, in the user's cache; fetched the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rolehost-tests"
    wanted = hashlib.sha256((FIXTURE / "package-lock.json").read_bytes()).hexdigest()[:16]
    client = cache / f"service-bus-js-{wanted}"
    if not client.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fetched = Path(scratch) / "client"
            fetched.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(FIXTURE / name, fetched / name)
            _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], fetched, _NPM_SECONDS)
            try:
                fetched.rename(client)
            except OSError:  # another run was faster
                assert client.exists()
    return client / "node_modules"


def seen_by_javascript(connection: str, plain: str, with_sessions: str) -> dict[str, Any]:
    """Run the scenario on two queues; the answer is what the client saw."""
    environ = {**os.environ, "SERVICE_BUS": connection, "NODE_PATH": str(node_client())}
    command = ["node", str(FIXTURE / "scenario.js"), plain, with_sessions]
    return dict(json.loads(_run(command, FIXTURE, _SCENARIO_SECONDS, environ)))


def _run(command: list[str], directory: Path, seconds: float, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=directory, env=environ, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stderr}"
    return done.stdout
