"""What `rolehost status` and `rolehost update` write for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rolehost.cli import status
from support.commands import invoke

AT = "2026-11-21T12:00:00.000Z"


def document(**facts: Any) -> dict[str, Any]:
    instance: dict[str, Any] = {
        "instance": "Back_IN_0",
        "state": "Ready",
        "status": "ReadyRole",
        "detail": "The role is ready.",
    }
    instance |= {"update_domain": 3, "recycles": 2, "pid": 7}
    instance |= {"heartbeat_at": "2026-11-21T11:59:57.000Z", **facts}
    walk = {"mode": "auto", "generation": 4, "domain": 1, "updated": 2, "of": 5}
    return {"service": "tiny", "generation": 4, "at": AT, "walk": walk, "instances": [instance]}


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("2026-11-21T11:59:56.000Z", "4 s"),
        ("2026-11-21T11:56:30.000Z", "3 min"),
        ("2026-11-21T06:48:00.000Z", "5 h 12 min"),
        ("2026-11-19T09:00:00.000Z", "2 d 3 h"),
        ("2026-11-21T12:00:01.000Z", "0 s"),  # another machine's clock
    ],
)
def test_the_uptime(since: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    status._print(document(ready_at=since))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny, generation 4, 2026-11-21 12:00:00Z; update (auto) in domain 1, 2 of 5 instances updated"
    cells = [cell.strip() for cell in lines[2].split("  ") if cell.strip()]
    assert cells == ["Back_IN_0", "Ready", "ReadyRole", "3", told, "3 s ago", "2", "The role is ready."]


def test_an_instance_that_does_not_run_has_no_uptime(capsys: pytest.CaptureFixture[str]) -> None:
    status._print(document(state="Stopped", pid=None, started_at="2026-11-21T06:48:00.000Z"))
    lines = capsys.readouterr().out.splitlines()
    place = lines[1].index("UPTIME"), lines[1].index("HEARTBEAT")
    assert lines[2][slice(*place)].strip() == ""


def test_a_definition_that_was_refused_is_shown_with_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    problems = ["service.toml:3: M07: no role\x1b[2J", "service.toml:9: M11: no number"]
    refused = {"at": "2026-11-21T11:58:00.000Z", "file": "/srv/service.toml", "problems": problems}
    status._print(document() | {"refused": refused})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "refused 2026-11-21 11:58:00Z: /srv/service.toml; the service goes on as it was"
    assert [line.strip() for line in lines[2:4]] == [problems[0].replace("\x1b", "\ufffd"), problems[1]]
    assert lines[4].startswith("INSTANCE")
    status._print(document() | {"refused": None})
    assert "refused" not in capsys.readouterr().out


def test_a_crash_can_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    crash = {
        "at": AT,
        "reason": "bad\x1b[2J",
        "exit_code": None,
        "signal": 9,
        "stage": "run",
        "stderr": "a\n\x1b]0;b\n",
    }
    status._print(document(last_crash=crash))
    told = capsys.readouterr().out
    assert "Back_IN_0: last crash 2026-11-21 12:00:00Z (run, signal 9): bad" in told
    assert "\n    a\n" in told
    assert "\x1b" not in told


class Service:
    """Answers with lines that the test chose."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lines: Mapping[str, Any]) -> None:
        async def ask(_: Path, request: Mapping[str, Any]) -> Any:
            self.request = request
            for line in lines:
                yield line

        monkeypatch.setattr("rolehost.host.fabric.control.ask", ask)


def accepted(**facts: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {key: {} for key in ("settings", "masked", "instances", "certificates", "definition")}
    return {"accepted": {"generation": 2, "mode": "auto", "changes": {**parts, "service": [], **facts}}}


FINISHED = {"ended": "finished", "late": []}
SETTING = accepted(settings={"Back": ["A", "B"]})


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        ([SETTING, FINISHED], 0, "  Back: settings A, B\nevery instance that was concerned is ready\n"),
        ([accepted()], 0, "nothing changes\n"),
        ([accepted(masked={"Back": ["A"]})], 0, "nothing changes\n  Back: the environment hides setting A"),
        ([SETTING, {"ended": "finished", "late": ["Back_IN_0"]}], 1, "not ready: Back_IN_0 (see `rolehost status`)"),
        ([SETTING, {"ended": "replaced", "generation": 3}], 1, "another change has taken the place of this one"),
        ([SETTING], 1, ""),  # the service ended in the middle
        ([{"refused": ["no", "never"]}], 1, ""),
        ([], 1, ""),
    ],
)
def test_how_an_update_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: list[dict[str, Any]], code: int, told: str
) -> None:
    Service(monkeypatch, *lines)
    answer = invoke("update", tmp_path / "x.toml", "--data", tmp_path)
    assert answer.exit_code == code, answer.output
    assert told in answer.stdout
    as_json = invoke("update", tmp_path / "x.toml", "--data", tmp_path, "--json")
    assert as_json.exit_code == code
    merged: dict[str, Any] = {}
    for line in lines:
        merged |= line
    assert json.loads(as_json.stdout) == merged


def test_a_file_is_named_as_the_service_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = Service(monkeypatch, SETTING, FINISHED)
    monkeypatch.chdir(tmp_path)
    invoke("update", "x.toml", "--mode", "manual", "--no-wait")
    assert service.request == {"do": "update", "file": str(tmp_path / "x.toml"), "mode": "manual", "wait": False}
    assert invoke("update", "x.toml", "--rollback").exit_code == 2
