"""The main job, as a user sees it: pictures go in, thumbnails come out, by real processes."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.engines import Engine, every_engine
from support.pictures import mixed, photograph
from support.service import Service, command_line, descendants, marked, running, until

pytestmark = pytest.mark.acceptance

SMALL_LEASES = {"ROLEHOST_SETTING_Worker__LeaseSeconds": "2"}


def test_fifty_mixed_pictures_end_as_a_person_would_expect(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    samples = mixed(tmp_path / "in")
    with running(tmp_path) as service:
        answer = service.command("submit", *(sample.path for sample in samples), "--wait", "--output", tmp_path / "out")
        jobs = {job["source"]["name"]: job for job in service.jobs()}
        left = service.scratch()
        service.stop()
    assert answer.returncode == 1, "one was refused, one failed"
    assert len(jobs) == 49
    for sample in samples:
        job = jobs.get(sample.path.name)
        if sample.verdict == "good":
            assert job is not None
            assert job["state"] == "completed", job
            result = tmp_path / "out" / job["result"]["name"]
            assert sample.problems(result) == [], sample.path.name
        elif sample.verdict == "truncated":
            assert job is not None
            assert (job["state"], job["attempts"][-1]["end"], job["attempts"][-1]["exit_code"]) == (
                "failed",
                "bad_input",
                65,
            )
            assert "truncated" in job["reason"]
            assert str(tmp_path) not in job["reason"], "a person sees the file's own name, not the scratch directory's"
        else:
            assert job is None
            assert f"{sample.path.name} is not a picture" in answer.stdout + answer.stderr
    assert left == []
    assert marked(service.data) == []


@every_engine
def test_a_killed_role_process_costs_one_attempt_and_its_job_completes(tmp_path: Path, engine: Engine) -> None:
    slow_definition(tmp_path)
    with running(tmp_path, **SMALL_LEASES, **engine.environ(tmp_path)) as service:
        assert service.command("submit", "--kind", "slow", photograph_at(tmp_path)).returncode == 0
        until(lambda: sleeping(service), "the console application runs")
        (role,) = [pid for pid in service.pids("role_process") if "slow_worker" in command_line(pid)]
        kill(role)
        (job,) = until(
            lambda: [job for job in listed(service) if job["state"] == "completed"], "the job completes", seconds=40
        )
        result = service.get(f"/api/v1/jobs/{job['id']}/result")
        assert [attempt["end"] for attempt in job["attempts"]] == ["worker_lost", "ok"]
        assert job["charges"] == {"app": 0, "resource": 0, "lost": 1}
        until(lambda: not service.scratch(), "the killed worker's scratch directory is removed", seconds=10)
        time.sleep(3)  # longer than a lease: whoever would still come back late has had its chance
        assert service.job(job["id"]) == job
        assert service.get(f"/api/v1/jobs/{job['id']}/result") == result
        assert service.stop() == 0
    assert marked(service.data) == []


def test_a_killed_front_end_comes_back_on_its_port(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        (role,) = [pid for pid in service.pids("role_process") if "frontend" in command_line(pid)]
        kill(role)
        # Reaped, not only a zombie: while one of its threads is still dying, its port takes connections.
        until(lambda: not Path(f"/proc/{role}").exists(), "it is gone")
        assert b"rolehost" in service.get("/"), "it answers on the same port"


@every_engine
def test_sigterm_drains_in_time_charges_nothing_and_the_jobs_complete_after_a_restart(
    tmp_path: Path, engine: Engine
) -> None:
    slow_definition(tmp_path, seconds=30, drain=6, slots=2)
    with running(tmp_path, **engine.environ(tmp_path)) as service:
        for number in range(3):
            assert service.command("submit", "--kind", "slow", photograph_at(tmp_path, number)).returncode == 0
        until(lambda: len(sleeping(service)) == 2, "two run")
        since = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - since <= 6 + 2
        assert marked(service.data) == []
        jobs = service.jobs()
        assert sorted(job["state"] for job in jobs) == ["queued"] * 3
        assert sorted(attempt["end"] for job in jobs for attempt in job["attempts"]) == ["drained"] * 2
        assert all(job["charges"] == {"app": 0, "resource": 0, "lost": 0} for job in jobs)
        assert service.scratch() == []
        slow_definition(tmp_path, seconds=0.1, drain=6, slots=2)
        service.start()
        until(lambda: [job["state"] for job in listed(service)] == ["completed"] * 3, "at once visible, then done", 20)


@every_engine
def test_an_application_that_always_exits_3_is_poisoned_and_replayed(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "failing.py").write_text(
        "from rolehost import ConsoleApp, ConsoleAppWorker\n\n\n"
        "class FailingWorker(ConsoleAppWorker):\n"
        '    kind = "failing"\n'
        '    app = ConsoleApp(("sh", "-c", "echo no such font >&2; exit 3"))\n'
    )
    service = Service(tmp_path, engine.environ(tmp_path))
    service.define(definition("failing:FailingWorker", {"Worker.RetryMaxSeconds": 0.05}))
    try:
        service.start()
        assert service.command("submit", "--kind", "failing", photograph_at(tmp_path), "--wait").returncode == 1
        (job,) = service.jobs()
        assert (job["state"], job["charges"]["app"]) == ("poisoned", 5)
        assert [(attempt["end"], attempt["exit_code"]) for attempt in job["attempts"]] == [("app_error", 3)] * 5
        assert "no such font" in job["reason"]
        listed = service.command("poison", "list")
        assert job["id"] in listed.stdout
        assert "no such font" in service.command("job", job["id"]).stdout
        replayed = service.command("poison", "replay", job["id"])
        assert replayed.returncode == 0, replayed.stderr
        (new,) = [one for one in service.jobs() if one["id"] != job["id"]]
        assert new["origin"] == job["id"]
        assert service.job(job["id"]) == job
        until(lambda: service.job(new["id"])["state"] == "poisoned", "the new job has its own budget")
    finally:
        service.close()


def test_a_second_signal_ends_all_soon_and_still_charges_nothing(tmp_path: Path) -> None:
    deaf_definition(tmp_path, drain=20)
    with running(tmp_path) as service:
        assert service.command("submit", "--kind", "slow", photograph_at(tmp_path)).returncode == 0
        until(lambda: sleeping(service), "it runs")
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        until(lambda: "worker.draining" in service.log(), "the drain has begun")
        time.sleep(1.1)  # what comes within a second is one request
        since = time.monotonic()
        assert service.stop(signal.SIGTERM) == 0
        assert time.monotonic() - since < 4
        assert marked(service.data) == []
        (job,) = service.jobs()
        assert (job["state"], [attempt["end"] for attempt in job["attempts"]]) == ("queued", ["drained"])
        assert job["charges"] == {"app": 0, "resource": 0, "lost": 0}


def test_a_signal_to_every_process_of_the_service_is_a_drain(tmp_path: Path) -> None:
    """As systemd stops a service by default; the console application gets it, too."""
    slow_definition(tmp_path, seconds=30, drain=6, slots=1)
    with running(tmp_path) as service:
        assert service.command("submit", "--kind", "slow", photograph_at(tmp_path)).returncode == 0
        until(lambda: sleeping(service), "it runs")
        assert service.process is not None
        for pid in [*descendants(service.process.pid), service.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert service.process.wait(20) == 0
        (job,) = service.jobs()
        assert (job["state"], [attempt["end"] for attempt in job["attempts"]]) == ("queued", ["drained"])
        assert job["charges"] == {"app": 0, "resource": 0, "lost": 0}


def definition(entry_point: str, settings: Mapping[str, object], drain: float = 10) -> str:
    """A service of a front end and one worker."""
    lines = "\n".join(f'"{name}" = "{value}"' for name, value in settings.items())
    return f"""
[service]
name = "acceptance"
drain_seconds = {drain}

[roles.ThumbnailFrontend]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.ThumbnailFrontend.endpoints.Http]
protocol = "http"
port = 8080

[roles.Worker]
entry_point = "{entry_point}"
[roles.Worker.settings]
{lines}
[roles.Worker.local_resources.Scratch]
size_in_mb = 100
"""


def slow_definition(folder: Path, seconds: float = 3, drain: float = 10, slots: int = 1) -> None:
    """A worker whose console application sleeps, then copies."""
    (folder / "slow_worker.py").write_text(
        "from rolehost import ConsoleApp, ConsoleAppWorker\n\n\n"
        "class SlowWorker(ConsoleAppWorker):\n"
        '    kind = "slow"\n'
        f'    app = ConsoleApp(("sh", "-c", \'sleep {seconds} && cp "$0" "$1"\', "{{source}}", "{{target}}"))\n'
    )
    grace = {"Worker.Slots": slots, "Worker.TermGraceSeconds": 2}
    (folder / "service.toml").write_text(definition("slow_worker:SlowWorker", grace, drain))


def deaf_definition(folder: Path, drain: float) -> None:
    """A worker whose console application does not hear TERM."""
    (folder / "slow_worker.py").write_text(
        "from rolehost import ConsoleApp, ConsoleAppWorker\n\n\n"
        "class SlowWorker(ConsoleAppWorker):\n"
        '    kind = "slow"\n'
        '    app = ConsoleApp(("sh", "-c", "trap \'\' TERM; sleep 60"))\n'
    )
    (folder / "service.toml").write_text(definition("slow_worker:SlowWorker", {"Worker.Slots": 1}, drain))


def photograph_at(folder: Path, number: int = 0) -> Path:
    """A small picture."""
    path = folder / f"photo{number}.jpg"
    photograph(path, megapixels=0.1, seed=number)
    return path


def listed(service: Service) -> list[dict[str, Any]]:
    """All jobs by the API: cheaper than a process, for who asks again and again."""
    jobs: list[dict[str, Any]] = json.loads(service.get("/api/v1/jobs?limit=100"))["jobs"]
    return jobs


def sleeping(service: Service) -> list[int]:
    """The console applications that are at it."""
    return [pid for pid in service.pids("sleep") if command_line(pid).startswith("sleep ")]


def kill(pid: int) -> None:
    """What no process can refuse."""
    os.kill(pid, signal.SIGKILL)


def test_a_twelve_megapixel_photograph_becomes_its_thumbnail(tmp_path: Path) -> None:
    photograph(tmp_path / "photo.jpg", orientation=6)
    with running(tmp_path) as service:
        answer = service.command(
            "submit", tmp_path / "photo.jpg", "--size", "300x200", "--format", "webp", "--output", tmp_path / "out"
        )
        assert answer.returncode == 0, answer.stderr
        (path,) = (tmp_path / "out").iterdir()
        with Image.open(path) as thumbnail:
            assert thumbnail.format == "WEBP"
            assert thumbnail.height == 200, "it stands upright: the camera was turned"
            assert thumbnail.width < thumbnail.height


def test_where_the_host_is_root_an_application_is_nobody_also_without_a_scratch_resource() -> None:
    """Nothing but an entry point is declared. The folder is one that everybody may pass, as a user's data would be."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o711)
        (place / "who.py").write_text(
            "from rolehost import ConsoleApp, ConsoleAppWorker\n\n\n"
            "class Who(ConsoleAppWorker):\n"
            '    kind = "who"\n'
            '    def result_type(self, job):\n        return "text/plain"\n'
            '    app = ConsoleApp(("sh", "-c", \'id -u > "$0"; cat "$1" >> "$0" || true\', "{target}", "{secret}"))\n'
        )
        service = Service(place)
        service.define('[service]\nname = "who"\n[roles.Worker]\nentry_point = "who:Who"\n')
        try:
            service.start(front_end=False)
            secret = f"secret={service.data / 'store.db'}"
            asked = ("--kind", "who", "--parameter", secret, photograph_at(place), "--output", place / "out")
            answer = service.command("submit", *asked)
            assert answer.returncode == 0, answer.stderr + service.log()
            (result,) = (place / "out").iterdir()
            if os.getuid() == 0:
                assert result.read_bytes() == b"65534\n", "not root, and the store can't be read"
            else:
                assert result.read_bytes().startswith(f"{os.getuid()}\n".encode())
        finally:
            service.close()


def test_a_worker_without_room_on_its_disk_claims_nothing(tmp_path: Path) -> None:
    """Then nothing is lost or charged: the job waits, and is done once there is room."""
    with running(tmp_path, ROLEHOST_SETTING_Worker__DiskFloorBytes=str(1 << 60)) as service:
        assert service.command("submit", photograph_at(tmp_path, 1)).returncode == 0
        until(lambda: "worker.paused" in service.log(), "it says why")
        (job,) = service.jobs()
        assert (job["state"], job["attempts"]) == ("queued", [])
        assert service.stop() == 0
    with running(tmp_path) as service:
        until(lambda: service.jobs()[0]["state"] == "completed", "it is done")
        (job,) = service.jobs()
        assert [attempt["end"] for attempt in job["attempts"]] == ["ok"]
