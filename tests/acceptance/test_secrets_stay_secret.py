"""A canary in every secret: none is seen in logs, pages, answers, tracebacks, arguments, or by the console application.

Storage and broker are real processes; the service is one as a user starts it. What comes out is searched for every
canary: as it is, percent-encoded, and in base64.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from support import azurite
from support.azurite import OWN_KEY, Azurite
from support.commands import picture
from support.service import Service, descendants, until
from support.service_bus import QueueOptions, StandIn

pytestmark = pytest.mark.acceptance

SERVICE = """
[service]
name = "canaries"

[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.settings]
"Frontend.JwtIssuer" = "https://issuer.example"
"Frontend.JwtAudience" = "rolehost"
"Frontend.JwtKeyFile" = "{secret}"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Spy]
entry_point = "spy:Spy"
[roles.Spy.settings]
"Worker.Slots" = 1
[roles.Spy.local_resources.Scratch]
size_in_mb = 100
"""
# The application tells all that it can see of itself and of those above it, as its result and on both streams.
SPY = """
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker

SEEN = "cat /proc/self/environ /proc/self/cmdline /proc/[0-9]*/cmdline; set; env; echo seen"


class Spy(ConsoleAppWorker):
    kind = "thumbnail"
    app = ConsoleApp(("sh", "-c", f'({SEEN}) > "$1" 2>&1; cat "$1"; cat "$1" >&2', "spy", "{target}"))

    def result_type(self, job):
        return "application/octet-stream"

    def result_name(self, job):
        return "seen.txt"
"""
METRICS = "ROLEHOST_SETTING_Telemetry__MetricsPort"
CONNECT = ("check", "--connect")
PAGES = ("/", "/jobs", "/instances", "/poison", "/api/v1/jobs", "/api/v1/instances", "/healthz", "/readyz")


class Canaries:
    """Secrets, and where they must not be."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        """Watch for a secret; the answer is the secret."""
        self.secrets[name] = secret
        return secret

    def check(self, where: str, text: str) -> None:
        """Fail if one is there, under any of its forms."""
        for name, secret in self.secrets.items():
            forms = {
                secret,
                urllib.parse.quote(secret, safe=""),
                base64.b64encode(secret.encode()).decode().rstrip("="),
            }
            assert not [form for form in forms if form in text], f"the {name} is in {where}"


@pytest.fixture
def canaries() -> Canaries:
    found = Canaries()
    found.add("account key", OWN_KEY)
    return found


@pytest.fixture
def bus() -> Iterator[StandIn]:
    with StandIn(makes_queues=QueueOptions(max_delivery_count=1000)) as stand_in:
        yield stand_in


@pytest.fixture
def storage() -> Iterator[Azurite]:
    server = Azurite().start()
    yield server
    server.stop()


@pytest.fixture
def service(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, storage: Azurite, bus: StandIn, canaries: Canaries
) -> Iterator[Service]:
    secret = tmp_path_factory.mktemp("secrets") / "jwt-secret"
    secret.write_text(canaries.add("secret of tokens", secrets.token_hex(32)))
    canaries.add("key of Service Bus", bus.key)
    environ = {
        "ROLEHOST_STORAGE": storage.connection("own0001"),
        "ROLEHOST_QUEUE": bus.connection_string,
        "ROLEHOST_DEBUG": "1",
        "ROLEHOST_VERBOSE": "1",
        METRICS: str(azurite.free_ports(1)[0]),
    }
    service = Service(tmp_path, environ)
    service.define(SERVICE.format(secret=secret))
    (tmp_path / "spy.py").write_text(SPY)
    yield service
    service.close()


def test_no_secret_is_ever_seen(
    service: Service, storage: Azurite, bus: StandIn, canaries: Canaries, tmp_path: Path
) -> None:
    key = canaries.add("API key", service.command("key", "new", "canary", "--role", "operate").stdout.strip())
    assert len(key) > 20
    service.start()
    token = canaries.add("token", _token(canaries.secrets["secret of tokens"]))
    _check_arguments(service, canaries)
    asset = picture(tmp_path / "a.png")
    told = service.command("submit", asset, "--size", "Small", "--json")
    canaries.check("the output of submit", told.stdout + told.stderr)
    job = json.loads(told.stdout)["jobs"][0]["id"]
    until(lambda: _ask(service, f"/api/v1/jobs/{job}", key).find('"completed"') > 0, "the job is done", 20)
    seen = _ask(service, f"/api/v1/jobs/{job}/result", token)
    assert "seen" in seen
    assert "ROLEHOST_CHILD" in seen
    for name in ("ROLEHOST_STORAGE", "ROLEHOST_QUEUE"):
        assert name not in seen
    canaries.check("what the console application sees", seen)
    pages = (*PAGES, f"/jobs/{job}", f"/api/v1/jobs/{job}", f"/api/v1/jobs/{job}/log")
    _check_pages(service, canaries, pages, key, "no-key-at-all")
    port = int(service.environ[METRICS])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        metrics = answer.read().decode()
    assert "rolehost_storage_transactions_total" in metrics
    canaries.check("the metrics", metrics)
    _check_arguments(service, canaries)
    _check_commands(service, canaries, service.environ, ("status", "--json"), ("job", job), ("key", "list"))
    storage.stop()
    bus.stop()
    broken = (("jobs",), ("poison", "list"), CONNECT)
    _check_pages(service, canaries, ("/", "/poison", "/readyz", "/api/v1/jobs"), key)
    _check_commands(service, canaries, service.environ, *broken)
    wrong = {**service.environ, "ROLEHOST_STORAGE": _signed(storage, canaries), "ROLEHOST_QUEUE": _wrong(bus, canaries)}
    storage.start()
    bus.start()
    _check_commands(service, canaries, wrong, *broken)
    service.stop()
    canaries.check("the log", service.log())
    for path in _files_of_the_service(service.data):
        if path.name not in {"keys", "session-secret"}:
            canaries.check(str(path), path.read_bytes().decode("latin-1"))


def _token(secret: str) -> str:
    claims = {"iss": "https://issuer.example", "aud": "rolehost", "sub": "canary", "roles": ["operate"]}
    return jwt.encode({**claims, "exp": int(time.time()) + 3600}, secret, algorithm="HS256")


def _ask(service: Service, path: str, secret: str) -> str:
    """Headers and body of an answer, whatever its status."""
    request = urllib.request.Request(f"{service.url}{path}", headers={"Authorization": f"Bearer {secret}"})  # noqa: S310 - loopback
    try:
        answer = urllib.request.urlopen(request, timeout=30)  # noqa: S310 - a loopback address
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return f"{answer.headers}\n{answer.read().decode('utf-8', 'replace')}"


def _check_arguments(service: Service, canaries: Canaries) -> None:
    assert service.process is not None
    for pid in [service.process.pid, *descendants(service.process.pid)]:
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue  # it has ended
        canaries.check(f"the arguments of process {pid}", arguments)


def _check_pages(service: Service, canaries: Canaries, pages: Sequence[str], *keys: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        asked = {(page, key): threads.submit(_ask, service, page, key) for page in pages for key in keys}
        for (page, _), answer in asked.items():
            canaries.check(page, answer.result())


def _check_commands(
    service: Service, canaries: Canaries, environ: Mapping[str, str], *commands: tuple[str, ...]
) -> None:
    """What commands say, with tracebacks where they have any."""
    assert environ["ROLEHOST_DEBUG"]
    other = Service(service.directory, {**environ, "ROLEHOST_DATA": str(service.data)})
    with ThreadPoolExecutor(4) as threads:
        ran = list(threads.map(lambda command: other.bare(*command), commands))
    for done in ran:
        canaries.check(f"the output of {done.args}", f"{done.args} {done.stdout} {done.stderr}")
    if CONNECT in commands:
        assert all(done.returncode for done in ran)
        assert any("Traceback" in done.stderr for done in ran)


def _signed(storage: Azurite, canaries: Canaries) -> str:
    """A connection with a shared access signature that is wrong."""
    signature = canaries.add("shared access signature", base64.b64encode(os.urandom(32)).decode())
    quoted = urllib.parse.quote(signature, safe="")
    sas = f"sv=2024-11-04&ss=bqt&srt=sco&sp=rwdlacup&se=2099-01-01T00:00:00Z&spr=https,http&sig={quoted}"
    return f"{storage.endpoints('own0001')}SharedAccessSignature={sas}"


def _wrong(bus: StandIn, canaries: Canaries) -> str:
    wrong = canaries.add("wrong key of Service Bus", base64.b64encode(os.urandom(32)).decode())
    return bus.connection_string.replace(bus.key, wrong)


def _files_of_the_service(data: Path) -> Iterator[Path]:
    for path in data.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 24:
            yield path
