"""The engine of a test, the order of files, and at the end how many tests ran on each engine."""

from __future__ import annotations

import pytest

from support.engines import EMBEDDED, PROPERTY, Engine, counted, engine_of
from support.order import mixed


@pytest.fixture(scope="module", params=[EMBEDDED], ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine: the embedded one, where a test does not say `@every_engine`."""
    chosen: Engine = request.param
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = mixed(items)
    for item in items:
        if name := engine_of(item):
            item.user_properties.append((PROPERTY, name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [each for result in ("passed", "failed") for each in terminalreporter.stats.get(result, [])]
    counts = counted(report for report in ran if isinstance(report, pytest.TestReport))
    if counts:
        told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        terminalreporter.write_line(f"tests on engines: {told}")
