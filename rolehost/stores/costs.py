"""What stores that bill each request are going to cost: each process leaves its counts in a table, prices are data."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from rolehost import clock
from rolehost.errors import ConflictError, StoreError
from rolehost.stores import Fields, Row, Stores, Table
from rolehost.stores.combined import Metered
from rolehost.telemetry import subscribe, transactions
from rolehost.telemetry.transactions import IDLE, JOBS

TABLE: Final = "costs"
PRICES: Final = "ROLEHOST_PRICES"
FIRST: Final = 60.0
EVERY: Final = 600.0
"""Seconds between two reports, which cost a request themselves."""
FORGOTTEN: Final = timedelta(days=1)
MONTH: Final = 730 * 3600.0
_SERVICES: Final = ("queue", "table", "blob")
_LISTED: Final = Path(__file__).with_name("prices.toml")
_UNIT: Final = 10_000
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has asked of the stores.

    Args:
        who: the instance, or the host.
        seconds: for how long it has been counting.
        jobs: that ended in it.
        sent: requests by service, kind and purpose.
    """

    who: str
    seconds: float
    jobs: int
    sent: Mapping[tuple[str, str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of 10,000 requests, by service and kind.

    Args:
        as_of: when they were read.
        currency: theirs.
        note: what they hold for.
        requests: by service, then kind.
        service_bus: the base charge of a namespace, for a month.
    """

    as_of: str
    currency: str
    note: str
    requests: Mapping[str, Mapping[str, float]]
    service_bus: float = 0.0

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Prices:
        """The prices that `ROLEHOST_PRICES` names, else the list prices that come with the package.

        Raises:
            StoreError: the file can't be read, or lacks a price.
        """
        path = Path(environ.get(PRICES) or _LISTED)
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
            kinds = ("read", "write", "list", "delete")
            requests = {service: {kind: float(told[service][kind]) for kind in kinds} for service in _SERVICES}
            bus = float(told.get("service_bus", {}).get("month", 0.0))
            labels = {name: str(told[name]) for name in ("as_of", "currency", "note")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is no list of prices: {error!r}") from error
        return cls(requests=requests, service_bus=bus, **labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a month costs if it goes on like this. Stored bytes and traffic are not in it.

    Args:
        by_purpose: money for requests.
        requests: in a month, by purpose.
        per_job: requests; None if no job ended.
        per_idle_hour: requests of all processes together, by purpose, work or not.
        processes: that have told.
        seconds: for how long the one that counts longest has.
        base: money that is due whatever is asked.
    """

    by_purpose: Mapping[str, float]
    requests: Mapping[str, float]
    per_job: float | None
    per_idle_hour: Mapping[str, float]
    processes: int
    seconds: float
    base: float = field(default=0.0)

    @property
    def total(self) -> float:
        """Money for a month."""
        return self.base + sum(self.by_purpose.values())


def projected(usages: Sequence[Usage], prices: Prices, *, base: float = 0.0) -> Bill:
    """The bill of a month that goes on like this.

    Args:
        usages: of every process.
        prices: the prices.
        base: what is due anyhow.
    """
    money: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for usage in usages:
        for (service, kind, purpose), number in usage.sent.items():
            monthly = number * MONTH / max(usage.seconds, 1.0)
            requests[purpose] += monthly  # type: ignore[assignment]  # a Counter adds up floats as well
            money[purpose] += monthly / _UNIT * prices.requests[service][kind]  # type: ignore[assignment]  # the same
    jobs = sum(usage.jobs for usage in usages)
    for_jobs = sum(number for usage in usages for (_, _, what), number in usage.sent.items() if what == JOBS)
    return Bill(
        by_purpose=dict(money),
        requests=dict(requests),
        per_job=for_jobs / jobs if jobs else None,
        per_idle_hour={purpose: requests[purpose] * 3600 / MONTH for purpose in IDLE},
        processes=len(usages),
        seconds=max((usage.seconds for usage in usages), default=0.0),
        base=base,
    )


async def usages(stores: Stores) -> Sequence[Usage]:
    """What the processes that live have told.

    Raises:
        StoreError: the store said no, or nothing.
    """
    recent = clock.now() - timedelta(seconds=3 * EVERY)
    rows = (await stores.table(TABLE).list(limit=_PAGE)).rows
    return [_usage(row) for row in rows if clock.from_iso(str(row.fields["at"])) > recent]


@asynccontextmanager
async def reporting(stores: Stores, who: str) -> AsyncIterator[None]:
    """Leave counts in the table now and then, for as long as the block lasts; not of stores that cost nothing.

    Args:
        stores: where requests are counted.
        who: the instance, or the host; empty: nobody that lasts.
    """
    if not who or not isinstance(stores, Metered) or not stores.transactions():
        yield
        return
    forget = subscribe(lambda event, _facts: transactions.ledger.note(event))
    task = asyncio.create_task(_report(stores.table(TABLE), who))
    try:
        yield
    finally:
        forget()
        task.cancel()
        await asyncio.wait([task])


async def _report(table: Table, who: str) -> NoReturn:
    with transactions.spent_on(transactions.OTHER):
        await clock.sleep(FIRST)
        with suppress(StoreError):
            await _forget(table)
        while True:
            with suppress(StoreError):
                await tell(table, who)
            await clock.sleep(EVERY)


async def tell(table: Table, who: str) -> None:
    """Leave this process's counts.

    Raises:
        StoreError: the store said no, or nothing.
    """
    ledger = transactions.ledger
    sent = [[*key, number] for key, number in sorted(ledger.sent.items())]
    told: Fields = {
        "at": clock.iso(clock.now()),
        "seconds": ledger.seconds,
        "jobs": ledger.jobs,
        "sent": json.dumps(sent),
    }
    row = await table.read(who)
    if row is None:
        await table.insert(who, told)
    else:
        await table.write(who, row.version, told)


async def _forget(table: Table) -> None:
    """Remove what processes left that are long gone."""
    for row in (await table.list(limit=_PAGE)).rows:
        if clock.from_iso(str(row.fields["at"])) < clock.now() - FORGOTTEN:
            with suppress(ConflictError):
                await table.delete(row.key, row.version)


def _usage(row: Row) -> Usage:
    sent: Sequence[Any] = json.loads(str(row.fields["sent"]))
    return Usage(
        who=row.key,
        seconds=float(str(row.fields["seconds"])),
        jobs=int(str(row.fields["jobs"])),
        sent={(service, kind, purpose): int(number) for service, kind, purpose, number in sent},
    )
