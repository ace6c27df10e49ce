from __future__ import annotations

from pathlib import Path

from rolehost.service_model import load
from rolehost.service_model.model import TIMES


def test_the_times_are_those_of_the_original_where_it_told_them(tmp_path: Path) -> None:
    definition = tmp_path / "service.toml"
    definition.write_text('[service]\nname = "s"\n[roles.Worker]\nprogram = "sh"\n')
    model = load(definition, {})
    assert {name: getattr(model, name) for name in TIMES} == {
        "drain_seconds": 25.0,
        "on_stop_seconds": 300.0,
        "recycle_seconds": 1.0,
        "heartbeat_seconds": 30.0,
        "start_seconds": 1800.0,
        "changing_seconds": 30.0,
        "status_check_seconds": 15.0,
    }
