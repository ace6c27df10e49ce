"""A batch as a user sees it: one command, one ZIP, and others are not kept waiting."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from support.engines import Engine, every_engine
from support.service import Service, running, until

pytestmark = pytest.mark.acceptance

SHEETS = """
[service]
name = "thumbnails"

[roles.Frontend]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"

[roles.Frontend.endpoints.Http]
protocol = "http"
port = 8080

[roles.Thumbnails]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"

[roles.Thumbnails.settings]
"Worker.Slots" = "4"

[roles.Sheets]
entry_point = "rolehost.workers.contact_sheet:ContactSheetWorker"
"""


def pictures(folder: Path, count: int) -> Path:
    """A folder with so many small pictures, half of them in a folder in it, and one that is none."""
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        place = folder / "more" if number % 2 else folder
        Image.new("RGB", (24, 16), (number % 256, number // 256, 99)).save(place / f"p{number:04d}.png")
    return folder


def begun(service: Service, arguments: list[str | Path]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "rolehost", *map(str, arguments), "--data", str(service.data)]
    return subprocess.Popen(
        argv, cwd=service.directory, env=service.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(service: Service, command: subprocess.Popen[str]) -> int:
    """Items that completed of the newest batch, while the command works on it."""
    assert command.poll() is None, command.communicate()
    batches = json.loads(service.get("/api/v1/batches"))["batches"]
    return batches[0]["counts"]["completed"] if batches else 0


def test_a_thousand_pictures_by_one_command_and_a_single_one_in_the_middle(tmp_path: Path) -> None:
    count = 1000
    names = pictures(tmp_path / "in", count)
    single = tmp_path / "single.png"
    Image.new("RGB", (25, 16), "red").save(single)
    (tmp_path / "service.toml").write_text(SHEETS)
    with running(tmp_path) as service:
        command = begun(
            service, ["submit", names, "--batch", "thousand", "--set", "size=Small", "--results", tmp_path / "out.zip"]
        )
        until(lambda: ended(service, command) >= count // 3, "a third of the batch is done")
        began = time.monotonic()
        alone = service.command("submit", single, "--wait", seconds=60)
        took = time.monotonic() - began
        assert ended(service, command) < count, "the batch was still on its way"
        out, errors = command.communicate(timeout=120)
    assert alone.returncode == 0, alone.stderr
    assert took < 10
    assert command.returncode == 0, errors
    assert f"items       {count}: {count} completed" in out
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        expected = {f"{'more/' if number % 2 else ''}p{number:04d}-small.png" for number in range(count)}
        assert set(archive.namelist()) == expected
        for number in (0, 1, 500, 999):
            with (
                archive.open(f"{'more/' if number % 2 else ''}p{number:04d}-small.png") as file,
                Image.open(file) as made,
            ):
                assert made.convert("RGB").getpixel((5, 5)) == (number % 256, number // 256, 99)


@every_engine
def test_a_batch_is_resumed_followed_and_cancelled(tmp_path: Path, engine: Engine) -> None:
    names = pictures(tmp_path / "in", 24)
    (tmp_path / "in" / "note.txt").write_text("no picture")
    (tmp_path / "service.toml").write_text(SHEETS)
    with running(tmp_path, **engine.environ(tmp_path)) as service:
        asked: list[str | Path] = ["submit", names, "--batch", "few", "--set", "size=Small", "--then", "contact-sheet"]
        asked += ["--then-set", "columns=6", "--then-set", "tile=32"]
        told = service.command(*asked, "--wait", "--json", seconds=90)
        assert told.returncode == 1, "a file was refused"
        batch = json.loads(told.stdout)
        assert [Path(each["file"]).name for each in batch["refused"]] == ["note.txt"]
        assert (batch["state"], batch["items"], batch["counts"]["completed"]) == ("done", 24, 24)
        sheet = until(lambda: _result(service, batch["then"]["job"]), "the contact sheet is made")
        assert sheet["source"]["name"] == "few.zip"
        assert (sheet["result"]["name"], sheet["batch"]) == ("few-sheet.jpg", batch["id"])
        (tmp_path / "sheet.jpg").write_bytes(service.get(f"/api/v1/jobs/{sheet['id']}/result"))
        with Image.open(tmp_path / "sheet.jpg") as image:
            assert image.size == (6 * 32, 4 * 32)
        shown = service.command("batch", "few", "--results", tmp_path / "few.zip")
        assert (shown.returncode, "24 completed" in shown.stdout) == (0, True)
        with zipfile.ZipFile(tmp_path / "few.zip") as archive:
            assert (len(archive.namelist()), archive.testzip()) == (24, None)


def _result(service: Service, job: str) -> dict[str, Any]:
    told = service.job(job)
    return told if told["state"] == "completed" else {}


def test_a_batch_outlives_its_killed_uploader_and_service_and_is_cancelled_half_done(tmp_path: Path) -> None:
    count = 400
    names = pictures(tmp_path / "in", count)
    with running(tmp_path) as service:
        command = begun(service, ["submit", names, "--batch", "half", "--set", "size=Small"])
        until(lambda: added(service) >= 50, "some are uploaded")
        command.kill()
        command.communicate()
        assert service.command("batch", "half").stdout.splitlines()[3].split() == ["state", "open"]
        again = begun(service, ["submit", names, "--batch", "half", "--set", "size=Small"])
        out, errors = again.communicate(timeout=60)
        assert again.returncode == 0, (out, errors)
        until(lambda: completed(service) >= 30, "some are done")
        service.stop(signal.SIGKILL)
        service.start()
        until(lambda: completed(service) >= 80, "more are done")
        counts = cancelled(service)["counts"]
        assert counts["completed"] >= 80
        assert counts["cancelled"] > 0
        assert sum(counts.values()) == count
        backlog = json.loads(service.get("/api/v1/scale"))
        assert (backlog["runnable"], backlog["in_flight"]) == (0, 0)
        assert len(service.jobs("--state", "completed")) == counts["completed"]


def cancelled(service: Service) -> dict[str, Any]:
    """The newest batch, cancelled at once: a command takes a second to start, in which the rest may be done."""
    (newest, *_) = json.loads(service.get("/api/v1/batches"))["batches"]
    address = f"/api/v1/batches/{newest['id']}"
    httpx2.post(f"{service.url}{address}/cancel", timeout=60).raise_for_status()
    told: dict[str, Any] = {}

    def is_cancelled() -> bool:
        told.update(json.loads(service.get(address)))
        return bool(told["state"] == "cancelled")

    until(is_cancelled, "the batch is cancelled")
    return told


def added(service: Service) -> int:
    """Files that were added to the newest batch."""
    batches = json.loads(service.get("/api/v1/batches"))["batches"]
    return batches[0]["added"] if batches else 0


def completed(service: Service) -> int:
    """Items that completed of the newest batch."""
    return int(json.loads(service.get("/api/v1/batches"))["batches"][0]["counts"]["completed"])
