"""The order of test files, so that several side by side keep a machine busy to the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pytest

LONGEST = (
    "test_image.py",
    "test_faults.py",
    "test_thumbnails.py",
    "test_azure_storage.py",
    "test_host_update.py",
    "test_docs_pages.py",
    "test_failpoints.py",
    "test_host_up_control.py",
    "test_azure_outages.py",
    "test_batches_service.py",
)
"""Files of more than a minute and a half each: one that began last would run alone."""


def mixed(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests in the order in which their files should begin.

    Tests with a whole service want processors, those with a broker mostly wait: files of the two kinds take turns, in
    proportion to how many there are, the longest first. A file's own tests keep their order.
    """
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    services = sorted((each for each in files if _has_service(each[0])), key=_rank)
    others = [each for each in files if not _has_service(each[0])]
    return [item for file in _evenly(services, others) for item in file]


def _has_service(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("acceptance", "browser"))


def _rank(file: Sequence[pytest.Item]) -> int:
    return LONGEST.index(file[0].path.name) if file[0].path.name in LONGEST else len(LONGEST)


def _evenly(these: Sequence[list[pytest.Item]], those: Sequence[list[pytest.Item]]) -> Iterator[list[pytest.Item]]:
    """All of these, and those spread among them."""
    begin = 0
    for number, one in enumerate(these, 1):
        yield one
        end = len(those) * number // len(these)
        yield from those[begin:end]
        begin = end
    yield from those[begin:]
