"""The image of this checkout: built, run as its ordinary user on a read-only root, given a job, stopped.

It needs root and some of Debian's packages, and takes a minute: it runs on a build server, elsewhere with
`ROLEHOST_TEST_IMAGE=1`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from support import azurite
from support.image import PROGRAMS, Images, images
from support.pictures import photograph

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        not (os.environ.get("CI") or os.environ.get("ROLEHOST_TEST_IMAGE")),
        reason="ROLEHOST_TEST_IMAGE=1 builds the image",
    ),
]

PATIENT = """
from rolehost import ConsoleApp, ConsoleAppWorker

class Patient(ConsoleAppWorker):
    kind = "patient"
    app = ConsoleApp(("sh", "-c", 'echo begun > "$0.note"; sleep 3; cp "$0" "$1"', "{source}", "{target}"))
"""
DEFINITION = """
[service]
name = "patience"
[roles.Patient]
entry_point = "patient:Patient"
instances = 1
[roles.Patient.local_resources.Scratch]
size_in_mb = 100
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Images]:
    missing = [each for each in PROGRAMS if shutil.which(each) is None]
    assert not missing, f"the image can't be built without {missing}"
    with images() as each:
        each.build()
        yield each


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A volume that belongs to the image's user."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    return folder


def until(answer: Any, what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := answer()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.05)
    return value


def listening(store: Images, name: str) -> str:
    """Where the container says that it listens."""
    lines = store.log(name).splitlines()
    return next((line.split()[-1] for line in lines if line.startswith("rolehost listening on")), "")


def answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(url, timeout=30).is_success
    return False


def test_the_image_does_a_job_as_its_user_on_a_read_only_root(store: Images, data: Path, tmp_path: Path) -> None:
    store.start("service", "up", "--host", "127.0.0.1", "--port", "0", volumes=[f"{data}:/data"])
    url = until(lambda: listening(store, "service"), "the service listens")
    picture = photograph(tmp_path / "photograph.jpg", 2)
    with picture.open("rb") as file:
        job = httpx2.post(f"{url}/api/v1/jobs", files={"file": file}, timeout=30).raise_for_status().json()["id"]

    def ended() -> Any:
        found = httpx2.get(f"{url}/api/v1/jobs/{job}", timeout=30).raise_for_status().json()
        return found if found["state"] not in {"queued", "running"} else None

    assert until(ended, "the job ends")["state"] == "completed"
    assert set(store.run("podman", "top", "service", "huser").split()[1:]) == {"10001"}
    refused = store.run("podman", "exec", "service", "sh", "-c", "touch /opt/rolehost/x 2>&1 || true")
    assert "Read-only file system" in refused
    store.run("podman", "stop", "--time", "40", "service")
    assert store.run("podman", "inspect", "service", "--format", "{{.State.ExitCode}}").strip() == "0"


def test_a_front_end_and_a_worker_of_the_image_meet_on_azure_storage(store: Images, tmp_path: Path) -> None:
    """Two containers that share nothing but the storage, as `compose.yaml` and the manifests have them."""
    picture = photograph(tmp_path / "photograph.png", 1)
    storage = azurite.environ(tmp_path)["ROLEHOST_STORAGE"]
    (port,) = azurite.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    for name, role in (("front", "ThumbnailFrontend"), ("worker", "ThumbnailBackend")):
        where = ("--host", "127.0.0.1", "--port", str(port)) if name == "front" else ()
        store.start(name, "run", role, *where, environ=[f"ROLEHOST_STORAGE={storage}"])
    until(lambda: answers(url), "the front end answers")
    with picture.open("rb") as file:
        made = httpx2.post(f"{url}/api/v1/jobs", files={"file": file}, data={"size": "Small"}, timeout=30)
    job = f"{url}/api/v1/jobs/{made.raise_for_status().json()['id']}"
    until(lambda: httpx2.get(job, timeout=30).json()["state"] == "completed", "the job is done")
    result = httpx2.get(f"{job}/result", timeout=30).raise_for_status()
    assert Image.open(BytesIO(result.content)).size == (128, 96)
    assert httpx2.get(job, timeout=30).json()["attempts"][0]["instance"] == "ThumbnailBackend_IN_0"
    for name in ("worker", "front"):
        assert azurite.OWN_KEY not in store.log(name)
        store.run("podman", "stop", "--time", "40", name)
        assert store.run("podman", "inspect", name, "--format", "{{.State.ExitCode}}").strip() == "0"


def test_the_container_drains(store: Images, data: Path, tmp_path: Path) -> None:
    code = tmp_path / "service"
    code.mkdir()
    (code / "patient.py").write_text(PATIENT)
    (code / "service.toml").write_text(DEFINITION)
    (code / "letter.txt").write_text("patience")
    volumes = [f"{data}:/data", f"{code}:/srv/service:ro"]
    store.start("patient", "up", "--definition", "/srv/service/service.toml", volumes=volumes)

    def jobs() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(store.run("podman", "exec", "patient", "rolehost", "jobs", "--json"))[
            "jobs"
        ]
        return listed

    until(lambda: '"event": "role.ready"' in store.log("patient"), "the role is ready")
    store.run("podman", "exec", "patient", "rolehost", "submit", "--kind", "patient", "/srv/service/letter.txt")
    until(lambda: [each for each in jobs() if each["state"] == "running"], "the job runs")
    store.run("podman", "stop", "--time", "40", "patient")
    assert store.run("podman", "inspect", "patient", "--format", "{{.State.ExitCode}}").strip() == "0"
    store.run("podman", "start", "patient")
    (job,) = jobs()
    assert [each["end"] for each in job["attempts"]] == ["ok"]
    assert job["state"] == "completed"
