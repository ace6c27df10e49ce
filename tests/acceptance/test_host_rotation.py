"""What the load balancer's question is answered, asked from within each part of a role's life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import TinyService

pytestmark = pytest.mark.acceptance

ROLES = """
import urllib.error, urllib.request

def ask(where):
    try:
        with urllib.request.urlopen(f"http://{os.environ['ROLEHOST_PROBE']}/readyz", timeout=5) as answer:
            code, facts = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            code, facts = error.code, json.load(error)
    note(f"{where}:{code}:{facts['state']}")

class Worker(RoleEntryPoint):
    def on_start(self):
        ask("on_start")
        self.role_environment.stopping += lambda _: ask("stopping")
        return True
    def run(self):
        ask("run")
        while not Path("recycle").exists():
            time.sleep(0.02)
        Path("recycle").unlink()
        self.role_environment.request_recycle()
        threading.Event().wait()
    def on_stop(self):
        ask("on_stop")
"""

DEFINITION = """
[roles.Worker]
entry_point = "roles:Worker"
[[roles.Worker.startup]]
command = "prepare.sh"
"""

LIFE = ["task", "on_start:503:Busy", "run:200:Ready", "stopping:503:Stopping", "on_stop:503:Stopping"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TinyService]:
    (tmp_path / "prepare.sh").write_text('#!/bin/sh\necho task >>"$TRACE"\n')
    (tmp_path / "prepare.sh").chmod(0o755)
    service = TinyService(tmp_path, ROLES, DEFINITION)
    yield service
    service.clean_up()


def test_an_instance_takes_requests_from_ready_on_and_none_once_it_stops(service: TinyService) -> None:
    service.start_instance()
    service.until_words("run:200:Ready")
    (service.directory / "recycle").touch()
    service.until_words("run:200:Ready", "run:200:Ready")
    assert service.stop()[0] == 0
    assert service.words() == LIFE + LIFE
