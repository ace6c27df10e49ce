"""Every folder in examples/ is whole: its README, its definition, its place in the index, and a test that runs it."""

from __future__ import annotations

import pytest

from support.commands import ROOT, invoke

pytestmark = pytest.mark.acceptance

EXAMPLES = ROOT / "examples"


def test_every_example_is_whole() -> None:
    """It has its README and its definition, is valid, stands in the index, and is run by a test."""
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "acceptance").glob("test_*.py"))
    index = (EXAMPLES / "README.md").read_text()
    folders = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())
    assert {"ocr", "guest-shell", "guest-compiled"} <= {path.name for path in folders}
    for folder in folders:
        assert (folder / "README.md").read_text().startswith("# "), folder.name
        assert "rolehost up" in (folder / "README.md").read_text(), folder.name
        assert f"[{folder.name}]({folder.name})" in index, f"{folder.name} is not in the index"
        assert f'"{folder.name}"' in tests, f"no acceptance test names {folder.name}"
        checked = invoke("check", "--definition", folder / "service.toml", "--no-load")
        assert checked.exit_code == 0, f"{folder.name}: {checked.output}"
