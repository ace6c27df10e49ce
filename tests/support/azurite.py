"""Azurite, Microsoft's storage emulator, on loopback: one for all tests of a process, started when the first one asks.

The packages are those of `deploy/azurite/package-lock.json`, less what only telemetry and SQL need. They are
installed once for a checkout, below `.cache/`.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ROOT / "deploy" / "azurite"
WITH_PARENT = ROOT / "tests" / "fixtures" / "azurite" / "with_parent.js"
CACHE = ROOT / ".cache" / "azurite"
ACCOUNT = "devstoreaccount1"
# Published with the emulator, the same everywhere.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
OWN_KEY = "b3duLWFjY291bnQta2V5"
OWN_ACCOUNTS = 400
CLIENT: Mapping[str, Any] = {"api_version": "2024-11-04"}
"""For a test's own clients of queues and blobs: the SDKs' newest version is newer than the server's."""
_STARTED_WITHIN = 60.0
_SERVICES = ("blob", "queue", "table")


@dataclass(slots=True)
class Azurite:
    """A server; `start` it, and `stop` it.

    Args:
        location: where it keeps its data; None: in memory.
        ports: of blobs, queues and tables; kept over a restart.
        certificate: certificate and key files: it speaks TLS then, and takes tokens of an identity.
        access_log: where a line for each request goes; None: nowhere. With one it also takes clients of other people's,
            whose version of the protocol is newer than the server.
    """

    location: Path | None = None
    ports: Sequence[int] = field(default_factory=lambda: free_ports(3))
    certificate: tuple[Path, Path] | None = None
    access_log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Azurite:
        """Start it, and wait until it answers on its three ports."""
        # The server ends with this process, even one that is killed: its stdin does then.
        command = ["node", "--require", str(WITH_PARENT), str(installed()), *self._options()]
        with (self.access_log or Path(os.devnull)).open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                env={**os.environ, "AZURITE_ACCOUNTS": _accounts()},
            )
        try:
            self._wait(self.process)
        except BaseException:
            self.stop()
            raise
        return self

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _STARTED_WITHIN
        for port in self.ports:
            while not _answers(port):
                assert process.poll() is None, f"Azurite ended with {process.returncode}"
                assert time.monotonic() < deadline, "Azurite did not start"
                time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM: what it was told is kept. (A SIGKILL loses up to five seconds, acknowledged or not.)"""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(30)
            if self.process.stdin is not None:
                self.process.stdin.close()
            self.process = None

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP and SIGCONT make a server that hangs."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def connection(self, account: str = ACCOUNT, ports: Sequence[int] | None = None) -> str:
        """A connection string.

        Args:
            account: which account.
            ports: other ports that lead to it, of a proxy.
        """
        key = KEY if account == ACCOUNT else OWN_KEY
        return f"AccountName={account};AccountKey={key};{self.endpoints(account, ports)}"

    def endpoints(self, account: str = ACCOUNT, ports: Sequence[int] | None = None) -> str:
        """A connection string without a key: for an identity."""
        scheme = "https" if self.certificate else "http"
        return "".join(
            f"{service.capitalize()}Endpoint={scheme}://127.0.0.1:{port}/{account};"
            for service, port in zip(_SERVICES, ports or self.ports, strict=True)
        )

    def _options(self) -> list[str]:
        options = ["--disableTelemetry", "--skipApiVersionCheck" if self.access_log else "--silent"]
        for service, port in zip(_SERVICES, self.ports, strict=True):
            options += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        options += ["--location", str(self.location)] if self.location else ["--inMemoryPersistence"]
        if self.certificate:
            options += ["--cert", str(self.certificate[0]), "--key", str(self.certificate[1]), "--oauth", "basic"]
        return options


@cache
def shared() -> Azurite:
    """The server of all tests of this process, in memory; it ends with the process."""
    azurite = Azurite().start()
    atexit.register(azurite.stop)
    return azurite


_own_accounts = (f"own{number:04d}" for number in itertools.cycle(range(OWN_ACCOUNTS)))
_owners: dict[str, str] = {}


def own_account(directory: Path) -> str:
    """The connection string of an account of the shared server that belongs to whoever uses this directory."""
    key = str(directory)
    if key not in _owners:
        _owners[key] = next(_own_accounts)
    return shared().connection(_owners[key])


def environ(directory: Path) -> Mapping[str, str]:
    """What `connect` and processes need to use an account of their own; `directory` is for what is not stored there."""
    return {"ROLEHOST_STORAGE": own_account(directory), "ROLEHOST_DATA": str(directory / "data")}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, each another one."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


@cache
def installed() -> Path:
    """The server's script; installed when it is missing or the lock has changed, by one process at a time."""
    lock = (PACKAGES / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(PACKAGES, folder)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
            (folder / ".complete").touch()
    return script


def _accounts() -> str:
    return ";".join([f"{ACCOUNT}:{KEY}", *(f"own{number:04d}:{OWN_KEY}" for number in range(OWN_ACCOUNTS))])


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
