"""The engine of a test, and at the end how many tests ran on each."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from support.engines import EMBEDDED, PROPERTY, Engine, counted, engine_of


@pytest.fixture(scope="module", params=[EMBEDDED], ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine: the embedded one, where a test does not say `@every_engine`."""
    chosen: Engine = request.param
    return chosen


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if name := engine_of(item):
            item.user_properties.append((PROPERTY, name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [each for result in ("passed", "failed") for each in terminalreporter.stats.get(result, [])]
    counts = counted(report for report in ran if isinstance(report, pytest.TestReport))
    if counts:
        told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        terminalreporter.write_line(f"tests on engines: {told}")
