"""`rolehost update` with another definition's code and ports, with real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from update_support import Updated, free_port, running

pytestmark = pytest.mark.acceptance


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Updated]:
    with running(tmp_path) as service:
        yield service


def in_another_folder(service: Updated, name: str, roles: str) -> Path:
    """A definition that has code of its own beside it."""
    (service.directory / name).mkdir()
    (service.directory / name / "roles.py").write_text(roles)
    return service.define(path=service.directory / name / "service.toml")


def test_code_of_another_folder_is_loaded_before_it_is_taken(service: Updated) -> None:
    service.define()
    process = service.up_and_ready()
    prelude = (service.directory / "roles.py").read_text()
    bad = in_another_folder(service, "bad", "raise RuntimeError('the paint is out')\n" + prelude)
    told = service.refused("update", bad)
    assert f"{bad}:" in told
    assert "N11" in told
    assert "the paint is out" in told
    assert service.status()["generation"] == 1
    assert service.noted() == ["start:hello"]
    good = in_another_folder(service, "good", f"import os\nprint('noise')\n{prelude}\nnote = lambda word: None\n")
    told = service.done("update", good)
    assert "directory" in told
    assert f"the next `rolehost up` reads {service.file} again" in told
    assert f"the next `rolehost up` reads {service.file} again" in service.done("update", good)  # not the last update's
    assert "next" not in service.done("update", service.file)
    assert service.noted() == ["start:hello", "stopping", "on_stop", "start:hello"]
    assert process.poll() is None


def test_code_of_another_folder_may_be_taken_unseen(service: Updated) -> None:
    service.define()
    service.up_and_ready()
    picky = "import os\nos.environ['RoleInstanceID']\n" + (service.directory / "roles.py").read_text()
    path = in_another_folder(service, "picky", picky)
    assert "RoleInstanceID" in service.refused("update", path)
    service.done("update", path, "--no-load")
    assert service.noted() == ["start:hello", "stopping", "on_stop", "start:hello"]


def test_a_role_that_starts_again_is_told_its_new_public_port(tmp_path: Path) -> None:
    told = """
    class Told(Worker):
        def on_start(self):
            note(os.environ["ROLEHOST_PUBLIC"].replace(" ", ""))
            return True
    """
    with running(tmp_path, told) as service:
        endpoint = '[roles.Worker.endpoints.Echo]\nprotocol = "tcp"\nport = {}'
        ports = [free_port(), free_port()]
        for name, port in zip(("service", "other"), ports, strict=True):
            service.define(path=tmp_path / f"{name}.toml", role="Told", more=endpoint.format(port))
        service.up_and_ready()
        service.done("update", tmp_path / "other.toml")
        words = [word for word in service.noted() if word.startswith("{")]
        assert [json.loads(word)["Echo"] for word in words] == [f"127.0.0.1:{port}" for port in ports]
