from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_support import TinyService

pytestmark = pytest.mark.acceptance

DEFINITION = """
[roles.Worker]
entry_point = "roles:Worker"
[[roles.Worker.startup]]
command = "prepare.sh"
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TinyService]:
    (tmp_path / "prepare.sh").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "prepare.sh").chmod(0o755)
    service = TinyService(tmp_path, "class Worker(RoleEntryPoint): pass", DEFINITION)
    yield service
    service.clean_up()


def test_the_log_has_the_event_ids_of_the_originals_agent(service: TinyService) -> None:
    service.start_instance()
    service.until_ready()
    lines = [json.loads(line) for line in service.stderr.splitlines() if line.startswith("{")]
    told = [(line["event_id"], line["event"]) for line in lines if "event_id" in line]
    assert told == [(20001, "instance.host_started"), (10001, "task.started"), (10002, "task.ended")]
