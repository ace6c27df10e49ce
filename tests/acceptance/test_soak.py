"""The soak, short: a few hundred jobs under a hail of kills; `make soak` has the thousands."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from soak.__main__ import soak

pytestmark = pytest.mark.acceptance


def test_a_service_whose_processes_are_killed_loses_and_leaves_nothing(tmp_path: Path) -> None:
    figures = soak(tmp_path, argparse.Namespace(jobs=200, every=1.5, seed=7, engine="embedded"))
    assert figures.sound, list(figures.lines())
    assert figures.ran["jobs"] == 200
    assert figures.ran["kills"] > 0
