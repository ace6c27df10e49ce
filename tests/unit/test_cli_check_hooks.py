"""What `rolehost check` says of hooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import invoke

DEFINITION = """
[service]
name = "pictures"
[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080
[roles.Jpeg.worker]
kind = "jpeg"
program = ["cp", "{source}", "{target}"]
[roles.Jpeg.worker.parameters.quality]
type = "integer"
default = 75
[hooks.photos]
kind = "KIND"
proof = "header"
header = "X-Sender"
secret_file = "sender"
source_url = "/data/url"
[hooks.photos.parameters]
PARAMETER = 5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    return tmp_path


def checked(kind: str = "jpeg", parameter: str = "quality") -> str:
    Path("service.toml").write_text(DEFINITION.replace("KIND", kind).replace("PARAMETER", parameter))
    return invoke("check").output


def test_a_hook_whose_sender_could_not_be_known_is_told(folder: Path) -> None:
    assert "sender can't be read" in checked()
    secret = folder / "sender"
    secret.write_text("short")
    secret.chmod(0o600)
    assert "a secret of fewer than 16 characters" in checked()
    secret.write_text("a plain secret of the tests")
    assert "N20" not in checked()
    secret.chmod(0o622)
    assert "chmod 600" in checked()


def test_a_hook_for_jobs_that_nobody_does_is_told(folder: Path) -> None:
    (folder / "sender").write_text("a plain secret of the tests")
    (folder / "sender").chmod(0o600)
    assert 'no role of the service works on jobs of the kind "film"' in checked(kind="film")
    assert 'have no parameter "qualty"' in checked(parameter="qualty")
