"""Failpoints in real processes, crossed with kill, error, lost answer and long delay."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from support import azurite
from support.failpoint_matrix import POINTS, points, run_matrix
from support.role_process import ROOT
from support.service_bus import under_test as service_bus

pytestmark = pytest.mark.acceptance
# Each run has stores of its own. The whole matrix where they are files; each point once where they are a server's.
ENGINES: Mapping[str, tuple[int, Callable[[Path], Mapping[str, str]]]] = {
    "embedded": (4, lambda folder: {"ROLEHOST_STORAGE": "embedded", "ROLEHOST_DATA": str(folder / "data")}),
    "azurite": (1, azurite.environ),
    "service_bus": (1, service_bus.environ),
}
_CALL = re.compile(r'(?:failpoint|crossed)\("([a-z-]+)"')


def test_each_point_of_the_code_is_in_the_matrix_once() -> None:
    """And the package itself installs no strike: nothing outside of the tests can."""
    sources = {path: path.read_text() for path in (ROOT / "rolehost").rglob("*.py")}
    called = sorted(name for text in sources.values() for name in _CALL.findall(text))
    assert called == sorted(point.name for point in POINTS)
    own = ROOT / "rolehost" / "failpoints.py"
    assert [path for path, text in sources.items() if path != own and "failpoints.install" in text] == []
    assert [path for path, text in sources.items() if "FAILPOINT" in text] == []


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_strike_at_any_point_loses_nothing_and_leaves_nothing(engine: str, tmp_path: Path) -> None:
    """Killed, failed, its answer lost, held up for three leases: one result each, and nobody pays for the stores."""
    actions_each, environ = ENGINES[engine]
    assert await run_matrix(points(engine, actions_each=actions_each), tmp_path, environ) == []
