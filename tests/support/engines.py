"""The engines on which a whole service is tested, and its recovery: what a test takes as `engine`.

    @every_engine
    def test_a_job_completes(tmp_path: Path, engine: Engine) -> None:
        with running(tmp_path, **engine.environ(tmp_path)) as service: ...

A test that takes an `engine` without `@every_engine` runs on the embedded one. Each directory gets stores of its own:
an account of Azurite, a namespace of the Service Bus stand-in (with embedded tables and blobs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support import azurite

PROPERTY = "engine"
OF_MODULES = {"test_azure_": "azurite", "test_service_bus_": "service_bus", "test_embedded_": "embedded"}
"""Files about one engine."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine under test.

    Args:
        name: the test's parameter.
        of: `ROLEHOST_STORAGE` and the like, given a directory of the test's own.
        counting: opens stores that know how many messages there are, where settings alone don't.
    """

    name: str
    of: Callable[[Path], Mapping[str, str]]
    counting: Callable[[Path], AbstractAsyncContextManager[Stores]] | None = None

    def environ(self, directory: Path) -> dict[str, str]:
        """What a service and its commands need; asked again for the same directory: the same stores."""
        told = dict(self.of(directory))
        told.pop("ROLEHOST_DATA", None)  # who starts a service names its data directory
        return told

    def open(self, directory: Path) -> AbstractAsyncContextManager[Stores]:
        """The stores of a service whose data directory is `data` in this one."""
        if self.counting is not None:
            return self.counting(directory)
        return connect({**self.environ(directory), "ROLEHOST_DATA": str(directory / "data")})


def _service_bus(directory: Path) -> Mapping[str, str]:
    from support.service_bus import under_test  # noqa: PLC0415 - the SDK costs every run a second, and few need it

    return under_test.environ(directory)


def _counting_bus(directory: Path) -> AbstractAsyncContextManager[Stores]:
    from support.service_bus import under_test  # noqa: PLC0415 - the same

    return under_test.counting_stores(directory)


EMBEDDED = Engine("embedded", lambda _: {"ROLEHOST_STORAGE": "embedded"})
AZURITE = Engine("azurite", azurite.environ)
SERVICE_BUS = Engine("service_bus", _service_bus, _counting_bus)
ENGINES: Sequence[Engine] = (EMBEDDED, AZURITE, SERVICE_BUS)


def on_engines(*engines: Engine) -> pytest.MarkDecorator:
    """Run a test once on each of these; fixtures of its module are made once for each, too."""
    names = [each.name for each in engines]
    return pytest.mark.parametrize("engine", engines, ids=names, indirect=True, scope="module")


every_engine = on_engines(*ENGINES)


def engine_of(item: pytest.Item) -> str:
    """The name of the engine that a test is about; empty where it is about none."""
    chosen = getattr(item, "callspec", None)
    value: Any = chosen.params.get("engine") if chosen else None
    if value is not None:
        return str(getattr(value, "name", value))
    return next((name for start, name in OF_MODULES.items() if item.path.name.startswith(start)), "")


def counted(reports: Iterable[pytest.TestReport]) -> Counter[str]:
    """How many tests ran on each engine."""
    named = (dict(report.user_properties).get(PROPERTY) for report in reports if report.when == "call")
    return Counter(str(name) for name in named if name)
